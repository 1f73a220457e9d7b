"""Which frames of a video make a clip: pure functions from a number of frames to 0-based frame numbers.

The rules are those of the temporal-segment family of networks (TSN, TSM, TDN and their successors), which all five
papers follow; published lists count frames from 1, these functions from 0.
"""

from typing import Literal

import numpy as np
from jaxtyping import Int

from vidrec.errors import UsageError

Mode = Literal["train", "val", "test", "twice"]
Short = Literal["first", "loop", "clamp"]
DENSE_SPAN = 64
"""Frames that a clip of dense sampling is taken from."""


def segment_indices(
    num_frames: int,
    num_segments: int,
    *,
    mode: Mode = "test",
    frames_per_segment: int = 1,
    rng: np.random.Generator | None = None,
    short: Short = "first",
) -> Int[np.ndarray, " clip"]:
    """One place in each of T equal parts of the video.

    Args:
      num_frames: frames n of the video, at least 1.
      num_segments: T.
      mode: "train": a random place in each part; "val": the parts' centres, with the published guard that a video of
        at most T + L - 1 frames gives frame 0 only; "test": the centres without that guard where L is 1, and with it
        where L is more, as published for either; "twice": the centres, then the parts' starts, without a guard (two
        clips, `2 * T` entries).
      frames_per_segment: L consecutive frames from each place (5 for networks on frame differences).
      rng: needed by "train".
      short: what "train" and the guard do with a video that is too short: "first" repeats frame 0 (as published),
        "loop" starts again, "clamp" stays on the last frame.

    Returns:
      Frame numbers in `[0, num_frames)`, shape `[T * L]` (twice that for "twice").
    """
    places = num_frames - frames_per_segment + 1
    if mode == "train":
        if rng is None:
            raise UsageError("segment_indices(mode='train') draws at random: pass rng=np.random.default_rng(seed)")
        starts = _random_starts(num_frames, places, num_segments, rng)
    elif mode == "val" or (mode == "test" and frames_per_segment > 1):
        starts = _centres(places, num_segments) if num_frames > num_segments + frames_per_segment - 1 else None
    elif mode in ("test", "twice"):
        starts = _centres(max(places, 1), num_segments)
        if mode == "twice":
            starts = np.concatenate([starts, _starts(max(places, 1), num_segments)])
    else:
        raise UsageError(f"unknown sampling mode {mode!r}; choose from train, val, test, twice")
    if starts is None:
        starts = _short_starts(num_frames, num_segments, frames_per_segment, short)
    clip = (starts[:, None] + np.arange(frames_per_segment)).reshape(-1)
    return np.minimum(clip, num_frames - 1).astype(np.int64)


def dense_indices(
    num_frames: int,
    num_segments: int,
    *,
    clips: int = 1,
    span: int = DENSE_SPAN,
    rng: np.random.Generator | None = None,
) -> Int[np.ndarray, " clip"]:
    """T frames spread over a window of `span` frames (Kinetics), numbers taken modulo the video's length.

    Args:
      num_frames: frames n of the video.
      num_segments: T; neighbouring frames are `span // T` apart.
      clips: number of windows, at equally spaced starts (10 in the published tests).
      span: window length in frames.
      rng: when given (training), one window with a random start.

    Returns:
      Frame numbers, shape `[clips * T]`, window after window.
    """
    last = max(1, 1 + num_frames - span)
    if rng is not None:
        starts = rng.integers(0, last, size=clips) if last > 1 else np.zeros(clips, np.int64)
    else:
        starts = np.linspace(0, last - 1, num=clips, dtype=np.int64)
    offsets = np.arange(num_segments) * (span // num_segments)
    return ((starts[:, None] + offsets) % num_frames).reshape(-1).astype(np.int64)


def even_indices(
    num_frames: int, num_segments: int, *, rng: np.random.Generator | None = None
) -> Int[np.ndarray, " t"]:
    """One frame in each of T equal spans from the first frame to the last (SlowFast's rule for Something-Something).

    Args:
      num_frames: frames n of the video.
      num_segments: T.
      rng: when given (training), a random frame of each span, ends included; otherwise its middle.
    """
    ends = np.round(np.arange(num_segments + 1) * ((num_frames - 1) / num_segments)).astype(np.int64)
    return (ends[:-1] + ends[1:]) // 2 if rng is None else rng.integers(ends[:-1], ends[1:] + 1)


def strided_indices(
    num_frames: int,
    num_segments: int,
    stride: int,
    *,
    clips: int = 1,
    rng: np.random.Generator | None = None,
) -> Int[np.ndarray, " clip"]:
    """T frames, `stride` apart; a video that is too short stays on its last frame.

    Args:
      num_frames: frames n of the video.
      num_segments: T.
      stride: distance of neighbouring frames.
      clips: number of test clips: 1 is the middle of the video, more have equally spaced starts.
      rng: when given (training), one clip with a random start.

    Returns:
      Frame numbers, shape `[clips * T]`, clip after clip.
    """
    last = max(num_frames - stride * num_segments, 0)
    if rng is not None:
        starts = rng.integers(last + 1, size=1)
    else:
        starts = np.array([last // 2]) if clips == 1 else np.linspace(0, last, num=clips, dtype=np.int64)
    indices = starts[:, None] + stride * np.arange(num_segments)
    return np.minimum(indices, num_frames - 1).reshape(-1)


def _random_starts(
    num_frames: int, places: int, num_segments: int, rng: np.random.Generator
) -> Int[np.ndarray, " t"] | None:
    length = max(places, 0) // num_segments
    if length > 0:
        return np.arange(num_segments) * length + rng.integers(length, size=num_segments)
    if num_frames > num_segments and places > 0:
        return np.sort(rng.integers(places, size=num_segments))
    return None


def _centres(places: int, num_segments: int) -> Int[np.ndarray, " t"]:
    tick = places / num_segments
    return np.array([int(tick / 2 + tick * i) for i in range(num_segments)])


def _starts(places: int, num_segments: int) -> Int[np.ndarray, " t"]:
    tick = places / num_segments
    return np.array([int(tick * i) for i in range(num_segments)])


def _short_starts(num_frames: int, num_segments: int, length: int, short: Short) -> Int[np.ndarray, " t"]:
    order = np.arange(num_segments)
    last = max(num_frames - length, 0)
    if short == "first":
        return np.zeros(num_segments, np.int64)
    if short == "loop":
        return order % (last + 1)
    if short == "clamp":
        return np.minimum(order, last)
    raise UsageError(f"unknown policy for short videos {short!r}; choose from first, loop, clamp")
