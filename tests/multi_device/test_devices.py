"""One global batch is one global batch, on any number of devices and processes."""

import json
import shutil
import signal
import socket

import numpy as np
import pytest

from tests.end_to_end.runs import assert_close_run, command, damage, finish, recipe, signalled, start, straight
from vidrec.cli import main
from vidrec.data.clips import ClipSpec
from vidrec.data.pipeline import train_plan
from vidrec.data.records import open_records
from vidrec.files import alone


@pytest.fixture(scope="module")
def single(tiny_config, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "single"
    straight(tiny_config(), run)
    return run


def two(*arguments, **options):
    """Starts a command line in two processes of two devices each, which make one run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    return [command(*arguments, devices=2, hosts=(address, 2, number), **options) for number in (0, 1)]


def finish_all(processes):
    return [finish(process) for process in processes]


@pytest.mark.slow
def test_eight_devices(single, tiny_config, tmp_path):
    process = start(tiny_config(), tmp_path / "many", devices=8)
    assert finish(process) == 0, process.errors
    assert_close_run(single, tmp_path / "many")


@pytest.mark.slow
def test_clips_are_mixed_with_the_same_neighbours_on_any_devices(tiny_config, tmp_path):
    config = tiny_config(train__mixup=0.4, train__cutmix=1.0, train__steps=4, eval__crops=10)
    straight(config, tmp_path / "single")
    process = start(config, tmp_path / "many", devices=8)  # of one clip each, so that no neighbour is on the same one
    assert finish(process) == 0, process.errors
    assert_close_run(tmp_path / "single", tmp_path / "many")


@pytest.mark.slow
def test_a_run_goes_on_on_fewer_and_fewer_devices(single, tiny_config, tmp_path):
    """Parameters and momentum lie split over four devices, then over two, then on one."""
    run = tmp_path / "many"
    for devices, mesh, stop in ((8, {"mesh__fsdp": 4}, 3), (4, {"mesh__fsdp": 2}, 5), (1, {}, 0)):
        process = start(tiny_config(**mesh), run, devices=devices, do=stop and signalled(signal.SIGTERM), at=stop)
        assert finish(process) == 0, process.errors
    assert_close_run(single, run)


@pytest.mark.slow
def test_two_processes_killed_and_started_again(single, tiny_config, tmp_path, capsys):
    run = tmp_path / "many"
    train = ("train", "--config", recipe(tiny_config(), tmp_path), "--workdir", run, "--json")
    killed = two(*train, do=signalled(signal.SIGKILL), at=5)
    assert finish(killed[0]) == -signal.SIGKILL, killed[0].errors
    killed[1].kill()  # if it has not come so far
    assert finish(killed[1]) == -signal.SIGKILL, killed[1].errors

    first, second = again = two(*train)
    assert finish_all(again) == [0, 0], (first.errors, second.errors)
    outcome = json.loads(first.output)
    assert (outcome["step"], outcome["finished"]) == (8, True)
    assert "train: 8/8" in first.errors
    assert second.output == ""  # only the first process talks
    assert "train:" not in second.errors
    assert "parameters" not in second.errors
    assert_close_run(single, run)

    first, second = both = two("eval", "--workdir", run, "--json")
    assert finish_all(both) == [0, 0], (first.errors, second.errors)
    assert second.output == ""
    assert "eval:" not in second.errors
    result = json.loads(first.output)
    assert {name: result[name] for name in outcome["metrics"]} == outcome["metrics"]
    capsys.readouterr()
    assert main(["eval", "--workdir", str(run), "--out", str(tmp_path / "alone"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again.pop("ece") == pytest.approx(result.pop("ece"), abs=1e-4)
    assert again == result
    by_one, together = (np.load(folder / "scores.npz")["scores"] for folder in (tmp_path / "alone", run / "eval"))
    np.testing.assert_allclose(together, by_one, atol=1e-5)


@pytest.mark.slow
def test_processes_agree_that_another_training_is_in_the_folder(tiny_config, tmp_path):
    with alone(tmp_path / "run", wait=False):
        first, second = both = two("train", "--config", recipe(tiny_config(), tmp_path), "--workdir", tmp_path / "run")
        assert finish_all(both) == [1, 1], (first.errors, second.errors)
    for process in both:
        assert "another training is at work in" in process.errors.strip().splitlines()[-1]
    assert not any((tmp_path / "run").iterdir())


@pytest.mark.slow
def test_processes_agree_that_too_many_videos_are_unreadable(tiny_config, records, tmp_path):
    folder = shutil.copytree(records, tmp_path / "records")
    wanted = train_plan(open_records(folder, "train"), ClipSpec(4, 16), batch_size=8, seed=0).wanted(0)
    damage(folder, "train", wanted[4:6])  # only the second process reads these in the first step
    config = tiny_config(data__records=str(folder))
    first, second = both = two("train", "--config", recipe(config, tmp_path), "--workdir", tmp_path / "run")
    assert finish_all(both) == [1, 1], (first.errors, second.errors)
    sentences = [process.errors.strip().splitlines()[-1] for process in both]
    assert sentences[0] == sentences[1]
    assert "2 of 26 videos cannot be read" in sentences[0]


@pytest.mark.parametrize("flags", [("--coordinator", "localhost:1"), ("--processes", "2", "--process", "0")])
def test_the_flags_of_processes_go_together(flags, tmp_path, capsys):
    assert main(["eval", "--workdir", str(tmp_path), *flags]) == 2
    assert "--coordinator, --processes, --process go together; give --" in capsys.readouterr().err
