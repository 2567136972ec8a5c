"""Data set folders, as small copies of the published layouts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stseg.errors import InputError
from stseg.layouts import find_clips, open_clip, open_data_set
from stseg.splits import DAVIS16, sequences_of
from stseg.video_writer import VideoWriter


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
    video(tmp_path / "videos/other.mp4")
    assert found(tmp_path) == {
        "bear": ("JPEGImages/480p/bear", "Annotations/480p/bear"),
        "camel": ("videos/camel.mp4", "Annotations/480p/camel"),
        "other": ("videos/other.mp4", None),
        "swan": ("videos/swan.mp4", "Annotations/480p/swan"),
    }
    data_set = open_data_set(tmp_path)
    assert (data_set.kind, data_set.protocol) == ("davis16", "davis")
    assert [entry.name for entry in data_set.choose()[0]] == ["bear", "camel", "swan"]
    # The official list is built in; what is not here is named.
    chosen, absent = data_set.choose("val")
    assert [entry.name for entry in chosen] == ["camel"]
    assert len(absent) == 19
    assert "soapbox" in absent
    assert [entry.name for entry in data_set.choose("train", ["bear"])[0]] == ["bear"]
    with pytest.raises(InputError, match="The split train has no sequence camel"):
        data_set.choose("train", ["camel"])
    with pytest.raises(InputError, match="no list 'dev'"):
        data_set.choose("dev")


def test_segtrack(tmp_path: Path) -> None:
    pictures(tmp_path / "JPEGImages/frog")
    pictures(tmp_path / "GroundTruth/frog", suffix=".bmp")
    pictures(tmp_path / "JPEGImages/bmx")
    pictures(tmp_path / "GroundTruth/bmx/1")
    pictures(tmp_path / "GroundTruth/bmx/2")
    assert found(tmp_path) == {
        "bmx": ("JPEGImages/bmx", "GroundTruth/bmx"),
        "frog": ("JPEGImages/frog", "GroundTruth/frog"),
    }
    data_set = open_data_set(tmp_path)
    assert (data_set.kind, data_set.protocol) == ("segtrackv2", "frames")
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets/all.txt").write_text("*bmx\n*frog\n*worm\n")
    assert data_set.choose("all")[1] == ["worm"]
    # Lists of the frames of one sequence, which begin with their number.
    (tmp_path / "ImageSets/frog.txt").write_text("2\nfrog_00000\nfrog_00001\n")
    (tmp_path / "ImageSets/worm.txt").write_text("1\nworm_00000\n")
    chosen, absent = data_set.choose("frog")
    assert ([entry.name for entry in chosen], absent) == (["frog"], [])
    with pytest.raises(InputError, match=r"none of the sequences asked for \(worm\)"):
        data_set.choose("worm")


def test_fbms_with_its_two_parts(tmp_path: Path) -> None:
    pictures(tmp_path / "Trainingset/cars1", suffix=".jpg")
    pictures(tmp_path / "Testset/cats01", suffix=".jpg")
    pictures(tmp_path / "Testset/cats01/GroundTruth")
    assert found(tmp_path) == {
        "cars1": ("Trainingset/cars1", None),
        "cats01": ("Testset/cats01", "Testset/cats01/GroundTruth"),
    }
    data_set = open_data_set(tmp_path)
    assert data_set.kind == "fbms59"
    assert [entry.name for entry in data_set.choose("test")[0]] == ["cats01"]
    assert open_data_set(tmp_path / "Testset").kind == "fbms59"


def test_frames_and_masks(tmp_path: Path) -> None:
    pictures(tmp_path / "frames/a")
    pictures(tmp_path / "masks/a")
    assert found(tmp_path) == {"a": ("frames/a", "masks/a")}


def test_a_folder_of_frames_may_have_dots_in_its_name(tmp_path: Path) -> None:
    for name in ("walk.1", "walk.2"):
        pictures(tmp_path / "frames" / name)
        pictures(tmp_path / "masks" / name)
    assert found(tmp_path) == {
        "walk.1": ("frames/walk.1", "masks/walk.1"),
        "walk.2": ("frames/walk.2", "masks/walk.2"),
    }


def test_a_name_that_two_sequences_have_is_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pictures(tmp_path / "frames" / name)
        pictures(tmp_path / "masks" / name)
    video(tmp_path / "frames/a.mp4")
    assert len(find_clips(tmp_path)) == 3  # to look at they are clips like others
    data_set = open_data_set(tmp_path)
    with pytest.raises(InputError, match=r"2 sequences of the name a: frames/a and frames/a\.mp4"):
        data_set.choose()
    assert [entry.name for entry in data_set.choose(names=["b"])[0]] == ["b"]


def test_frames_and_masks_of_one_clip(tmp_path: Path) -> None:
    pictures(tmp_path / "mine/frames")
    pictures(tmp_path / "mine/masks")
    assert found(tmp_path / "mine") == {"mine": ("frames", "masks")}


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


def test_the_layout_can_be_said(tmp_path: Path) -> None:
    pictures(tmp_path / "JPEGImages/frog")
    pictures(tmp_path / "GroundTruth/frog")
    with pytest.raises(InputError, match="There is no data set 'davis'"):
        open_data_set(tmp_path, "davis")
    with pytest.raises(InputError, match=r"holds no clip of davis16.*Leave --dataset out"):
        open_data_set(tmp_path, "davis16")
    entry = open_data_set(tmp_path, "segtrackv2").sequences[0]
    assert open_clip(entry).truth == tmp_path / "GroundTruth/frog"


def test_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no clip"):
        find_clips(tmp_path)
    with pytest.raises(InputError, match="There is no folder"):
        find_clips(tmp_path / "absent")


def test_which_masks_are_missing_is_told(tmp_path: Path) -> None:
    pictures(tmp_path / "own/a")
    with pytest.raises(InputError, match=r"own has clips \(a\) but no masks.* NAME/GroundTruth"):
        open_data_set(tmp_path / "own").choose()
    with pytest.raises(InputError, match=r"a is a clip itself.* frames into .*a/frames"):
        open_data_set(tmp_path / "own/a")
    pictures(tmp_path / "one/frames")
    with pytest.raises(InputError, match=r"into .*one/masks, or"):
        open_data_set(tmp_path / "one").choose()
    pictures(tmp_path / "two/frames/a")
    with pytest.raises(InputError, match=r"two has frames/ but no masks/"):
        open_data_set(tmp_path / "two")
    pictures(tmp_path / "three/JPEGImages/a")
    with pytest.raises(InputError, match=r"JPEGImages but no masks: neither Annotations/480p"):
        open_data_set(tmp_path / "three")


def test_lists_in_the_forms_in_which_they_come(tmp_path: Path) -> None:
    (tmp_path / "ImageSets/480p").mkdir(parents=True)
    (tmp_path / "ImageSets/480p/val.txt").write_text(
        "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png\n"
        "/JPEGImages/480p/bear/00001.jpg /Annotations/480p/bear/00001.png\n"
        "/JPEGImages/480p/camel/00000.jpg /Annotations/480p/camel/00000.png\n\n"
    )
    assert sequences_of(tmp_path, "davis16", "val") == ["bear", "camel"]
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/val.txt").write_text("swan\n")
    assert sequences_of(tmp_path, "davis16", "val") == ["swan"]  # one's own list comes first
    # Names have spaces, and editors on Windows mark UTF-8.
    (tmp_path / "splits/val.txt").write_bytes("\ufeffbear\r\n\r\n my clip \r\n*bmx\r\n".encode())
    assert sequences_of(tmp_path, "davis16", "val") == ["bear", "my clip", "bmx"]
    with pytest.raises(InputError, match="Choose one of val"):
        sequences_of(tmp_path, "folder", "test")


def test_the_official_lists(shared: Path) -> None:
    assert (len(DAVIS16["train"]), len(DAVIS16["val"])) == (30, 20)
    assert not set(DAVIS16["train"]) & set(DAVIS16["val"])
    splits = shared / "davis16/splits"
    assert set(DAVIS16["train"]) == set((splits / "train.txt").read_text().split())
    assert set(DAVIS16["val"]) > set((splits / "dev-val.txt").read_text().split())


def test_the_shipped_clips_have_ground_truth() -> None:
    clips = find_clips(Path(__file__).parents[1] / "assets" / "clips")
    assert [clip.name for clip in clips] == ["crossing", "orbit", "pause"]
    assert all(clip.truth is not None for clip in clips)


def test_davis_of_this_workplace(shared: Path) -> None:
    clips = find_clips(shared / "davis16")
    assert len(clips) == 40
    assert {clip.size for clip in clips} == {(480, 854)}
