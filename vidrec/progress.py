"""One line of progress: a bar with rate and remaining time on a terminal, a plain line now and then elsewhere."""

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows how far a piece of work is; on standard error, so that results can be piped.

    Use it as a context manager; call it with (done, total) or `update(done, note)`.
    """

    def __init__(self, title: str, total: int, *, show: bool = True):
        self._title, self._total, self._show = title, total, show
        self._started = self._printed = time.monotonic()
        self._first: int | None = None  # what was done before, by an earlier call
        self._bar = None
        if show and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = RichProgress(*columns, console=Console(stderr=True), transient=False)
            self._task = self._bar.add_task(title, total=total, note="")

    def update(self, done: int, note: str = "") -> None:
        """Tells that `done` of the total are done; `note` is shown behind."""
        if self._first is None:  # what came before was preparation, such as compiling, and says nothing about speed
            self._first, self._started = done, time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self._total, note=note)
            return
        now = time.monotonic()
        if self._show and (done == self._total or now - self._printed >= _SECONDS_BETWEEN_LINES):
            self._printed = now
            text = f"{self._title}: {done}/{self._total}"
            if done > self._first:
                left = (now - self._started) / (done - self._first) * (self._total - done)
                text += f", {left:.0f} s left"
            print(f"{text}  {note}".rstrip(), file=sys.stderr, flush=True)

    def __call__(self, done: int, total: int) -> None:
        """The same as a callback that also learns the total late."""
        self._total = total
        self.update(done)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
