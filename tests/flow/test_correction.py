"""The correction of DIS: what ships is nearer to the truth, and what is broken is named."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.correct_dis import (
    CorrectionSettings,
    errors,
    joined,
    moving,
    sample,
    scene_pairs,
    sequence_pairs,
    told,
    train,
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
    exact = type(pairs)(Offered(**{**others, "flows": truth}), pairs.target)
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        seen, target, _, which = sample(exact, moving(exact.target), 2, generator)
        assert len(which) == 2
        assert torch.equal(seen.flows[:, 0], target)


def test_training_lowers_the_loss_and_repeats_itself() -> None:
    pairs, settings = scene_pairs(UNSEEN), CorrectionSettings(steps=24, batch=2)
    first, again = (list(train(pairs, settings, EXACT)) for _ in range(2))
    assert np.mean(first[-6:]) < 0.97 * np.mean(first[:6])
    assert first == pytest.approx(again, rel=1e-3)
