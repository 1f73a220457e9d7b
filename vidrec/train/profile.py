"""A trace of a few training steps, for xprof or TensorBoard."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import jax

from vidrec.errors import UsageError

logger = logging.getLogger(__name__)

_BEFORE = 2  # steps that are not traced: the first compiles, and the second still finds the queue of batches full


class Profile:
    """Traces `steps` steps of a call of `train`, the third and following ones; none with 0. A context manager.

    Args:
      folder: where the trace is written, by each process its own files; look at it with `xprof FOLDER` or TensorBoard.
      first_step: that the run goes on from.

    Raises:
      UsageError: the run has not that many steps left.
    """

    def __init__(self, folder: Path, steps: int, first_step: int, total_steps: int):
        left = total_steps - first_step
        if steps and left < _BEFORE + steps:
            raise UsageError(
                f"--profile {steps} needs {_BEFORE + steps} steps, of which the first {_BEFORE} are not traced, but "
                f"the run has {left} left: trace fewer, or raise train.steps"
            )
        self._folder, self._running = folder, False
        self._first, self._last = (first_step + _BEFORE + 1, first_step + _BEFORE + steps) if steps else (-1, -1)

    @contextmanager
    def step(self, step: int) -> Iterator[None]:
        """What is done inside is the step of this number; the trace begins with the first that is asked for."""
        if step == self._first:
            jax.profiler.start_trace(self._folder)
            self._running = True
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield

    def after(self, step: int, metrics: Any) -> None:
        """Ends the trace behind its last step, when the devices are done with it: they have made `metrics` by then."""
        if step == self._last:
            jax.block_until_ready(metrics)
            self._stop()
            logger.info("The trace of steps %d to %d is in %s.", self._first, self._last, self._folder)

    def _stop(self) -> None:
        if self._running:
            self._running = False
            jax.profiler.stop_trace()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
