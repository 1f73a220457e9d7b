"""What a run tells: metrics.jsonl (one row a step), TensorBoard events, a progress line."""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from vidrec.files import atomic_write
from vidrec.progress import Progress

logger = logging.getLogger(__name__)


class MetricsLog:
    """Appends rows {"kind", "step", ...} to a JSONL file; a restart drops the rows behind the step it starts from.

    Rows of kind "train" (one a step) and "eval" repeat exactly in a repeated run; rows of kind "speed" do not.
    """

    def __init__(self, workdir: Path, step: int, *, write: bool = True):
        self.path = workdir / "metrics.jsonl"
        self._write = write
        self._board = _tensorboard(workdir, step) if write else None
        if write:
            kept = [row for row in read_metrics(self.path) if row["step"] <= step]
            with atomic_write(self.path) as file:
                file.write("".join(json.dumps(row, allow_nan=False) + "\n" for row in kept).encode())
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  closed by __exit__

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Adds a row; values are numbers."""
        if not self._write:
            return
        self._file.write(json.dumps({"kind": kind, "step": step, **values}, allow_nan=False) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def flush(self) -> None:
        """Hands the rows to the operating system, so that a kill of the process loses none of them."""
        if self._write:
            self._file.flush()

    def sync(self) -> None:
        """Hands the rows to the storage: a mounted bucket, for one, has them only then, or when the file is closed."""
        if self._write:
            self._file.flush()
            os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._write:
            self._file.close()
            if self._board is not None:
                self._board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl; a last line cut off by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class Clock:
    """Where the time goes: seconds by kind of work, of which one is under way at any moment.

    The kinds are compile (with drawing the network), data_wait, eval, checkpoint (until training may go on, or is
    restored) and steps, which is all the rest.

    Attributes:
      seconds: of each kind, until the last change of kind or call of `lap`.
    """

    def __init__(self):
        kinds = ("compile", "data_wait", "steps", "eval", "checkpoint")
        self.seconds: dict[str, float] = dict.fromkeys(kinds, 0.0)
        self._kind, self._since = "steps", time.perf_counter()
        self._before = dict(self.seconds)

    @contextmanager
    def of(self, kind: str) -> Iterator[None]:
        """What is done inside is of this kind, and of no other that is under way."""
        outer = self._turn(kind)
        try:
            yield
        finally:
            self._turn(outer)

    def lap(self) -> dict[str, float]:
        """Seconds of each kind since the last call."""
        self._turn(self._kind)
        before, self._before = self._before, dict(self.seconds)
        return {kind: seconds - before[kind] for kind, seconds in self.seconds.items()}

    def _turn(self, kind: str) -> str:
        now = time.perf_counter()
        self.seconds[self._kind] += now - self._since
        before, self._kind, self._since = self._kind, kind, now
        return before


def shares(seconds: dict[str, float]) -> dict[str, float]:
    """The same as shares, which sum to 1."""
    total = max(sum(seconds.values()), 1e-9)
    return {kind: value / total for kind, value in seconds.items()}


class ProgressLine:
    """Loss, accuracy, speed, share of time spent waiting for data, remaining time."""

    def __init__(self, title: str, total_steps: int, batch_size: int, first_step: int, clock: Clock, *, show: bool):
        self._progress = Progress(title, total_steps, show=show)
        self._batch_size, self._step, self._clock = batch_size, first_step, clock

    def update(self, step: int, metrics: dict[str, float]) -> dict[str, float]:
        """Shows the metrics of `step`; returns the speed since the last call.

        Returns:
          clips_per_s, of the time in which steps were taken or data was waited for, and the share in the whole time of
          each of the clock's kinds.
        """
        lap = self._clock.lap()
        training = max(lap["steps"] + lap["data_wait"], 1e-9)
        speed = (step - self._step) * self._batch_size / training
        self._step = step
        self._progress.update(
            step,
            f"loss {metrics['loss']:.4f}  top1 {metrics.get('top1', float('nan')):.3f}  "
            f"{speed:.0f} clips/s  data wait {lap['data_wait'] / training:.0%}",
        )
        return {"clips_per_s": speed, **shares(lap)}

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.__exit__(*error)


def _tensorboard(workdir: Path, step: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        logger.info("No TensorBoard events: tensorboardX is not installed (pip install 'vidrec[log]').")
        return None
    return SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)
