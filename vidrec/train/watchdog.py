"""A thread that ends a process which makes no progress, and says where it stood."""

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn, Self

import jax

from vidrec.errors import VidrecError

_PERIOD = 1.0  # seconds between looks
# Seconds, at most, that the first process leaves the others for a sentence of their own: JAX ends them when it is gone.
_GRACE = 10.0
_PACKAGE = str(Path(__file__).parents[1])


class Watchdog:
    """Ends the process with a sentence and exit status 1 when nothing has been reported for `seconds`.

    A collective operation waits for ever for a process that has ended or hangs, and cannot be interrupted from within
    Python: the process can only be ended as a whole. Time in which the machine slept, or the process was stopped, does
    not count. Use it as a context manager.

    Args:
      seconds: 0 for never.
      host: of this process, as the sentence names it, such as "process 3 of 16 (worker-3)".
      end: what is called with the sentence, on the watching thread.
    """

    def __init__(self, seconds: float, host: str, end: Callable[[str], None] | None = None):
        self._seconds, self._host = seconds, host
        self._end = end or (lambda text: end_process(text, grace=min(seconds / 2, _GRACE)))
        self._what, self._quiet, self._paused = "the start", 0.0, 0
        self._watched = threading.main_thread()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def at(self, what: str) -> None:
        """Reports progress: what comes next, such as "step 12"."""
        self._what = what
        self.progress()

    def progress(self) -> None:
        """Reports progress within what is under way."""
        self._quiet = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside, such as compiling, may take as long as it takes."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1
            self.progress()

    def look(self, seconds: float) -> None:
        """What the thread does every second: counts `seconds` more without progress, and ends the process at last."""
        self._quiet = 0.0 if self._paused else self._quiet + seconds
        if self._quiet < self._seconds:
            return
        self._quiet = 0.0
        self._end(
            f"vidrec: no progress for {self._seconds:g} s (train.watchdog) on {self._host}, at {self._what}"
            f"{_place(self._watched)}: another process may have ended or wait elsewhere, or a device or the storage "
            "hangs; start the same command again on all hosts: it goes on from the last complete checkpoint\n"
        )

    def _watch(self) -> None:
        while not self._closed.wait(_PERIOD):
            self.look(_PERIOD)

    def __enter__(self) -> Self:
        self._watched = threading.current_thread()
        if self._seconds:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        if self._seconds:
            self._thread.join()


@contextmanager
def leaving_together() -> Iterator[None]:
    """An error inside ends one of several processes at once, instead of letting it wait for the others at its exit.

    They are told by JAX, at the latest after 100 s, that it is gone, and would otherwise wait for it until their
    watchdogs end them. A single process gets its error as it is.
    """
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1:
            raise
        if not isinstance(error, VidrecError):
            end_process("".join(traceback.format_exception(error)), grace=3)
        end_process(f"vidrec: {error}\n", error.exit_code, grace=3)


def end_process(text: str, status: int = 1, grace: float = _GRACE) -> NoReturn:
    """Writes the text on standard error and ends the process, without waiting for another to do the same.

    Args:
      grace: seconds after which the first of several processes ends; the others end at once.
    """
    sys.stderr.write(text)
    sys.stderr.flush()
    if jax.process_count() > 1 and jax.process_index() == 0:
        time.sleep(grace)
    os._exit(status)


def _place(thread: threading.Thread) -> str:
    """ " (file.py, line 12, in function)": the innermost place of this package in which a thread is."""
    frame: FrameType | None = sys._current_frames().get(thread.ident or 0)
    inside = [place for place in traceback.extract_stack(frame) if place.filename.startswith(_PACKAGE)] if frame else []
    if not inside:
        return ""
    return f" ({Path(inside[-1].filename).name}, line {inside[-1].lineno}, in {inside[-1].name})"
