"""Many independent pieces of work on several processes, with progress, and an end that leaves nothing running."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_end
from typing import Any

from vidrec.errors import VidrecError

Tick = Callable[[], None]
Progress = Callable[[int, int], None]

_SECONDS_BETWEEN_REPORTS = 0.05


class Stopped(Exception):
    """Raised by a tick in a worker when another one failed or the person interrupted: clean up and go."""


def run_tasks[Task, Result](
    function: Callable[[Task, Tick], Result],
    tasks: Sequence[Task],
    *,
    workers: int,
    done: int = 0,
    total: int = 0,
    progress: Progress | None = None,
) -> list[Result]:
    """Calls `function(task, tick)` for every task and returns the results in order.

    Args:
      function: a top-level function; calls `tick()` after each step, for progress and to learn when to stop.
      tasks: what to do; each can be pickled.
      workers: processes; with one (or one task), everything happens in this process.
      done: steps that were done before.
      total: steps in all.
      progress: called with (done, total).

    Raises:
      VidrecError: a worker was killed. Whatever `function` raises, after all workers have stopped.
    """
    report = progress or (lambda done, total: None)
    report(done, total)
    if min(workers, len(tasks)) <= 1:
        return _run_here(function, tasks, done, total, report)
    context = multiprocessing.get_context("spawn")
    ticks, stop = context.Value("q", 0), context.Event()
    with ProcessPoolExecutor(min(workers, len(tasks)), context, _start_worker, (ticks, stop)) as pool:
        try:
            with _ignored_interrupts():  # which the processes started here inherit
                futures = [pool.submit(_call, function, task) for task in tasks]
            pending = set(futures)
            while pending:
                finished, pending = wait(pending, _SECONDS_BETWEEN_REPORTS, FIRST_EXCEPTION)
                for future in finished:
                    future.result()
                report(done + ticks.value, total)
            return [future.result() for future in futures]
        except BrokenProcessPool:
            raise VidrecError(
                "a worker process was killed, perhaps for want of memory; run the same command again with fewer workers"
            ) from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def usable_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_here(function: Callable, tasks: Sequence, done: int, total: int, report: Progress) -> list:
    def tick() -> None:
        """One more is done."""
        nonlocal done
        done += 1
        report(done, total)

    return [function(task, tick) for task in tasks]


_worker: dict[str, Tick] = {}  # what a worker process keeps between its tasks


def _start_worker(ticks: Any, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process tells when to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def tick() -> None:
        """One more is done; ends the task where the pool is to stop."""
        with ticks.get_lock():
            ticks.value += 1
        if stop.is_set():
            raise Stopped

    _worker["tick"] = tick


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_end([parent.sentinel])
        os._exit(1)  # the parent was killed: its other end of every queue is gone


def _call[Task, Result](function: Callable[[Task, Tick], Result], task: Task) -> Result:
    return function(task, _worker["tick"])


@contextlib.contextmanager
def _ignored_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
