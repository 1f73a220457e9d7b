"""Video files: reading any that FFmpeg knows, frame by frame, and writing MP4; needs the extra `video` (PyAV).

A folder of numbered pictures is read like a video, too.
"""

import contextlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import UInt8

from vidrec.data import fileend, images
from vidrec.data.images import Frame
from vidrec.data.openfiles import reading
from vidrec.errors import VidrecError
from vidrec.files import atomic_write

_PICTURES = (".jpg", ".jpeg", ".png", ".webp")
# What comes before and after the number in names of pictures that share their folder with optical flow, by custom.
_BESIDE_FLOW = ("img_", "")
# A video may end before its header says so by this share of the frames before it counts as cut off.
_MARGIN = 0.1
# With sound in the file its duration says less about the pictures: the sound may be longer.
_MARGIN_WITH_SOUND = 0.5
# Containers (FFmpeg's names) whose header counts the frames, or has the duration. Of others, and of these where it is
# not there, FFmpeg takes the duration from the last frames that it finds: less of them in a file that was cut off.
_COUNTING = ("mov,mp4,m4a,3gp,3g2,mj2", "avi")
_TIMING = ("matroska,webm", "asf", "flv")


@dataclass
class VideoFrames:
    """An opened video.

    Attributes:
      path: of the file or folder.
      frames: its frames in order, uint8 RGB `[H, W, 3]`, decoded one by one; can be gone through once. Raises
        VidrecError where decoding fails, where there is no frame, and at the end where frames are missing.
      fps: frames per second, 0 where unknown.
      promised: number of frames by the header (by its duration where it does not count them), 0 where unknown.
      length_known: whether the file says how long it is. Where it does not, as live WebM, fragmented MP4 and
        MPEG-TS, a file that was cut off between two frames looks like a whole one.
    """

    path: Path
    frames: Iterator[Frame]
    fps: float
    promised: int
    length_known: bool = True

    def __iter__(self) -> Iterator[Frame]:
        return self.frames

    def array(self) -> UInt8[np.ndarray, "t h w 3"]:
        """Decodes all of it; frames of another size than the first are resized to that."""
        frames = list(self.frames)
        height, width = frames[0].shape[:2]
        return np.stack([f if f.shape == frames[0].shape else images.resize(f, height, width) for f in frames])


def read_video(path: str | Path) -> VideoFrames:
    """Opens a video file, or a folder of pictures in the order of their numbers.

    Raises:
      VidrecError: there is no such file, it is not a video, it does not say how long it is and ends within a frame,
        or PyAV is not installed; `openfiles.Unreadable`: the system does not let it be read.
    """
    path = Path(path)
    with reading(path):
        if path.is_dir():
            return _read_folder(path)
        if not path.is_file():
            raise VidrecError(f"video {path} does not exist")
        path.open("rb").close()  # FFmpeg's own codes do not tell a file it may not open from a damaged one
    av = import_av()
    try:
        container: Any = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise VidrecError(f"cannot open video {path}: {_why(error)}") from None
    if not container.streams.video:
        container.close()
        raise VidrecError(f"{path} holds no video stream")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        container.close()
        raise VidrecError(f"video {path} is damaged, or of a codec that this FFmpeg does not know")
    stream.codec_context.thread_count = 1  # videos are read in parallel by processes
    rate = stream.average_rate or stream.guessed_rate
    fps = float(rate) if rate else 0.0
    promised, margin = _promised(container, stream, fps)
    name = container.format.name
    length_known = bool((stream.frames and name in _COUNTING) or (promised and name in _TIMING))
    if not length_known:
        with reading(path):
            cut_off = fileend.is_cut_off(path, name)
        if cut_off:
            container.close()
            raise VidrecError(f"video {path} is cut off: it ends within a frame; get it again")
    return VideoFrames(path, _decode(path, container, margin * promised), fps, promised, length_known)


def read_raw(stream: IO[bytes], width: int, height: int) -> Iterator[Frame]:
    """Frames of a stream of raw rgb24 pixels, as `ffmpeg -f rawvideo -pix_fmt rgb24 -` writes it, as they come.

    Raises:
      VidrecError: at the end, where the stream stops within a frame or has none.
    """
    size, count = 3 * width * height, 0
    while data := stream.read(size):
        if len(data) < size:
            raise VidrecError(
                f"the stream stops within frame {count}, after {len(data)} of its {size} bytes: it was cut off, or its "
                f"frames are not {width}x{height}"
            )
        yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
        count += 1
    if not count:
        raise VidrecError("the stream holds no frame")


def _promised(container: Any, stream: Any, fps: float) -> tuple[int, float]:
    """Number of frames by the header, and the share of them that must come."""
    if stream.frames:
        shown = 0
        if "mp4" in container.format.name and stream.duration:
            # An MP4 that was cut without coding it again holds frames before its beginning that are not shown.
            shown = round(float(stream.duration * stream.time_base) * fps)
        return min(stream.frames, shown or stream.frames), 1 - _MARGIN
    seconds = container.duration / 1_000_000 if container.duration else 0.0
    return round(seconds * fps), 1 - (_MARGIN_WITH_SOUND if container.streams.audio else _MARGIN)


def _decode(path: Path, container: Any, least: float) -> Iterator[Frame]:
    av, count, damaged = import_av(), 0, 0
    with contextlib.closing(container):
        try:
            for frame in container.decode(video=0):
                count += 1
                damaged += frame.is_corrupt  # the decoder made up what it could not read
                pixels = frame.to_ndarray(format="rgb24")
                yield np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90)) if frame.rotation else pixels
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VidrecError(f"cannot decode frame {count} of video {path}: {_why(error)}") from None
    if not count:
        raise VidrecError(f"video {path} holds no frame that can be decoded")
    if count - damaged < least - 1:
        raise VidrecError(f"video {path} is cut off or damaged: only {count - damaged} frames can be decoded")


def _read_folder(path: Path) -> VideoFrames:
    kinds: dict[tuple[str, str], list[tuple[int, Path]]] = {}
    for file in path.iterdir():
        if file.suffix.lower() in _PICTURES and not file.name.startswith("."):
            match = re.fullmatch(r"(.*?)(\d+)(\D*)", file.stem)
            if match is None:
                raise VidrecError(f"picture {file} has no number in its name, so its place in the video is not known")
            kinds.setdefault((match[1], match[3]), []).append((int(match[2]), file))
    if not kinds:
        raise VidrecError(f"folder {path} holds no picture ({', '.join(_PICTURES)})")
    if _BESIDE_FLOW in kinds:
        kinds = {_BESIDE_FLOW: kinds[_BESIDE_FLOW]}
    if len(kinds) > 1:
        names = " and ".join(sorted(min(files)[1].name for files in kinds.values())[:3])
        raise VidrecError(f"folder {path} holds pictures of several kinds ({names}); keep one kind in a folder")
    (pictures,) = (sorted(files) for files in kinds.values())
    steps = {later[0] - earlier[0] for earlier, later in itertools.pairwise(pictures)}
    if len(steps) > 1 or 0 in steps:
        raise VidrecError(f"folder {path} lacks pictures, or has some twice: their numbers do not go up evenly")
    return VideoFrames(path, _read_pictures([file for _, file in pictures]), 0.0, len(pictures))


def _read_pictures(pictures: list[Path]) -> Iterator[Frame]:
    for picture in pictures:
        with reading(picture):
            if not picture.is_file():
                raise VidrecError(f"picture {picture} is no file")
            data = picture.read_bytes()
        try:
            yield images.decode(data)
        except images.BadFrame as error:
            raise VidrecError(f"{picture}: {error}") from None


def write_mp4(
    path: str | Path, frames: UInt8[np.ndarray, "t h w 3"], fps: float, *, intra_only: bool = True, qp: int = 18
) -> None:
    """Writes RGB frames as an H.264 MP4 file, by rename; the same frames give the same bytes.

    Args:
      frames: uint8 RGB; height and width must be even.
      fps: frames per second.
      intra_only: every frame is coded on its own and at the same quantiser, so that a frame decodes to the same
        pixels wherever in the video it stands.
      qp: constant quantiser of H.264, 0 (lossless) to 51.

    Raises:
      VidrecError: there is no frame, a side is odd, or PyAV is not installed.
    """
    av = import_av()
    if not len(frames) or frames.shape[1] % 2 or frames.shape[2] % 2:
        raise VidrecError(f"cannot write {path}: frames {frames.shape} must be some, of even height and width")
    options = {"qp": str(qp), "preset": "veryfast", "x264-params": "aq-mode=0:mbtree=0:rc-lookahead=0"}
    if intra_only:
        options |= {"g": "1", "bf": "0"}
    with atomic_write(path) as file, av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.thread_count = 1
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def import_av(why: str = "video files need PyAV") -> Any:
    """Imports PyAV, quiet; where it is not installed, the VidrecError says `why` it is needed and how to get it."""
    try:
        import av
        import av.logging
    except ImportError:
        raise VidrecError(f"{why}: pip install 'vidrec[video]'") from None
    av.logging.set_level(av.logging.PANIC)  # what FFmpeg has to say is in the errors
    return av


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
