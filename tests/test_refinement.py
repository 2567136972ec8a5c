"""Masks refined by the flow: borders go where the motions end, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from stseg.network import SegmentationNetwork
from stseg.pipeline import segment
from stseg.records import Clip, Settings
from stseg.refinement import RefinementSettings, refined_masks


@pytest.fixture
def scene(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Flow (1, 2, 3, 64, 96) of a box before a turning background, and where the box is."""
    y, x = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 96), indexing="ij")
    flow = np.stack([-2 * y, 2 * x])[:, None].repeat(3, axis=1)
    box = np.zeros((3, 64, 96), bool)
    for instant in range(3):
        box[instant, 20:44, 30 + 4 * instant : 60 + 4 * instant] = True
    flow[:, box] = np.array([3.0, 1.0])[:, None]
    flow += 0.05 * rng.standard_normal(flow.shape)
    return torch.from_numpy(flow).float()[None], torch.from_numpy(box)


def logits_of(box: Tensor, grown: int, trust: float = 3.0) -> Tensor:
    """What a network may say: K = 3, the box grown by some sites and soft, a spare segment."""
    side = 2 * grown + 1
    plane = torch.nn.functional.max_pool2d(box.float()[:, None], side, 1, grown)
    plane = torch.nn.functional.avg_pool2d(plane, 5, 1, 2, count_include_pad=False)[:, 0]
    wide = trust * (2 * plane - 1)
    return torch.stack([-wide, wide, torch.full_like(wide, -trust)])[None]


def iou(masks: Tensor, box: Tensor) -> float:
    found = masks[0].argmax(0) == 1
    return float((found & box).sum() / (found | box).sum())


def test_wide_masks_shrink_to_what_moves(scene: tuple[Tensor, Tensor]) -> None:
    flow, box = scene
    logits = logits_of(box, grown=3)
    assert iou(logits, box) < 0.8
    masks = refined_masks(logits, flow)
    assert masks.dtype == torch.uint8
    assert iou(masks, box) > 0.97
    sums = masks.sum(dim=1, dtype=torch.int32)
    assert int((sums - 255).abs().max()) <= 2


def test_either_step_alone_helps_less(scene: tuple[Tensor, Tensor]) -> None:
    flow, box = scene
    logits = logits_of(box, grown=3)
    both = iou(refined_masks(logits, flow), box)
    guide = refined_masks(logits, flow, RefinementSettings(weight=0.0))
    assert iou(logits, box) < iou(guide, box) < both


def test_the_order_of_the_masks_and_the_unit_of_the_flow_do_not_matter(
    scene: tuple[Tensor, Tensor],
) -> None:
    flow, box = scene
    logits = logits_of(box, grown=2)
    masks = refined_masks(logits, flow)
    turned = refined_masks(logits[:, [2, 0, 1]], flow)
    assert int((turned.int() - masks[:, [2, 0, 1]].int()).abs().max()) <= 1
    faster = refined_masks(logits, 8 * flow)
    assert int((faster.int() - masks.int()).abs().max()) <= 1


def test_flow_that_says_nothing_leaves_the_labels(scene: tuple[Tensor, Tensor]) -> None:
    flow, box = scene
    logits = logits_of(box, grown=0)
    masks = refined_masks(logits, torch.zeros_like(flow))
    assert torch.equal(masks[0].argmax(0), logits[0].argmax(0))


def test_a_frame_that_is_there_twice_keeps_its_masks(scene: tuple[Tensor, Tensor]) -> None:
    flow, box = scene
    for left in (0.0, 0.01):  # nothing, or what an estimator makes of nothing
        flow = flow.clone()
        flow[:, :, 1] *= left
        logits = logits_of(box, grown=0)
        masks = refined_masks(logits, flow)
        same = masks[0, :, 1].argmax(0) == logits[0, :, 1].argmax(0)
        assert float(same.float().mean()) > 0.999
        flow[:, :, 2] *= 2  # and the leap after it
        masks = refined_masks(logits, flow)
        assert iou(masks, box) > 0.95


@pytest.mark.parametrize("speed", [1.0, 30.0])
@pytest.mark.parametrize("side", [8, 12, 24])
def test_a_small_thing_before_what_is_still_stays(side: int, speed: float) -> None:
    flow, box = torch.zeros(1, 2, 3, 128, 224), torch.zeros(3, 128, 224, dtype=torch.bool)
    box[:, 60 : 60 + side, 100 : 100 + side] = True
    flow[:, :, box] = speed
    masks = refined_masks(logits_of(box, grown=1, trust=5.0), flow)
    assert int((masks.sum(dim=1, dtype=torch.int32) - 255).abs().max()) <= 2
    assert iou(masks, box) > 0.9


def test_noise_is_not_taken_for_motion(rng: np.random.Generator) -> None:
    box = torch.zeros(3, 128, 224, dtype=torch.bool)
    box[:, 60:76, 100:116] = True
    flow = torch.from_numpy(0.02 * rng.standard_normal((1, 2, 3, 128, 224))).float()
    flow[:, :, box] += 5.0
    assert iou(refined_masks(logits_of(box, grown=2), flow), box) > 0.9


def test_a_run_refines_when_it_is_told_to(clip: Clip, tiny_network: SegmentationNetwork) -> None:
    settings = Settings(k=3, device="cpu")
    plain = segment(clip, settings, tiny_network)
    refined = segment(clip, replace(settings, refine=True), tiny_network)
    assert refined.settings.refine
    assert any(not np.array_equal(refined.masks[i], plain.masks[i]) for i in range(len(plain)))
    # χ belongs to the refined segments: none where there is no site, and the other way round.
    for index in range(1, len(refined) - 1):
        there = np.bincount(refined.masks[index].argmax(0).ravel(), minlength=3) > 0
        np.testing.assert_array_equal(np.abs(refined.latents[index]).sum(-1) > 0, there)
