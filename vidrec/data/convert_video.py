"""One video to its record: cut where a piece of it is listed, made smaller, and encoded."""

import itertools
import logging
from collections.abc import Iterator
from typing import Any

from vidrec.data import images, schema
from vidrec.data.datasets import Entry
from vidrec.data.schema import VideoRecord
from vidrec.data.video import VideoFrames
from vidrec.errors import VidrecError
from vidrec.labels import ClassList

log = logging.getLogger(__name__)

_LEAST_OF_PIECE = 0.9  # of its frames; ends are often given in whole seconds, a little late


def make_record(entry: Entry, video: VideoFrames, settings: dict[str, Any], classes: ClassList) -> VideoRecord[bytes]:
    """Makes the record of a video, or of a piece of one.

    Args:
      entry: what the annotations say of it.
      video: the video, which is read to its end.
      settings: `short_side`, `codec` and `quality`, as of `convert`.
      classes: for the label's text.

    Raises:
      VidrecError: it cannot be decoded to its end; Unreadable: the system refuses to read it.
    """
    short_side, codec, quality = (settings[name] for name in ("short_side", "codec", "quality"))
    if not video.length_known:
        log.warning(
            "%s does not say how long it is: that it was cut off between two frames could not be seen", entry.path
        )
    frames = _piece(video, entry)
    first = next(frames)
    size = _stored_size(first, short_side)
    resized = (images.resize(frame, *size) for frame in itertools.chain([first], frames))
    return VideoRecord(
        frames=schema.encode_video(resized, codec, quality, video.fps),
        codec=codec,
        label=entry.label,
        label_text=classes[entry.label] if entry.label >= 0 else "",
        video_id=entry.video_id,
        source=entry.path,
        height=size[0],
        width=size[1],
        fps=video.fps,
        start_frame=round(entry.start * video.fps),
    )


def _piece(video: VideoFrames, entry: Entry) -> Iterator[images.Frame]:
    """The frames from `entry.start` to `entry.end` (seconds), all of them where neither is given."""
    if not entry.start and entry.end is None:
        yield from video
        return
    if not video.fps:
        raise VidrecError(f"{video.path} has no frame rate, so it cannot be cut by seconds; leave out start and end")
    first = round(entry.start * video.fps)
    last = None if entry.end is None else max(first + 1, round(entry.end * video.fps))
    count = 0
    for frame in itertools.islice(video, first, last):
        count += 1
        yield frame
    if not count:
        raise VidrecError(f"{video.path} has ended when the piece from {entry.start:g} seconds begins")
    if last is not None and count < _LEAST_OF_PIECE * (last - first):
        raise VidrecError(f"{video.path} ends before the piece from {entry.start:g} to {entry.end:g} seconds does")


def _stored_size(frame: images.Frame, short_side: int) -> tuple[int, int]:
    """Height and width after the short side was made smaller, never larger, to `short_side`."""
    height, width = frame.shape[:2]
    scale = min(1.0, (short_side or min(height, width)) / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
