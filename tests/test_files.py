"""Files that are whole or not there."""

from pathlib import Path

import pytest

from stseg.errors import InputError
from stseg.files import natural_key, write_atomically


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
