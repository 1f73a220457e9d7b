"""What a video record holds: one video with all its frames, as a flat tf.train.Example.

| feature | content |
| --- | --- |
| `frames` | the frames in order: JPEG images, or raw RGB bytes of `height * width * 3`; none with codec mp4 |
| `video` | with codec mp4 all frames as one MP4, see `vidrec.data.mp4`; else there is no such feature |
| `codec` | how frames are stored, one of `CODECS` |
| `label`, `label_text` | class number from 0 (-1: unknown) and its name |
| `video_id`, `source` | unique name of the video, path of its file below the converted folder |
| `num_frames`, `height`, `width`, `fps` | of the stored frames; fps 0 where unknown |
| `start_frame` | number of the first stored frame in the source, for pieces of long videos |
| `schema` | version of this list |
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Integer

from vidrec.data import example, images, mp4
from vidrec.data.example import BadExample, Span

SCHEMA_VERSION = 1
CODECS = ("jpeg", "raw", "mp4")


@dataclass(frozen=True)
class VideoRecord[F: (bytes, Span)]:
    """The fields of a record.

    Attributes:
      frames: when it is written, bytes as of `encode_video`; when it is read, the span of each frame in the payload.
    """

    frames: Sequence[F]
    codec: str
    label: int
    label_text: str
    video_id: str
    source: str
    height: int
    width: int
    fps: float
    start_frame: int = 0


def encode_video(frames: Iterable[images.Frame], codec: str, quality: int, fps: float) -> list[bytes]:
    """Encodes RGB frames `[H, W, 3]` of one video as `VideoRecord.frames`: one by one, or with mp4 as one file.

    Args:
      codec: one of `CODECS`.
      quality: 1 to 100, of jpeg and mp4.
      fps: frames per second, noted in an MP4; 0 where unknown.

    Raises:
      VidrecError: mp4 alone: the frames differ in size, or PyAV is not installed.
    """
    if codec == "mp4":
        video = mp4.encode(frames, quality, fps)
        return [video] if video else []
    return [encode_frame(frame, codec, quality) for frame in frames]


def encode_frame(frame: images.Frame, codec: str, quality: int) -> bytes:
    """Encodes one RGB frame `[H, W, 3]` for a record of codec jpeg (of this `quality`, 1 to 100) or raw."""
    return images.encode_jpeg(frame, quality) if codec == "jpeg" else np.ascontiguousarray(frame).tobytes()


def decode_frame(data: bytes, codec: str, height: int, width: int) -> images.Frame:
    """Decodes the bytes of one stored frame to uint8 RGB `[height, width, 3]`.

    Raises:
      images.BadFrame: they are not one whole frame. VidrecError: mp4 without PyAV.
    """
    if codec == "jpeg":
        return images.decode(data)
    if codec == "mp4":
        return mp4.decode_frame(data, height, width)
    if len(data) != height * width * 3:
        raise images.BadFrame(f"a raw frame of {height}x{width} has {height * width * 3} bytes, not {len(data)}")
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)


def frame_starts(codec: str, lengths: Integer[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Where the frames of a record start, relative to the first of them, from their lengths alone."""
    if codec == "mp4":
        return np.cumsum(lengths, dtype=np.int64) - lengths
    return example.starts_in_list(lengths)


def write(record: VideoRecord[bytes]) -> bytes:
    """Serialises a record whose `frames` are bytes; equal fields give equal bytes."""
    num_frames = len(record.frames)
    if record.codec == "mp4":
        num_frames = sum(len(mp4.frame_spans(video, Span(0, len(video)))) for video in record.frames)
    features: dict[str, example.Value] = {
        "video" if record.codec == "mp4" else "frames": record.frames,
        "codec": [record.codec.encode()],
        "label": [record.label],
        "label_text": [record.label_text.encode()],
        "video_id": [record.video_id.encode()],
        "source": [record.source.encode()],
        "num_frames": [num_frames],
        "height": [record.height],
        "width": [record.width],
        "fps": [float(record.fps)],
        "start_frame": [record.start_frame],
        "schema": [SCHEMA_VERSION],
    }
    return example.encode(features)


def read(payload: bytes) -> VideoRecord[Span]:
    """Reads a record; its `frames` are spans of `payload`.

    Raises:
      example.BadExample: the payload is no Example, lacks a field, or contradicts itself.
    """
    features = example.parse(payload)

    def number(name: str, default: int | None = None) -> int:
        """A field with one integer."""
        values = features.get(name) or ([] if default is None else [default])
        if len(values) != 1 or not isinstance(values[0], int):
            raise BadExample(f"feature '{name}' should be one integer")
        return values[0]

    def text(name: str, default: str | None = None) -> str:
        """A field with one string."""
        values = features.get(name)
        if not values and default is not None:
            return default
        if not values or len(values) != 1 or not isinstance(values[0], Span):
            raise BadExample(f"feature '{name}' should be one string")
        return payload[slice(*values[0])].decode(errors="replace")

    if number("schema") != SCHEMA_VERSION:
        raise BadExample(f"it follows schema {number('schema')}, this vidrec reads schema {SCHEMA_VERSION}")
    codec, fps = text("codec"), features.get("fps") or [0.0]
    frames = [span for span in features.get("video" if codec == "mp4" else "frames", []) if isinstance(span, Span)]
    record = VideoRecord(
        frames=[span for video in frames for span in mp4.frame_spans(payload, video)] if codec == "mp4" else frames,
        codec=codec,
        label=number("label"),
        label_text=text("label_text", ""),
        video_id=text("video_id"),
        source=text("source", ""),
        height=number("height"),
        width=number("width"),
        fps=float(fps[0]) if isinstance(fps[0], float) else 0.0,
        start_frame=number("start_frame", 0),
    )
    check(record, number("num_frames"))
    return record


def check(record: VideoRecord[Span], num_frames: int) -> None:
    """Checks that the fields of a record fit each other; a `BadExample` says which do not."""
    spans = record.frames
    if record.codec not in CODECS:
        raise BadExample(f"its codec is {record.codec!r}, this vidrec reads {', '.join(CODECS)}")
    if len(spans) != num_frames:
        raise BadExample(f"'num_frames' says {num_frames} but there are {len(spans)} frames")
    if not (abs(record.label) < 1 << 31 and 0 <= record.height < 1 << 31 and 0 <= record.width < 1 << 31):
        raise BadExample("its label, height or width is out of range")
    lengths = np.array([stop - start for start, stop in spans], np.int64)
    starts = np.array([start for start, _ in spans], np.int64)
    if spans and not np.array_equal(starts - starts[0], frame_starts(record.codec, lengths)):
        raise BadExample("its frames do not lie one behind the other")
