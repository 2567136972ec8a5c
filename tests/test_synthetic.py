"""Rendered clips: the picture, the flow and the masks must tell the same story."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from stseg.errors import InputError
from stseg.synthetic import (
    SHIPPED,
    RenderedClip,
    SceneSettings,
    render,
    stop_steps,
)
from stseg.synthetic_files import write_clip

ASSETS = Path(__file__).parents[1] / "assets" / "clips"
SMALL = SceneSettings(size=(96, 160), frames=6, seed=5)
NAMES = [name for name, _ in SHIPPED]


@pytest.fixture(scope="module")
def shipped() -> dict[str, RenderedClip]:
    return {name: render(settings) for name, settings in SHIPPED}


def targets(clip: RenderedClip, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each pixel of frame t goes (x, y), and whether that is inside the frame."""
    height, width = clip.settings.size
    y, x = np.indices((height, width)) + clip.flow[t, ::-1].astype(np.float64)
    return x, y, (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def next_labels(clip: RenderedClip, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of frame t and of the nearest pixel of frame t+1 along the flow."""
    x, y, inside = targets(clip, t)
    there = clip.labels[t + 1][np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)]
    return clip.labels[t][inside], there


def interior(labels: np.ndarray) -> np.ndarray:
    """Pixels whose neighbourhood (5 x 5) has one label."""
    return cv2.dilate(labels, np.ones((5, 5))) == cv2.erode(labels, np.ones((5, 5)))


def affine(clip: RenderedClip, t: int, label: int) -> tuple[np.ndarray, float]:
    """The 6 parameters (3, 2) fitted to the flow of a label, and the largest residual in pixels."""
    y, x = np.nonzero(clip.labels[t] == label)
    basis = np.stack([np.ones(len(x)), x, y], axis=1)
    flow = clip.flow[t][:, y, x].T.astype(np.float64)
    parameters = np.linalg.lstsq(basis[::9], flow[::9])[0]
    return parameters, float(np.abs(basis @ parameters - flow).max())


def own_motion(clip: RenderedClip, t: int, label: int) -> float:
    """Mean motion of an object from t to t+1 with respect to the background, in pixels."""
    y, x = np.nonzero(clip.labels[t] == label)
    camera = np.stack([np.ones(len(x)), x, y], axis=1) @ affine(clip, t, 0)[0]
    return float(np.hypot(*(clip.flow[t][:, y, x] - camera.T)).mean())


def test_equal_settings_give_equal_bytes_and_another_seed_does_not() -> None:
    one, same, other = render(SMALL), render(SMALL), render(replace(SMALL, seed=6))
    for field in ("frames", "flow", "labels"):
        assert getattr(one, field).tobytes() == getattr(same, field).tobytes()
        assert getattr(one, field).tobytes() != getattr(other, field).tobytes()


@pytest.mark.parametrize("paths", ["orbit", "cross"])
@pytest.mark.parametrize("objects", [2, 3, 4, 5])
def test_every_object_is_there(objects: int, paths: Any) -> None:
    clip = render(replace(SMALL, objects=objects, paths=paths))
    assert np.array_equal(np.unique(clip.labels), np.arange(objects + 1))


@pytest.mark.parametrize("frames", [2, 3, 80])
def test_any_length_and_an_odd_portrait_size(frames: int) -> None:
    clip = render(SceneSettings(size=(101, 67), frames=frames, speed=16.0))
    assert clip.frames.shape == (frames, 101, 67, 3)
    assert clip.flow.shape == (frames - 1, 2, 101, 67)
    assert clip.labels.shape == (frames, 101, 67)


@pytest.mark.parametrize("name", NAMES)
def test_frames_follow_the_flow(shipped: dict[str, RenderedClip], name: str) -> None:
    clip = shipped[name]
    for t in range(0, len(clip.flow), 5):
        x, y, inside = (a.astype(np.float32) for a in targets(clip, t))
        back = cv2.remap(clip.frames[t + 1], x, y, cv2.INTER_CUBIC).astype(int)
        whole = cv2.remap(interior(clip.labels[t + 1]).astype(np.float32), x, y, cv2.INTER_LINEAR)
        there = cv2.remap(clip.labels[t + 1], x, y, cv2.INTER_NEAREST)
        seen = (inside > 0) & (whole == 1) & (there == clip.labels[t]) & interior(clip.labels[t])
        for label in range(clip.settings.objects + 1):
            here = seen & (clip.labels[t] == label)
            if here.sum() < 50:
                continue
            now, after = clip.frames[t][here].astype(int), clip.frames[t + 1][here].astype(int)
            error = np.abs(back[here] - now).mean()
            assert error < 3
            assert np.abs(after - now).mean() > 3 * error  # without the flow it does not fit


@pytest.mark.parametrize("name", NAMES)
def test_labels_follow_the_flow(shipped: dict[str, RenderedClip], name: str) -> None:
    for t in range(len(shipped[name].flow)):
        here, there = next_labels(shipped[name], t)
        # A lower label there means that something farther hides it, which only rounding can do.
        assert (there < here).mean() < 0.005
        assert (there == here).mean() > 0.97
        objects = here > 0
        assert (there[objects] >= here[objects]).mean() > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_every_surface_moves_affinely(shipped: dict[str, RenderedClip], name: str) -> None:
    clip = shipped[name]
    for t in range(0, len(clip.flow), 3):
        for label in range(clip.settings.objects + 1):
            assert affine(clip, t, label)[1] < 1e-3


def test_the_front_object_stops_with_respect_to_the_background(
    shipped: dict[str, RenderedClip],
) -> None:
    clip = shipped["pause"]
    front, still = clip.settings.objects, stop_steps(clip.settings)
    assert len(still) >= 10
    assert np.hypot(*clip.flow[still.start][:, 0, 0]) > 0.5  # the camera goes on
    for t in range(len(clip.flow)):
        motion = own_motion(clip, t, front)
        if t in still:
            assert motion < 1e-3
        else:
            assert motion > 0.1
        if t < still.start - 4 or t > still.stop + 4:
            assert motion > 2
        assert own_motion(clip, t, 1) > 2  # the other one never stops


@pytest.mark.parametrize("name", ["orbit", "crossing"])
def test_without_a_stop_every_object_always_moves(
    shipped: dict[str, RenderedClip], name: str
) -> None:
    clip = shipped[name]
    assert len(stop_steps(clip.settings)) == 0
    for label in range(1, clip.settings.objects + 1):
        assert min(own_motion(clip, t, label) for t in range(0, len(clip.flow), 2)) > 2


def test_objects_occlude_one_another_in_crossing(shipped: dict[str, RenderedClip]) -> None:
    clip = shipped["crossing"]
    hidden = np.zeros((4, 4), int)
    for t in range(len(clip.flow)):
        np.add.at(hidden, next_labels(clip, t), 1)
    assert hidden[1, 2] + hidden[1, 3] > 500  # pixels of an object that another one covers
    assert hidden[2, 3] > 500
    areas = [(clip.labels == label).sum((1, 2)) for label in (1, 2)]
    assert min(area.min() / area.max() for area in areas) < 0.7


@pytest.mark.parametrize("name", NAMES)
def test_objects_are_of_a_fair_size_and_stay_in_view(
    shipped: dict[str, RenderedClip], name: str
) -> None:
    clip = shipped[name]
    for label in range(1, clip.settings.objects + 1):
        rows = (clip.labels == label).any(2).sum(1) / clip.settings.size[0]
        assert rows.max() < 0.42
        assert np.median(rows) > 0.1
        assert rows.min() > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_optical_flow_can_be_estimated(shipped: dict[str, RenderedClip], name: str) -> None:
    clip = shipped[name]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    for t in range(0, len(clip.flow), 8):
        first, second = (
            np.ascontiguousarray(cv2.cvtColor(clip.frames[i], cv2.COLOR_RGB2GRAY))
            for i in (t, t + 1)
        )
        estimate = np.asarray(dis.calc(first, second, np.zeros((*first.shape, 2), np.float32)))
        error = np.hypot(*(estimate.transpose(2, 0, 1) - clip.flow[t]))
        assert error.mean() < 0.3
        assert error[clip.labels[t] > 0].mean() < 1


@pytest.mark.parametrize(
    "change",
    [
        {"size": (63, 160)},
        {"size": (96, 5000)},
        {"frames": 1},
        {"frames": 301},
        {"objects": 1},
        {"objects": 6},
        {"seed": -1},
        {"speed": 0.0},
        {"speed": float("nan")},
        {"fps": 0.0},
        {"stop": True, "frames": 11},
        {"paths": "zigzag"},
    ],
)
def test_settings_out_of_range_are_refused_in_a_sentence(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^[A-Z].*\.$"):
        replace(SMALL, **change)


def test_a_clip_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_clip(render(SMALL), tmp_path / "new", "toy")
    path = write_clip(render(replace(SMALL, frames=4)), tmp_path / "new", "toy")
    assert path == tmp_path / "new" / "toy.mp4"
    assert sorted(p.name for p in path.parent.iterdir()) == ["toy", "toy.mp4", "toy.npz"]
    assert sorted(p.name for p in (path.parent / "toy").iterdir()) == [
        f"{t:05d}.png" for t in range(4)
    ]


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"cannot be written .* Choose another folder\.$"):
            write_clip(render(SMALL), folder, "toy")


@pytest.mark.parametrize("name", ["", "..", "a/b", "/tmp/a"])
def test_a_name_that_is_a_path_is_an_input_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot name a clip"):
        write_clip(render(SMALL), tmp_path, name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_shipped_truth_is_what_is_rendered(shipped: dict[str, RenderedClip], name: str) -> None:
    clip = shipped[name]
    masks = sorted((ASSETS / name).iterdir())
    assert [path.name for path in masks] == [f"{t:05d}.png" for t in range(len(clip.labels))]
    for path, labels in zip(masks, clip.labels, strict=True):
        with Image.open(path) as image:
            assert image.mode == "P"
            assert np.array_equal(np.asarray(image), labels)
    with np.load(ASSETS / f"{name}.npz") as cache:
        assert tuple(cache["size"]) == clip.settings.size
        flow = cache["flow"]
    assert flow.dtype == np.float16
    assert flow.shape == (len(clip.flow), 2, 128, 224)
    for stored, exact in zip(flow[::6], clip.flow[::6], strict=True):
        for channel in range(2):
            small = cv2.resize(exact[channel], (224, 128), interpolation=cv2.INTER_AREA)
            assert np.abs(stored[channel] - small).max() < 1 / 64 + 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_shipped_video_shows_what_is_rendered(shipped: dict[str, RenderedClip], name: str) -> None:
    clip = shipped[name]
    video = cv2.VideoCapture(str(ASSETS / f"{name}.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == clip.settings.fps
    for frame in clip.frames:
        there, decoded = video.read()
        assert there
        assert np.abs(decoded[..., ::-1].astype(int) - frame).mean() < 8
    assert not video.read()[0]


def test_shipped_files_are_small() -> None:
    assert sorted(p.stem for p in ASSETS.glob("*.mp4")) == sorted(NAMES)
    for path in ASSETS.glob("*.mp4"):
        assert path.stat().st_size < 400_000
    truth = [*ASSETS.glob("*.npz"), *ASSETS.glob("*/*.png")]
    assert sum(path.stat().st_size for path in truth) < 1_000_000
