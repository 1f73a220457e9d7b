"""Video files of several kinds, whole and damaged, and folders of pictures."""

import builtins
import io
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.data.sound import write_sound
from vidrec.data import images
from vidrec.data.openfiles import Unreadable
from vidrec.data.video import read_raw, read_video, write_mp4
from vidrec.errors import VidrecError


def moving(count: int = 24, height: int = 48, width: int = 64) -> np.ndarray:
    """A bright square that moves over a coloured background; every frame differs."""
    y, x = np.mgrid[:height, :width]
    frames = np.stack([np.stack([x * 2, y * 3, x + y + t], -1) for t in range(count)]).astype(np.uint8)
    for t, frame in enumerate(frames):
        frame[10:26, 2 * t % 40 : 2 * t % 40 + 12] = 250, 240, 30
    return frames


def write_any(
    path: Path, codec: str, frames: np.ndarray, pixels: str = "yuv420p", container: str | None = None, **options: str
) -> Path:
    """Writes a video of the kind that the suffix and codec name."""
    with av.open(str(path), "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=12)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))
    return path


KINDS = [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4"), ("a.mkv", "libx264"), ("a.mov", "mjpeg")]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Path]:
    """One video of each kind, by suffix."""
    folder = tmp_path_factory.mktemp("kinds")
    return {
        Path(name).suffix: write_any(folder / name, codec, moving(), "yuvj420p" if codec == "mjpeg" else "yuv420p")
        for name, codec in KINDS
    }


@pytest.mark.parametrize("suffix", [Path(name).suffix for name, _ in KINDS])
def test_every_kind_gives_all_frames(videos: dict[str, Path], suffix: str):
    video = read_video(videos[suffix])
    frames = video.array()
    assert frames.shape == (24, 48, 64, 3)
    assert frames.dtype == np.uint8
    assert np.abs(frames.astype(int) - moving()).mean() < 12
    assert video.fps == pytest.approx(12, rel=0.02)
    assert video.promised in (23, 24, 25)
    assert video.length_known


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi", ".mkv"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_videos_cut_off_are_refused(videos: dict[str, Path], tmp_path: Path, suffix: str, share: float):
    content = videos[suffix].read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(VidrecError, match=f"cut{suffix}"):
        read_video(cut).array()


@pytest.mark.parametrize(("suffix", "share"), [(".mp4", 0.02), (".webm", 0.1), (".avi", 0.8)])
def test_videos_overwritten_by_zeros_are_refused(videos: dict[str, Path], tmp_path: Path, suffix: str, share: float):
    content = bytearray(videos[suffix].read_bytes())
    middle, half = len(content) // 2, int(share * len(content) / 2)
    content[middle - half : middle + half] = bytes(2 * half)
    broken = tmp_path / f"zeros{suffix}"
    broken.write_bytes(content)
    with pytest.raises(VidrecError, match=f"zeros{suffix}"):
        read_video(broken).array()


LIVE = {
    "live.webm": ("libvpx-vp9", "webm", {"live": "1"}),
    "live.mkv": ("libx264", "matroska", {"live": "1"}),
    "fragments.mp4": ("libx264", "mp4", {"movflags": "frag_every_frame+empty_moov+default_base_moof"}),
    "a.ts": ("mpeg2video", "mpegts", {}),
    "a.m2ts": ("mpeg2video", "mpegts", {"mpegts_m2ts_mode": "1"}),
}


def write_live(path: Path) -> Path:
    """Writes a file whose container does not say how long it is."""
    codec, container, options = LIVE[path.name]
    return write_any(path, codec, moving(), container=container, **options)


@pytest.mark.parametrize("name", LIVE)
def test_files_without_a_length_are_refused_where_they_end_within_a_frame(tmp_path: Path, name: str):
    whole = write_live(tmp_path / name)
    video = read_video(whole)
    assert not video.length_known
    assert len(video.array()) == 24
    content, told, quiet = whole.read_bytes(), 0, []
    for size in range(len(content) // 2, len(content), 13 if "live" in name else 37):
        cut = tmp_path / f"cut-{name}"
        cut.write_bytes(content[:size])
        try:
            video = read_video(cut)
        except VidrecError as error:
            assert re.search(rf"cut-{name} is cut off: it ends within|cannot open video .*cut-{name}", str(error))  # noqa: PT017
            told += 1
        else:
            assert not video.length_known
            quiet.append(size)
    assert told > 15 * len(quiet)  # a cut between two frames or packets is like an end


def test_a_live_file_may_end_with_more_than_frames(tmp_path: Path):
    content = write_live(tmp_path / "live.webm").read_bytes()
    void = b"\xec\x90" + bytes(16)  # an element of 16 bytes that mean nothing
    for name, end, frames in (("void.webm", void, 24), ("zeros.webm", bytes(100), 24)):
        (tmp_path / name).write_bytes(content + end)
        assert len(read_video(tmp_path / name).array()) == frames
    (tmp_path / "cut.webm").write_bytes(content + void[:-1])
    with pytest.raises(VidrecError, match="is cut off"):
        read_video(tmp_path / "cut.webm")


def test_pictures_that_move_do_not_say_how_many_they_are(tmp_path: Path):
    video = read_video(write_any(tmp_path / "a.gif", "gif", moving(), "rgb8"))
    assert not video.length_known  # counted by going through the file
    assert len(video.array()) == 24


def test_a_recording_may_begin_within_a_packet(tmp_path: Path):
    content = write_live(tmp_path / "a.ts").read_bytes()
    (tmp_path / "late.ts").write_bytes(content[100:])
    assert not read_video(tmp_path / "late.ts").length_known
    (tmp_path / "cut.ts").write_bytes(content[100:-50])
    with pytest.raises(VidrecError, match="is cut off"):
        read_video(tmp_path / "cut.ts")


def test_clips_cut_without_coding_them_again_are_whole(tmp_path: Path):
    """Such an MP4 begins at the last key frame before the cut and has a list that says what is shown."""
    with av.open(str(tmp_path / "long.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=12, options={"g": "100", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in moving(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / "long.mp4")) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        old = source.streams.video[0]
        stream = target.add_stream_from_template(old)
        for packet in source.demux(old):
            if packet.dts is not None:
                packet.pts -= round(10 / 12 / old.time_base)
                packet.dts -= round(10 / 12 / old.time_base)
                packet.stream = stream
                target.mux(packet)
    video = read_video(tmp_path / "cut.mp4")
    assert video.promised == 20
    assert np.abs(video.array().astype(int) - moving(30)[10:]).mean() < 12


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_frames_that_the_decoder_makes_up_are_not_counted(tmp_path: Path, suffix: str):
    """MPEG-4 decodes to as many frames as promised when a third of them have lost their second half."""
    path = write_any(tmp_path / f"holes{suffix}", "mpeg4", moving())
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for start, size in packets[3::3]:
        content[start + size // 2 : start + size - 2] = bytes(size - 2 - size // 2)
    path.write_bytes(content)
    with pytest.raises(VidrecError, match="cut off or damaged: only 17 frames can be decoded"):
        read_video(path).array()


@pytest.mark.parametrize("content", [b"", b"<html><body>Video unavailable</body></html>", bytes(5000)])
def test_files_that_are_no_videos_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(VidrecError, match=r"x\.mp4"):
        read_video(tmp_path / "x.mp4").array()


@pytest.mark.parametrize(("suffix", "mark"), [(".avi", b"FMP4"), (".mp4", b"avc1")])
def test_unknown_codecs_are_refused(videos: dict[str, Path], tmp_path: Path, suffix: str, mark: bytes):
    content = videos[suffix].read_bytes()
    assert mark in content
    odd = tmp_path / f"odd{suffix}"
    odd.write_bytes(content.replace(mark, b"?" * len(mark)))
    with pytest.raises(VidrecError, match=rf"odd\{suffix} .*codec"):
        read_video(odd)


def test_what_the_system_refuses_is_told_from_damage(tmp_path: Path):
    with pytest.raises(Unreadable, match=r"n\.avi cannot be read \(File name too long\)"):
        read_video(tmp_path / ("n" * 300 + ".avi"))


def test_sound_alone_is_refused(tmp_path: Path):
    write_sound(tmp_path / "x.mp4")
    with pytest.raises(VidrecError, match="holds no video stream"):
        read_video(tmp_path / "x.mp4")


def test_missing_files_are_named(tmp_path: Path):
    with pytest.raises(VidrecError, match=r"video .*gone\.mp4 does not exist"):
        read_video(tmp_path / "gone.mp4")


def test_without_pyav_the_extra_is_named(videos: dict[str, Path], monkeypatch):
    real = builtins.__import__

    def refuse(name: str, *args, **kwargs):
        if name.split(".", maxsplit=1)[0] == "av":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(VidrecError, match=r"pip install 'vidrec\[video\]'"):
        read_video(videos[".mp4"])


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_turned_videos_are_turned_back(videos: dict[str, Path], tmp_path: Path, matrix: tuple[int, ...], turns: int):
    """Phones store a turn as a matrix in the track's header; (0, 1, -1, 0) is a quarter clockwise."""

    def header(a: int, b: int, c: int, d: int) -> bytes:
        numbers = (a, b, 0, c, d, 0, 0, 0)
        return b"".join((n * 0x10000).to_bytes(4, "big", signed=True) for n in numbers) + b"\x40\0\0\0"

    content = bytearray(videos[".mp4"].read_bytes())
    at = content.find(header(1, 0, 0, 1), content.find(b"tkhd"))
    content[at : at + 36] = header(*matrix)
    (tmp_path / "phone.mp4").write_bytes(content)
    np.testing.assert_array_equal(
        read_video(tmp_path / "phone.mp4").array()[3], np.rot90(read_video(videos[".mp4"]).array()[3], turns)
    )


PIXELS = [
    ("a.mkv", "ffv1", "gray"), ("a.mkv", "ffv1", "gray16le"), ("a.mkv", "ffv1", "yuv444p10le"),
    ("a.mkv", "ffv1", "bgra"), ("a.mkv", "ffv1", "yuv410p"), ("a.mov", "prores_ks", "yuv422p10le"),
    ("a.mov", "qtrle", "argb"), ("a.avi", "rawvideo", "bgr24"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "codec", "pixels"), PIXELS)
def test_pixels_of_every_format_become_rgb(tmp_path: Path, name: str, codec: str, pixels: str):
    frames = moving(6)
    found = read_video(write_any(tmp_path / name, codec, frames, pixels)).array()
    assert (found.shape, found.dtype) == (frames.shape, np.uint8)
    if pixels.startswith("gray"):
        frames = (frames @ [0.299, 0.587, 0.114])[..., None].repeat(3, -1)
    assert np.abs(found.astype(int) - frames).mean() < 12


def test_frames_at_uneven_times_come_once_each(tmp_path: Path):
    """A variable frame rate: no frame is repeated or dropped to even it out."""
    frames = moving(12)
    with av.open(str(tmp_path / "uneven.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=30, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for pixels, when in zip(frames, (0, 33, 66, 100, 900, 910, 920, 1500, 1501, 3000, 3100, 3133), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = when, Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    found = read_video(tmp_path / "uneven.mp4").array()
    assert len(found) == 12
    assert np.abs(found.astype(int) - frames).mean() < 12


def test_a_video_of_one_frame_is_one(tmp_path: Path):
    assert read_video(write_any(tmp_path / "one.mp4", "libx264", moving(1))).array().shape == (1, 48, 64, 3)


def test_raw_frames_come_as_they_are_read():
    frames = moving(3)
    stream = io.BytesIO(frames.tobytes() + b"behind")
    coming = read_raw(stream, 64, 48)
    np.testing.assert_array_equal(next(coming), frames[0])
    assert stream.tell() == frames[0].size
    np.testing.assert_array_equal([next(coming), next(coming)], frames[1:])
    with pytest.raises(VidrecError, match=r"stops within frame 3, after 6 of its 9216 bytes.* are not 64x48"):
        next(coming)


# Folders of pictures


def test_pictures_come_in_the_order_of_their_numbers(tmp_path: Path):
    frames = moving(12)
    for number, frame in enumerate(frames, 1):
        (tmp_path / f"img_{number}.jpg").write_bytes(images.encode_jpeg(frame, 95))
    (tmp_path / "notes.txt").write_text("no picture")
    video = read_video(tmp_path)
    assert (video.promised, video.fps) == (12, 0.0)
    assert np.abs(video.array().astype(int) - frames).mean() < 6


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["00001", "00002", "00004"], "lacks pictures, or has some twice"),
        (["1", "01", "2"], "lacks pictures, or has some twice"),
        (["left_1", "left_2", "right_1", "right_2"], r"several kinds \(left_1\.jpg and right_1\.jpg\)"),
        (["one", "two"], "has no number in its name"),
    ],
)
def test_folders_whose_pictures_make_no_sequence_are_refused(tmp_path: Path, names: list[str], sentence: str):
    for name in names:
        (tmp_path / f"{name}.jpg").write_bytes(images.encode_jpeg(moving(1)[0], 95))
    with pytest.raises(VidrecError, match=sentence):
        read_video(tmp_path)


def test_optical_flow_beside_the_pictures_is_left_alone(tmp_path: Path):
    for number, frame in enumerate(moving(4), 1):
        (tmp_path / f"img_{number:05d}.jpg").write_bytes(images.encode_jpeg(frame, 95))
        for axis in "xy":
            (tmp_path / f"flow_{axis}_{number:05d}.jpg").write_bytes(images.encode_jpeg(np.zeros_like(frame), 95))
    assert np.abs(read_video(tmp_path).array().astype(int) - moving(4)).mean() < 6


def test_pictures_at_every_tenth_frame_are_a_sequence(tmp_path: Path):
    for number in (10, 20, 30):
        (tmp_path / f"cam1_{number}.jpg").write_bytes(images.encode_jpeg(moving(30)[number - 1], 95))
    assert len(read_video(tmp_path).array()) == 3


def test_folders_with_nothing_or_with_damage_are_refused(tmp_path: Path):
    with pytest.raises(VidrecError, match="holds no picture"):
        read_video(tmp_path)
    (tmp_path / "1.jpg").symlink_to("gone")
    with pytest.raises(VidrecError, match=r"1\.jpg is no file"):
        read_video(tmp_path).array()
    (tmp_path / "1.jpg").unlink()
    (tmp_path / "1.jpg").write_bytes(b"broken")
    with pytest.raises(VidrecError, match=r"1\.jpg: cannot decode a frame"):
        read_video(tmp_path).array()


# Writing


def test_written_frames_look_the_same_wherever_they_stand(tmp_path: Path):
    frames = moving(10)
    order = np.random.default_rng(0).permutation(10)
    write_mp4(tmp_path / "a.mp4", frames, 10)
    write_mp4(tmp_path / "b.mp4", frames[order], 10)
    there, here = read_video(tmp_path / "a.mp4").array(), read_video(tmp_path / "b.mp4").array()
    np.testing.assert_array_equal(there[order], here)
    assert len({frame.tobytes() for frame in there}) == 10
    assert np.abs(there.astype(int) - frames).mean() < 6


def test_writing_is_deterministic(tmp_path: Path):
    for name in ("a.mp4", "b.mp4"):
        write_mp4(tmp_path / name, moving(5), 10)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_frames_that_lean_on_others_are_smaller(tmp_path: Path):
    still = moving(1).repeat(20, 0)
    write_mp4(tmp_path / "intra.mp4", still, 10)
    write_mp4(tmp_path / "inter.mp4", still, 10, intra_only=False)
    assert (tmp_path / "inter.mp4").stat().st_size < (tmp_path / "intra.mp4").stat().st_size / 2
    assert len(read_video(tmp_path / "inter.mp4").array()) == 20


@pytest.mark.parametrize("fps", [8, 12.5, 29.97])
def test_rates_are_kept(tmp_path: Path, fps: float):
    write_mp4(tmp_path / "a.mp4", moving(4), fps)
    assert read_video(tmp_path / "a.mp4").fps == pytest.approx(fps, rel=1e-3)


def test_impossible_frames_leave_no_file(tmp_path: Path):
    for frames in (moving(2)[:0], moving(2, 47, 64)):
        with pytest.raises(VidrecError, match="even height and width"):
            write_mp4(tmp_path / "a.mp4", frames, 10)
    assert list(tmp_path.iterdir()) == []
