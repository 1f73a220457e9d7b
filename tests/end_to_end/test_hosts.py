"""Several processes as one run: they agree or do not start; when one is gone the others end, to be started again."""

import re
import signal
from functools import partial

import numpy as np
import pytest

from tests.end_to_end.runs import assert_close_run, finish, free_address, rows, signalled, start
from vidrec.train import card

pytestmark = pytest.mark.slow


def two(folders, configs, *, devices=(4, 4), do=("", ""), at=0, **options):
    """Starts the two processes of a run; what differs between them comes in pairs."""
    address = free_address()
    return [
        start(configs[n], folders[n], devices=devices[n], do=do[n], at=at, hosts=(address, 2, n), **options)
        for n in (0, 1)
    ]


def clips(file) -> dict[tuple[int, int], str]:
    """(step, row of the global batch) -> record number and digest of the clip."""
    seen = {}
    for line in file.read_text().splitlines():
        step, row, clip = line.split(" ", 2)
        assert seen.setdefault((int(step), int(row)), clip) == clip  # a step that was repeated saw the same
    return seen


def told(process) -> str:
    """The one sentence that a process ended with."""
    (sentence,) = [line for line in process.errors.splitlines() if line.startswith("vidrec:")]
    assert "Traceback" not in process.errors
    return sentence


@pytest.fixture(scope="module")
def small_config(tiny_config):
    """tiny_config of a network that is compiled in no time: most of these runs are there to end."""
    return partial(tiny_config, "tsn_resnet18", model__widths=(8,), model__stage_sizes=(1,), model__strides=(1,))


@pytest.fixture(scope="module")
def whole(small_config, tmp_path_factory):
    """A run of one process with eight devices, and the clips it saw."""
    folder = tmp_path_factory.mktemp("whole")
    process = start(small_config(), folder / "run", devices=8, clips_seen=folder / "clips")
    assert finish(process) == 0, process.errors
    return folder / "run", clips(folder / "clips")


def test_two_processes_are_as_good_as_one(whole, small_config, tmp_path):
    run = tmp_path / "run"
    config = small_config(train__keep_best="top1")  # of which they must think the same
    processes = two((run, run), (config, config), clips_seen=tmp_path / "clips")
    assert [finish(process) for process in processes] == [0, 0], [process.errors for process in processes]
    assert clips(tmp_path / "clips") == whole[1]
    losses = [[row["loss"] for row in rows(each) if "loss" in row] for each in (run, whole[0])]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert_close_run(whole[0], run)
    (entry,) = card.read(run)
    assert (len(entry["hosts"]), entry["devices"]["here"], entry["devices"]["everywhere"]) == (2, 4, 8)


def test_one_killed_the_other_ends_and_one_alone_goes_on(whole, small_config, tmp_path):
    config = small_config(train__watchdog=20.0)
    run, kill = tmp_path / "run", ("", signalled(signal.SIGKILL))  # were it process 0, JAX itself would end the others
    other, killed = two((run, run), (config, config), do=kill, at=5, clips_seen=tmp_path / "clips")
    assert finish(killed) == -signal.SIGKILL, killed.errors
    assert finish(other) == 1
    assert re.search(r"no progress for 20 s \(train\.watchdog\) on process 0 of 2 .*, at step \d", told(other))
    alone = start(config, run, devices=1, clips_seen=tmp_path / "clips")
    assert finish(alone) == 0, alone.errors
    assert clips(tmp_path / "clips") == whole[1]
    assert_close_run(whole[0], run)
    assert [entry["devices"]["processes"] for entry in card.read(run)] == [2, 1]


def test_a_process_that_hangs_is_found(small_config, tmp_path):
    run, config = tmp_path / "run", small_config(train__watchdog=20.0)
    hang = "import threading; threading.Event().wait()"
    processes = two((run, run), (config, config), do=("", hang), at=5)
    assert [finish(process) for process in processes] == [1, 1], [process.errors for process in processes]
    for number, process in enumerate(processes):
        assert f"(train.watchdog) on process {number} of 2" in told(process)
    assert "at step 6 " in told(processes[1])


def test_processes_that_do_not_agree_do_not_start(small_config, tmp_path):
    folders = (tmp_path / "a" / "run", tmp_path / "b" / "run")
    for folder in folders:
        folder.parent.mkdir()
    processes = two(folders, (small_config(), small_config(optim__lr=0.5)), devices=(2, 4))
    assert [finish(process) for process in processes] == [2, 2], [process.errors for process in processes]
    for process in processes:
        assert "optim.lr: 0.05 -> 0.5" in told(process)
        assert "(devices).here: 2 -> 4" in told(process)
        assert "process 0 (on" in told(process)
    assert not any(folder.exists() for folder in folders)


def test_the_trouble_of_one_is_told_by_all(small_config, tmp_path):
    folders = (tmp_path / "a" / "run", tmp_path / "b" / "run")
    for folder in folders:
        folder.parent.mkdir()
    processes = two(folders, (small_config(), small_config(data__records=str(tmp_path / "nowhere"))))
    assert [finish(process) for process in processes] == [2, 1], [process.errors for process in processes]
    for process in processes:
        assert "nowhere" in told(process)
    assert "process 1 (on" in told(processes[0])
