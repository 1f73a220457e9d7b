"""What worker processes of test_pool do: they import it by name."""

import multiprocessing
import os
import signal
from pathlib import Path

from vidrec.data.pool import Tick, run_tasks
from vidrec.errors import VidrecError

__all__ = [
    "VidrecError", "fail_at_three", "kill_self_at_three", "multiprocessing", "os", "pid_and_square", "run_tasks",
    "say_ready", "tick_forever",
]  # fmt: skip


def pid_and_square(task: int, tick: Tick) -> tuple[int, int]:
    tick()
    return os.getpid(), task * task


def fail_at_three(task: int, tick: Tick) -> None:
    if task == 3:
        raise VidrecError("task 3 is bad")
    tick()


def kill_self_at_three(task: int, tick: Tick) -> None:
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)


def tick_forever(folder: str, tick: Tick) -> None:
    mine = Path(folder) / str(os.getpid())
    mine.touch()
    try:
        while True:
            tick()
    finally:
        mine.unlink()


def say_ready(done: int, total: int) -> None:
    """Prints "ready" once the workers work."""
    if done and not _said:
        _said.append(True)
        print("ready", flush=True)


_said: list[bool] = []
