"""Videos of one MP4 (H.264) each, written so that any single frame can be read and decoded without the others.

Every frame is coded on its own (all-intra) and carries the decoder's parameters, and frames lie one behind the other.
So reading T frames of a clip costs T small reads and T decodings, wherever they are; no search for key frames, no frame
decoded in vain. The price is size: coding the differences between frames would make files of quiet videos several times
smaller, but a clip that samples a whole video would then have to decode nearly all of it.

Beside JPEG frames of the same `quality` number, files are about a quarter of the size and take 1.5 to 2 times as long
to decode; they are not as exact (33 dB where JPEG has 39, at 95). At equal exactness they save a third of the size or
less: choose this codec where size matters more than speed. For the decoder's sake numbers are coded the simpler way
(CAVLC), which takes half the time to decode and a fifth more bytes.

Colour is stored at half the resolution (4:2:0), so that the file is a plain MP4 that every player knows. Sides must be
even for that: odd ones are padded, repeating the last row or column, and cut again on decoding.

Writing and decoding need PyAV; finding the frames does not.
"""

import io
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from vidrec.data.example import BadExample, Span
from vidrec.data.images import BadFrame, Frame
from vidrec.data.video import import_av
from vidrec.errors import VidrecError

_X264 = "repeat-headers=1:cabac=0:mbtree=0:rc-lookahead=0"
_NEEDS = "records of codec mp4 need PyAV"


def encode(frames: Iterable[Frame], quality: int, fps: float) -> bytes:
    """Encodes RGB frames `[H, W, 3]`, all of one size, as an MP4; the same frames give the same bytes.

    Args:
      quality: 1 to 100 on the scale of JPEG; 95 is H.264's constant rate factor 18.5, 85 its 23.5.
      fps: frames per second to be noted in the file; 0 where unknown, then players show 25.

    Returns:
      The file; empty where there is no frame.

    Raises:
      VidrecError: the frames differ in size, or PyAV is not installed.
    """
    av, file = import_av(_NEEDS), io.BytesIO()
    options = {"crf": str(_rate_factor(quality)), "preset": "veryfast", "g": "1", "bf": "0", "x264-params": _X264}
    size, stream = None, None
    with av.open(file, "w", format="mp4") as container:
        for frame in frames:
            if stream is None:
                size = frame.shape
                stream = _open_stream(container, size, fps, options)
            if frame.shape != size:
                raise VidrecError(f"frames of one MP4 must have one size, but {frame.shape} follows {size}")
            picture = av.VideoFrame.from_ndarray(_pad(frame), format="rgb24")
            container.mux(stream.encode(picture))
        if stream is not None:
            container.mux(stream.encode(None))
    return file.getvalue() if stream is not None else b""


def _rate_factor(quality: int) -> float:
    return min(51.0, 16 + (100 - quality) / 2)


def _open_stream(container: Any, size: tuple[int, ...], fps: float, options: dict[str, str]) -> Any:
    stream = container.add_stream("libx264", rate=Fraction(fps or 25).limit_denominator(1001), options=options)
    stream.height, stream.width, stream.pix_fmt = size[0] + size[0] % 2, size[1] + size[1] % 2, "yuv420p"
    stream.codec_context.thread_count = 1
    return stream


def _pad(frame: Frame) -> Frame:
    odd = frame.shape[0] % 2, frame.shape[1] % 2
    return np.ascontiguousarray(np.pad(frame, ((0, odd[0]), (0, odd[1]), (0, 0)), "edge") if any(odd) else frame)


def decode_frame(data: bytes, height: int, width: int) -> Frame:
    """Decodes one frame, as `frame_spans` finds it, to uint8 RGB `[height, width, 3]`.

    Raises:
      BadFrame: it is damaged, or of another size. VidrecError: PyAV is not installed.
    """
    av = import_av(_NEEDS)
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1  # clips are read in parallel by workers
    try:
        pictures = decoder.decode(av.Packet(_start_codes(data))) + decoder.decode(None)
    except (av.FFmpegError, ValueError, OSError) as error:
        raise BadFrame(f"cannot decode a frame of {len(data)} bytes: {error}") from None
    if len(pictures) != 1 or pictures[0].is_corrupt:
        raise BadFrame(f"cannot decode a frame of {len(data)} bytes: not one whole H.264 picture")
    frame = pictures[0].to_ndarray(format="rgb24")
    if frame.shape[:2] != (height + height % 2, width + width % 2):
        raise BadFrame(f"a frame decodes to {frame.shape[0]}x{frame.shape[1]}, not {height}x{width}")
    return frame[:height, :width]


def _start_codes(data: bytes) -> bytes:
    """MP4 writes a length before each unit of a frame; the decoder alone, not knowing the file, wants start codes."""
    out, at = bytearray(), 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        at += 4
        if not 0 < length <= len(data) - at:
            raise BadFrame(f"a frame of {len(data)} bytes is no H.264 picture of an MP4")
        out += b"\0\0\0\1" + data[at : at + length]
        at += length
    return bytes(out)


def frame_spans(payload: bytes, video: Span) -> list[Span]:
    """Finds the frames of an MP4, which is `payload[video.start:video.stop]`; they lie one behind the other.

    Raises:
      BadExample: it is no MP4 as `encode` writes it.
    """
    try:
        top = dict(_boxes(payload, video))
        table = _descend(payload, top[b"moov"], b"trak", b"mdia", b"minf", b"stbl")
        inside = dict(_boxes(payload, table))
        lengths = _lengths(payload, inside[b"stsz"])
        chunks = _chunks(payload, inside)
        media = top[b"mdat"]
    except (KeyError, struct.error, ValueError) as error:
        raise BadExample(f"its video is not a whole MP4 ({type(error).__name__}: {error})") from None
    if b"stss" in inside and struct.unpack_from(">I", payload, inside[b"stss"].start + 4)[0] != len(lengths):
        raise BadExample("frames of its video depend on each other, so that they cannot be read alone")
    first = media.start - video.start
    if sum(lengths) != media.stop - media.start or (chunks and chunks[0] != first) or sorted(chunks) != chunks:
        raise BadExample("the frames of its video do not lie one behind the other")
    ends = np.cumsum([media.start, *lengths]).tolist()
    return [Span(*ends[number : number + 2]) for number in range(len(lengths))]


def _boxes(payload: bytes, span: Span) -> Iterator[tuple[bytes, Span]]:
    """Yields name and content of the boxes in a part of an MP4."""
    at = span.start
    while at < span.stop:
        length, name = struct.unpack_from(">I4s", payload, at)
        header = 8
        if length == 1:
            (length,), header = struct.unpack_from(">Q", payload, at + 8), 16
        if not header <= length <= span.stop - at:
            raise ValueError(f"box {name!r} does not fit")
        yield name, Span(at + header, at + length)
        at += length


def _descend(payload: bytes, span: Span, *names: bytes) -> Span:
    for name in names:
        found = [inner for box, inner in _boxes(payload, span) if box == name]
        if len(found) != 1:
            raise ValueError(f"{len(found)} boxes {name!r}")
        (span,) = found
    return span


def _lengths(payload: bytes, span: Span) -> list[int]:
    """Lengths of the frames, from the content of a box "stsz"."""
    same, count = struct.unpack_from(">II", payload, span.start + 4)
    if same:
        return [same] * count
    _fits(span, 12 + 4 * count)
    return np.frombuffer(payload, ">u4", count, span.start + 12).tolist()


def _chunks(payload: bytes, boxes: dict[bytes, Span]) -> list[int]:
    """Where chunks of frames start in the file."""
    name, width = (b"stco", 4) if b"stco" in boxes else (b"co64", 8)
    span = boxes[name]
    (count,) = struct.unpack_from(">I", payload, span.start + 4)
    _fits(span, 8 + width * count)
    return np.frombuffer(payload, f">u{width}", count, span.start + 8).tolist()


def _fits(span: Span, length: int) -> None:
    if length > span.stop - span.start:
        raise ValueError("a table does not fit")
