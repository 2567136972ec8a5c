"""The correction of DIS: what ships is nearer to the truth, and what is broken is named."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.correct_dis import (
    CorrectionSettings,
    errors,
    moving,
    told,
    train,
    train_judged,
)
from benchmarks.correction_data import (
    Pairs,
    collage_pairs,
    joined,
    sample,
    scene_pairs,
    sequence_pairs,
)
from stseg.device import choose_device
from stseg.errors import InputError
from stseg.flow import ESTIMATORS, FlowSettings, estimator
from stseg.flow.candidates import KINDS
from stseg.flow.correction import (
    WEIGHTS,
    Correction,
    CorrectionNetwork,
    Offered,
    correct,
    load_correction,
    save_correction,
)
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.tensor_files import read_tensors, write_tensors

EXACT = choose_device("cpu", bfloat16=False)
UNSEEN = 400
"""Of a rendered clip that no training saw."""


def offered(height: int, width: int, batch: int = 1) -> Offered:
    torch.manual_seed(0)
    return Offered(
        torch.randn(batch, len(KINDS), 2, height, width),
        torch.rand(batch, height, width),
        0.1 * torch.rand(batch, len(KINDS), height, width),
        torch.rand(batch, 3, height, width),
    )


def test_its_size() -> None:
    assert sum(p.numel() for p in CorrectionNetwork().parameters()) == 470_744


@pytest.mark.parametrize("size", [(128, 224), (1, 1), (5, 16), (33, 47)])
def test_every_grid_has_its_flow(size: tuple[int, int]) -> None:
    with torch.inference_mode():
        flow = correct(load_correction(), offered(*size, batch=2), EXACT)
    assert flow.shape == (2, 2, *size)
    assert flow.isfinite().all()


def test_it_begins_with_what_is_filled_in() -> None:
    torch.manual_seed(0)
    network = CorrectionNetwork()
    network.begin()
    with torch.inference_mode():
        logits = network(torch.randn(1, 16, 32, 48))[:, : len(KINDS)]
    assert (logits.argmax(dim=1) == KINDS.index("filled")).all()


def test_where_all_agree_there_is_nothing_to_choose() -> None:
    candidates = offered(24, 40)
    same = torch.tensor([3.0, -1.0]).view(1, 1, 2, 1, 1).expand(1, len(KINDS), 2, 24, 40)
    parts = candidates.confidence, candidates.differences, candidates.guide
    with torch.inference_mode():
        flow = correct(load_correction(), Offered(same, *parts), EXACT)
    np.testing.assert_allclose(flow, same[:, 0], atol=0.05)


def test_each_pair_of_a_batch_is_by_itself() -> None:
    both = offered(32, 48, batch=2)
    network = load_correction()
    parts = [part.name for part in fields(Offered)]
    alone = [
        Offered(*(getattr(both, name)[index : index + 1] for name in parts)) for index in range(2)
    ]
    with torch.inference_mode():
        together = correct(network, both, EXACT)
        for index, each in enumerate(alone):
            torch.testing.assert_close(
                correct(network, each, EXACT)[0], together[index], atol=1e-4, rtol=1e-4
            )


def test_what_ships_is_nearer_to_the_truth_on_rendered_clips() -> None:
    pairs = joined([scene_pairs(UNSEEN + 2 * index) for index in range(3)])
    filled, corrected = errors(pairs, load_correction(), EXACT)
    assert corrected < 0.8 * filled


def test_what_ships_is_nearer_to_raft_on_videos(shared: Path) -> None:
    for name in ("dance-twirl", "libby"):
        filled, corrected = errors(
            sequence_pairs(shared / "davis16", name), load_correction(), EXACT
        )
        assert corrected < filled


def test_ground_that_the_codec_leaves_where_it_was_moves_all_the_same(shared: Path) -> None:
    """Dark asphalt, of which x264 keeps hardly any texture: the search finds that it stands."""
    pairs = sequence_pairs(shared / "davis16", "car-shadow", crf=26)
    filled, corrected = errors(pairs, load_correction(), EXACT)
    assert filled > 0.15
    assert corrected < 0.5 * filled


def test_the_default_is_corrected_and_the_plain_one_is_there() -> None:
    assert list(ESTIMATORS)[:2] == ["dis", "dis-plain"]
    frame = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    after = np.roll(frame, 2, axis=1)
    flows = []
    for name in ("dis", "dis-plain"):
        using = estimator(FlowSettings(name))
        flows.append(using.between(using.prepare(frame), using.prepare(after), (64, 96)))
    assert np.abs(flows[0] - flows[1]).max() > 1e-3


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    network = CorrectionNetwork()
    save_correction(tmp_path / "w.safetensors", network, {"steps": 1})
    read = load_correction(tmp_path / "w.safetensors")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, read.state_dict()[name])
    assert read_tensors(WEIGHTS)[1]["card"]["licence"].startswith("Apache-2.0")


def test_weights_that_are_missing_damaged_or_others_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(InputError, match="There is no file"):
        Correction(path)
    tensors, header = read_tensors(WEIGHTS)
    few = dict(list(tensors.items())[1:])
    broken = {**tensors, "head.bias": torch.full_like(tensors["head.bias"], float("nan"))}
    for wrong, said in ((few, header), (broken, header), (tensors, {"format": 0})):
        write_tensors(path, wrong, said)
        with pytest.raises(InputError, match="does not hold the weights that correct DIS"):
            Correction(path)
    path.write_bytes(WEIGHTS.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        Correction(path)


def test_what_moves_by_itself_is_told_from_the_frame() -> None:
    rows = torch.linspace(-1, 1, 32).view(-1, 1).expand(32, 56)
    flow = torch.stack([2 + rows, -rows * rows])[None].clone()
    flow[:, :, 8:20, 10:25] += 4
    own = moving(flow)[0]
    assert own[8:20, 10:25].min() > 0.99
    own[8:20, 10:25] = 0
    assert own.max() < 0.01


def test_a_still_field_has_something_to_divide_by() -> None:
    assert told(torch.zeros(1, 2, 8, 8)).item() == pytest.approx(0.03)


def test_mirrored_samples_fit_together() -> None:
    """Turned over, candidates and target still say the same of each site."""
    pairs = scene_pairs(UNSEEN)
    truth = pairs.target.unsqueeze(1).expand(-1, len(KINDS), -1, -1, -1)
    others = {part.name: getattr(pairs.offered, part.name) for part in fields(Offered)}
    exact = replace(pairs, offered=Offered(**{**others, "flows": truth}))
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        which = torch.tensor([0, 2])
        seen, target, _ = sample(exact, moving(exact.target), which, (96, 160), generator)
        assert len(target) == 2
        assert torch.equal(seen.flows[:, 0], target)


def test_training_lowers_the_loss_and_repeats_itself() -> None:
    pairs, settings = scene_pairs(UNSEEN), CorrectionSettings(steps=24, batch=2)
    first, again = (list(train(pairs, settings, EXACT)) for _ in range(2))
    assert np.mean(first[-6:]) < 0.97 * np.mean(first[:6])
    assert first == pytest.approx(again, rel=1e-3)


def tiny(network_seed: int) -> SegmentationNetwork:
    torch.manual_seed(network_seed)
    made = SegmentationNetwork(NetworkSettings(levels=2, features=4))
    made.spread_heads(10.0, (4,))
    return made.eval().requires_grad_(False)


def test_masks_that_judge_stay_as_they_are_and_the_correction_does_not() -> None:
    rng = np.random.default_rng(0)
    cut_from = [rng.integers(0, 256, (128, 224, 3)).astype(np.uint8)]
    kinds = scene_pairs(UNSEEN), scene_pairs(UNSEEN + 1), collage_pairs(0, cut_from)
    judges = [(tiny(0), 0.5), (tiny(1), 0.5)]
    before = [judge.state_dict()["heads.4.weight"].clone() for judge, _ in judges]
    network, settings = load_correction(), CorrectionSettings(steps=4, learning_rate=1e-4)
    start = {name: each.clone() for name, each in network.state_dict().items()}
    losses = list(train_judged(network, kinds, judges, settings, EXACT))
    assert len(losses) == 4
    assert np.isfinite(losses).all()
    after = [judge.state_dict()["heads.4.weight"] for judge, _ in judges]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert any(not torch.equal(each, start[name]) for name, each in network.state_dict().items())


def test_triplets_are_within_one_clip() -> None:
    pairs = scene_pairs(UNSEEN)
    once = Pairs(pairs.offered, pairs.target, (1, 2))
    assert pairs.triplets().tolist() == [0]
    assert joined([pairs, once, pairs]).triplets().tolist() == [0, 6]
    assert once.triplets().tolist() == []
