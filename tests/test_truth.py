"""Ground-truth masks in the modes and layouts in which they come."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stseg.annotations import frame_files, frame_names, gap_notes
from stseg.errors import InputError
from stseg.records import Clip
from stseg.scoring import scored_frames
from stseg.truth import VOID, ground_truth, oddities, read_codes, truth_at, uniform

H, W = 6, 8


def mask(top: int = 1) -> np.ndarray:
    picture = np.zeros((H, W), np.uint8)
    picture[top : top + 3, 2:5] = 255
    return picture


def clip_of(folder: Path, source: Path | None = None) -> Clip:
    return Clip(source or folder / "x.mp4", "x", (H, W), 24.0, 0, folder)


def frames(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.new("RGB", (W, H)).save(folder / name)
    return folder


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "I;16"])
def test_every_mode_gives_the_same_foreground(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(mask())
    if mode == "P":
        picture = Image.fromarray((mask() > 0).astype(np.uint8))
        picture.putpalette([0, 0, 0, 128, 0, 0])
    elif mode == "I;16":
        picture = Image.fromarray((mask() > 0).astype(np.uint16))
    else:
        picture = picture.convert(mode)
    picture.save(tmp_path / "00000.png")
    truth = ground_truth(clip_of(tmp_path))
    assert ((truth.codes(0) > 0) == (mask() > 0)).all()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".pgm", ".tif"])
def test_formats_without_loss(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(mask()).save(tmp_path / f"00000{suffix}")
    assert ((ground_truth(clip_of(tmp_path)).codes(0) > 0) == (mask() > 0)).all()


def test_a_blurred_mask_is_one_object_with_its_border_at_half(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (H, 1))
    Image.fromarray(ramp).save(tmp_path / "0.png")
    assert (read_codes(tmp_path / "0.png") == np.where(ramp >= 128, 255, 0)).all()


def test_frames_of_a_video_are_numbered_by_the_names(tmp_path: Path) -> None:
    for name in ("00002.png", "frame_0010.png", "notes.png", "preview_3.jpg", ".4.png"):
        Image.new("L", (W, H)).save(tmp_path / name)
    truth = ground_truth(clip_of(tmp_path))
    assert {index: paths[0].name for index, paths in truth.files.items()} == {
        2: "00002.png",
        10: "frame_0010.png",
    }
    assert not truth.stray
    assert truth_at(clip_of(tmp_path), 3, (4, 4)) is None
    assert truth_at(clip_of(tmp_path), 2, (3, 5)).shape == (3, 5)


def test_masks_that_count_from_1_are_told_so(tmp_path: Path) -> None:
    for index in range(1, 5):
        Image.fromarray(mask()).save(tmp_path / f"{index:05d}.png")
    truth = ground_truth(clip_of(tmp_path))
    with pytest.raises(InputError, match=r"from 1 to 4, .* from 0 to 3: .*00001\.png is that of"):
        scored_frames(truth, "x", 4, "frames")
    assert scored_frames(truth, "x", 5, "frames") == [1, 2, 3, 4]  # the first has none
    with pytest.raises(InputError, match=r"00003\.png .*2 more.* 3 frames, counted.* from 1, name"):
        (tmp_path / "00002.png").rename(tmp_path / "00005.png")
        scored_frames(ground_truth(clip_of(tmp_path)), "x", 3, "frames")


def test_masks_belong_to_the_frame_pictures_of_their_name(tmp_path: Path) -> None:
    # SegTrackV2 counts from what the first frame happens to be called.
    source = frames(tmp_path / "JPEG", "birdfall2_00018.jpg", "birdfall2_00019.jpg")
    folder = frames(tmp_path / "GT", "birdfall2_00019.png", "00020.png", "gt_00018.bmp")
    truth = ground_truth(clip_of(folder, source))
    assert {index: paths[0].name for index, paths in truth.files.items()} == {
        0: "gt_00018.bmp",
        1: "birdfall2_00019.png",
    }
    assert [path.name for path in truth.stray] == ["00020.png"]
    assert frame_names(clip_of(folder, source), 2) == ["birdfall2_00018", "birdfall2_00019"]


def test_one_folder_an_object(tmp_path: Path) -> None:
    source = frames(tmp_path / "JPEG", "00000.jpg", "00001.jpg")
    for number, top in (("1", 0), ("2", 3), ("10", 2)):
        (tmp_path / "GT" / number).mkdir(parents=True)
        Image.fromarray(mask(top)).save(tmp_path / "GT" / number / "00001.png")
    truth = ground_truth(clip_of(tmp_path / "GT", source))
    assert list(truth.files) == [1]
    codes = truth.codes(1)
    assert set(np.unique(codes)) == {0, 1, 2, 3}  # 10 is the third, not the second
    assert ((truth.codes(1) > 0) == ((mask(0) > 0) | (mask(3) > 0))).all()
    assert truth_at(clip_of(tmp_path / "GT", source), 1, (H, W)).max() == 3
    assert truth_at(clip_of(tmp_path / "GT", source), 0, (H, W)) is None


def test_an_object_keeps_its_number_where_others_have_no_mask(tmp_path: Path) -> None:
    source = frames(tmp_path / "JPEG", *(f"{index}.jpg" for index in range(3)))
    for number, top, annotated in (("1", 0, (0, 2)), ("2", 1, (0, 1)), ("3", 3, (0, 1, 2))):
        (tmp_path / "GT" / number).mkdir(parents=True)
        for index in annotated:
            Image.fromarray(mask(top)).save(tmp_path / "GT" / number / f"{index}.png")
    (tmp_path / "GT/3/1.png").unlink()
    clip = clip_of(tmp_path / "GT", source)
    truth = ground_truth(clip)
    found = [np.unique(truth.codes(index)).tolist() for index in range(3)]
    assert found == [[0, 1, 2, 3], [0, 2], [0, 1, 3]]  # the one mask of frame 1 is of object 2
    assert [truth_at(clip, index, (H, W)).max() for index in range(3)] == [3, 2, 3]


def test_white_is_an_object_where_the_masks_are_not_those_of_fbms(tmp_path: Path) -> None:
    source = frames(tmp_path / "frames", "1.jpg", "2.jpg")
    (tmp_path / "masks").mkdir()
    picture = np.zeros((H, W, 3), np.uint8)
    picture[:2, :3] = 255
    for name in "12":
        Image.fromarray(picture).save(tmp_path / "masks" / f"{name}.ppm")
    truth = ground_truth(clip_of(tmp_path / "masks", source))
    assert (truth.codes(0) > 0).sum() == 6


def test_fbms_colours_have_a_white_background_and_may_be_black(tmp_path: Path) -> None:
    source = frames(tmp_path / "cars1", "cars1_01.jpg", "cars1_02.jpg", "cars1_03.jpg")
    folder = source / "GroundTruth"
    folder.mkdir()
    picture = np.full((H, W, 3), 255, np.uint8)
    picture[0, 0], picture[1, 1], picture[2, 2] = (0, 0, 0), (255, 0, 0), (0, 0, 255)
    for frame in ("01", "03"):
        Image.fromarray(picture).save(folder / f"cars1_{frame}_gt.ppm")
        Image.fromarray(picture[::-1]).save(folder / f"cars1_{frame}_PROB_gt.ppm")
    truth = ground_truth(clip_of(folder, source))
    assert list(truth.files) == [0, 2]  # sparse
    assert (truth.codes(0) > 0).sum() == 3
    assert len(np.unique(truth.codes(0))) == 4
    assert truth.codes(0)[5, 5] == 0


def test_the_list_of_fbms_says_which_frame_a_mask_is_of(tmp_path: Path) -> None:
    names = [f"tennis{number}.jpg" for number in range(454, 460)]
    source = frames(tmp_path / "tennis", *names)
    folder = source / "GroundTruth"
    folder.mkdir()
    for name in ("a.pgm", "b.pgm", "unlisted_0003.pgm"):
        Image.fromarray(mask()).save(folder / name)
    lines = [
        *("Total number of regions", "2", "Scale of region 0:", "0", "Scale of region 1:", "255"),
        *("Total number of frames in this shot:", "6", "Total number of labeled frames:", "2"),
        *("Frame number:", "0", "File name:", "a.pgm", "Input file name:", "tennis454.ppm"),
        *("Frame number:", "4", "File name:", "b.pgm", "Input file name:", "tennis458.ppm"),
    ]
    (folder / "tennisDef.dat").write_text("\n".join(lines))
    truth = ground_truth(clip_of(folder, source))
    assert {index: paths[0].name for index, paths in truth.files.items()} == {
        0: "a.pgm",
        4: "b.pgm",
    }
    (folder / "b.pgm").unlink()
    with pytest.raises(InputError, match=r"tennis/GroundTruth lists the mask b\.pgm"):
        ground_truth(clip_of(folder, source))


def definition(colours: list[int], masks: dict[int, str], frames: int) -> str:
    """A definition file as FBMS-59 has it."""
    lines = ["Ground truth definition file; do not change!", "", "Total number of regions:"]
    lines.append(str(len(colours)))
    for number, colour in enumerate(colours):
        lines += [f"Scale of region {number}:", str(colour)]
    lines += ["", "Confusion penality matrix", *(["0 1"] * len(colours)), ""]
    lines += ["Total number of frames in this shot:", str(frames)]
    lines += ["Total number of labeled frames for this shot:", str(len(masks))]
    for frame, mask in masks.items():
        lines += ["Frame number:", str(frame), "File name:", mask]
        lines += ["Input file name:", f"x_{frame + 1:02d}.ppm"]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("suffix", [".pgm", ".ppm"])
def test_the_definition_of_fbms_says_what_is_background(tmp_path: Path, suffix: str) -> None:
    # The background is neither black nor white, black is an object, and one colour is unknown:
    # background, as in the tool of the data set.
    source = frames(tmp_path / "x", "x_01.jpg", "x_02.jpg", "x_03.jpg")
    folder = source / "GroundTruth"
    folder.mkdir()
    gray = np.full((H, W), 85, np.uint8)
    gray[0], gray[1], gray[2] = 0, 255, 200
    colours = [85, 0, 255]
    picture = Image.fromarray(gray)
    if suffix == ".ppm":
        picture = Image.merge("RGB", [picture] * 3)
        colours = [each * 0x010101 for each in colours]
    picture.save(folder / f"x_02_gt{suffix}")
    (folder / "xDef.dat").write_text(definition(colours, {1: f"x_02_gt{suffix}"}, 3))
    truth = ground_truth(clip_of(folder, source))
    assert list(truth.files) == [1]
    assert ((truth.codes(1) > 0) == np.isin(gray, (0, 255))).all()
    assert len(np.unique(truth.codes(1))) == 3  # the background and two objects
    (folder / "xDef.dat").write_text("Total number of regions:\nmany\n")
    guessed = 0 if suffix == ".pgm" else 255  # without a definition
    assert ((ground_truth(clip_of(folder, source)).codes(1) > 0) == (gray != guessed)).all()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_an_object_has_one_number_in_all_frames(tmp_path: Path, mode: str) -> None:
    colours = {90: (0, 0, 200), 180: (0, 128, 0), 255: (255, 0, 0)}
    for index, grays in enumerate([(90, 180, 255), (180,), (255, 90)]):
        # The last frame has no background at all.
        picture = np.full((H, W), grays[0] if index == 2 else 0, np.uint8)
        for row, gray in enumerate(grays):
            picture[row] = gray
        if mode == "RGB":
            picture = np.stack(
                [
                    np.vectorize(lambda gray, i=i: (colours.get(gray) or (0, 0, 0))[i])(picture)
                    for i in range(3)
                ],
                axis=-1,
            ).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    clip = clip_of(tmp_path)
    told = [truth_at(clip, index, (H, W)) for index in (2, 1, 0)]
    assert [np.unique(each).tolist() for each in told] == [[1, 3], [0, 2], [0, 1, 2, 3]]
    assert told[0][0, 0] == 3


def test_an_object_that_was_not_looked_at_gets_the_next_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stseg.truth.LOOKED_AT", 2)
    for index, gray in enumerate((200, 50, 200, 200)):
        Image.fromarray(np.full((H, W), gray, np.uint8)).save(tmp_path / f"{index}.png")
    clip = clip_of(tmp_path)
    assert [truth_at(clip, index, (1, 1)).item() for index in (1, 3, 1, 0)] == [2, 1, 2, 1]


def test_modes_that_differ_are_noted(tmp_path: Path) -> None:
    for index in range(3):
        Image.fromarray(mask()).convert("LA" if index == 1 else "L").save(tmp_path / f"{index}.png")
    truth = ground_truth(clip_of(tmp_path))
    assert not uniform(truth)
    assert oddities(truth) == [
        "1 mask (1.png) is in mode LA among masks in mode L: objects are grouped."
    ]


def test_a_broken_mask_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "00000.png").write_text("no picture")
    assert truth_at(clip_of(tmp_path), 0, (H, W)) is None  # a picture less on the page
    assert "00000.png is not a readable picture" in caplog.text
    with pytest.raises(InputError, match=r"00000\.png is not a readable picture"):
        read_codes(tmp_path / "00000.png")
    with pytest.raises(InputError, match=r"00000\.png is not a readable picture"):
        oddities(ground_truth(clip_of(tmp_path)))


def test_a_mask_of_davis_with_alpha_is_read(shared: Path) -> None:
    folder = shared / "davis16" / "Annotations" / "480p" / "bear"
    truth = ground_truth(Clip(folder / "x.mp4", "bear", (480, 854), 24.0, 82, folder))
    assert len(truth.files) == 82
    assert all((truth.codes(index) > 0).any() for index in range(0, 82, 9))
    assert "in mode LA" in " ".join(oddities(truth))


def test_masks_that_an_object_lacks_are_noted(tmp_path: Path) -> None:
    source = frames(tmp_path / "JPEG", *(f"{index}.jpg" for index in range(3)))
    for number, annotated in (("1", (0, 1, 2)), ("2", (0,))):
        (tmp_path / "GT" / number).mkdir(parents=True)
        for index in annotated:
            Image.fromarray(mask()).save(tmp_path / "GT" / number / f"{index}.png")
    clip = clip_of(tmp_path / "GT", source)
    (note,) = oddities(ground_truth(clip))
    assert note.startswith("Object 2 has no mask in 2 of 3 annotated frames")


def index_mask(*values: int, mode: str = "L") -> Image.Image:
    """One row of sites for each of the values, the first values above."""
    picture = np.zeros((H, W), np.uint8)
    for row, value in enumerate(values):
        picture[row] = value
    if mode == "LA":
        return Image.fromarray(picture).convert("LA")
    image = Image.fromarray(picture)
    if mode == "P":
        image.putpalette([value for gray in range(256) for value in (gray, 0, gray)])
    return image


@pytest.mark.parametrize("mode", ["L", "LA", "P"])
def test_255_among_numbered_objects_is_void(tmp_path: Path, mode: str) -> None:
    index_mask(1, 255, 2, mode=mode).save(tmp_path / "0.png")
    index_mask(0, 255, mode=mode).save(tmp_path / "1.png")  # nothing but void sites
    index_mask(2, 0, mode=mode).save(tmp_path / "2.png")
    clip = clip_of(tmp_path)
    truth = ground_truth(clip)
    assert [truth.codes(0)[row, 0] for row in range(4)] == [1, VOID, 2, 0]
    assert (truth.codes(0) > 0).any(axis=1).tolist() == [True, False, True, False, False, False]
    assert set(np.unique(truth.codes(1))) == {0, VOID}
    assert set(np.unique(truth.codes(2))) == {0, 2}
    shown = [truth_at(clip, index, (H, W)) for index in range(3)]
    assert [each[:3, 0].tolist() for each in shown] == [[1, 0, 2], [0, 0, 0], [2, 0, 0]]


@pytest.mark.parametrize("values", [(255,), (128, 255), (85, 170, 255), (1, 128, 255), (32, 255)])
def test_255_is_an_object_beside_other_grays_or_alone(
    tmp_path: Path, values: tuple[int, ...]
) -> None:
    index_mask(*values).save(tmp_path / "0.png")
    index_mask(255).save(tmp_path / "1.png")
    truth = ground_truth(clip_of(tmp_path))
    assert set(np.unique(truth.codes(0))) == {0, *values}
    assert set(np.unique(truth.codes(1))) == {0, 255}


def test_a_stray_value_does_not_make_the_object_void(tmp_path: Path) -> None:
    for index in range(4):
        index_mask(0, 255).save(tmp_path / f"{index}.png")
    index_mask(0, 1, 255).save(tmp_path / "4.png")
    truth = ground_truth(clip_of(tmp_path))
    assert all(VOID not in truth.codes(index) for index in range(5))


def test_void_sites_of_an_object_with_a_folder_of_its_own_leave_the_others(tmp_path: Path) -> None:
    source = frames(tmp_path / "JPEG", "0.jpg")
    for number, values in (("1", (1, 255, 255)), ("2", (0, 1, 0))):
        (tmp_path / "GT" / number).mkdir(parents=True)
        index_mask(*values).save(tmp_path / "GT" / number / "0.png")
    codes = ground_truth(clip_of(tmp_path / "GT", source)).codes(0)
    assert codes[:4, 0].tolist() == [1, 2, VOID, 0]


@pytest.mark.parametrize(
    ("numbers", "gap"),
    [
        ([0, 1, 2, 3, 6, 7], "between 3.png and 6.png: "),
        ([0, 2, 3, 4, 8], "between 0.png and 2.png (and 1 more): "),
        ([7, 8, 9], ""),
        ([0, 5, 10, 15], ""),  # every fifth frame was kept
        ([0, 5, 10, 20], "between 10.png and 20.png: "),
        ([1000, 1033, 1067, 1100], ""),  # time stamps
        ([125957, 125958, 125959, 130000, 130001], ""),  # as on a clock
        ([57, 58, 59, 160, 161], "between 59.png and 160.png"),
        ([57, 58, 59, 300, 301], "between 59.png and 300.png"),
        ([4, 9], ""),  # nothing tells what is usual
    ],
)
def test_a_gap_in_the_numbers_of_the_frames_is_told(
    tmp_path: Path, numbers: list[int], gap: str
) -> None:
    source = frames(tmp_path / "walk", *(f"{number}.png" for number in numbers))
    clip = Clip(source, "walk", (H, W), 24.0, len(numbers))
    assert frame_files(source) == [f"{number}.png" for number in numbers]
    told = " ".join(gap_notes(clip, len(numbers)))
    assert told.startswith(f"The numbers of walk's frames have a gap {gap}") if gap else not told
    assert not gap_notes(clip, 2)  # the others are not read


def test_names_that_do_not_count_have_no_gap(tmp_path: Path) -> None:
    source = frames(tmp_path / "x", "a1.png", "a2.png", "a3.png", "a4.png", "b8.png")
    assert not gap_notes(Clip(source, "x", (H, W), 24.0, 5), 5)
    source = frames(tmp_path / "y", "1.png", "2.png", "3.png", "9.png", "last.png")
    assert not gap_notes(Clip(source, "y", (H, W), 24.0, 5), 5)
    assert not gap_notes(Clip(tmp_path / "x.mp4", "x", (H, W), 24.0, 9), 9)
