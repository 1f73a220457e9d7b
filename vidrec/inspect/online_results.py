"""`vidrec eval --online`: accuracy and latency of a run's network, as if every video came frame by frame."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import batched
from pathlib import Path
from typing import Any, Unpack

import jax
import numpy as np

from vidrec.data.clips import ClipSpec
from vidrec.data.images import Frame
from vidrec.data.records import TFRecordSource
from vidrec.data.sampling import DENSE_SPAN
from vidrec.data.tfrecord import BadRecord
from vidrec.errors import VidrecError
from vidrec.eval.online import Latencies, Online, check_every
from vidrec.eval.statistics import share_interval
from vidrec.inspect.prepared import Choices, is_lead, open_run, results_folder, write_results
from vidrec.progress import Progress

SHARES = tuple(range(10, 101, 10))  # per cent of a video
_AT_ONCE = 16  # stored frames that are read together


@dataclass
class Watched:
    """What videos showed frame by frame.

    Attributes:
      right: of each video, whether the best class of its part seen so far is right, at each of `SHARES`.
      windows: of each video, the share of its windows whose own best class is right.
      unreadable: ids of the videos that could not be read.
      latencies: of all windows.
    """

    right: list[list[bool]] = field(default_factory=list)
    windows: list[float] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    latencies: Latencies = field(default_factory=Latencies)


def online_run(
    workdir: str | Path,
    *,
    every: int = 1,
    step: int | None = None,
    out: str | None = None,
    **choices: Unpack[Choices],
) -> tuple[dict[str, Any], str]:
    """Evaluates a run's network as if every video of a split came frame by frame (STM, section 4.6).

    The score of a video is the mean over its windows, and so is that of the part seen so far. Runs on one device, one
    video after the other: the latencies are those of a stream. Memory does not grow with the length of a video. Writes
    online.json to `out` (default WORKDIR/eval).

    Args:
      every: one frame of so many is taken.

    Returns:
      (results as for JSON: "top1" by whole videos, "top1_by_share" {per cent of the video seen: accuracy},
      "window_top1" of single windows, "latency_ms" {"p50", "p90", "p99"}, ...; text for a terminal)

    Raises:
      UsageError: the records have other classes than the network, or `every` is not positive.
      VidrecError: no video can be read.
    """
    check_every(every)
    run = open_run(workdir, step=step, **choices)
    online = Online(run.recognizer)
    found = watch_all(online, run.source, every, show=is_lead())
    learned = frames_apart(run.recognizer.spec, float(np.median(run.source.num_frames)))
    taken = {"every": every, "every_in_training": round(learned, 2)}
    where = {"kept": online.halves.kept, "device": jax.local_devices()[0].device_kind}
    result = run.facts(workdir) | taken | online_counts(found) | where
    folder = results_folder(workdir, out)
    write_results(folder, "online", result)
    return result, f"{online_text(result)}\nResults: {folder / 'online.json'}"


def frames_apart(spec: ClipSpec, num_frames: float) -> float:
    """How far apart, in frames, the neighbouring frames of a clip are where it is cut from a video of that length."""
    span = {"dense": float(DENSE_SPAN), "strided": float(spec.stride * spec.frames)}.get(spec.sampling, num_frames)
    return span / spec.frames


def watch_all(online: Online, source: TFRecordSource, every: int, *, show: bool = False) -> Watched:
    """Shows a network every video of a split, one after the other.

    Raises:
      VidrecError: no video can be read.
    """
    found = Watched()
    with Progress("online", len(source), show=show) as progress:
        for record in range(len(source)):
            try:
                if record in source.aside:
                    found.unreadable.append(source.video_id(record))
                else:
                    watch_record(online, source, record, every, found)
            except BadRecord:
                found.unreadable.append(source.video_id(record))
            progress.update(record + 1)
    if not found.right:
        raise VidrecError(f"no video of {source!r} can be read; run `vidrec verify` on the records")
    return found


def watch_record(online: Online, source: TFRecordSource, record: int, every: int, found: Watched) -> None:
    """Adds what one video shows; nothing but latencies of one that cannot be read to its end.

    Raises:
      BadRecord: a frame cannot be read.
    """
    label, windows = int(source.labels[record]), -(-int(source.num_frames[record]) // every)
    ends = [-(-share * windows // 100) for share in SHARES]
    so_far, now = {}, 0
    for seen, moment in enumerate(online.watch(taken_frames(source, record, every)), start=1):
        found.latencies.add(moment.seconds)
        now += int(moment.now.scores.argmax()) == label
        if seen in ends:
            so_far[seen] = int(moment.so_far.scores.argmax()) == label
    found.right.append([so_far[end] for end in ends])
    found.windows.append(now / windows)


def taken_frames(source: TFRecordSource, record: int, every: int) -> Iterator[Frame]:
    """One frame of `every` of a video, decoded when it is asked for; the others are not even read.

    Raises:
      BadRecord: a frame cannot be read.
    """
    for numbers in batched(range(0, int(source.num_frames[record]), every), _AT_ONCE):
        yield from source.decode(record, source.read_frames(record, numbers))


def online_counts(found: Watched) -> dict[str, Any]:
    """All that is counted, as for JSON; intervals of 95 %."""
    by_share = np.array(found.right)
    return {
        "videos": len(found.right),
        "unreadable": len(found.unreadable),
        "top1": float(by_share[:, -1].mean()),
        "intervals": {"top1": list(share_interval(by_share[:, -1]))},
        "window_top1": float(np.mean(found.windows)),
        "top1_by_share": dict(zip(map(str, SHARES), by_share.mean(0).tolist(), strict=True)),
        "latency_ms": found.latencies.percentiles(),
    }


def online_text(result: dict[str, Any]) -> str:
    """The accuracies and latencies."""
    low, high = result["intervals"]["top1"]
    counts = f"top1 {result['top1']:.4f} ({low:.4f} to {high:.4f}), of single windows {result['window_top1']:.4f}"
    lines = [f"{result['videos']} videos frame by frame: {counts}"]
    if result["unreadable"]:
        lines.append(f"Not counted, unreadable: {result['unreadable']}")
    lines.append("Seen       " + "".join(f"{share:>6}%" for share in result["top1_by_share"]))
    lines.append("Top-1      " + "".join(f"{accuracy:7.3f}" for accuracy in result["top1_by_share"].values()))
    if (learned := max(round(result["every_in_training"]), 1)) != result["every"]:
        told = f"about {result['every_in_training']:.1f} apart in training, here {result['every']}"
        lines.append(f"Neighbouring frames of a clip were {told}: --every {learned} takes them as they were learned")
    delays = ", ".join(f"{name} {value:.1f} ms" for name, value in result["latency_ms"].items())
    kept = result["kept"] or "nothing, windows are computed whole"
    return "\n".join([*lines, f"From a frame to its scores on {result['device']}: {delays}; kept of a frame: {kept}"])
