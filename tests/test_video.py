"""Frames in, H.264 out: every file a person may bring, and the sentences for the unusable ones."""

from __future__ import annotations

import gc
import logging
import struct
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorTrc
from av.video.stream import VideoStream
from PIL import Image

from stseg import video
from stseg.errors import InputError
from stseg.video import extent, probe, read_frames, thumbnail
from stseg.video_writer import VideoWriter

H, W = 32, 48
RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 40), (40, 50, 210), (235, 235, 235)


def quarters(height: int = H, width: int = W) -> np.ndarray:
    """A picture whose four corners tell every turn and every mirror apart."""
    picture = np.empty((height, width, 3), np.uint8)
    rows, columns = height // 2, width // 2
    picture[:rows, :columns], picture[:rows, columns:] = RED, GREEN
    picture[rows:, :columns], picture[rows:, columns:] = BLUE, WHITE
    return picture


def ramp(count: int, height: int = H, width: int = W) -> list[np.ndarray]:
    """Grey frames that brighten, so that a lost, doubled or swapped frame is seen."""
    levels = np.linspace(40, 200, count).round().astype(np.uint8)
    return [np.full((height, width, 3), level, np.uint8) for level in levels]


def noise(count: int, height: int = 64, width: int = 96) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (height, width, 3), np.uint8) for _ in range(count)]


def make(
    path: Path,
    frames: Iterable[np.ndarray],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    *,
    rate: int = 10,
    pts: Sequence[int] | None = None,
    rotation: float | None = None,
    hflip: bool = False,
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    hdr: ColorTrc | None = None,
) -> Path:
    """Write ``frames`` with PyAV alone, so that the writer under test does not judge itself."""
    with av.open(str(path), "w", options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        assert isinstance(stream, VideoStream)
        stream.pix_fmt = pix_fmt
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=hflip)
        if hdr is not None:
            stream.codec_context.color_trc = hdr
            stream.codec_context.color_primaries = ColorPrimaries.BT2020
            stream.codec_context.colorspace = 9
        for index, frame in enumerate(frames):
            if index == 0:
                stream.height, stream.width = frame.shape[:2]
            picture = av.VideoFrame.from_ndarray(
                frame, format="rgb24" if frame.dtype == np.uint8 else "rgb48le"
            )
            picture.pts = pts[index] if pts else index
            picture.time_base = Fraction(1, rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def images(folder: Path, frames: Iterable[np.ndarray], pattern: str = "{:d}.png") -> Path:
    folder.mkdir(exist_ok=True)
    for index, frame in enumerate(frames):
        assert cv2.imwrite(str(folder / pattern.format(index)), frame[..., ::-1])
    return folder


def levels(frames: Iterable[np.ndarray]) -> np.ndarray:
    return np.array([frame.mean() for frame in frames])


def all_frames(path: Path) -> list[np.ndarray]:
    return list(read_frames(probe(path)))


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "png", "rgba"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.mkv", "ffv1", "yuv444p"),
        ("a.gif", "gif", "gray"),
    ],
)
def test_every_frame_of_a_file_is_read_once_and_in_order(
    tmp_path: Path, name: str, codec: str, pix_fmt: str
) -> None:
    frames = ramp(9)
    plain = make(tmp_path / f"plain{Path(name).suffix}", frames, codec, pix_fmt)
    clip = probe(plain.rename(tmp_path / name))
    assert (clip.name, clip.size, clip.frames) == (Path(name).stem, (H, W), 9)
    assert clip.fps == pytest.approx(10, rel=0.02)
    read = list(read_frames(clip))
    assert all(f.shape == (H, W, 3) and f.dtype == np.uint8 for f in read)
    assert all(f.flags.c_contiguous and f.flags.owndata and f.flags.writeable for f in read)
    np.testing.assert_allclose(levels(read), levels(frames), atol=4)


def test_a_name_with_a_colon_is_no_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with VideoWriter("concat:1 %d.mp4", 10.0) as writer:
        writer.write(quarters())
    make(tmp_path / "a.mp4", ramp(3)).rename("data:1 %d.mp4")
    assert len(all_frames(Path("concat:1 %d.mp4"))) == 1
    assert len(all_frames(Path("data:1 %d.mp4"))) == 3


def test_the_corners_keep_their_colours(tmp_path: Path) -> None:
    (read,) = all_frames(make(tmp_path / "a.mp4", [quarters()], options={"crf": "4"}))
    assert np.abs(read.astype(int) - quarters()).mean() < 6


def is_open(path: Path) -> bool:
    held = [fd.resolve() for fd in Path("/proc/self/fd").iterdir() if fd.exists()]
    return path.resolve() in held


def test_max_frames_stops_and_an_early_close_frees_the_file(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", ramp(9))
    clip = probe(path)
    assert not is_open(path)
    frames = read_frames(clip, 3)
    next(frames)
    assert is_open(path)
    assert len(list(frames)) == 2
    assert not is_open(path)
    frames = read_frames(clip)
    next(frames)
    assert is_open(path)
    assert isinstance(frames, Generator)
    frames.close()
    assert not is_open(path)


@pytest.mark.parametrize("count", [1, 2])
def test_very_short_clips_are_legal_here(tmp_path: Path, count: int) -> None:
    path = make(tmp_path / "a.mp4", ramp(count))
    assert probe(path).frames == count
    assert len(all_frames(path)) == count


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "with B-frames.mp4"])
def test_a_variable_frame_rate_neither_drops_nor_doubles_frames(tmp_path: Path, name: str) -> None:
    frames = ramp(6)
    options = {} if "B" in name else {"bf": "0"}
    path = make(tmp_path / name, frames, pts=[0, 1, 2, 9, 10, 30], options=options)
    np.testing.assert_allclose(levels(all_frames(path)), levels(frames), atol=4)
    if name == "a.mp4":
        assert probe(path).fps == pytest.approx(6 / 3.1, rel=0.01)


@pytest.mark.parametrize("size", [(33, 47), (32, 47), (33, 48)])
def test_odd_sizes_are_read_as_they_are(tmp_path: Path, size: tuple[int, int]) -> None:
    path = make(tmp_path / "a.mkv", ramp(2, *size), "ffv1", "yuv420p")
    assert probe(path).size == size
    assert [frame.shape for frame in all_frames(path)] == [(*size, 3)] * 2


def test_ten_bits_become_eight(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", ramp(4), pix_fmt="yuv420p10le")
    with av.open(str(path)) as container:
        assert container.streams.video[0].pix_fmt == "yuv420p10le"
    np.testing.assert_allclose(levels(all_frames(path)), levels(ramp(4)), atol=3)


def test_hdr_white_is_white_not_grey(tmp_path: Path) -> None:
    signal = np.full((H, W, 3), round(0.5807 * 65535), np.uint16)  # PQ code of 203 cd/m2
    dark = np.full((H, W, 3), round(0.30 * 65535), np.uint16)
    for name, hdr in (("hdr", ColorTrc.SMPTE2084), ("sdr", None)):
        make(tmp_path / f"{name}.mp4", [dark, signal], pix_fmt="yuv420p10le", hdr=hdr)
    assert levels(all_frames(tmp_path / "sdr.mp4")) == pytest.approx([76, 148], abs=4)
    dim, bright = levels(all_frames(tmp_path / "hdr.mp4"))
    assert bright > 245
    assert dim == pytest.approx(73, abs=8)


def test_alpha_is_dropped(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mov", [quarters()], "png", "rgba")
    np.testing.assert_array_equal(all_frames(path)[0], quarters())


def test_a_portrait_phone_video_stands_upright(tmp_path: Path) -> None:
    # What phones write in the track header: a = d = 0, b = 1, c = -1. By the QuickTime format the
    # display point is (a x + c y, b x + d y): right becomes down, a clockwise quarter turn.
    path = make(tmp_path / "a.mp4", [quarters()] * 2, options={"crf": "4"})
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    unit = (1 << 16).to_bytes(4, "big")
    minus = (-(1 << 16)).to_bytes(4, "big", signed=True)
    zero = bytes(4)
    identity = unit + zero * 3 + unit + zero * 3
    assert data[place : place + 32] == identity
    data[place : place + 32] = zero + unit + zero + minus + zero * 4
    path.write_bytes(data)

    clip = probe(path)
    assert clip.size == (W, H)
    frames = list(read_frames(clip))
    assert [frame.shape for frame in frames] == [(W, H, 3)] * 2
    assert all(frame.flags.c_contiguous for frame in frames)
    corners = frames[0][[4, 4, -5, -5], [4, -5, 4, -5]].astype(int)
    assert np.abs(corners - [BLUE, RED, WHITE, GREEN]).max() < 25
    assert thumbnail(clip, 24).shape == (24, 16, 3)


def test_decoded_frames_go_without_a_search_for_cycles(tmp_path: Path) -> None:
    clip = probe(make(tmp_path / "a.mp4", [quarters()] * 12))
    gc.collect()
    gc.disable()
    try:
        assert sum(1 for _ in read_frames(clip)) == 12
        left = sum(type(each) is av.VideoFrame for each in gc.get_objects())
    finally:
        gc.enable()
    assert left <= 1  # the first one tells how all stand


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("hflip", [False, True])
def test_all_eight_orientations(tmp_path: Path, degrees: int, hflip: bool) -> None:
    path = make(
        tmp_path / "a.mp4", [quarters()], rotation=degrees, hflip=hflip, options={"crf": "4"}
    )
    expected = np.rot90(quarters(), degrees // 90)  # both count counter-clockwise
    expected = expected[:, ::-1] if hflip else expected
    (read,) = all_frames(path)
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).mean() < 6


def test_frames_that_change_size_on_the_way_are_resized(tmp_path: Path) -> None:
    streams = b""
    for index, frame in enumerate((quarters(64, 96), quarters(32, 48))):
        part = make(tmp_path / f"{index}.h264", [frame] * 3)
        streams += part.read_bytes()
    path = tmp_path / "both.h264"
    path.write_bytes(streams)
    read = all_frames(path)
    assert [frame.shape for frame in read] == [(64, 96, 3)] * 6
    assert np.abs(read[-1].astype(int) - quarters(64, 96)).mean() < 12


def test_half_a_file_gives_its_first_half_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make(tmp_path / "a.mp4", noise(20), muxing={"movflags": "faststart"})
    whole = all_frames(path)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    path.write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING, "stseg.video"):
        part = all_frames(path)
    assert 2 <= len(part) < 20
    np.testing.assert_array_equal(part[1], whole[1])
    (record,) = caplog.records
    assert "breaks off" in record.getMessage()
    assert f"{len(part)} frames could be read of 20 announced" in record.getMessage()


def test_a_cut_between_two_frames_is_noticed_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make(
        tmp_path / "a.mov", ramp(9), "png", "rgb24", muxing={"movflags": "faststart"}
    )  # every frame stands alone, so that nothing but the count tells of the cut
    with av.open(str(path)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: starts[5]])
    np.testing.assert_array_equal(levels(all_frames(path)), levels(ramp(9))[:5])
    assert "5 frames could be read of 9 announced" in caplog.text


@pytest.mark.parametrize(("first", "count"), [(5, 20), (0, 20), (5, 115)])
def test_what_was_trimmed_off_is_not_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, first: int, count: int
) -> None:
    """Trimming without encoding anew leaves the packets, and says in an edit list what to show."""
    frames = ramp(120)
    data = bytearray(make(tmp_path / "a.mp4", frames, rate=10, options={"g": "12"}).read_bytes())
    entry = data.index(b"elst") + 12  # after name, version and number of entries
    scale = int.from_bytes(data[(at := data.index(b"mdhd") + 16) : at + 4], "big")
    start = int.from_bytes(data[entry + 4 : entry + 8], "big") + first * scale // 10
    data[entry : entry + 8] = struct.pack(">II", count * 100, start)
    (tmp_path / "b.mp4").write_bytes(data)
    clip = probe(tmp_path / "b.mp4")
    got = levels(read_frames(clip))
    assert clip.frames == len(got) == extent(clip.source)[0] == count
    np.testing.assert_allclose(got, levels(frames)[first : first + count], atol=3)
    assert not caplog.records


def test_a_whole_file_gives_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = probe(make(tmp_path / "a.mp4", ramp(5)))
    assert len(list(read_frames(clip))) == 5
    assert len(list(read_frames(clip, 2))) == 2
    assert not caplog.records


# --- folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix", [".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".PNG", ".webp"]
)
def test_a_folder_in_natural_order(tmp_path: Path, suffix: str) -> None:
    frames = ramp(12)
    folder = images(tmp_path / "walk", frames, "frame{:d}" + suffix)
    (folder / "._frame0.png").write_bytes(b"what macOS leaves behind")
    (folder / "notes.txt").write_text("not a frame")
    clip = probe(folder)
    assert (clip.name, clip.size, clip.fps, clip.frames) == ("walk", (H, W), 24.0, 12)
    np.testing.assert_allclose(levels(read_frames(clip)), levels(frames), atol=1)
    assert thumbnail(clip).mean() == pytest.approx(frames[6].mean(), abs=1)


def test_pictures_of_every_kind_become_rgb(tmp_path: Path) -> None:
    rgba = np.dstack([quarters()[..., ::-1], np.full((H, W), 9, np.uint8)])
    grey = np.full((H, W), 77, np.uint8)
    for name, picture in (
        ("1.png", rgba),
        ("2.pgm", grey),
        ("3.png", grey.astype(np.uint16) * 257),
        ("4.tif", np.dstack([grey] * 3).astype(np.uint16) * 257),
    ):
        assert cv2.imwrite(str(tmp_path / name), picture)
    read = all_frames(tmp_path)
    np.testing.assert_array_equal(read[0], quarters())
    np.testing.assert_allclose(levels(read[1:]), 77, atol=1)


def test_a_folder_names_the_frame_of_another_size(tmp_path: Path) -> None:
    images(tmp_path, [*ramp(3), *ramp(1, 40, 40)])
    with pytest.raises(InputError, match=r"'3\.png' is 40 x 40 .* '0\.png', is 48 x 32"):
        probe(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_frames_of_a_folder_are_compared_as_they_stand(tmp_path: Path, suffix: str) -> None:
    """The second one lies in its file and is turned by its EXIF tag."""
    Image.fromarray(quarters(H, W)).save(tmp_path / f"1.{suffix}")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(quarters(H, W)).save(tmp_path / f"2.{suffix}", exif=turned)
    with pytest.raises(InputError, match=rf"'2\.{suffix}' is {H} x {W} pixels, but the first"):
        probe(tmp_path)
    Image.fromarray(quarters(W, H)).save(tmp_path / f"2.{suffix}", exif=turned)
    assert [frame.shape for frame in read_frames(probe(tmp_path))] == [(H, W, 3)] * 2


def test_want_of_memory_is_not_a_file_that_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = probe(make(tmp_path / "a.mp4", ramp(5)))

    class Full:
        def decode(self, stream: object) -> Iterator[object]:
            raise av.error.MemoryError(12, "Cannot allocate memory")
            yield

    monkeypatch.setattr(video, "_announced", lambda *_: 5)
    monkeypatch.setattr(video, "_opened", lambda path: nullcontext((Full(), object())))
    with pytest.raises(MemoryError):
        list(read_frames(clip))


def test_a_picture_that_breaks_in_a_folder_ends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = probe(images(tmp_path, ramp(4)))
    (tmp_path / "2.png").write_bytes(b"nothing")
    assert len(list(read_frames(clip))) == 2
    assert "'2.png' cannot be read" in caplog.text
    with pytest.raises(InputError, match=r"'2\.png' cannot be read"):
        probe(tmp_path)
    (tmp_path / "0.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"'0\.png' cannot be read"):
        next(read_frames(clip))


# --- the unusable --------------------------------------------------------------------------------


def test_what_is_not_there_or_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file or folder"):
        probe(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="holds no frames"):
        probe(tmp_path)
    (tmp_path / "zero.mp4").touch()
    with pytest.raises(InputError, match="is not a video"):
        probe(tmp_path / "zero.mp4")
    with pytest.raises(InputError, match="is not a file that can be read"):
        probe("/dev/null")


def test_the_folder_that_one_is_in_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"The folder '{tmp_path.name}' holds no frames"):
        probe(".")


@pytest.mark.parametrize(
    "text",
    [
        "These are only words.\n" * 100,
        "ffconcat version 1.0\nfile good.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ngood.mp4\n#EXT-X-ENDLIST\n",
    ],
    ids=["words", "concat list", "playlist"],
)
@pytest.mark.parametrize("name", ["text.mp4", "text.m3u8", "text.txt"])
def test_text_is_not_a_video_even_when_it_points_at_one(
    tmp_path: Path, text: str, name: str
) -> None:
    make(tmp_path / "good.mp4", ramp(2))
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=r"is not a video, .* Try MP4, MOV, WebM, AVI or GIF\."):
        probe(tmp_path / name)


def test_sound_alone_has_no_video_stream(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(InputError) as error:
        probe(path)
    assert str(error.value) == "This file has no video stream. Try MP4, MOV, WebM, AVI or GIF."


def test_an_mp4_without_its_index_is_damaged(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", ramp(5))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(InputError, match=r"its index is missing.* Copy or record it again"):
        probe(path)


def test_a_file_with_an_index_but_no_picture(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", noise(3), muxing={"movflags": "faststart"})
    clip = probe(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(InputError, match=r"No frame of 'a\.mp4' can be decoded"):
        probe(path)
    with pytest.raises(InputError, match=r"No frame of 'a\.mp4' can be decoded"):
        next(read_frames(clip))


def test_an_unknown_codec_is_named(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", ramp(3))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(InputError, match=r"codec of 'a\.mp4' is not known"):
        probe(path)


@pytest.mark.parametrize(("height", "width"), [(12, 64), (64, 12), (16, 16400)])
def test_sizes_out_of_range_are_refused(tmp_path: Path, height: int, width: int) -> None:
    sentence = rf"are {width} x {height} pixels, but a side is from 16 to 16384"
    folder = images(tmp_path / "folder", ramp(2, height, width))
    with pytest.raises(InputError, match=sentence):
        probe(folder)
    path = make(tmp_path / "a.mov", ramp(1, height, width), "png", "rgb24")
    with pytest.raises(InputError, match=sentence):
        probe(path)


def test_the_smallest_size_is_accepted(tmp_path: Path) -> None:
    assert probe(make(tmp_path / "a.mp4", ramp(2, 16, 16))).size == (16, 16)


# --- thumbnails ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.gif", "gif", "gray"),
    ],
)
def test_the_thumbnail_shows_the_middle(
    tmp_path: Path, name: str, codec: str, pix_fmt: str
) -> None:
    frames = ramp(21)
    small = thumbnail(probe(make(tmp_path / name, frames, codec, pix_fmt)), 16)
    assert small.shape == (16, 24, 3)
    assert small.dtype == np.uint8
    assert small.mean() == pytest.approx(frames[10].mean(), abs=12)


def test_the_thumbnail_of_a_file_without_a_duration_is_its_first_frame(tmp_path: Path) -> None:
    path = make(tmp_path / "a.h264", ramp(9))
    clip = probe(path)
    assert clip.frames == 0
    assert thumbnail(clip).mean() == pytest.approx(40, abs=4)


# --- writing -------------------------------------------------------------------------------------


def test_what_is_written_is_h264_that_browsers_play(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 29.97, crf=10) as writer:
        for frame in [quarters()] * 7:
            writer.write(frame)
        assert not path.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, stream.frames) == ("h264", "yuv420p", 7)
        assert (stream.width, stream.height) == (W, H)
        assert float(stream.average_rate or 0) == pytest.approx(29.97, abs=1e-3)
        tags = (context.colorspace, context.color_trc, context.color_primaries)
        assert (*tags, context.color_range) == (1, 1, 1, 1)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    clip = probe(path)
    assert (clip.size, clip.frames) == ((H, W), 7)
    inside = np.ones((H, W), bool)  # away from the edges, where chroma is shared by neighbours
    inside[H // 2 - 2 : H // 2 + 2] = inside[:, W // 2 - 2 : W // 2 + 2] = False
    for frame in read_frames(clip):
        assert np.abs(frame.astype(int) - quarters())[inside].mean() < 3


def test_frames_keep_their_order(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", 24.0) as writer:
        for frame in ramp(40):
            writer.write(frame)
    assert probe(tmp_path / "out.mp4").fps == pytest.approx(24)
    np.testing.assert_allclose(levels(all_frames(tmp_path / "out.mp4")), levels(ramp(40)), atol=4)


def test_odd_sizes_are_padded_with_their_edge(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", 10.0, crf=4) as writer:
        writer.write(quarters(33, 47))
        writer.write(np.asfortranarray(quarters(33, 47)))
    frames = all_frames(tmp_path / "out.mp4")
    assert [frame.shape for frame in frames] == [(34, 48, 3)] * 2
    for frame in frames:
        assert np.abs(frame[-1, -1].astype(int) - WHITE).max() < 12
        assert np.abs(frame[0, -1].astype(int) - GREEN).max() < 12
        assert np.abs(frame[:33, :47].astype(int) - quarters(33, 47)).mean() < 6


def test_an_exception_leaves_nothing_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    for old in (None, b"the old result"):
        if old:
            path.write_bytes(old)
        with pytest.raises(RuntimeError, match="stopped"), VideoWriter(path, 10.0) as writer:
            for frame in noise(30):
                writer.write(frame)
            assert (tmp_path / ".out.mp4.part").exists()
            raise RuntimeError("stopped")
        assert not (tmp_path / ".out.mp4.part").exists()
        assert (path.read_bytes() if path.exists() else None) == old


def test_closing_without_a_frame_leaves_nothing(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", 10.0)
    with pytest.raises(ValueError, match="at least one frame"):
        writer.close()
    assert list(tmp_path.iterdir()) == []
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(quarters())


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", 10.0) as writer:
        writer.write(quarters(32, 48))
        with pytest.raises(ValueError, match=r"\(31, 48, 3\), but the first one was \(32, 48, 3\)"):
            writer.write(quarters(31, 48))
        writer.write(quarters(32, 48))
    assert len(all_frames(tmp_path / "out.mp4")) == 2


@pytest.mark.parametrize("fps", [0.0, -1.0, 1e6, float("nan")])
def test_an_impossible_rate_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(ValueError, match="fps"):
        VideoWriter(tmp_path / "out.mp4", fps)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0.01, 7.123456789, 30000 / 1001, 240.0, 999.0])
def test_any_possible_rate_is_kept(tmp_path: Path, fps: float) -> None:
    with VideoWriter(tmp_path / "out.mp4", fps) as writer:
        for frame in ramp(3):
            writer.write(frame)
    assert probe(tmp_path / "out.mp4").fps == pytest.approx(fps, rel=1e-2)


def test_an_unwritable_place_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "out.mp4", tmp_path / "none" / "out.mp4"):
        with pytest.raises(InputError, match=r"cannot be written \(.*\)\. Choose another folder"):
            VideoWriter(place, 10.0)
    with pytest.raises(InputError, match="is a folder"):
        VideoWriter(tmp_path, 10.0)


def test_a_full_disk_gets_a_sentence(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", 10.0)
    part = tmp_path / ".out.mp4.part"
    part.unlink()
    part.symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"No space left on device.* free some space"), writer:
        for frame in noise(60):
            writer.write(frame)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("preview", [False, True])
def test_a_jpeg_that_is_cut_off_is_named(
    tmp_path: Path, preview: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenCV fills the rest with gray and says nothing that Python could hear."""
    folder = images(tmp_path / "frames", ramp(3), "{:d}.jpg")
    whole = (folder / "2.jpg").read_bytes()
    if preview:  # a picture in the header, with an end of its own
        small = cv2.imencode(".jpg", ramp(1, 16, 16)[0])[1].tobytes()
        size = (len(small) + 2).to_bytes(2, "big")
        whole = whole[:2] + b"\xff\xe5" + size + small + whole[2:]
    (folder / "2.jpg").write_bytes(whole)
    clip = probe(folder)
    assert len(list(read_frames(clip))) == 3
    for kept in (len(whole) - 2, len(whole) - 40):
        (folder / "2.jpg").write_bytes(whole[:kept])
        caplog.clear()
        assert len(list(read_frames(clip))) == 2
        assert "'2.jpg' cannot be read" in caplog.text


def test_a_frame_in_two_formats_is_not_read_twice(tmp_path: Path) -> None:
    folder = images(tmp_path / "frames", ramp(3), "{:05d}.png")
    images(folder, ramp(1), "{:05d}.jpg")
    with pytest.raises(InputError, match=r"has '00000\.jpg' and '00000\.png': one frame in two"):
        probe(folder)
