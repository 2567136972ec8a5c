"""Files that are whole or not there."""

import os
from pathlib import Path

import pytest

from stseg.errors import InputError
from stseg.files import check_place, check_writable, natural_key, write_atomically


def test_a_file_is_replaced_and_no_part_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a" / "x.bin"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [each.name for each in path.parent.iterdir()] == ["x.bin"]


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "x.bin", b"")


def test_names_are_sorted_as_people_count() -> None:
    names = ["Frame10.png", "frame9.png", "frame010b.png", "frame1.png"]
    assert sorted(names, key=natural_key) == [
        "frame1.png",
        "frame9.png",
        "Frame10.png",
        "frame010b.png",
    ]


@pytest.mark.parametrize("name", ["a**b.npz", "c [1].npz", "d?.npz"])
def test_a_name_may_look_like_a_pattern(name: str, tmp_path: Path) -> None:
    stale = tmp_path / f".{name}.1.part"
    stale.write_bytes(b"left by a process that was killed")
    os.utime(stale, (0, 0))
    write_atomically(tmp_path / name, b"one")
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_place_is_checked_and_nothing_is_left_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_place(tmp_path / "a" / "b" / "x.json")
    check_place(tmp_path / "file")
    with pytest.raises(InputError, match="is a folder, not a file to write"):
        check_place(tmp_path)
    for folder in (tmp_path / "file", tmp_path / "file" / "a"):
        with pytest.raises(InputError, match="cannot be written"):
            check_writable(folder)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
