"""Recognition frame by frame (STM, section 4.6): each frame is scored together with the T-1 before it.

Features that a frame has on its own (`vidrec.eval.halves`) are computed once, and kept while it is in the window: the
scores are those of the whole network on the last T frames, which is what the paper computes.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped, UInt8

from vidrec.data.clips import cut_and_resize, eval_view
from vidrec.data.feed import normalize
from vidrec.data.images import Frame
from vidrec.errors import UsageError
from vidrec.eval.halves import Halves, halve
from vidrec.eval.predict import Prediction, Recognizer, as_stored


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
        check_every(every)
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


def check_every(every: int) -> None:
    """Raises UsageError unless one frame of `every` can be taken."""
    if every < 1:
        raise UsageError(f"one frame of {every} cannot be taken: every must be 1 or more")
