"""Every frame once and in order, from the right triplet, whatever τ and whenever asked.

The network is replaced by one that writes into its masks what it was shown: the field of frame f
carries f in its first channel, and the masks of an instant carry that frame and the instant.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from stseg.records import LINKAGES, dequantise
from stseg.timeline import BATCH, FramePrediction, Predict, Prediction, Timeline, Triplet
from stseg.volume import FlowFields, move_masks

H, W = 4, 6
K = 3
TAUS = [(1,), (2,), (3,), (-1,), (-2,), (1, 2), (2, -1), (1, 2, -3), (-3, 1), (4, 1)]
UNIT = 1 / 255
C = 2

Network = Callable[[list[np.ndarray]], np.ndarray]
"""Volumes (2, t, h, w) → soft masks (b, k, t, h, w)."""


def asked(flow: FlowFields, network: Network) -> Predict:
    """A network as the timeline takes it; χ of segment j holds its share of the sites, and 1."""

    def predict(triplets: Sequence[Triplet], backward: bool) -> Prediction:
        soft = network([flow.volume(frames, backward) for frames in triplets])
        masks = np.rint(np.moveaxis(soft, 2, 1) * 255).astype(np.uint8)
        segments = masks.argmax(2).astype(np.uint8)
        k = masks.shape[2]
        share = (segments[:, :, None] == np.arange(k)[:, None, None]).mean((3, 4))
        latents = np.stack([share, share > 0], axis=-1).astype(np.float32)
        return Prediction(masks, segments, latents)

    return predict


class Tell:
    """A network whose masks tell where they come from; it notes what it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, ...]] = []
        self.batches: list[int] = []

    def __call__(self, volumes: list[np.ndarray]) -> np.ndarray:
        self.batches.append(len(volumes))
        out = np.empty((len(volumes), K, 3, H, W), np.float32)
        for masks, volume in zip(out, volumes, strict=True):
            assert volume.shape == (2, 3, H, W)
            assert volume.dtype == np.float32
            frames = tuple(int(frame) for frame in volume[0, :, 0, 0])
            self.shown.append(frames)
            for instant, frame in enumerate(frames):
                masks[0, instant] = frame * UNIT
                masks[1, instant] = (instant + 1) * UNIT
                masks[2, instant] = 1 - (frame + instant + 1) * UNIT
        return out


def told(prediction: FramePrediction) -> tuple[float, float]:
    """Frame and instant (0, 1 or 2) that masks carry."""
    return (
        float(prediction.masks[0].mean()),
        float(prediction.masks[1].mean()) - 1,
    )


def add_frame(flow: FlowFields, frame: int) -> None:
    """Fields between ``frame`` - 1 and ``frame``."""
    if frame:
        flow.forward.append(np.full((2, H, W), frame - 1, np.float16))
        flow.backward.append(np.full((2, H, W), frame, np.float16))


def timeline(
    flow: FlowFields,
    predict: Network,
    taus: tuple[int, ...],
    k: int = K,
    linkage: str = "one-to-one",
    size: tuple[int, int] = (H, W),
    stride: int = 1,
    batch: int = BATCH,
) -> Timeline:
    told = asked(flow, predict)
    return Timeline(flow, told, k, taus, linkage, size, stride=stride, batch=batch)


def step_by_step(
    taus: tuple[int, ...], n: int, predict: Network, stride: int = 1
) -> list[FramePrediction]:
    """As the pipeline does it: a call for each frame that is read, and one at the end."""
    flow = FlowFields()
    line = timeline(flow, predict, taus, stride=stride)
    predictions: list[FramePrediction] = []
    for frame in range(n):
        add_frame(flow, frame)
        for index, prediction in line.advance(frame + 1, ended=False):
            assert index == len(predictions)
            assert index <= frame
            predictions.append(prediction)
    for index, prediction in line.advance(n, ended=True):
        assert index == len(predictions)
        predictions.append(prediction)
    return predictions


def at_once(
    taus: tuple[int, ...], n: int, predict: Network, stride: int = 1
) -> list[FramePrediction]:
    flow = FlowFields()
    for frame in range(n):
        add_frame(flow, frame)
    predictions = list(timeline(flow, predict, taus, stride=stride).advance(n, ended=True))
    assert [index for index, _ in predictions] == list(range(n))
    return [prediction for _, prediction in predictions]


@pytest.mark.parametrize("taus", TAUS)
@pytest.mark.parametrize("n", range(2, 13))
def test_every_frame_once_and_in_order_however_it_is_asked(taus: tuple[int, ...], n: int) -> None:
    slowly, fast = step_by_step(taus, n, Tell()), at_once(taus, n, Tell())
    assert len(slowly) == len(fast) == n
    for one, other in zip(slowly, fast, strict=True):
        np.testing.assert_array_equal(one.masks, other.masks)
        np.testing.assert_array_equal(one.latents, other.latents)
        np.testing.assert_array_equal(one.assignment, other.assignment)
        np.testing.assert_allclose(one.masks.sum(0), 255, atol=K)
        assert one.masks.shape == (K, H, W)
        assert one.masks.dtype == np.uint8
        assert one.assignment.dtype == np.uint8


@pytest.mark.parametrize("tau", [1, 2, 3, -1, -2, -3])
@pytest.mark.parametrize("n", range(2, 13))
def test_each_frame_has_the_prediction_that_the_docstring_names(tau: int, n: int) -> None:
    reach = abs(tau)
    first, last = (0, n - 2) if tau > 0 else (1, n - 1)  # frames that have a field
    source = [told(prediction) for prediction in at_once((tau,), n, Tell())]
    for frame in range(n):
        seen = min(max(frame, first), last)  # a frame without a field takes its neighbour's

        def fits(centre: int) -> bool:
            return first <= centre - reach and centre + reach <= last

        # Instants are in order of the volume here: a negative τ starts at the later frame.
        early, late = (0, 2) if tau > 0 else (2, 0)
        if fits(seen):
            expected = (seen, 1)
        elif fits(seen + reach):
            expected = (seen, early)
        elif fits(seen - reach):
            expected = (seen, late)
        else:
            expected = (seen, 1)  # a volume of its own, ends repeated
        assert source[frame] == expected, f"frame {frame}"


@pytest.mark.parametrize(
    ("tau", "n", "shown"),
    [
        (1, 6, [(0, 1, 2), (1, 2, 3), (2, 3, 4)]),
        (2, 6, [(0, 2, 4), (0, 1, 3), (1, 3, 4)]),  # 1 and 3 fit nowhere
        (-1, 6, [(3, 2, 1), (4, 3, 2), (5, 4, 3)]),
        (-2, 7, [(5, 3, 1), (6, 4, 2)]),
        (1, 3, [(0, 0, 1), (0, 1, 1)]),
        (1, 2, [(0, 0, 0)]),
        (-1, 2, [(1, 1, 1)]),
    ],
)
def test_what_the_network_is_shown(tau: int, n: int, shown: list[tuple[int, ...]]) -> None:
    tell = Tell()
    at_once((tau,), n, tell)
    assert set(tell.shown) == set(shown)


@pytest.mark.parametrize("batch", [1, BATCH])
@pytest.mark.parametrize("stride", [1, 2])
def test_frames_are_yielded_as_soon_as_a_batch_fits(stride: int, batch: int) -> None:
    flow = FlowFields()
    tell = Tell()
    line = timeline(flow, tell, (1,), stride=stride, batch=batch)
    out, first = 0, None
    for frame in range(60):
        add_frame(flow, frame)
        out += len(list(line.advance(frame + 1, ended=False)))
        first = frame + 1 if out and first is None else first
        assert frame + 1 - out <= 2 + stride * batch + 1
    assert first == 4 + stride * (batch - 1)  # three fields, and those of the rest of the batch
    assert set(tell.batches) == {batch}
    assert len(line._triplets) <= batch + 1  # a long clip does not pile up


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("n", [4, 9, 12])
def test_the_batch_changes_nothing(n: int, stride: int) -> None:
    flow = FlowFields()
    for frame in range(n):
        add_frame(flow, frame)
    lines = [timeline(flow, Tell(), (1,), stride=stride, batch=batch) for batch in (1, 3, BATCH)]
    told = [list(line.advance(n, ended=True)) for line in lines]
    for one, *others in zip(*told, strict=True):
        for other in others:
            assert other[0] == one[0]
            np.testing.assert_array_equal(other[1].masks, one[1].masks)
            np.testing.assert_array_equal(other[1].assignment, one[1].assignment)


def test_nothing_is_decided_before_there_is_flow() -> None:
    flow = FlowFields()
    line = timeline(flow, Tell(), (1,))
    for frame in range(3):
        add_frame(flow, frame)
        assert list(line.advance(frame + 1, ended=False)) == []


@pytest.mark.parametrize("taus", [(1, 2), (1, 2, -3), (-1, 2), (2, 1, -1)])
def test_several_taus_are_averaged_where_they_fit(taus: tuple[int, ...]) -> None:
    n = 12
    calls: dict[int, list[tuple[int, ...]]] = {tau: [] for tau in taus}

    class Weighted(Tell):
        """Adds 10 |τ| (and 5 for a negative one) to the frame that it tells."""

        def __call__(self, volumes: list[np.ndarray]) -> np.ndarray:
            out = super().__call__(volumes)
            for masks, frames in zip(out, self.shown[-len(volumes) :], strict=True):
                tau = frames[1] - frames[0]
                calls[tau].append(frames)
                masks[0] += weight(tau) * UNIT
                masks[2] -= weight(tau) * UNIT
            return out

    def weight(tau: int) -> int:
        return 10 * abs(tau) + (5 if tau < 0 else 0)

    predictions = at_once(taus, n, Weighted())
    reach = abs(taus[0])
    start, end = (0, n - 2) if taus[0] > 0 else (1, n - 1)
    for frame in range(start + reach, end - reach + 1):  # frames with a centre of their own
        fitting = [
            tau
            for tau in taus
            if (0 if tau > 0 else 1) <= frame - abs(tau)
            and frame + abs(tau) <= (n - 2 if tau > 0 else n - 1)
        ]
        mean = np.mean([weight(tau) for tau in fitting])
        assert told(predictions[frame])[0] == pytest.approx(frame + mean, abs=0.5)
    assert all(calls.values())
    for tau, shown in calls.items():
        assert all(np.diff(frames).tolist() == [tau, tau] for frames in shown)


# --- labels --------------------------------------------------------------------------------------


def stripes(frame: int, k: int, h: int = 12, w: int = 48) -> np.ndarray:
    """Soft masks (k, h, w) of k stripes of falling width that slide with the frames."""
    widths = np.arange(k, 0, -1) + 1
    borders = np.cumsum(widths) * w / widths.sum()
    labels = np.searchsorted(borders, (np.arange(w) + frame) % w, side="right")
    one_hot = (labels == np.arange(k)[:, None]).astype(np.float32)
    sharp = 0.8 * one_hot + 0.2 / k
    return np.tile(sharp[:, None], (1, h, 1))


def renaming(k: int, seed: int, order: Callable[[int], bool] = lambda _: True) -> Network:
    """A network that sees the stripes, and calls them otherwise in each volume."""
    counter = itertools.count(seed)

    def predict(volumes: list[np.ndarray]) -> np.ndarray:
        out = []
        for volume in volumes:
            names = np.random.default_rng(next(counter)).permutation(k)
            frames = [int(frame) for frame in volume[0, :, 0, 0]]
            out.append(np.stack([stripes(frame, k)[names] for frame in frames], axis=1))
        return np.stack(out)

    return predict


def painted(n: int) -> FlowFields:
    flow = FlowFields()
    for frame in range(1, n):
        flow.forward.append(np.full((2, 12, 48), frame - 1, np.float16))
        flow.backward.append(np.full((2, 12, 48), frame, np.float16))
    return flow


@pytest.mark.parametrize("taus", TAUS)
@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("n", [5, 12])
@pytest.mark.parametrize("k", [2, 4])
def test_labels_stay_whatever_the_network_calls_them(
    taus: tuple[int, ...], linkage: str, n: int, k: int
) -> None:
    flow = painted(n)
    line = Timeline(flow, asked(flow, renaming(k, seed=7)), k, taus, linkage, (12, 4800))
    first, last = (0, n - 2) if taus[0] > 0 else (1, n - 1)
    for index, prediction in line.advance(n, ended=True):
        seen = min(max(index, first), last)
        expected = stripes(seen, k).argmax(0)
        # Largest first: stripe i is label i. (A moved mask is off at its borders.)
        agree = (prediction.labels() == expected).mean()
        assert agree == 1 if first <= index <= last else agree > 0.9
        np.testing.assert_allclose(prediction.masks.sum(0), 255, atol=k)


@pytest.mark.parametrize("taus", [(1, 2), (1, 2, -1), (-1, 2, -2)])
def test_other_taus_are_put_into_the_order_of_the_first(taus: tuple[int, ...]) -> None:
    k, n = 4, 10
    flow = painted(n)
    line = Timeline(flow, asked(flow, renaming(k, seed=3)), k, taus, "one-to-one", (12, 48))
    for index, prediction in line.advance(n, ended=True):
        if 3 <= index <= n - 4:
            # The mean of equal masks in equal order is as sharp as each of them.
            assert prediction.masks.max(0).min() == pytest.approx(255 * (0.8 + 0.2 / k), abs=1)


@pytest.mark.parametrize("tau", [1, -1])
@pytest.mark.parametrize("n", range(2, 22))
def test_with_a_stride_of_2_the_frames_between_have_what_both_triplets_say(
    tau: int, n: int
) -> None:
    """The first mask is 1/8, 2/8 or 4/8, by the instant in order of time."""

    def predict(volumes: list[np.ndarray]) -> np.ndarray:
        out = np.zeros((len(volumes), K, 3, H, W), np.float32)
        for masks, volume in zip(out, volumes, strict=True):
            # A volume that repeats a field has its only frame in the middle.
            order = [0, 1, 2] if volume[0, 0, 0, 0] <= volume[0, 2, 0, 0] else [2, 1, 0]
            for instant, place in enumerate(order):
                masks[0, instant] = 2**place / 8
            masks[1] = 1 - masks[0]
        return out

    slowly, fast = step_by_step((tau,), n, predict, 2), at_once((tau,), n, predict, 2)
    for one, other in zip(slowly, fast, strict=True):
        np.testing.assert_array_equal(one.masks, other.masks)
    first, last = (0, n - 2) if tau > 0 else (1, n - 1)  # frames that have a field
    centres = {*range(first + 1, last, 2), *([last - 1] if first < last - 1 else [])}
    for frame, prediction in enumerate(fast):
        seen = min(max(frame, first), last)
        if seen in centres or not centres:
            expected = 2.0
        else:
            sides = [value for at, value in ((seen + 1, 1), (seen - 1, 4)) if at in centres]
            expected = float(np.mean(sides))
        assert prediction.masks[0].mean() == pytest.approx(255 * expected / 8, abs=1), frame


@pytest.mark.parametrize(("n", "triplets"), [(4, 1), (5, 2), (20, 9), (21, 10), (80, 39)])
def test_a_stride_of_2_halves_the_work(n: int, triplets: int) -> None:
    shown = Tell()
    at_once((1,), n, shown, 2)
    assert len(shown.shown) == triplets


@pytest.mark.parametrize("tau", [1, -1])
@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("n", [5, 12, 13])
def test_labels_stay_with_a_stride_of_2(tau: int, linkage: str, n: int) -> None:
    k, flow = 4, painted(n)
    predict = asked(flow, renaming(k, seed=7))
    line = Timeline(flow, predict, k, (tau,), linkage, (12, 4800), stride=2)
    first, last = (0, n - 2) if tau > 0 else (1, n - 1)
    for index, prediction in line.advance(n, ended=True):
        if first <= index <= last:
            np.testing.assert_array_equal(prediction.labels(), stripes(index, k).argmax(0))


@pytest.mark.parametrize("subsequence", [4, 5])
def test_with_a_stride_of_2_a_frame_has_the_labels_of_its_own_sub_sequence(
    subsequence: int,
) -> None:
    """Two halves that change their size at each boundary, so that naming by area tells them."""
    k, n = 2, 22

    def predict(volumes: list[np.ndarray]) -> np.ndarray:
        out = np.empty((len(volumes), k, 3, 12, 48), np.float32)
        for masks, volume in zip(out, volumes, strict=True):
            part = int(volume[0, 1, 0, 0]) // subsequence
            masks[0] = np.where(np.arange(48) < (40 if part % 2 else 8), 0.9, 0.1)
            masks[1] = 1 - masks[0]
        return out

    flow = painted(n)
    predict_ = asked(flow, predict)
    line = Timeline(flow, predict_, k, (1,), "one-to-one", (12, 4800), subsequence, stride=2)
    for frame, prediction in line.advance(n - 2, ended=False):
        odd = (frame // subsequence) % 2
        assert prediction.assignment.tolist() == ([0, 1] if odd else [1, 0]), frame


@pytest.mark.parametrize("tau", [1, 2, -1])
@pytest.mark.parametrize("subsequence", [0, 1, 4, 5])
def test_labels_start_anew_at_each_sub_sequence(tau: int, subsequence: int) -> None:
    """The scene slides by half its width, so that naming by area shows where it happens."""
    k, n = 2, 14

    def predict(volumes: list[np.ndarray]) -> np.ndarray:
        out = np.empty((len(volumes), k, 3, 12, 48), np.float32)
        for masks, volume in zip(out, volumes, strict=True):
            for instant, frame in enumerate(volume[0, :, 0, 0]):
                border = 40 - 2 * int(frame)  # segment 0 shrinks from 40 to 14 columns
                masks[0, instant] = np.where(np.arange(48) < border, 0.9, 0.1)
                masks[1, instant] = 1 - masks[0, instant]
        return out

    flow = painted(n)
    line = Timeline(flow, asked(flow, predict), k, (tau,), "one-to-one", (12, 4800), subsequence)
    found = [prediction.assignment.tolist() for _, prediction in line.advance(n, ended=True)]
    first, last = (0, n - 2) if tau > 0 else (1, n - 1)
    for frame in range(first + abs(tau), last - abs(tau) + 1):  # frames with a centre of their own
        start = frame - frame % subsequence if subsequence else 0
        centre = max(start, first + abs(tau))  # the triplet that names the labels
        largest = 0 if 40 - 2 * centre >= 24 else 1
        assert found[frame] == ([0, 1] if largest == 0 else [1, 0]), frame


@pytest.mark.parametrize(
    ("tau", "start", "names"),
    [
        (2, 40, [[0, 1]] * 20 + [[1, 0]] * 4),  # 21 has its masks from 19, of the part before
        (-2, 40, [[0, 1]] * 20 + [[1, 0]] * 4),
        (3, 40, [[0, 1]] * 20 + [[1, 0]] * 4),
        (6, 32, [[0, 1]] * 10 + [[1, 0]] * 14),  # 4 and 5 have theirs from 10 and 11, of the next
    ],
)
def test_masks_from_another_sub_sequence_take_the_names_of_their_own(
    tau: int, start: int, names: list[list[int]]
) -> None:
    k, n = 2, 24 if abs(tau) != 3 else 25

    def predict(volumes: list[np.ndarray]) -> np.ndarray:
        out = np.empty((len(volumes), k, 3, 12, 48), np.float32)
        for masks, volume in zip(out, volumes, strict=True):
            for instant, frame in enumerate(volume[0, :, 0, 0]):
                border = start - int(frame)  # segment 0 is the smaller one below 24
                masks[0, instant] = np.where(np.arange(48) < border, 0.9, 0.1)
                masks[1, instant] = 1 - masks[0, instant]
        return out

    flow = painted(n)
    line = Timeline(flow, asked(flow, predict), k, (tau,), "one-to-one", (12, 4800), 10)
    found = [prediction.assignment.tolist() for _, prediction in line.advance(n, ended=True)]
    assert found[: len(names)] == names


def test_the_last_frame_has_the_masks_of_its_neighbour_moved() -> None:
    k, n, size = 3, 7, (24, 96)
    flow = FlowFields()
    for frame in range(1, n):
        field = np.full((2, 12, 48), frame - 1, np.float16)
        flow.forward.append(field)
    line = Timeline(flow, asked(flow, renaming(k, seed=0)), k, (1,), "one-to-one", size)
    out = [prediction for _, prediction in line.advance(n, ended=True)]
    expected = move_masks(dequantise(out[-2].masks), flow.at(n - 2, backward=False), size)
    np.testing.assert_array_equal(out[-1].masks, np.rint(expected * 255))
    np.testing.assert_array_equal(out[-1].assignment, out[-2].assignment)
    np.testing.assert_array_equal(out[-1].latents, out[-2].latents)
    assert not np.array_equal(out[-1].masks, out[-2].masks)


def test_the_first_frame_of_a_negative_tau_has_the_masks_of_its_neighbour_moved() -> None:
    k, n, size = 3, 7, (24, 96)
    flow = painted(n)
    line = Timeline(flow, asked(flow, renaming(k, seed=0)), k, (-1,), "one-to-one", size)
    out = [prediction for _, prediction in line.advance(n, ended=True)]
    expected = move_masks(dequantise(out[1].masks), flow.at(1, backward=True), size)
    np.testing.assert_array_equal(out[0].masks, np.rint(expected * 255))
    np.testing.assert_array_equal(out[0].assignment, out[1].assignment)


# --- latents -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [1, 2, -2])
def test_latents_are_those_of_the_instant_whose_masks_a_frame_takes(tau: int) -> None:
    """``asked`` writes the share of the sites into χ."""
    k, n = 3, 9
    flow = painted(n)
    line = Timeline(flow, asked(flow, renaming(k, seed=5)), k, (tau,), "one-to-one", (12, 48))
    first, last = (0, n - 2) if tau > 0 else (1, n - 1)
    for index, prediction in line.advance(n, ended=True):
        if first <= index <= last:
            segments = prediction.masks.argmax(0)
            share = np.bincount(segments.ravel(), minlength=k) / segments.size
            np.testing.assert_allclose(prediction.latents[:, 0], share, atol=1e-6)


def test_latents_of_several_taus_are_averaged_in_the_order_of_the_first() -> None:
    k, n = 3, 12
    flow = painted(n)

    def renamed(triplets: Sequence[Triplet], backward: bool) -> Prediction:
        told = predict(triplets, backward)
        tau = triplets[0][1] - triplets[0][0]
        return replace(told, latents=told.latents * np.float32(tau))

    predict = asked(flow, renaming(k, seed=1))
    line = Timeline(flow, renamed, k, (1, 3), "one-to-one", (12, 48))
    for index, prediction in line.advance(n, ended=True):
        if 3 <= index <= n - 5:  # both fit
            segments = prediction.masks.argmax(0)
            share = np.bincount(segments.ravel(), minlength=k) / segments.size
            np.testing.assert_allclose(prediction.latents[:, 0], 2 * share, atol=1e-6)


def test_a_tau_without_a_site_of_a_segment_has_no_say_in_its_latents() -> None:
    n = 12
    flow = painted(n)

    def predict(triplets: Sequence[Triplet], backward: bool) -> Prediction:
        tau = triplets[0][1] - triplets[0][0]
        shape = (len(triplets), 3, 3, 12, 48)
        masks = np.zeros(shape, np.uint8)
        # Only the reference sees segment 1, in the right half; nobody sees segment 2.
        masks[:, :, 0, :, :24] = 255
        masks[:, :, 0, :, 24:] = 0 if tau == 1 else 155
        masks[:, :, 1, :, 24:] = 255 if tau == 1 else 100
        segments = masks.argmax(2).astype(np.uint8)
        latents = np.zeros((len(triplets), 3, 3, C), np.float32)
        latents[:, :, 0] = tau
        latents[:, :, 1] = 7 if tau == 1 else 0
        return Prediction(masks, segments, latents)

    line = Timeline(flow, predict, 3, (1, 3), "one-to-one", (12, 48))
    out = dict(line.advance(n, ended=True))
    assert out[5].latents.tolist() == [[2, 2], [7, 7], [0, 0]]
    assert out[1].latents.tolist() == [[1, 1], [7, 7], [0, 0]]  # τ = 3 does not fit
