"""Fit on one clip: it learns from that clip, stops at once, and leaves a model that works."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from looks import Pass, note_passes
from torch import Tensor

from stseg import adaptation as fitting
from stseg.adaptation import (
    Adaptation,
    AdaptationSettings,
    curves_of,
    trained_with,
)
from stseg.augment import AugmentSettings
from stseg.checkpoint import load_checkpoint, save_checkpoint
from stseg.clip_flow import read_fields
from stseg.device import Device
from stseg.errors import Cancelled, InputError
from stseg.flow.cache import FlowCache
from stseg.loss_chart import loss_chart
from stseg.losses import LossSettings
from stseg.motion import FitSettings
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.pipeline import SegmentationRun
from stseg.records import Clip, Settings
from stseg.volume import FlowFields

SMALL = AdaptationSettings(k=2, steps=4, size=(16, 28), batch=2, learning_rate=1e-3)


def fields(n: int = 6, size: tuple[int, int] = (128, 224)) -> FlowFields:
    """A rectangle that moves against its background."""
    flow = FlowFields()
    for t in range(n):
        field = np.zeros((2, *size), np.float16)
        field[0], field[1] = -1, 0.3
        field[:, 20 : size[0] - 20, 20 + 3 * t : 80 + 3 * t] = np.array([3, -1])[:, None, None]
        flow.forward.append(field)
    return flow


def a_clip(size: tuple[int, int] = (270, 480), name: str = "made") -> Clip:
    return Clip(Path("made.mp4"), name, size, 24.0, 7)


def adaptation(
    model: Path, cpu: Device, settings: AdaptationSettings = SMALL, flow: FlowFields | None = None
) -> Adaptation:
    return Adaptation(str(model), a_clip(), flow or fields(), settings, cpu)


@pytest.mark.parametrize("frame", [0, 5, 6, 11])
def test_the_masks_that_are_shown_are_those_of_the_watched_frame(
    tiny_model: Path, cpu: Device, frame: int
) -> None:
    """Or of the nearest one that has a triplet of the first τ: 3 to 8 of the twelve fields."""
    flow = fields(12)
    settings = replace(SMALL, taus=(3, 1))
    work = adaptation(tiny_model, cpu, settings, flow)
    centre = min(max(frame, 3), 8)
    three = np.stack([flow.forward[t] for t in (centre - 3, centre, centre + 3)], axis=1)
    volume = torch.from_numpy(three)[None].float()
    with torch.no_grad():
        expected = work.network.eval()(volume, 2)[0, :, 1].numpy()
    shown = next(work.run(frame=frame)).masks
    assert shown is not None
    np.testing.assert_allclose(shown, expected, atol=1e-4)


def test_a_step_that_the_clip_is_too_short_for_is_named_and_left_out(
    tiny_model: Path, cpu: Device, caplog: pytest.LogCaptureFixture
) -> None:
    work = adaptation(tiny_model, cpu, replace(SMALL, taus=(8, 1, -8)), fields(9))
    sentence = "τ = 8 is left out: its triplets need 18 frames, and made has 10."
    assert caplog.messages == [sentence]
    assert work.notes == (sentence,)
    same = adaptation(tiny_model, cpu, SMALL, fields(9))
    shown, expected = (next(each.run(frame=5)).masks for each in (work, same))
    assert shown is not None
    assert expected is not None
    np.testing.assert_array_equal(shown, expected)  # of the first τ that fits
    assert caplog.messages == [sentence]


# --- learning ------------------------------------------------------------------------------------


def test_the_loss_of_the_clip_falls(tiny_model: Path, cpu: Device) -> None:
    settings = replace(SMALL, steps=30, learning_rate=5e-3)
    told = list(adaptation(tiny_model, cpu, settings).run(every=10))
    known = [each.clip_losses["loss"] for each in told if each.clip_losses is not None]
    assert [each.step for each in told if each.clip_losses is not None] == [0, 10, 20, 30]
    assert known[-1] < 0.8 * known[0]


def test_progress_tells_losses_and_pictures(tiny_model: Path, cpu: Device) -> None:
    told = list(adaptation(tiny_model, cpu).run(frame=3, every=2))
    assert [(each.step, each.steps) for each in told] == [(n, 4) for n in range(5)]
    assert not told[0].losses
    assert [each.masks is not None for each in told] == [True, False, True, False, True]
    for each in told:
        if each.masks is not None:
            assert each.masks.shape == (2, 128, 224)
            np.testing.assert_allclose(each.masks.sum(0), 1, atol=1e-5)
        for losses in (each.losses, each.clip_losses or {}):
            assert all(math.isfinite(value) for value in losses.values())
    last = told[-1].losses
    assert last["loss"] == pytest.approx(last["reconstruction"] + last["consistency"], rel=1e-5)
    assert told[0].masks is not None
    assert told[-1].masks is not None
    assert not np.array_equal(told[0].masks, told[-1].masks)


@pytest.mark.parametrize(("every", "steps"), [(100, [0, 1, 2, 2]), (2, [0, 1, 2])])
def test_the_last_picture_is_of_what_a_stop_keeps(
    tiny_model: Path, cpu: Device, every: int, steps: list[int]
) -> None:
    """Where that was pictured anyway, once is enough."""
    work, told = adaptation(tiny_model, cpu), []
    for progress in work.run(lambda: bool(told) and told[-1].step == 2, frame=3, every=every):
        told.append(progress)
    assert [each.step for each in told] == steps
    first, last = told[0].masks, told[-1].masks
    assert first is not None
    assert last is not None
    np.testing.assert_array_equal(last, work._masks(3))
    assert not np.array_equal(last, first)


def test_without_consistency_it_is_told_but_not_minimised(tiny_model: Path, cpu: Device) -> None:
    told = list(adaptation(tiny_model, cpu, replace(SMALL, beta=0.0)).run())
    assert told[-1].losses["loss"] == pytest.approx(told[-1].losses["reconstruction"])
    assert told[-1].losses["consistency"] > 0


def test_the_seed_decides(tiny_model: Path, cpu: Device) -> None:
    def losses(seed: int) -> list[float]:
        run = adaptation(tiny_model, cpu, replace(SMALL, seed=seed)).run()
        return [each.losses["loss"] for each in run if each.losses]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_every_head_follows_the_trunk(tiny_model: Path, cpu: Device) -> None:
    work = adaptation(tiny_model, cpu, replace(SMALL, steps=12))
    before = {name: head.weight.clone() for name, head in work.network.heads.items()}
    list(work.run())
    for name, head in work.network.heads.items():
        assert not torch.equal(head.weight, before[name]), name


def test_a_portrait_clip_turns_the_grid(tiny_model: Path, cpu: Device) -> None:
    flow = fields(size=(224, 128))
    work = Adaptation(str(tiny_model), a_clip((480, 270)), flow, SMALL, cpu)
    told = list(work.run())
    assert work._size == (28, 16)
    assert told[-1].masks is not None
    assert told[-1].masks.shape == (2, 224, 128)


def test_frames_that_repeat_the_one_before_are_not_in_the_triplets(
    tiny_model: Path, cpu: Device
) -> None:
    """As if they were not there: the same losses, and the masks of what is shown."""
    plain = fields(6)
    doubled = FlowFields()
    for index, field in enumerate(plain.forward):
        doubled.forward.append(field)
        if index % 2:
            doubled.forward.append(np.zeros_like(field))
    with_repeats = list(
        adaptation(tiny_model, cpu, flow=doubled).run(frame=3)
    )  # shows frame 2 again
    without = list(adaptation(tiny_model, cpu, flow=plain).run(frame=2))
    assert [each.losses for each in with_repeats] == [each.losses for each in without]
    for one, other in zip(with_repeats, without, strict=True):
        np.testing.assert_array_equal(one.masks, other.masks)

    settings = replace(SMALL, taus=(3,))
    with pytest.raises(InputError, match="has 7 frames that differ, but a fit with τ = 3 needs"):
        adaptation(tiny_model, cpu, settings, doubled)


def test_still_flow_does_not_break_the_weights(tiny_model: Path, cpu: Device) -> None:
    still = FlowFields()
    for _ in range(5):
        still.forward.append(np.zeros((2, 128, 224), np.float16))
    work = adaptation(tiny_model, cpu, flow=still)
    list(work.run())
    assert all(parameter.isfinite().all() for parameter in work.network.parameters())


def test_the_predecessor_is_fitted_on_single_fields(tmp_path: Path, cpu: Device) -> None:
    network = SegmentationNetwork(NetworkSettings("predecessor", 2, 4, (2,)))
    save_checkpoint(tmp_path / "frame.safetensors", network, {})
    told = list(adaptation(tmp_path / "frame.safetensors", cpu, flow=fields(2)).run())
    assert all(each.losses["consistency"] == 0 for each in told if each.losses)


# --- what the settings and the card say ----------------------------------------------------------

STILL = AugmentSettings(global_motion=0.0, corrupt=0.0, flip=False, reverse=False)
FIT = FitSettings(steps=3, stride=2, floor=0.1)


def watched(work: Adaptation, monkeypatch: pytest.MonkeyPatch, factor: float = 1.0) -> list[Pass]:
    """Fit to the end and note every look."""
    seen = note_passes(work.network, fitting, monkeypatch, factor)
    list(work.run(every=100))
    return seen


def with_card(tmp_path: Path, augment: AugmentSettings) -> Path:
    """A model that was trained in a way that is not the usual one."""
    torch.manual_seed(0)
    network = SegmentationNetwork(NetworkSettings(levels=2, features=4, ks=(2, 3)))
    said = {
        "motion_model": "affine",
        "fit": asdict(FIT),
        "augment": asdict(augment),
        "losses": {"beta": 1.0, "eta": 0.01, "along_motion": True},
        "instants": 3,
    }
    save_checkpoint(tmp_path / "carded.safetensors", network, {"settings": said})
    return tmp_path / "carded.safetensors"


def test_a_fit_uses_what_its_settings_and_the_card_say(
    tmp_path: Path, cpu: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SMALL, taus=(1, 2), eta=0.3, beta=0.5, batch=6, steps=2)
    work = adaptation(with_card(tmp_path, STILL), cpu, settings)
    seen = watched(work, monkeypatch)
    steps = [each for each in seen if each.training]
    assert len(steps) == 12
    assert len(seen) > 12  # the clip itself, before and after
    for each in seen:
        assert (each.model, each.fit) == ("affine", FIT)
        assert each.weights == LossSettings(0.5, 0.3, along_motion=True)
        assert torch.equal(each.volume, each.flow)
    # A pixel a frame goes 1 / 480 of the width and 1 / 270 of the height, τ times.
    taus = set()
    for each in steps:
        moved = each.motion * Tensor([480, 270]).view(1, 2, 1, 1, 1)
        tau = round(float(moved.abs().max() / each.flow.abs().max()))
        torch.testing.assert_close(moved, tau * each.flow)
        taus.add(tau)
    assert taus == {1, 2}


AUGMENTATIONS = {
    "nothing": STILL,
    "flip": replace(STILL, flip=True),
    "reverse": replace(STILL, reverse=True),
    "global motion": replace(STILL, global_motion=2.0),
    "corrupt": replace(STILL, corrupt=1.0),
    "zoom": replace(STILL, zoom=3.0),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_volumes_are_augmented_as_the_card_says_and_the_clip_is_not(
    name: str, tmp_path: Path, cpu: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = adaptation(
        with_card(tmp_path, AUGMENTATIONS[name]), cpu, replace(SMALL, batch=12, steps=1)
    )
    every = work._volumes.batch(range(len(work._volumes)), SMALL.size)
    mirrored = every.flip(4) * Tensor([-1, 1]).view(1, 2, 1, 1, 1)
    known = {"as it is": every, "flip": mirrored, "reverse": -every.flip(2)}

    def kind(flow: Tensor) -> str:
        near = [
            key
            for key, all_ in known.items()
            if (all_ - flow).abs().amax((1, 2, 3, 4)).min() < 1e-4
        ]
        return near[0] if near else "other"

    seen = watched(work, monkeypatch)
    drawn = [each for each in seen if each.training]
    assert len(drawn) == 12
    expected = {
        "nothing": {"as it is"},
        "flip": {"as it is", "flip"},
        "reverse": {"as it is", "reverse"},
        "global motion": {"other"},
        "corrupt": {"as it is"},
        "zoom": {"other"},
    }
    assert {kind(each.flow) for each in drawn} == expected[name]
    for each in drawn:
        changed = (each.volume != each.flow).flatten(3).any(3).any(1)  # (1, t)
        assert int(changed.sum()) == (name == "corrupt")
        moved = each.motion * Tensor([480, 270]).view(1, 2, 1, 1, 1)
        if name == "global motion":  # the camera that is added moves nothing
            assert kind(moved) == "as it is"
        elif name != "zoom":
            assert torch.allclose(moved, each.flow, atol=1e-4)
    for each in seen:
        if not each.training:
            assert kind(each.flow) == "as it is"
            assert torch.equal(each.volume, each.flow)


def test_the_rate_falls_along_a_cosine_and_the_gradient_is_bounded(
    tiny_model: Path, cpu: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = adaptation(tiny_model, cpu)
    rates, norms = [], []
    step = work._optimiser.step

    def noting() -> None:
        rates.append(work._optimiser.param_groups[0]["lr"])
        grads = [p.grad.flatten() for p in work.network.parameters() if p.grad is not None]
        norms.append(float(torch.cat(grads).norm()))
        step()

    monkeypatch.setattr(work._optimiser, "step", noting)
    watched(work, monkeypatch, factor=1e4)
    cosine = [(1 + math.cos(math.pi * number / 4)) / 2 for number in range(4)]
    assert rates == pytest.approx([1e-3 * (0.05 + 0.95 * part) for part in cosine])
    assert norms == pytest.approx([1.0] * 4, rel=1e-3)


# --- stopping ------------------------------------------------------------------------------------


def test_a_stop_ends_it_between_two_volumes(tiny_model: Path, cpu: Device) -> None:
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 15  # 4 for the look at the clip, then 2 a volume

    work = adaptation(tiny_model, cpu, replace(SMALL, steps=100, batch=4))
    told = list(work.run(stop))
    assert asked == 16
    assert work.step == 1
    assert told[-1].step == work.step


def test_a_stop_at_once_learns_nothing(tiny_model: Path, cpu: Device) -> None:
    work = adaptation(tiny_model, cpu)
    assert list(work.run(lambda: True)) == []
    assert work.step == 0


def test_it_goes_on_after_a_stop(tiny_model: Path, cpu: Device) -> None:
    whole = adaptation(tiny_model, cpu)
    list(whole.run())
    cut = adaptation(tiny_model, cpu)
    run = cut.run()
    for _ in range(3):
        next(run)
    run.close()
    assert cut.step == 2
    list(cut.run())
    for one, other in zip(whole.network.parameters(), cut.network.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("after", [0, 2])
def test_reading_the_flow_can_be_stopped(clip: Clip, after: int) -> None:
    asked = iter([False] * after + [True] * 99)
    with pytest.raises(Cancelled):
        list(read_fields(clip, Settings(), stop=lambda: next(asked)))


# --- what is kept --------------------------------------------------------------------------------


def test_the_fitted_model_segments_the_clip(
    tiny_model: Path, cpu: Device, clip: Clip, tmp_path: Path
) -> None:
    cache = FlowCache(tmp_path / "cache")
    reading = read_fields(clip, Settings(), cache)
    counted = []
    while True:
        try:
            counted.append(next(reading))
        except StopIteration as ended:
            flow = ended.value
            break
    assert counted == list(range(1, clip.frames + 1))
    assert len(flow.forward) == clip.frames - 1
    work = Adaptation(str(tiny_model), clip, flow, replace(SMALL, k=3), cpu)
    list(work.run())
    path = tmp_path / "fitted.safetensors"
    work.save(path)
    card = load_checkpoint(path).card
    assert card["note"] == "untrained"
    assert card["fitted"]["base"] == tiny_model.name  # no folder of this machine, as in train
    assert card["fitted"]["clip"] == clip.name
    assert card["fitted"]["settings"]["k"] == 3
    assert card["fitted"]["steps"] == 4
    # The flow that the fit computed is that of a run: it is found in the cache.
    for k in (3, 2):
        run = SegmentationRun(clip, Settings(k=k, model=str(path)), cache=cache)
        for _ in run.frames():
            pass
        assert len(run.result()) == clip.frames
        assert run.result().seconds["flow"] == 0


def test_the_card_decides_the_motion_model(tmp_path: Path) -> None:
    network = SegmentationNetwork(NetworkSettings(levels=1, features=4))
    path = tmp_path / "a.safetensors"
    said = {
        "motion_model": "affine",
        "fit": {"steps": 3, "stride": 1, "floor": 0.1},
        "augment": {"global_motion": 0.0, "corrupt": 0.0, "flip": False, "reverse": False},
        "losses": {"beta": 0.5, "eta": 0.2, "along_motion": True},
        "instants": 3,
    }
    save_checkpoint(path, network, {"settings": said})
    settings = trained_with(load_checkpoint(path))
    assert settings.losses == LossSettings(0.5, 0.2, along_motion=True)
    assert settings.motion_model == "affine"
    assert settings.fit.steps == 3
    assert not settings.augment.flip
    for wrong in ({**said, "motion_model": "cubic"}, {**said, "fit": {"other": 1}}, {"fit": {}}):
        save_checkpoint(path, network, {"settings": wrong})
        with pytest.raises(InputError, match="describes no training"):
            trained_with(load_checkpoint(path))


def test_the_chart_is_a_picture(tiny_model: Path, cpu: Device) -> None:
    told = list(adaptation(tiny_model, cpu).run())
    assert loss_chart(curves_of(told)).startswith(b"\x89PNG")
    assert loss_chart(curves_of([])).startswith(b"\x89PNG")


# --- the unusable --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"k": 9}, "K is 9"),
        ({"taus": ()}, "No τ is given"),
        ({"taus": (0,)}, "τ is a step of 1 to 8 frames, not 0"),
        ({"eta": 1.5}, "η is 1.5"),
        ({"eta": math.nan}, "η is nan"),
        ({"beta": -1.0}, "β is -1.0"),
        ({"steps": 0}, "0 steps cannot be done"),
        ({"learning_rate": 0.0}, "does not learn"),
        ({"size": (8, 14)}, "A grid of 8x14 does not serve"),
        ({"batch": 0}, "A batch has at least 1 volume"),
        ({"seed": 2**63}, "The seed 9223372036854775808 is out of range"),
    ],
)
def test_values_out_of_range_get_a_sentence(choice: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        replace(SMALL, **choice)


def test_a_k_without_a_head_gets_a_sentence(tiny_model: Path, cpu: Device) -> None:
    with pytest.raises(InputError, match="gives K = 4, 2, 3 segments, not 7"):
        adaptation(tiny_model, cpu, replace(SMALL, k=7))


@pytest.mark.parametrize("n", [0, 2, 6])
def test_a_short_clip_gets_a_sentence(tiny_model: Path, cpu: Device, n: int) -> None:
    told = f"made has {n + 1} frame{'s' if n else ''}, but a fit with τ = 4 needs at least 10"
    with pytest.raises(InputError, match=f"^{told}.*, or choose a smaller τ.$"):
        adaptation(tiny_model, cpu, replace(SMALL, taus=(4,)), fields(n))


def test_a_clip_of_which_too_little_is_read_gets_a_sentence(tiny_model: Path, cpu: Device) -> None:
    with pytest.raises(InputError, match=r"needs at least 4\. Read more of its frames\.$"):
        adaptation(tiny_model, cpu, SMALL, fields(2))


def test_a_missing_model_gets_a_sentence(cpu: Device) -> None:
    with pytest.raises(InputError, match="There is no model 'none'"):
        Adaptation("none", a_clip(), fields(), SMALL, cpu)


def test_a_stop_is_asked_around_each_pass_of_one_volume(tiny_model: Path, cpu: Device) -> None:
    """Never a whole batch: that is what bounds the wait for a stop."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return False

    work = adaptation(tiny_model, cpu, replace(SMALL, batch=5))
    run = work.run(stop, every=100)
    next(run)
    before = asked
    next(run)
    assert asked - before == 2 * 5 + 1
