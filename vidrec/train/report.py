"""What a run tells: metrics.jsonl (one row a step), TensorBoard events, a progress line."""

import json
import logging
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
        """Hands the rows to the operating system, so that a kill loses none of them."""
        if self._write:
            self._file.flush()

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


class ProgressLine:
    """Loss, accuracy, speed, share of time spent waiting for data, remaining time."""

    def __init__(self, title: str, total_steps: int, batch_size: int, first_step: int, *, show: bool):
        self._progress = Progress(title, total_steps, show=show)
        self._batch_size = batch_size
        self._last = (first_step, time.perf_counter(), 0.0)

    def update(self, step: int, metrics: dict[str, float], waited: float) -> dict[str, float]:
        """Shows the metrics of `step`; returns the speed since the last call: clips_per_s and data_wait in [0, 1].

        Args:
          waited: seconds spent waiting for data since the start of the loop.
        """
        last_step, last_time, last_waited = self._last
        now = time.perf_counter()
        seconds = max(now - last_time, 1e-9)
        speed = {
            "clips_per_s": (step - last_step) * self._batch_size / seconds,
            "data_wait": min((waited - last_waited) / seconds, 1.0),
        }
        self._last = (step, now, waited)
        self._progress.update(
            step,
            f"loss {metrics['loss']:.4f}  top1 {metrics.get('top1', float('nan')):.3f}  "
            f"{speed['clips_per_s']:.0f} clips/s  data wait {speed['data_wait']:.0%}",
        )
        return speed

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside, such as an evaluation, does not count as time of training."""
        start = time.perf_counter()
        yield
        step, since, waited = self._last
        self._last = (step, since + time.perf_counter() - start, waited)

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
