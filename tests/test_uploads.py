"""Strangers' videos and flow at the door: what is made to hurt gets a sentence."""

from __future__ import annotations

import logging
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_video import H, W, all_frames, images, make, noise, ramp

from stseg.errors import InputError
from stseg.flow import own_flow
from stseg.flow.files import write_flow_file, write_flow_folder
from stseg.limits import Limits
from stseg.records import Clip
from stseg.synthetic import RenderedClip
from stseg.uploads import Door
from stseg.video import read_frames, thumbnail


@pytest.fixture
def door() -> Door:
    return Door(Limits(frames=12, seconds=30, side=200, megabytes=1, memory=512))


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.gif", "gif", "gray"),
    ],
)
def test_a_good_file_is_read_as_ever(
    door: Door, tmp_path: Path, name: str, codec: str, pix_fmt: str
) -> None:
    path = make(tmp_path / name, ramp(9), codec, pix_fmt)
    clip = door.video(path)
    assert (clip.source, clip.size, clip.frames) == (path, (H, W), 9)
    assert clip.fps == pytest.approx(10, rel=0.02)
    assert clip.limits is door.limits
    frames = list(read_frames(clip))
    np.testing.assert_array_equal(frames, all_frames(path))
    assert all(frame.flags.owndata and frame.flags.writeable for frame in frames)
    assert len(list(read_frames(clip, 2))) == 2
    np.testing.assert_array_equal(thumbnail(clip), thumbnail(replace(clip, limits=None)))


def test_frames_are_counted_and_not_believed(door: Door, tmp_path: Path) -> None:
    # A stream without a container announces nothing.
    assert door.video(make(tmp_path / "a.h264", ramp(9))).frames == 9
    with pytest.raises(InputError, match="has more than 12 frames"):
        door.video(make(tmp_path / "b.h264", ramp(13)))


def test_more_frames_than_were_counted_end_at_the_limit(door: Door, tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", ramp(13))
    clip = Clip(path, "a", (H, W), 10.0, 3, limits=door.limits)
    frames = read_frames(clip)
    assert len([next(frames) for _ in range(12)]) == 12
    with pytest.raises(InputError, match="has more than 12 frames"):
        next(frames)


def patched(path: Path, box: bytes, offset: int, value: bytes) -> Path:
    data = bytearray(path.read_bytes())
    place = data.index(box) + 4 + offset
    data[place : place + len(value)] = value
    path.write_bytes(data)
    return path


def test_ten_hours_are_refused(door: Door, tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", ramp(3))
    patched(path, b"stts", 12, struct.pack(">I", 12_000 * 10_240))  # of one frame, in 1/10240 s
    with pytest.raises(InputError, match=r"'a\.mp4' lasts 36,000 s, but at most 30 s are taken"):
        door.video(path)


def test_a_long_gap_between_two_frames_is_long(door: Door, tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", ramp(3), "ffv1", "yuv420p", pts=[0, 1, 9000])
    with pytest.raises(InputError, match=r"lasts 900 s"):
        door.video(path)


def test_a_frame_too_large(door: Door, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="are 208 x 32 pixels, but a side has at most 200 here"):
        door.video(make(tmp_path / "a.mp4", ramp(2, 32, 208)))


@pytest.mark.parametrize("side", [16_000, 65_535])
def test_a_small_file_of_a_huge_picture(door: Door, tmp_path: Path, side: int) -> None:
    path = make(tmp_path / "a.gif", ramp(2), "gif", "gray")
    data = bytearray(path.read_bytes())
    data[6:10] = struct.pack("<HH", side, side)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"memory|pixels, but a side|is not a video|No frame"):
        door.video(path)


def test_a_header_of_100000_by_100000(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "a.y4m"
    path.write_bytes(b"YUV4MPEG2 W100000 H100000 F25:1 Ip A1:1 C420\nFRAME\n" + bytes(1000))
    with pytest.raises(InputError):
        door.video(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.sdp"])
@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        '<AdaptationSet contentType="video"><Representation id="1"><BaseURL>{}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>",
        "concat:{}|{}",
        "file://{}",
    ],
    ids=["hls", "ffconcat", "sdp", "dash", "concat", "url"],
)
def test_nothing_but_the_file_itself_is_read(
    door: Door, tmp_path: Path, text: str, name: str
) -> None:
    good = make(tmp_path / "good.mp4", ramp(2))
    path = tmp_path / name
    path.write_text(text.replace("{}", str(good)))
    with pytest.raises(InputError, match=r"is not a video, .* Try MP4"):
        door.video(path)


def test_a_playlist_hidden_in_a_container_opens_no_other_file(door: Door, tmp_path: Path) -> None:
    # An external data reference of QuickTime: its samples are said to lie in another file.
    path = make(tmp_path / "a.mov", ramp(2))
    data = path.read_bytes()
    assert b"url \0\0\0\1" in data
    path.write_bytes(data.replace(b"url \0\0\0\1", b"alis\0\0\0\0"))
    clip = door.video(path)
    assert len(list(read_frames(clip))) == 2  # from this file


@pytest.mark.parametrize("name", ["a\nb.mp4", "🎞️ é.mp4", "-i.mp4", "%2e%2e.mp4", "a'\"`$(x).mp4"])
def test_any_name_is_only_a_name(
    door: Door, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = make(tmp_path / "a.mp4", noise(9), muxing={"movflags": "faststart"})
    path = path.rename(tmp_path / name)
    assert door.video(path).frames == 9
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING, "stseg.video"):
        list(read_frames(door.video(path)))
    assert all("\n" not in record.getMessage() for record in caplog.records)
    path.write_bytes(b"no video")
    with pytest.raises(InputError) as error:
        door.video(path)
    assert "\n" not in str(error.value)


def test_links_folders_and_what_is_absent(door: Door, tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", ramp(2))
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mp4")
    for name in ("link.mp4", "none.mp4"):
        with pytest.raises(InputError, match=f"'{name}' is not a file"):
            door.video(tmp_path / name)
    (tmp_path / "x").mkdir()
    assert door.video(tmp_path / "x" / ".." / "a.mp4").frames == 2
    assert door.video(images(tmp_path / "walk", ramp(3))).frames == 3
    with pytest.raises(InputError, match="more than 12 frames"):
        door.video(images(tmp_path / "long", ramp(13)))


def test_a_file_too_large_is_not_even_opened(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with path.open("wb") as file:
        file.truncate(2**20 + 1)
    with pytest.raises(InputError, match="at most 1 MiB are taken here"):
        door.video(path)
    with pytest.raises(InputError, match="at most 1 MiB are taken here"):
        door.flow(path, Clip(path, "a", (H, W), 10.0, 3), tmp_path / "kept.npz")


# --- flow ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npz", "flo", "kitti"])
def test_flow_is_kept_as_it_would_be_read(
    tmp_path: Path, clip: Clip, rendered: RenderedClip, kind: str
) -> None:
    path = tmp_path / "mine.zip"
    if kind == "npz":
        np.savez(path.with_suffix(".npz"), flow=rendered.flow, size=np.array(clip.size))
        path = path.with_suffix(".npz")
    else:
        write_flow_folder(tmp_path / "fields", rendered.flow, kind)
        with zipfile.ZipFile(path, "w") as archive:
            for each in sorted((tmp_path / "fields").iterdir()):
                archive.write(each, each.name)
    kept = tmp_path / "kept.zip"
    Door(Limits()).flow(path, clip, kept)
    mine, own = own_flow(kept, clip).forward, own_flow(path, clip).forward
    assert len(mine) == clip.frames - 1
    for a, b in zip(mine, own, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bombs_and_lies_of_flow(door: Door, tmp_path: Path, clip: Clip) -> None:
    kept = tmp_path / "kept.npz"
    header = tmp_path / "flow.npy"
    with header.open("wb") as file:
        announced = {"descr": "<f4", "fortran_order": False, "shape": (8, 2, 10**5, 10**5)}
        np.lib.format.write_array_header_1_0(file, announced)
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.write(header, "flow.npy")
    np.savez_compressed(tmp_path / "bomb.npz", flow=np.zeros((8, 2, 1200, 1200), np.float32))
    write_flow_file(tmp_path / "other.npz", np.zeros((8, 2, 64, 95)), (64, 95))
    for name, sentence in (
        ("lie.npz", "is cut off"),
        ("bomb.npz", "was computed on frames of 1200x1200"),
        ("other.npz", "was computed on frames of 95x64"),
    ):
        with pytest.raises(InputError, match=f"^{name} .*{sentence}"):  # without its folder
            door.flow(tmp_path / name, clip, kept)
        assert not kept.exists()
    assert not list(tmp_path.glob("*.part"))


def test_flow_of_a_shortened_run_is_taken_where_so_many_frames_are_read(
    tmp_path: Path, clip: Clip
) -> None:
    door = Door(Limits())
    short = tmp_path / "flow.npz"
    write_flow_file(short, np.ones((3, 2, 64, 96)), clip.size)
    with pytest.raises(InputError, match="has 3 fields"):
        door.flow(short, clip, tmp_path / "kept.npz")
    with pytest.raises(InputError, match="has 3 fields"):
        door.flow(short, clip, tmp_path / "kept.npz", max_frames=6)
    door.flow(short, clip, tmp_path / "kept.npz", max_frames=4)
    assert len(own_flow(tmp_path / "kept.npz", clip, 4).forward) == 3
    # Flow of the whole clip stays whole: more frames may be read later.
    write_flow_file(short, np.ones((clip.frames - 1, 2, 64, 96)), clip.size)
    door.flow(short, clip, tmp_path / "kept.npz", max_frames=4)
    assert len(own_flow(tmp_path / "kept.npz", clip).forward) == clip.frames - 1
