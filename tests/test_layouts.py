"""Data set folders, as small copies of the published layouts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stseg.errors import InputError
from stseg.layouts import find_clips
from stseg.video import VideoWriter


def pictures(folder: Path, count: int = 3, suffix: str = ".png") -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        Image.new("RGB", (40, 32), (index * 20, 90, 10)).save(folder / f"{index:05d}{suffix}")


def video(path: Path, count: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, 10.0) as writer:
        for _ in range(count):
            writer.write(np.full((32, 40, 3), 99, np.uint8))


def found(root: Path) -> dict[str, tuple[str, str | None]]:
    """Name → source and ground truth, relative to the root."""
    return {
        clip.name: (
            str(clip.source.relative_to(root)),
            None if clip.truth is None else str(clip.truth.relative_to(root)),
        )
        for clip in find_clips(root)
    }


def test_davis_frames_videos_and_a_sample_of_frames(tmp_path: Path) -> None:
    pictures(tmp_path / "JPEGImages/480p/bear", suffix=".jpg")
    pictures(tmp_path / "Annotations/480p/bear")
    video(tmp_path / "videos/camel.mp4")
    pictures(tmp_path / "Annotations/480p/camel")
    pictures(tmp_path / "JPEGImages/480p/swan", 1, ".jpg")  # a few frames only: take the video
    pictures(tmp_path / "Annotations/480p/swan")
    video(tmp_path / "videos/swan.mp4")
    assert found(tmp_path) == {
        "bear": ("JPEGImages/480p/bear", "Annotations/480p/bear"),
        "camel": ("videos/camel.mp4", "Annotations/480p/camel"),
        "swan": ("videos/swan.mp4", "Annotations/480p/swan"),
    }


def test_segtrack(tmp_path: Path) -> None:
    pictures(tmp_path / "JPEGImages/frog")
    pictures(tmp_path / "GroundTruth/frog")
    assert found(tmp_path) == {"frog": ("JPEGImages/frog", "GroundTruth/frog")}


def test_fbms_with_its_two_parts(tmp_path: Path) -> None:
    pictures(tmp_path / "Trainingset/cars1", suffix=".jpg")
    pictures(tmp_path / "Testset/cats01", suffix=".jpg")
    pictures(tmp_path / "Testset/cats01/GroundTruth")
    assert found(tmp_path) == {
        "cars1": ("Trainingset/cars1", None),
        "cats01": ("Testset/cats01", "Testset/cats01/GroundTruth"),
    }


def test_frames_and_masks(tmp_path: Path) -> None:
    pictures(tmp_path / "frames/a")
    pictures(tmp_path / "masks/a")
    assert found(tmp_path) == {"a": ("frames/a", "masks/a")}


def test_plain_videos_in_natural_order_and_bad_ones_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    video(tmp_path / "clip10.mp4")
    video(tmp_path / "clip9.mp4")
    pictures(tmp_path / "clip9")
    (tmp_path / "broken.mp4").write_text("not a video")
    assert list(found(tmp_path)) == ["clip9", "clip10"]
    assert found(tmp_path)["clip9"] == ("clip9.mp4", "clip9")
    assert "broken.mp4" in caplog.text


def test_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no clip"):
        find_clips(tmp_path)
    with pytest.raises(InputError, match="There is no folder"):
        find_clips(tmp_path / "absent")


def test_the_shipped_clips_have_ground_truth() -> None:
    clips = find_clips(Path(__file__).parents[1] / "assets" / "clips")
    assert [clip.name for clip in clips] == ["crossing", "orbit", "pause"]
    assert all(clip.truth is not None for clip in clips)


def test_davis_of_this_workplace(shared: Path) -> None:
    clips = find_clips(shared / "davis16")
    assert len(clips) == 40
    assert {clip.size for clip in clips} == {(480, 854)}
