"""Flow files: what is written is read, and what is wrong is named."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from whole_flow import read_whole

from stseg.errors import InputError
from stseg.flow.files import (
    decode_kitti,
    read_flo,
    read_flow_file,
    write_flo,
    write_flow_file,
    write_flow_folder,
    write_kitti,
)


@pytest.fixture
def fields(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 20, (3, 2, 12, 20)).astype(np.float32)


def test_npz_keeps_vectors_to_a_thirtysecond(tmp_path: Path, fields: np.ndarray) -> None:
    write_flow_file(tmp_path / "f.npz", fields, (480, 854))
    got, size = read_flow_file(tmp_path / "f.npz")
    assert size == (480, 854)
    assert np.abs(got.astype(np.float32) - fields).max() <= 1 / 32


def test_npz_without_size_is_as_large_as_its_flow(tmp_path: Path, fields: np.ndarray) -> None:
    np.savez(tmp_path / "f.npz", flow=fields)
    assert read_flow_file(tmp_path / "f.npz")[1] == (12, 20)


@pytest.mark.parametrize(("kind", "step"), [("flo", 0.0), ("kitti", 1 / 128 + 1e-4)])
def test_folders_of_fields(tmp_path: Path, fields: np.ndarray, kind: str, step: float) -> None:
    write_flow_folder(tmp_path, fields, kind)
    got, size = read_whole(tmp_path)
    assert size == (12, 20)
    assert np.abs(got - fields).max() <= step


@pytest.mark.parametrize("kind", ["flo", "kitti"])
def test_a_folder_of_fields_is_whole_and_of_one_clip(
    tmp_path: Path, fields: np.ndarray, kind: str
) -> None:
    write_flow_folder(tmp_path, [*fields, *fields], kind)
    (tmp_path / "mine.flo").write_text("keep")

    def cut() -> Iterator[np.ndarray]:
        yield fields[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_flow_folder(tmp_path, cut(), kind)
    numbered = sorted(path.name for path in tmp_path.iterdir() if path.name != "mine.flo")
    assert len(numbered) == 2 * len(fields)
    write_flow_folder(tmp_path, fields, kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *numbered[: len(fields)],
        "mine.flo",
    ]


@pytest.mark.parametrize(("first", "then"), [("flo", "kitti"), ("kitti", "flo")])
def test_a_folder_has_fields_of_one_format(
    tmp_path: Path, fields: np.ndarray, first: str, then: str
) -> None:
    """Those of an earlier run would be taken for fields of this clip."""
    write_flow_folder(tmp_path, fields + 5, first)
    write_flow_folder(tmp_path, fields, then)
    got, _ = read_whole(tmp_path)
    assert np.abs(got - fields).max() <= 1 / 64
    assert len({path.suffix for path in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_frames_and_masks_are_not_replaced_by_fields(
    tmp_path: Path, fields: np.ndarray, depth: type
) -> None:
    path = tmp_path / "00007.png"
    cv2.imwrite(str(path), np.full((4, 4, 3), 200, depth))
    before = path.read_bytes()

    def untouched() -> Iterator[np.ndarray]:
        raise AssertionError("the flow was computed")
        yield

    with pytest.raises(InputError, match=r"00007\.png is not flow of an earlier run"):
        write_flow_folder(tmp_path, untouched(), "kitti")
    write_flow_folder(tmp_path, fields, "flo")
    assert path.read_bytes() == before


def test_flo_bytes_are_middleburys(tmp_path: Path) -> None:
    flow = np.array([[[1.5, -2.0]], [[0.25, 8.0]]], np.float32)  # u, then v; one row, two columns
    write_flo(tmp_path / "x.flo", flow)
    data = (tmp_path / "x.flo").read_bytes()
    assert data[:4] == b"PIEH"
    assert np.frombuffer(data, "<i4", 2, 4).tolist() == [2, 1]
    assert np.frombuffer(data, "<f4", offset=12).tolist() == [1.5, 0.25, -2.0, 8.0]


def test_kitti_channels_are_as_its_development_kit_has_them(tmp_path: Path) -> None:
    write_kitti(tmp_path / "x.png", np.array([[[3.0]], [[-1.0]]], np.float32))
    blue, green, red = cv2.imread(str(tmp_path / "x.png"), cv2.IMREAD_UNCHANGED)[0, 0]
    assert (red, green, blue) == (2**15 + 3 * 64, 2**15 - 64, 1)


def test_kitti_invalid_sites_take_the_nearest_vector(tmp_path: Path) -> None:
    write_kitti(tmp_path / "x.png", np.full((2, 3, 4), 5, np.float32))
    picture = cv2.imread(str(tmp_path / "x.png"), cv2.IMREAD_UNCHANGED)
    picture[1, 1] = 0
    cv2.imwrite(str(tmp_path / "x.png"), picture)
    path = tmp_path / "x.png"
    assert (decode_kitti(path.read_bytes(), path) == 5).all()


def test_published_flow_of_the_authors(shared: Path) -> None:
    flow = read_flo(shared / "davis16/flows/published/blackswan_00000.flo")
    assert flow.shape == (2, 480, 854)
    cached, _ = read_flow_file(shared / "davis16/flows/raft-sintel/blackswan.npz")
    small = np.stack([cv2.resize(part, (224, 128)) for part in flow])
    assert np.hypot(*(small - cached[0].astype(np.float32))).mean() < 0.2


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_unusable_npz_files_are_named(tmp_path: Path, fields: np.ndarray) -> None:
    size = np.array([12, 20])
    whole = npz(tmp_path / "a.npz", flow=fields, size=size).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_text("no flow")
    bad = fields.copy()
    bad[1, 0, 3, 4] = np.nan
    cases = {
        "cut.npz": "is not a flow file",
        "text.npz": "is not a flow file",
        "absent.npz": "is not a flow file",
        npz(tmp_path / "none.npz", size=size).name: "is not a flow file",
        npz(tmp_path / "shape.npz", flow=fields[:, :1], size=size).name: "holds flow of shape",
        npz(tmp_path / "nan.npz", flow=bad, size=size).name: "field 1, row 3, column 4",
    }
    for name, sentence in cases.items():
        with pytest.raises(InputError, match=sentence) as raised:
            read_flow_file(tmp_path / name)
        assert name in str(raised.value)


def test_unusable_flo_files_are_named(tmp_path: Path, fields: np.ndarray) -> None:
    write_flo(tmp_path / "a.flo", fields[0])
    whole = (tmp_path / "a.flo").read_bytes()
    for data, sentence in (
        (b"\0\0\0\0" + whole[4:], "first number is not"),
        (whole[:-5], "The file is damaged"),
        (whole[:8], "first number is not"),
    ):
        (tmp_path / "b.flo").write_bytes(data)
        with pytest.raises(InputError, match=sentence):
            read_flo(tmp_path / "b.flo")
    with pytest.raises(InputError, match="not finite"):
        write_flo(tmp_path / "c.flo", np.full((2, 2, 2), np.inf, np.float32))
    assert not (tmp_path / "c.flo").exists()
    write_flo(tmp_path / "d.flo", np.full((2, 2, 2), 2e9, np.float32))
    with pytest.raises(InputError, match="marked as unknown"):
        read_flo(tmp_path / "d.flo")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [(np.nan, r"not finite: field 0, row 1, column 2"), (np.inf, "not finite")],
)
def test_a_flo_file_of_others_may_hold_what_is_no_number(
    value: float, sentence: str, tmp_path: Path
) -> None:
    write_flo(tmp_path / "a.flo", np.zeros((2, 3, 4), np.float32))
    data = bytearray((tmp_path / "a.flo").read_bytes())
    at = 12 + 8 * (1 * 4 + 2)  # the header, then u and v of each site
    data[at : at + 4] = np.float32(value).tobytes()
    (tmp_path / "a.flo").write_bytes(data)
    with pytest.raises(InputError, match=sentence):
        read_flo(tmp_path / "a.flo")


def test_a_flo_file_may_not_reach_beyond_what_is_kept(tmp_path: Path) -> None:
    write_flo(tmp_path / "far.flo", np.full((2, 3, 4), 1e5, np.float32))
    with pytest.raises(InputError, match=r"far\.flo has vectors that are too long"):
        read_flo(tmp_path / "far.flo")


def test_unusable_kitti_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "gray.png"
    cv2.imwrite(str(path), np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="no 16-bit PNG"):
        decode_kitti(path.read_bytes(), path)
    with pytest.raises(InputError, match="beyond 511 px"):
        write_kitti(tmp_path / "far.png", np.full((2, 2, 2), 600, np.float32))


def test_a_folder_of_mixed_sizes_is_named(tmp_path: Path, fields: np.ndarray) -> None:
    write_flo(tmp_path / "1.flo", fields[0])
    write_flo(tmp_path / "2.flo", fields[0, :, :5])
    with pytest.raises(InputError, match=r"2\.flo is 20x5, but 1\.flo is 20x12"):
        read_whole(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"neither \.flo nor \.png"):
        read_whole(tmp_path / "empty")


def with_unknown(folder: Path, kind: str, shape: tuple[int, int], unknown: int) -> Path:
    """Three fields (1, 2) of which the second marks its first sites as unknown."""
    folder.mkdir()
    fields = np.zeros((3, 2, *shape), np.float32)
    fields[:, 0], fields[:, 1] = 1, 2
    write_flow_folder(folder, fields, kind)
    if kind == "flo":
        fields[1].reshape(2, -1)[:, :unknown] = 1.666e9
        write_flo(folder / "00001.flo", fields[1])
    else:
        picture = cv2.imread(str(folder / "00001.png"), cv2.IMREAD_UNCHANGED)
        picture.reshape(-1, 3)[:unknown] = 0
        cv2.imwrite(str(folder / "00001.png"), picture)
    return folder


@pytest.mark.parametrize("kind", ["flo", "kitti"])
def test_a_few_unknown_vectors_are_filled_and_told_once(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = with_unknown(tmp_path / kind, kind, (10, 10), 10)
    again = sorted(folder.iterdir())[1]
    again.with_stem("00002").write_bytes(again.read_bytes())
    got, _ = read_whole(folder)
    assert (got[:, 0] == 1).all()
    assert (got[:, 1] == 2).all()
    (warning,) = caplog.messages  # two fields have such vectors
    assert f"{again} marks 10 % of its vectors as unknown" in warning
    many = with_unknown(tmp_path / f"{kind}-many", kind, (10, 10), 11)
    with pytest.raises(InputError, match=r"marked as unknown, 11 % of them\. Give dense"):
        read_whole(many)


def test_an_unknown_vector_is_that_of_the_nearest_site(tmp_path: Path) -> None:
    field = np.arange(40, dtype=np.float32).reshape(2, 4, 5)
    field[1, 0, 0] = -2e9  # one component is enough
    write_flo(tmp_path / "a.flo", field)
    expected = field.copy()
    expected[:, 0, 0] = read_flo(tmp_path / "a.flo")[:, 0, 0]
    assert tuple(expected[:, 0, 0]) in {tuple(field[:, 0, 1]), tuple(field[:, 1, 0])}
    np.testing.assert_array_equal(read_flo(tmp_path / "a.flo"), expected)
