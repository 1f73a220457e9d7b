"""Work on several processes: results, progress, failures, interruptions."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vidrec.data.pool import Tick, run_tasks, usable_cores
from vidrec.errors import VidrecError

FOREVER = "run_tasks(tick_forever, [{folder!r}] * 2, workers=2, progress=say_ready)"
ROOT = Path(__file__).parents[2]


def run(code: str, *, stop: signal.Signals | None = None) -> tuple[str, str, int]:
    """Runs a program in a process group of its own; sends the signal once it has printed "ready"."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from tests.data.pool_tasks import *\n" + code],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    first = ""
    if stop is not None:
        assert process.stdout is not None
        first = process.stdout.readline()
        if stop == signal.SIGINT:
            os.killpg(process.pid, stop)  # what a terminal does: every process gets it
        else:
            process.send_signal(stop)
    out, err = process.communicate(timeout=60)  # ends when the last process that could write has ended
    return first + out, err, process.returncode


def double(task: int, tick: Tick) -> int:
    tick()
    tick()
    return 2 * task


def test_in_this_process():
    seen: list[tuple[int, int]] = []
    results = run_tasks(
        double, [3, 4], workers=1, done=1, total=5, progress=lambda done, total: seen.append((done, total))
    )
    assert results == [6, 8]
    assert seen == [(done, 5) for done in range(1, 6)]


def test_no_tasks():
    assert run_tasks(double, [], workers=4) == []


def test_in_several_processes():
    out, err, code = run(
        "seen = []\n"
        "results = run_tasks(pid_and_square, range(20), workers=2, total=20, progress=lambda *s: seen.append(s))\n"
        "print([square for _, square in results] == [n * n for n in range(20)], os.getpid() in dict(results), seen[0],"
        " seen[-1], seen == sorted(seen))"
    )
    assert (out, err, code) == ("True False (0, 20) (20, 20) True\n", "", 0)


def test_errors_come_through_and_stop_the_others():
    out, err, code = run(
        "try:\n"
        "    run_tasks(fail_at_three, range(2000), workers=2)\n"
        "except VidrecError as error:\n"
        "    print(error, multiprocessing.active_children())"
    )
    assert (out, err, code) == ("task 3 is bad []\n", "", 0)


def test_a_killed_worker_is_told():
    out, _, _ = run(
        "try:\n    run_tasks(kill_self_at_three, range(8), workers=2)\nexcept VidrecError as error:\n    print(error)"
    )
    assert "a worker process was killed" in out
    assert "fewer workers" in out


def test_an_interruption_stops_all_and_lets_them_clean_up(tmp_path: Path):
    out, err, code = run(
        f"run_tasks(tick_forever, [{str(tmp_path)!r}] * 2, workers=2, progress=say_ready)", stop=signal.SIGINT
    )
    assert "KeyboardInterrupt" in err
    assert code != 0
    assert "Process SpawnProcess" not in err
    assert list(tmp_path.iterdir()) == []
    assert out == "ready\n"


def test_workers_end_when_the_first_process_is_killed(tmp_path: Path):
    _, err, code = run(
        f"run_tasks(tick_forever, [{str(tmp_path)!r}] * 2, workers=2, progress=say_ready)", stop=signal.SIGKILL
    )
    assert code == -signal.SIGKILL
    assert "Traceback" not in err


def test_cores():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def test_errors_in_this_process():
    def fail(task: int, tick: Tick) -> None:
        raise VidrecError(f"task {task}")

    with pytest.raises(VidrecError, match="task 1"):
        run_tasks(fail, [1, 2], workers=1)
