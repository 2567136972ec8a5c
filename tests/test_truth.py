"""Ground-truth masks in the modes in which they come."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stseg.errors import InputError
from stseg.truth import labels_at, read_foreground, read_labels, truth_files


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
def test_every_mode_gives_the_same_foreground(tmp_path: Path, mode: str) -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[1:4, 2:5] = 255
    picture = Image.fromarray(mask)
    if mode == "P":
        picture = Image.fromarray((mask > 0).astype(np.uint8))
        picture.putpalette([0, 0, 0, 128, 0, 0])
    else:
        picture = picture.convert(mode)
    picture.save(tmp_path / "00000.png")
    assert (read_foreground(tmp_path / "00000.png", (6, 8)) == (mask > 0)).all()


def test_frames_are_numbered_by_their_names(tmp_path: Path) -> None:
    for name in ("00002.png", "frame_0010.png", "notes.png"):
        Image.new("L", (4, 4)).save(tmp_path / name)
    assert {index: path.name for index, path in truth_files(tmp_path).items()} == {
        2: "00002.png",
        10: "frame_0010.png",
    }
    assert labels_at(tmp_path, 3, (4, 4)) is None
    assert labels_at(tmp_path, 2, (8, 6)).shape == (8, 6)


def test_a_broken_mask_is_named(tmp_path: Path) -> None:
    (tmp_path / "00000.png").write_text("no picture")
    with pytest.raises(InputError, match=r"00000\.png is not a readable picture"):
        read_labels(tmp_path / "00000.png")


def test_a_mask_of_davis_with_alpha_is_read(shared: Path) -> None:
    folder = shared / "davis16" / "Annotations" / "480p"
    modes = []
    for path in truth_files(folder / "bear").values():
        with Image.open(path) as picture:
            modes.append(picture.mode)
        assert read_foreground(path, (480, 854)).any()
    assert modes.count("LA") == 1  # and the foreground of that one is read like the others'
