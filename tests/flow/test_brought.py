"""Flow that somebody brings: archives are checked before they are unpacked, fields come singly."""

from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from whole_flow import read_whole

from stseg.errors import InputError
from stseg.flow import brought as brought_module
from stseg.flow import own_flow
from stseg.flow.brought import open_flow
from stseg.flow.files import read_flow_file, write_flow_file, write_flow_folder
from stseg.records import Clip
from stseg.synthetic import RenderedClip


@pytest.fixture
def fields(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 5, (11, 2, 12, 20)).astype(np.float32)


def packed(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def contents(folder: Path, prefix: str = "") -> dict[str, bytes]:
    return {f"{prefix}{each.name}": each.read_bytes() for each in folder.iterdir()}


@pytest.mark.parametrize("kind", ["flo", "kitti"])
@pytest.mark.parametrize("prefix", ["", "my flow/"])
def test_a_zip_of_fields_is_the_folder(
    tmp_path: Path, fields: np.ndarray, kind: str, prefix: str
) -> None:
    write_flow_folder(tmp_path / "fields", fields, kind)
    files = contents(tmp_path / "fields", prefix)
    files["__MACOSX/._00000.flo"] = files["readme.txt"] = b"not a field"
    path = packed(tmp_path / "f.zip", files)
    got, size = read_whole(path)
    expected, _ = read_whole(tmp_path / "fields")
    assert size == (12, 20)
    np.testing.assert_array_equal(got, expected)
    assert open_flow(path).count == 11


def test_a_gap_in_the_numbers_is_told(
    tmp_path: Path, fields: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    write_flow_folder(tmp_path / "f", fields, "flo")
    assert len(list(open_flow(tmp_path / "f").fields())) == len(fields)
    assert not caplog.messages
    (tmp_path / "f/00004.flo").unlink()
    assert len(list(open_flow(tmp_path / "f").fields())) == len(fields) - 1
    (told,) = caplog.messages
    assert "have a gap between 00003.flo and 00005.flo" in told


def test_a_folder_that_stays_empty_goes(tmp_path: Path, fields: np.ndarray) -> None:
    def cut() -> Iterator[np.ndarray]:
        yield fields[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_flow_folder(tmp_path / "new/f", cut(), "flo")
    assert not (tmp_path / "new/f").exists()
    (tmp_path / "old").mkdir()
    with pytest.raises(KeyboardInterrupt):
        write_flow_folder(tmp_path / "old", cut(), "flo")
    assert not list((tmp_path / "old").iterdir())  # it was there before, and stays


def test_fields_of_both_kinds_are_refused(tmp_path: Path, fields: np.ndarray) -> None:
    write_flow_folder(tmp_path / "flo", fields, "flo")
    write_flow_folder(tmp_path / "kitti", fields, "kitti")
    both = contents(tmp_path / "flo") | contents(tmp_path / "kitti")
    with pytest.raises(InputError, match=r"both\.zip has fields of both kinds"):
        open_flow(packed(tmp_path / "both.zip", both))
    for name, data in contents(tmp_path / "kitti").items():
        (tmp_path / "flo" / name).write_bytes(data)
    with pytest.raises(InputError, match="flo has fields of both kinds"):
        open_flow(tmp_path / "flo")
    # As in KITTI itself, where most vectors are unknown: still a field.
    for name in contents(tmp_path / "kitti"):
        picture: Any = cv2.imread(str(tmp_path / "flo" / name), cv2.IMREAD_UNCHANGED)
        picture[:8, :, 0] = 0
        cv2.imwrite(str(tmp_path / "flo" / name), picture)
    with pytest.raises(InputError, match="flo has fields of both kinds"):
        open_flow(tmp_path / "flo")
    for name in contents(tmp_path / "kitti"):  # pictures of the flow may lie beside it
        Image.fromarray(np.zeros((12, 20, 3), np.uint8)).save(tmp_path / "flo" / name)
    np.testing.assert_array_equal(read_whole(tmp_path / "flo")[0], fields)


def test_a_folder_of_one_npz_stands_for_it(tmp_path: Path, fields: np.ndarray) -> None:
    write_flow_file(tmp_path / "f/a.npz", fields, (12, 20))
    assert read_whole(tmp_path / "f")[0].shape == fields.shape
    write_flow_file(tmp_path / "f/b.npz", fields, (12, 20))
    with pytest.raises(InputError, match=r"flow of 2 clips.* for instance .*f/a\.npz"):
        open_flow(tmp_path / "f")
    write_flow_folder(tmp_path / "f", fields[:3], "flo")  # fields come first
    assert open_flow(tmp_path / "f").count == 3


def test_fields_come_in_the_order_that_people_count(tmp_path: Path, fields: np.ndarray) -> None:
    write_flow_folder(tmp_path / "fields", fields, "flo")
    files = {f"f{int(name[:5])}.flo": data for name, data in contents(tmp_path / "fields").items()}
    np.testing.assert_array_equal(read_whole(packed(tmp_path / "f.zip", files))[0], fields)


@pytest.mark.parametrize(("dtype", "name"), [("<f2", "a.npz"), ("<f4", "a.zip"), (">f8", "a.npz")])
def test_an_npz_is_known_by_its_content(
    tmp_path: Path, fields: np.ndarray, dtype: str, name: str
) -> None:
    np.savez(tmp_path / "a.npz", flow=fields.astype(dtype), size=np.array([48, 80]))
    path = (tmp_path / "a.npz").rename(tmp_path / name)
    flow = open_flow(path)
    assert (flow.size, flow.count) == ((48, 80), 11)
    np.testing.assert_array_equal(np.stack(list(flow.fields())), fields.astype(dtype))


def test_only_one_field_is_in_memory(tmp_path: Path) -> None:
    many = (np.full((2, 128, 224), index, np.float32) for index in range(60))
    write_flow_file(tmp_path / "a.npz", many, (128, 224))
    tracemalloc.start()
    count = sum(1 for _ in open_flow(tmp_path / "a.npz").fields())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60
    assert peak < 8 * 2 * 128 * 224 * 4  # of 60 fields


def test_a_name_that_points_out_is_refused(tmp_path: Path, fields: np.ndarray) -> None:
    write_flow_folder(tmp_path / "fields", fields[:1], "flo")
    data = (tmp_path / "fields/00000.flo").read_bytes()
    for name in ("../00000.flo", "/tmp/00000.flo", "a/../../00000.flo", "..\\00000.flo"):
        with pytest.raises(InputError, match="points out of it"):
            open_flow(packed(tmp_path / "f.zip", {name: data}))
    assert not (tmp_path.parent / "00000.flo").exists()


def test_bombs_are_refused_before_they_unpack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brought_module, "MAX_FIELD", 2**16)
    monkeypatch.setattr(brought_module, "MAX_BYTES", 2**18)
    zeros = bytes(2**16)
    with pytest.raises(InputError, match=r"0\.flo in .* unpacks to 1 MiB, more than a field"):
        open_flow(packed(tmp_path / "f.zip", {"0.flo": bytes(2**20)}))
    with pytest.raises(InputError, match="Give smaller fields or a shorter clip"):
        open_flow(packed(tmp_path / "f.zip", {f"{n}.flo": zeros for n in range(5)}))
    np.savez_compressed(tmp_path / "a.npz", flow=np.zeros((40, 2, 32, 64), np.float32))
    with pytest.raises(InputError, match="Give smaller fields or a shorter clip"):
        open_flow(tmp_path / "a.npz")


def test_an_npz_that_announces_more_than_it_has_is_refused(tmp_path: Path) -> None:
    header = tmp_path / "flow.npy"
    with header.open("wb") as file:
        announced = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 2, 10**4, 10**4)}
        np.lib.format.write_array_header_1_0(file, announced)
    with pytest.raises(InputError, match="is cut off"):
        open_flow(packed(tmp_path / "a.npz", {"flow.npy": header.read_bytes()}))


def test_a_picture_that_announces_too_much_is_refused(tmp_path: Path, fields: np.ndarray) -> None:
    write_flow_folder(tmp_path / "fields", fields[:1], "kitti")
    data = bytearray((tmp_path / "fields/00000.png").read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(InputError, match="no PNG of at most"):
        open_flow(packed(tmp_path / "f.zip", {"0.png": bytes(data)}))


def test_unusable_archives_are_named(tmp_path: Path, fields: np.ndarray) -> None:
    write_flow_folder(tmp_path / "fields", fields[:2], "flo")
    files = contents(tmp_path / "fields")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(InputError, match=r"text\.zip is neither a flow file"):
        open_flow(tmp_path / "text.zip")
    with pytest.raises(InputError, match=r"absent\.zip is neither"):
        open_flow(tmp_path / "absent.zip")
    with pytest.raises(InputError, match=r"neither \.flo nor \.png"):
        open_flow(packed(tmp_path / "e.zip", {"a.txt": b"x"}))
    path = packed(tmp_path / "s.zip", files, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[200] ^= 1  # a vector: its checksum no longer fits
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"00000\.flo in .*s\.zip cannot be unpacked"):
        open_flow(path)
    files["00001.flo"] = b"\0" + files["00001.flo"][1:]
    path = packed(tmp_path / "m.zip", files)
    with pytest.raises(InputError, match=r"m\.zip/00001\.flo is not a \.flo file"):
        list(open_flow(path).fields())


@pytest.mark.parametrize(
    ("flow", "sentence"),
    [
        (np.zeros((2, 3, 4, 5), np.float32), "holds flow of shape"),
        (np.zeros((0, 2, 4, 5), np.float32), "holds flow of shape"),
        (np.zeros((2, 2, 4, 5), np.int32), "its numbers are int32"),
        (np.array([{}], object), "is not a flow file"),
        (np.full((2, 2, 4, 5), np.nan, np.float32), "field 0, row 0, column 0"),
        (np.full((2, 2, 4, 5), 1e6, np.float32), "too long"),
    ],
)
def test_unusable_npz_files_are_named(tmp_path: Path, flow: np.ndarray, sentence: str) -> None:
    np.savez(tmp_path / "a.npz", flow=flow)
    with pytest.raises(InputError, match=sentence):
        list(open_flow(tmp_path / "a.npz").fields())


def test_flow_of_another_clip_is_refused(
    tmp_path: Path, clip: Clip, rendered: RenderedClip
) -> None:
    write_flow_folder(tmp_path / "fields", rendered.flow, "flo")
    path = packed(tmp_path / "f.zip", contents(tmp_path / "fields"))
    assert len(own_flow(path, clip).forward) == clip.frames - 1
    assert len(own_flow(path, clip, max_frames=4).forward) == 3
    few = packed(tmp_path / "few.zip", dict(sorted(contents(tmp_path / "fields").items())[:3]))
    assert len(own_flow(few, clip, max_frames=4).forward) == 3  # as such a run exports it
    with pytest.raises(InputError, match=r"has 3 fields, but small has 9 frames"):
        own_flow(few, clip, max_frames=5)
    short = packed(tmp_path / "s.zip", dict(sorted(contents(tmp_path / "fields").items())[1:]))
    with pytest.raises(InputError, match=r"has 7 fields, but small has 9 frames, which make 8"):
        own_flow(short, clip)
    write_flow_folder(tmp_path / "other", rendered.flow[:, :, :-1], "flo")
    other = packed(tmp_path / "o.zip", contents(tmp_path / "other"))
    with pytest.raises(InputError, match="was computed on frames of 96x63"):
        own_flow(other, clip)


def test_backward_flow_is_not_taken_for_forward_flow(tmp_path: Path, fields: np.ndarray) -> None:
    path = tmp_path / "a.npz"
    write_flow_file(path, fields, (12, 20), backward=True)
    with pytest.raises(InputError, match="Compute it again without --backward") as expected:
        read_flow_file(path)
    with pytest.raises(InputError) as error:
        open_flow(path)
    assert str(error.value) == str(expected.value)
    np.savez(path, flow=fields, backward=np.array(False))
    assert open_flow(path).count == 11
    np.savez(path, flow=fields, backward=np.array([{}], object))
    with pytest.raises(InputError, match="is not a flow file"):
        open_flow(path)
