"""Recognition frame by frame (STM, section 4.6): each frame is scored together with the T-1 before it.

Features that a frame has on its own (`vidrec.eval.parts`) are computed once, and kept while it is in the window: the
scores are those of the whole network on the last T frames, which is what the paper computes.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped, UInt8
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec.data.clips import cut_and_resize, eval_view
from vidrec.data.feed import normalize
from vidrec.data.images import Frame
from vidrec.data.tfrecord import BadRecord
from vidrec.errors import UsageError, VidrecError
from vidrec.eval.parts import Halves, halve
from vidrec.eval.predict import Prediction, Recognizer, as_stored, load
from vidrec.files import write_json
from vidrec.progress import Progress
from vidrec.train.start import open_split

SHARES = tuple(range(10, 101, 10))  # per cent of a video


class Memory(NamedTuple):
    """What is known of a stream: as much after a day as after a second.

    Attributes:
      window: features of the last T frames, oldest first, `[T, h, w, c]`; pictures where no part is kept.
      frames: how many were seen.
      total: sum of the scores of all windows, float64 `[K]`.
    """

    window: Shaped[Array, "t _h _w _c"]
    frames: int
    total: Float[np.ndarray, " k"]


class Moment(NamedTuple):
    """What a stream shows at one frame.

    Attributes:
      frame: its number, from 0.
      now: scores of the window that ends with it.
      so_far: mean over all windows: at its end the score of the video.
      seconds: from the frame's arrival to its scores.
    """

    frame: int
    now: Prediction
    so_far: Prediction
    seconds: float


@dataclass(frozen=True)
class Online:
    """A trained network that looks at a stream; `step` is a pure function of what was before, and `watch` a loop of it.

    Before T frames have come, the first one fills the window.

    Attributes:
      recognizer: the network.
    """

    recognizer: Recognizer

    @cached_property
    def halves(self) -> Halves:
        """The network in two: what is computed once for a frame, and what for every window."""
        one = self.recognizer
        return halve(one.model, one.variables, one.spec.picture)

    def picture(self, frame: Frame) -> UInt8[np.ndarray, "s s 3"]:
        """The part of a frame that the network sees, as large as it sees it."""
        spec = self.recognizer.spec
        return cut_and_resize([as_stored(frame, spec)], [0], spec.picture, [partial(eval_view, spec=spec)])[0]

    def step(self, memory: Memory | None, frame: Frame) -> tuple[Memory, Prediction]:
        """The scores of the window that ends with a frame, uint8 RGB `[H, W, 3]`, and what is remembered after it.

        Args:
          memory: of the frames before; None at the first.

        Raises:
          VidrecError: the scores are not finite.
        """
        empty, advance = self._program
        before = empty if memory is None else memory
        window, scores = advance(self.recognizer.variables, before.window, self.picture(frame), memory is None)
        now = self.recognizer.prediction(np.asarray(scores))
        return Memory(window, before.frames + 1, before.total + now.scores), now

    def watch(self, frames: Iterable[Frame], *, every: int = 1) -> Iterator[Moment]:
        """A moment for each frame that is taken, as it comes. The program is compiled before the first is asked for.

        Args:
          every: one frame of so many is taken. Networks that learned from frames far apart want them so here.
        """
        if every < 1:
            raise UsageError(f"one frame of {every} cannot be taken: every must be 1 or more")
        memory, _ = None, self._program
        for number, frame in enumerate(islice(frames, 0, None, every)):
            start = time.perf_counter()
            memory, now = self.step(memory, frame)
            so_far = Prediction(memory.total / memory.frames, now.classes)
            yield Moment(number * every, now, so_far, time.perf_counter() - start)

    @cached_property
    def _program(self) -> tuple[Memory, Any]:
        """What is remembered before the first frame, and (variables, window, picture, first) -> (window, scores)."""
        recognizer, halves = self.recognizer, self.halves
        mean, std = recognizer.config.data.mean, recognizer.config.data.std

        def of_frame(variables: dict[str, Any], picture: UInt8[Array, "h w 3"]) -> Shaped[Array, "_h _w _c"]:
            """What is kept of a frame."""
            return halves.frame(variables, normalize(picture, mean, std)) if halves.depth else picture

        def advance(
            variables: dict[str, Any],
            window: Shaped[Array, "t _h _w _c"],
            picture: UInt8[Array, "h w 3"],
            first: Bool[Array, ""],
        ) -> tuple[Array, Array]:
            """The window moved on by a frame, or filled with the first, and its scores."""
            new = of_frame(variables, picture)
            window = jnp.where(first, new, jnp.concatenate([window[1:], new[None]]))
            seen = window if halves.depth else normalize(window, mean, std)
            return window, jax.nn.softmax(halves.clip(variables, seen))

        picture = jax.ShapeDtypeStruct((*recognizer.spec.picture, 3), jnp.uint8)
        kept = jax.eval_shape(of_frame, recognizer.variables, picture)
        empty = jnp.zeros((recognizer.model.clip_length, *kept.shape), kept.dtype)
        program = jax.jit(advance).lower(recognizer.variables, empty, picture, True).compile()
        return Memory(empty, 0, np.zeros(len(recognizer.classes))), program


class Latencies:
    """Percentiles of any number of durations in little memory, each to 2 per cent."""

    def __init__(self) -> None:
        self._edges = 1e-6 * 1.02 ** np.arange(1024)  # seconds, to 600
        self._counts = np.zeros(1025, np.int64)

    def add(self, seconds: float) -> None:
        """Counts one duration."""
        self._counts[np.searchsorted(self._edges, seconds)] += 1

    def percentiles(self) -> dict[str, float]:
        """Milliseconds that 50, 90 and 99 per cent of them do not exceed; {} where there are none."""
        below, total = self._counts.cumsum(), self._counts.sum()
        found = {f"p{share}": np.searchsorted(below, share / 100 * total) for share in (50, 90, 99)}
        return {name: round(1000 * float(self._edges[min(i, 1023)]), 3) for name, i in found.items()} if total else {}


def evaluate_online(
    workdir: str | Path,
    *,
    records: str | None = None,
    split: str | None = None,
    step: int | None = None,
    every: int = 1,
    out: str | None = None,
) -> tuple[dict[str, Any], str]:
    """Evaluates a run's network as if every video of a split came frame by frame; None: as in the run.

    The score of a video is the mean over its windows, and so is that of the part seen so far. Runs on one device, one
    video after the other: the latencies are those of a stream. Writes online.json to `out` (default WORKDIR/eval).

    Args:
      every: one frame of so many is taken.

    Returns:
      (results as for JSON: "top1" by whole videos, "top1_by_share" {per cent of the video seen: accuracy},
      "window_top1" of single windows, "latency_ms" {"p50", "p90", "p99"}, ...; text for a terminal)

    Raises:
      UsageError: the records have other classes than the network.
      VidrecError: no video can be read.
    """
    recognizer = load(workdir, step=step)
    config = ConfigDict(recognizer.config.to_dict())
    config.data.update({name: value for name, value in (("records", records), ("eval_split", split)) if value})
    result = {"workdir": str(workdir), "step": recognizer.step, "split": config.data.eval_split, "every": every}
    result |= accuracy_online(Online(recognizer), FrozenConfigDict(config), every=every)
    folder = Path(out or Path(workdir) / "eval")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "online.json", result)
    return result, online_text(result, folder)


def accuracy_online(online: Online, config: FrozenConfigDict, *, every: int = 1, show: bool = True) -> dict[str, Any]:
    """The measured part of `evaluate_online` on the records of a configuration."""
    source = open_split(config, config.data.eval_split)
    if tuple(source.classes) != online.recognizer.classes:
        raise UsageError(f"{config.data.records} has other classes, or another order of them, than the network")
    latencies, right, windows = Latencies(), [], []
    with Progress("online", len(source), show=show) as progress:
        for record, label in enumerate(source.labels.tolist()):
            try:
                if record not in source.aside:
                    stored = source.read_frames(record, range(source.num_frames[record]))
                    seen = list(_labels(online.watch(source.decode(record, stored), every=every), latencies))
                    ends = [-(-share * len(seen) // 100) - 1 for share in SHARES]
                    right.append([seen[end][1] == label for end in ends])
                    windows.append(np.mean([now == label for now, _ in seen]))
            except BadRecord:
                pass  # counted below
            progress.update(record + 1)
    if not right:
        raise VidrecError(f"no video of {source!r} can be read; run `vidrec verify` on the records")
    by_share = np.mean(right, axis=0).tolist()
    return {
        "videos": len(right),
        "unreadable": len(source) - len(right),
        "top1": by_share[-1],
        "window_top1": float(np.mean(windows)),
        "top1_by_share": dict(zip(map(str, SHARES), by_share, strict=True)),
        "latency_ms": latencies.percentiles(),
        "kept": online.halves.kept,
        "device": jax.local_devices()[0].device_kind,
    }


def _labels(moments: Iterable[Moment], latencies: Latencies) -> Iterator[tuple[int, int]]:
    """For each frame the best class of its window, and of all windows so far."""
    for moment in moments:
        latencies.add(moment.seconds)
        yield int(moment.now.scores.argmax()), int(moment.so_far.scores.argmax())


def online_text(result: dict[str, Any], folder: Path) -> str:
    """The accuracies and latencies, for a terminal."""
    counts = f"top1 {result['top1']:.4f}, of single windows {result['window_top1']:.4f}"
    lines = [f"{result['videos']} videos frame by frame: {counts}"]
    if result["unreadable"]:
        lines.append(f"Not counted, unreadable: {result['unreadable']}")
    lines.append("Seen       " + "".join(f"{share:>6}%" for share in result["top1_by_share"]))
    lines.append("Top-1      " + "".join(f"{accuracy:7.3f}" for accuracy in result["top1_by_share"].values()))
    delays = ", ".join(f"{name} {value:.1f} ms" for name, value in result["latency_ms"].items())
    kept = result["kept"] or "nothing, windows are computed whole"
    lines += [f"From a frame to its scores on {result['device']}: {delays}; kept of a frame: {kept}"]
    return "\n".join([*lines, f"Results: {folder / 'online.json'}"])
