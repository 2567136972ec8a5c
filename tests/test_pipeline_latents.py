"""χ in the record, and several K from one pass: each as a run of its own would make it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stseg import pipeline
from stseg.errors import Cancelled, InputError
from stseg.network import SegmentationNetwork
from stseg.pipeline import SegmentationRun
from stseg.records import Clip, Segmentation, Settings

SETTINGS = Settings(k=3, device="cpu")


@pytest.fixture(autouse=True)
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the paper's grid, so that the tests are quick."""
    monkeypatch.setattr(pipeline, "grid_for", lambda size: (32, 56))


def worked(
    clip: Clip, settings: Settings, network: SegmentationNetwork, also: tuple[int, ...] = ()
) -> SegmentationRun:
    run = SegmentationRun(clip, settings, network, also=also)
    assert [frame.masks.shape[0] for frame in run.frames()] == [settings.k] * 9
    return run


@pytest.mark.parametrize(
    ("taus", "linkage", "refine"),
    [
        ((1,), "one-to-one", False),
        ((2,), "greedy", False),
        ((-1,), "one-to-one+similarity", False),
        ((2, -1), "greedy+similarity", False),
        ((6,), "one-to-one+similarity", False),  # hardly a triplet fits
        ((1,), "one-to-one", True),
    ],
)
def test_each_k_of_one_run_is_that_of_a_run_of_its_own(
    taus: tuple[int, ...],
    linkage: str,
    refine: bool,
    clip: Clip,
    tiny_network: SegmentationNetwork,
) -> None:
    settings = replace(SETTINGS, taus=taus, linkage=linkage, refine=refine)
    run = worked(clip, settings, tiny_network, also=(2, 4, 3))
    assert run.ks == (3, 2, 4)
    assert run.result().settings is run.result(3).settings is settings
    for k in (2, 3, 4):
        found = run.result(k)
        alone = worked(clip, replace(settings, k=k), tiny_network).result()
        assert found.settings == alone.settings
        assert len(found) == len(alone) == found.clip.frames == 9
        np.testing.assert_array_equal(found.assignment, alone.assignment)
        np.testing.assert_array_equal(found.latents, alone.latents)
        for index in range(9):
            np.testing.assert_array_equal(found.masks[index], alone.masks[index])
            np.testing.assert_array_equal(found.labels(index), alone.labels(index))
            np.testing.assert_array_equal(found.motion(index), alone.motion(index))


def test_similarity_weighs_what_the_settings_say(
    clip: Clip, tiny_network: SegmentationNetwork
) -> None:
    def linked(linkage: str, weight: float) -> np.ndarray:
        # Flow that no trained weights decide: the masks are those of chance, and so is the case.
        settings = replace(SETTINGS, flow="dis-plain", linkage=linkage, similarity_weight=weight)
        return worked(clip, settings, tiny_network).result().assignment

    # Without weight places decide alone. That χ decides otherwise here is what makes this a test.
    np.testing.assert_array_equal(linked("one-to-one+similarity", 0.0), linked("one-to-one", 1.0))
    assert (linked("one-to-one+similarity", 1.0) != linked("one-to-one", 1.0)).any()


def test_other_k_cost_no_pass_of_the_trunk(
    clip: Clip, tiny_network: SegmentationNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = 0
    original = tiny_network.trunk.forward

    def counted(x: object) -> object:
        nonlocal passes
        passes += 1
        return original(x)

    monkeypatch.setattr(tiny_network.trunk, "forward", counted)
    settings = replace(SETTINGS, taus=(1, 2))
    worked(clip, settings, tiny_network)
    alone, passes = passes, 0
    worked(clip, settings, tiny_network, also=(2, 4))
    assert passes == alone


def test_a_k_that_was_not_made_gets_a_sentence(
    clip: Clip, tiny_network: SegmentationNetwork
) -> None:
    run = SegmentationRun(clip, SETTINGS, tiny_network, also=(2,))
    with pytest.raises(InputError) as error:
        run.result(4)
    assert str(error.value) == "This run made K = 2, 3, not 4. Choose one of these."
    with pytest.raises(InputError, match="gives K = 4, 2, 3 segments, not 5"):
        SegmentationRun(clip, SETTINGS, tiny_network, also=(2, 5))


def test_every_k_has_the_frames_done_before_stop(
    clip: Clip, tiny_network: SegmentationNetwork
) -> None:
    stopped = False
    every = replace(SETTINGS, stride=1)  # so that there is work left to stop
    run = SegmentationRun(clip, every, tiny_network, stop=lambda: stopped, also=(2,))
    frames = run.frames()
    for _ in range(3):
        next(frames)
    stopped = True
    with pytest.raises(Cancelled):
        list(frames)
    one, two = run.result(3), run.result(2)
    assert len(one) == len(two) >= 3
    assert two.assignment.shape == (len(two), 2)


# --- latents -------------------------------------------------------------------------------------


def present(result: Segmentation, index: int) -> np.ndarray:
    segments = result.masks[index].argmax(0)
    return np.bincount(segments.ravel(), minlength=result.k) > 0


@pytest.mark.parametrize("taus", [(1,), (3,), (-2,), (1, 2), (2, -1)])
def test_latents_are_zero_exactly_where_a_segment_has_no_site(
    taus: tuple[int, ...], clip: Clip, tiny_network: SegmentationNetwork
) -> None:
    result = worked(clip, replace(SETTINGS, k=4, taus=taus), tiny_network).result()
    assert result.latents.shape == (9, 4, 8)
    assert result.latents.dtype == np.float32
    assert np.isfinite(result.latents).all()
    backwards = taus[0] < 0
    for index in range(1 if backwards else 0, 9 if backwards else 8):  # not the moved one
        np.testing.assert_array_equal(result.latents[index].any(axis=1), present(result, index))
    if backwards:
        np.testing.assert_array_equal(result.latents[0], result.latents[1])
    else:
        np.testing.assert_array_equal(result.latents[8], result.latents[7])


def test_linked_latents_follow_the_assignment(
    clip: Clip, tiny_network: SegmentationNetwork
) -> None:
    result = worked(clip, SETTINGS, tiny_network).result()
    for index in range(9):
        linked = result.linked_latents(index)
        segments = np.flatnonzero(present(result, index))
        np.testing.assert_allclose(
            linked[result.assignment[index][segments]], result.latents[index][segments], rtol=1e-6
        )
    empty = SegmentationRun(clip, SETTINGS, tiny_network).result()
    assert empty.latents.shape == (0, 3, 0)
