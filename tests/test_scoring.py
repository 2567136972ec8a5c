"""The protocols: perfect labels score 1, shifted ones what theory says, wrong data is named."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stseg import mask_files
from stseg.errors import InputError
from stseg.mask_files import masks_of, write_masks
from stseg.metrics import contour_accuracy
from stseg.records import Clip, Segmentation, Settings
from stseg.scoring import from_record, report, score
from stseg.spool import Spool
from stseg.verdict import extremes

H, W, N, K = 32, 48, 12, 3


def truth_labels(index: int) -> np.ndarray:
    labels = np.zeros((H, W), np.uint8)
    labels[8:24, 10 + index : 26 + index] = 1
    return labels


@pytest.fixture
def annotated(tmp_path: Path) -> Clip:
    folder = tmp_path / "masks"
    folder.mkdir()
    for index in range(N):
        Image.fromarray(truth_labels(index) * 255).save(folder / f"{index:05d}.png")
    return Clip(tmp_path / "x.mp4", "x", (H, W), 24.0, N, folder)


def masks(clip: Clip) -> Path:
    assert clip.truth is not None
    return clip.truth


def segmentation(
    clip: Clip, shift: int = 0, swap_at: int = N, subsequence: int = 0
) -> Segmentation:
    """The ground truth as a result, moved sideways; labels change places from ``swap_at`` on."""
    flow, soft = Spool(), Spool()
    assignment = np.tile(np.arange(K, dtype=np.uint8), (N, 1))
    assignment[swap_at:, :2] = [1, 0]
    for index in range(N):
        labels = np.roll(truth_labels(index), shift, axis=1)
        soft.append((np.arange(K)[:, None, None] == labels).astype(np.uint8) * 255)
        if index < N - 1:
            field = np.zeros((2, H, W), np.float16)
            field[0] = labels  # the square moves one site to the right
            flow.append(field)
    return Segmentation(clip, Settings(k=K, subsequence=subsequence), flow, soft, assignment)


def test_perfect_labels_score_one(annotated: Clip) -> None:
    got = score(segmentation(annotated), 10)
    assert list(got.frames) == list(range(1, N - 1))  # the first and the last are left out
    assert set(got.j) == set(got.f) == {1.0}
    assert list(got.chosen) == [(1,), (1,)]
    assert got.to_json()["J_recall"] == 1
    assert got.to_json()["J_decay"] == 0
    assert got.figures["flicker"] == 0
    assert got.figures["objects_iou"] is None
    assert not got.notes


def test_the_other_protocol_scores_the_ends_as_well(annotated: Clip) -> None:
    assert list(score(segmentation(annotated), 10, "frames").frames) == list(range(N))


def test_a_shift_by_half_scores_a_third(annotated: Clip) -> None:
    # 16 wide squares moved by 8: 8 of 24 columns are common.
    got = score(segmentation(annotated, shift=8), 10)
    assert got.to_json()["J"] == pytest.approx(1 / 3)


def test_the_choice_is_kept_where_the_object_is_out_of_sight_at_the_seam(annotated: Clip) -> None:
    """Nothing decides the second part; the last frame of the first does not show its label."""
    gone = segmentation(annotated)
    hidden = replace(gone, masks=Spool())
    for index in range(N):
        labels = truth_labels(index) * (index != 5)
        hidden.masks.append((np.arange(K)[:, None, None] == labels).astype(np.uint8) * 255)
    for index in range(6, N):
        (masks(annotated) / f"{index:05d}.png").unlink()
    assert list(score(hidden, 6, "frames").chosen) == [(1,), (1,)]


def test_frames_without_foreground_are_right_where_nothing_is_chosen(annotated: Clip) -> None:
    for index in range(10, N):
        Image.fromarray(np.zeros((H, W), np.uint8)).save(masks(annotated) / f"{index:05d}.png")
    got = score(segmentation(annotated), 10, "frames")
    assert list(got.chosen) == [(1,), ()]
    assert set(got.j) == {1.0}


def test_the_foreground_is_chosen_once_per_subsequence(annotated: Clip) -> None:
    swapped = segmentation(annotated, swap_at=10)
    assert score(swapped, 10).to_json()["J"] == 1.0
    whole = score(swapped, 0).to_json()["J"]
    assert whole < 1.0
    # What choosing once costs is told beside the score by sub-sequence.
    assert score(swapped, 10).figures["J_once"] == pytest.approx(whole)


@pytest.mark.parametrize("restarted", [False, True], ids=["one linkage", "linkage per part"])
def test_three_choices_of_the_foreground_give_three_scores(
    annotated: Clip, restarted: bool
) -> None:
    # Square 1 (10 x 10) moves, square 2 (10 x 30) stands still. The annotated object is square 1
    # in the first four frames and square 2 in the other eight.
    small, large = (slice(2, 12), slice(4, 14)), (slice(18, 28), slice(10, 40))
    labels = np.zeros((H, W), np.uint8)
    labels[small], labels[large] = 1, 2
    flow, soft = Spool(), Spool()
    for index in range(N):
        truth = np.zeros((H, W), np.uint8)
        truth[small if index < 4 else large] = 255
        Image.fromarray(truth).save(masks(annotated) / f"{index:05d}.png")
        soft.append((np.arange(K)[:, None, None] == labels).astype(np.uint8) * 255)
        if index < N - 1:
            field = np.zeros((2, H, W), np.float16)
            field[0][labels == 1] = 0.1
            flow.append(field)
    assignment = np.tile(np.arange(K, dtype=np.uint8), (N, 1))
    if restarted:  # labels have other names in each part, as where linkage starts anew
        assignment[4:8], assignment[8:] = [1, 2, 0], [2, 0, 1]
    settings = Settings(k=K, subsequence=4 if restarted else 0, linkage="greedy")
    result = Segmentation(annotated, settings, flow, soft, assignment)
    got = score(result, 4)
    assert list(got.frames) == list(range(1, 11))  # three of square 1, seven of square 2
    # Chosen once per part: right everywhere. The names of the labels do not matter.
    assert got.to_json()["J"] == 1
    assert list(got.chosen) == ([(1,), (0,), (1,)] if restarted else [(1,), (2,), (2,)])
    # Chosen once: square 2, which is right in seven frames. Taking both squares would give 0.6.
    assert got.figures["J_once"] == pytest.approx(7 / 10)
    # Chosen by motion: square 1, which is right in three frames.
    assert got.figures["J_unsupervised"] == pytest.approx(3 / 10)


def test_one_choice_cannot_mend_labels_that_lose_their_object(annotated: Clip) -> None:
    # The object and the background change their labels in the middle of the second part.
    swapped = segmentation(annotated, swap_at=9, subsequence=6)
    got = score(swapped, 6).to_json()
    assert got["J_once"] < 1
    assert got["J"] < 1  # the choice for the second part is as bad there
    assert list(score(swapped, 6).j[:5]) == [1.0] * 5


def test_several_objects_get_a_label_each(annotated: Clip) -> None:
    for index in range(N):
        labels = truth_labels(index)
        labels[24:, :] = 2  # a second object, which the result takes for background
        Image.fromarray(labels * 100).save(masks(annotated) / f"{index:05d}.png")
    got = score(segmentation(annotated), 10)
    # The square is met by its label, the stripe by the background's, 8 of 32 - 8 rows of which.
    stripe = 8 * W / (H * W - 16 * 16)
    assert got.figures["objects_iou"] == pytest.approx((1 + stripe) / 2)


def with_void(clip: Clip) -> None:
    """The square as object 1, beside it a block that is void, and an object 2 below."""
    for index in range(N):
        labels = truth_labels(index)
        labels[24:, :] = 2
        labels[:8, 20:30] = 255
        labels[20:24, 10 + index : 14 + index] = 255  # in the square
        Image.fromarray(labels).save(masks(clip) / f"{index:05d}.png")


def test_void_sites_are_left_out_of_everything(annotated: Clip) -> None:
    """As in davis2017-evaluation: background on both sides, and not counted."""
    with_void(annotated)
    made = segmentation(annotated, shift=-2)
    got = score(made, 0)
    assert list(got.chosen) == [(0, 1)]  # of two objects that nearly fill the frame
    for place, index in enumerate(got.frames):
        codes = np.asarray(Image.open(masks(annotated) / f"{index:05d}.png"))
        known, inside = codes != 255, (codes == 1) | (codes == 2)
        ours = np.isin(made.labels(index), got.chosen[0]) & known
        assert got.j[place] == pytest.approx((ours & inside).sum() / (ours | inside).sum())
        assert got.f[place] == pytest.approx(contour_accuracy(ours, inside))
    (note,) = got.notes
    assert note.startswith("10 of the masks have void sites (frame 1 …): 255 among numbered")
    assert got.figures["objects_iou"] is not None
    assert got.figures["J_once"] == pytest.approx(got.to_json()["J"])


def test_what_is_found_in_void_sites_is_no_mistake(annotated: Clip) -> None:
    for index in range(N):
        labels = truth_labels(index)
        labels[4:8, 10:20] = 255  # beside the object, where another one is found
        labels[10:12, 18 + index : 20 + index] = 255
        Image.fromarray(labels).save(masks(annotated) / f"{index:05d}.png")
    made = segmentation(annotated)
    soft = Spool()
    for index in range(N):
        labels = truth_labels(index)
        labels[4:8, 10:20] = 1
        soft.append((np.arange(K)[:, None, None] == labels).astype(np.uint8) * 255)
    got = score(replace(made, masks=soft), 10)
    assert set(got.j) == set(got.f) == {1.0}
    assert got.figures["J_once"] == 1
    assert got.figures["objects_iou"] is None  # 255 is no second object


def test_void_sites_are_not_tinted_in_the_pictures_of_a_verdict(
    annotated: Clip, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(N):
        Image.new("RGB", (W, H)).save(frames / f"{index:05d}.png")
        labels = np.zeros((H, W), np.uint8)
        labels[16:24, :] = truth_labels(index)[16:24]
        labels[:16, :24] = 255  # the upper left; what is found in the upper right is false
        Image.fromarray(labels).save(masks(annotated) / f"{index:05d}.png")
    made = segmentation(replace(annotated, source=frames))
    result = score(made, 0)
    index = result.frames[int(np.argmin(result.j))]
    data = base64.b64decode(extremes(made, result, 0)["worst"])
    seen = np.asarray(Image.open(io.BytesIO(data))).astype(int).max(axis=2)
    tinted = truth_labels(index) == 1
    assert seen[:14, :22].max() < 40 < seen[9:15, 26:34][tinted[9:15, 26:34]].min()


def test_a_subsequence_without_masks_goes_on_with_its_neighbours_foreground(
    annotated: Clip,
) -> None:
    for index in range(10, N):
        (masks(annotated) / f"{index:05d}.png").unlink()
    swapped = segmentation(annotated, swap_at=10)
    got = score(swapped, 10, "frames")
    assert list(got.chosen) == [(1,), (0,)]
    for index in range(10):
        (masks(annotated) / f"{index:05d}.png").unlink()
    Image.fromarray(truth_labels(11) * 255).save(masks(annotated) / "00011.png")
    assert list(score(swapped, 10, "frames").chosen) == [(1,), (0,)]


def test_means_are_of_sequences_or_of_frames(annotated: Clip) -> None:
    perfect = score(segmentation(annotated), 10)
    shifted = replace(score(segmentation(annotated, shift=8), 10), name="y")
    shifted = replace(shifted, j=shifted.j[:2], f=shifted.f[:2], frames=shifted.frames[:2])
    both = [perfect, shifted]
    davis = report(both, Settings(), {"model": "m"})
    assert davis["mean"]["J"] == pytest.approx((1 + 1 / 3) / 2)
    assert davis["scored"] == {"sequences": 2, "frames": N}
    frames = report(both, Settings(), {"model": "m"}, "frames")
    assert frames["mean"]["J"] == pytest.approx((10 + 2 / 3) / 12)
    assert frames["mean"]["J_once"] == pytest.approx((10 + 2 / 3) / 12)
    assert davis["mean"]["J_once"] == pytest.approx((1 + 1 / 3) / 2)
    assert frames["mean"]["J_recall"] == pytest.approx(10 / 12)
    contour = shifted.to_json()["F"]
    assert 0 < contour < 0.5  # a frame that the recall does not count
    assert davis["mean"]["F"] == pytest.approx((1 + contour) / 2)
    assert davis["mean"]["F_recall"] == pytest.approx(1 / 2)
    assert frames["mean"]["F"] == pytest.approx((10 + 2 * contour) / 12)
    assert frames["mean"]["F_recall"] == pytest.approx(10 / 12)
    assert "objects_iou" not in frames["mean"]


def test_a_record_restores_the_scores(annotated: Clip) -> None:
    got = score(segmentation(annotated), 10)
    assert from_record(got.record()) == got


def test_without_ground_truth_it_says_so(annotated: Clip) -> None:
    with pytest.raises(InputError, match="no ground truth"):
        score(segmentation(replace(annotated, truth=None)), 10)


def test_a_mask_of_another_size_is_named(annotated: Clip) -> None:
    Image.new("L", (9, 9)).save(masks(annotated) / "00003.png")
    with pytest.raises(InputError, match=r"00003\.png is 9x9, but its video is 48x32"):
        score(segmentation(annotated), 10)


def test_a_missing_mask_is_named_where_all_are_expected(annotated: Clip) -> None:
    (masks(annotated) / "00004.png").unlink()
    (masks(annotated) / "00007.png").unlink()
    with pytest.raises(InputError, match=r"no mask of frame 4 \(2 of 10 are missing\)"):
        score(segmentation(annotated), 10)
    assert len(score(segmentation(annotated), 10, "frames").j) == N - 2


def test_a_mask_without_its_frame_is_named(annotated: Clip) -> None:
    Image.fromarray(truth_labels(0)).save(masks(annotated) / "00012.png")
    with pytest.raises(InputError, match=r"00012\.png belongs to no frame of x, which has 12"):
        score(segmentation(annotated), 10)


def test_a_truncated_mask_is_named(annotated: Clip) -> None:
    path = masks(annotated) / "00005.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"00005\.png is not a readable picture"):
        score(segmentation(annotated), 10)


def test_empty_masks_and_other_modes_are_valid_and_noted(annotated: Clip) -> None:
    folder = masks(annotated)
    Image.fromarray(truth_labels(3) * 255).convert("LA").save(folder / "00003.png")
    palette = Image.fromarray(truth_labels(4))
    palette.putpalette([255, 255, 255, 0, 0, 0])
    palette.save(folder / "00004.png")
    Image.new("L", (W, H)).save(folder / "00005.png")
    got = score(segmentation(annotated), 10)
    assert list(got.j) == [0.0 if index == 5 else 1.0 for index in range(1, N - 1)]
    notes = " ".join(got.notes)
    assert "1 mask (00003.png) is in mode LA among masks in mode L" in notes
    assert "1 mask (00004.png) has a palette whose first colour is not black" in notes
    assert "1 of the masks is empty (frame 5), which" in notes


def test_masks_are_written_for_any_other_scorer(annotated: Clip, tmp_path: Path) -> None:
    result = segmentation(annotated, shift=2, swap_at=10)
    got = score(result, 10)
    write_masks(result, got.chosen, 10, tmp_path / "out", "abc")
    assert masks_of(tmp_path / "out") == "abc"
    j = []
    for index in range(1, N - 1):
        name = f"{index:05d}.png"
        labels = np.array(Image.open(tmp_path / "out/labels" / name))
        assert (labels == result.labels(index)).all()
        foreground = np.array(Image.open(tmp_path / "out/foreground" / name))
        assert set(np.unique(foreground)) == {0, 255}
        truth = truth_labels(index) > 0
        j.append((truth & (foreground > 0)).sum() / (truth | (foreground > 0)).sum())
    assert j == pytest.approx(list(got.j))
    assert len(list((tmp_path / "out/foreground").glob("*.png"))) == N
    (tmp_path / "out/labels/00003.png").unlink()
    assert masks_of(tmp_path / "out") == ""  # they are written again


def test_pictures_that_are_not_ours_stay(annotated: Clip, tmp_path: Path) -> None:
    result = segmentation(annotated, shift=2, swap_at=10)
    chosen = score(result, 10).chosen
    (tmp_path / "labels").mkdir()
    mine = tmp_path / "labels/00000.png"
    mine.write_bytes(b"keep")
    with pytest.raises(InputError, match="not of an earlier run"):
        write_masks(result, chosen, 10, tmp_path, "abc")
    assert mine.read_bytes() == b"keep"
    mine.unlink()
    write_masks(result, chosen, 10, tmp_path, "abc")
    write_masks(result, chosen, 10, tmp_path, "def")
    assert masks_of(tmp_path) == "def"


def test_pictures_stay_until_the_new_ones_are_all_there(
    annotated: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = segmentation(annotated, shift=2, swap_at=10)
    chosen = score(result, 10).chosen
    folder = tmp_path / "out"
    write = mask_files.write_label_png

    def stops(path: Path, labels: np.ndarray) -> None:
        if path.stem == "00003":
            raise KeyboardInterrupt
        write(path, labels)

    def interrupted() -> None:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(mask_files, "write_label_png", stops)
            write_masks(result, chosen, 10, folder, "def")

    interrupted()
    assert not folder.exists()
    write_masks(result, chosen, 10, folder, "abc")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    interrupted()
    assert masks_of(folder) == "abc"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == before
    assert sorted(path.name for path in folder.iterdir()) == [".stseg-key", "foreground", "labels"]
