"""`vidrec sweep`: what is trained, on which device, and what becomes of a training that fails."""

import contextlib
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vidrec.cli import main
from vidrec.errors import UsageError
from vidrec.files import alone
from vidrec.launch import sweep
from vidrec.train.checkpoint import Checkpoints

RECIPE = """
import json

from ml_collections import ConfigDict
from vidrec.config import from_dict

def sweep():
    return {{"length": ["steps=1", "steps=2"], "what it is without": ["steps=2,plain", "steps=3,lr=1e30"]}}

def get_config(arg):
    given = dict(part.partition("=")[::2] for part in arg.split(","))
    config = ConfigDict(from_dict(json.loads({config!r})).to_dict())
    config.train.steps = int(given.get("steps", 1))
    config.optim.update(lr=float(given.get("lr", config.optim.lr)), clip_norm=0.0)
    return config
"""


@pytest.fixture
def recipe(tiny_config, tmp_path):
    """A recipe with two tables, of which one row stands in both under two names, and one cannot learn."""
    path = tmp_path / "recipe.py"
    path.write_text(RECIPE.format(config=tiny_config().to_json()))
    return str(path)


def test_rows_that_are_the_same_training_are_trained_once(recipe):
    found = sweep.points(recipe, ("--config.optim.lr=0.5",), seeds=2)
    args = [point.config.partition(":")[2] for point in found]
    assert args == ["steps=1", "steps=1", "steps=2", "steps=2", "steps=3,lr=1e30", "steps=3,lr=1e30"]
    assert [point.also for point in found] == [(), (), ("steps=2,plain",), ("steps=2,plain",), (), ()]
    assert [point.table for point in found] == ["length"] * 4 + ["what it is without"] * 2
    assert {point.overrides for point in found} == {("--config.optim.lr=0.5", f"--config.seed={n}") for n in (0, 1)}
    assert len({point.name for point in found}) == 6


def test_two_trainings_in_one_folder_are_refused(recipe, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(Path(recipe).read_text().replace('"steps=2,plain"', '"steps=3,LR=1e30"'))
    with pytest.raises(UsageError, match=r"steps=3,LR=1e30 and .*lr=1e30 would be trained in one folder"):
        sweep.points(str(other))


def test_the_list_has_titles_and_what_stands_in_two_tables(recipe, capsys):
    assert main(["sweep", "--config", recipe, "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "length",
        f"  {recipe}:steps=1 --config.seed=0",
        f"  {recipe}:steps=2 --config.seed=0 (and steps=2,plain)",
        "",
        "what it is without",
        f"  {recipe}:steps=3,lr=1e30 --config.seed=0",
    ]


def test_tables_are_named_by_their_beginning(recipe):
    chosen = sweep.points(recipe, tables=["what"])
    assert [point.config.partition(":")[2] for point in chosen] == ["steps=2,plain", "steps=3,lr=1e30"]
    assert {point.also for point in chosen} == {()}


def test_a_training_has_one_folder_whichever_tables_are_chosen(recipe):
    everything = {point.fingerprint: point.name for point in sweep.points(recipe, seeds=2)}
    for table in ("length", "what"):
        for point in sweep.points(recipe, tables=[table], seeds=2):
            assert everything[point.fingerprint] == point.name


def test_a_slip_in_a_row_is_told_with_the_row(recipe, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(Path(recipe).read_text().replace('"steps=1"', '"steps=-1"'))
    with pytest.raises(UsageError, match=r"table 'length', row 'steps=-1': .*train.steps"):
        sweep.points(str(other))


def test_records_that_are_not_there_are_told_before_anything_starts(recipe, tmp_path, capsys):
    where = ["--config", recipe, "--workdir", str(tmp_path / "runs"), "--config.data.records=missing"]
    assert main(["sweep", *where]) == 1
    assert f"{recipe}:steps=1: record folder missing does not exist" in capsys.readouterr().err
    assert not any((tmp_path / "runs").iterdir())


def test_an_argument_behind_the_recipe_is_refused(recipe):
    with pytest.raises(UsageError, match="a sweep goes over all arguments"):
        sweep.points(f"{recipe}:steps=1")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--table", "lenght"], "no table 'lenght': it has 'length', 'what it is without'"),
        (["--seeds", "0"], "--seeds is 0"),
        (["--config.seed=7"], "what --seeds N counts"),
        (["--workdir", "gs://bucket/runs"], "must be a folder"),
        (["--launch", "queued"], "--launch and --topology go together"),
        (["--launch", "queued", "--topology", "v5e:4x4", "--list"], "choose one"),
        (["--launch", "queued", "--topology", "h200:8"], "launch queued starts runs on TPUs"),
        (["--launch", "jobset", "--topology", "v5e:4x4", "--workdir", "gs://bucket/runs"], "needs --image"),
        (["--launch", "slurm", "--topology", "h200:3"], "steps=1: .*batch_size is 8, which the 3 parts"),
        (["--spot"], "--spot say where --launch is"),
        (["--config.train.stps=3"], "did you mean 'steps'"),
    ],
)
def test_slips(recipe, arguments, named, capsys, tmp_path):
    assert main(["sweep", "--config", recipe, "--workdir", str(tmp_path / "runs"), *arguments]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(named, error)
    assert not (tmp_path / "runs").exists()


def test_launch_commands_name_machines_apart(capsys):
    where = ["--workdir", "gs://bucket/stm", "--launch", "queued", "--topology", "v5e:4x4", "--spot"]
    assert main(["sweep", "--config", "configs/stm.py", "--table", "modules", "--seeds", "2", *where, "--json"]) == 0
    commands = json.loads(capsys.readouterr().out)
    assert len(commands) == 8
    words = [command.split() for command in commands]
    assert all(line[-1] == "--spot" for line in words)
    for flag in ("--name", "--workdir"):
        assert len({line[line.index(flag) + 1] for line in words}) == 8
    for line in words:
        assert main([*line[1:]]) == 0  # each is one that works
    assert "--config configs/stm.py:ssv1,modules=cstm" in commands[2]


@pytest.mark.parametrize(
    ("said", "given", "environments"),
    [
        ("cpu 8", None, [{}]),
        ("gpu 2", None, [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]),
        ("gpu 2", "3, GPU-8932", [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "GPU-8932"}]),
        ("gpu 1", "2,-1,3", [{"CUDA_VISIBLE_DEVICES": "2"}]),  # those behind -1 are not seen
        ("tpu 2", None, [{"TPU_VISIBLE_CHIPS": str(chip), **sweep.ONE_DEVICE["tpu"][1]} for chip in range(2)]),
    ],
)
def test_each_process_sees_one_device(said, given, environments, monkeypatch):
    """Of those that this process may use."""
    if given:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    else:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    ended = sweep.subprocess.CompletedProcess([], 0, said, "")
    monkeypatch.setattr(sweep.subprocess, "run", lambda *a, **k: ended)  # there is one CPU here
    assert sweep.one_device_each() == environments


def test_a_folder_is_of_one_sweep_at_a_time(recipe, tmp_path, capsys):
    with alone(tmp_path, wait=False):
        assert main(["sweep", "--config", recipe, "--workdir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"vidrec: another sweep is at work in {tmp_path}: wait for its end or choose another --workdir\n"
    )


def test_what_an_earlier_start_said_is_no_reason(recipe, tmp_path, monkeypatch):
    """A process that is killed says nothing itself."""
    (one,) = sweep.points(recipe, tables=["what"])[:1]
    monkeypatch.setattr(sweep, "one_device_each", lambda: [{}])
    (tmp_path / f"{one.name}.log").write_text("vidrec: there are no records\n")
    monkeypatch.setattr(sweep.sys, "executable", "/bin/false")
    assert sweep.run_sweep([one], tmp_path, print)[one.name]["error"] == "no message"
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -KILL $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(sweep.sys, "executable", str(killed))
    assert sweep.run_sweep([one], tmp_path, print)[one.name]["error"].startswith("ended by SIGKILL")


def test_a_log_that_cannot_be_written_fails_its_training_alone(recipe, tmp_path, monkeypatch):
    first, second = sweep.points(recipe, tables=["length"])
    monkeypatch.setattr(sweep, "one_device_each", lambda: [{}])
    monkeypatch.setattr(sweep.sys, "executable", "/bin/false")
    (tmp_path / f"{first.name}.log").mkdir()
    outcomes = sweep.run_sweep([first, second], tmp_path, print)
    assert outcomes[first.name]["error"] == f"{tmp_path / first.name}.log: Is a directory"
    assert outcomes[second.name]["error"] == "no message"
    assert set(sweep.read_outcomes(tmp_path)) == {first.name, second.name}


def test_an_error_of_its_own_starts_nothing_more(recipe, tmp_path, monkeypatch):
    todo = sweep.points(recipe, seeds=3)
    monkeypatch.setattr(sweep, "one_device_each", lambda: [{}])
    monkeypatch.setattr(sweep.sys, "executable", "/bin/false")
    stopped, stop = threading.Event(), sweep.Children.stop
    monkeypatch.setattr(sweep.Children, "stop", lambda children: (stop(children), stopped.set()))

    def tell(line):
        if line.startswith(f"{todo[0].name}: failed"):
            raise OSError("no room left")
        if line.startswith(f"{todo[1].name}: starts"):
            assert stopped.wait(60)

    with pytest.raises(OSError, match="no room left"):
        sweep.run_sweep(todo, tmp_path, tell)
    assert {path.stem for path in tmp_path.glob("*.log")} == {point.name for point in todo[:2]}


def test_damaged_outcomes_are_told(recipe, tmp_path, capsys):
    (tmp_path / sweep.OUTCOMES).write_text('{"steps')
    for more in ([], ["--list"]):
        assert main(["sweep", "--config", recipe, "--workdir", str(tmp_path), *more]) == 1
        assert f"{tmp_path / sweep.OUTCOMES} is damaged" in capsys.readouterr().err


@pytest.mark.slow
def test_a_failure_stops_no_other_and_what_is_finished_is_left(recipe, tmp_path, capsys):
    workdir = tmp_path / "runs"
    command = ["sweep", "--config", recipe, "--workdir", str(workdir), "--table", "what"]
    assert main(command) == 1
    told = capsys.readouterr().err
    assert f"1 of 2 trainings failed: steps-3-lr-1e30-seed0; see {workdir / 'steps-3-lr-1e30-seed0.log'}" in told
    assert "2 of 2 trainings are to run" in told
    outcomes = json.loads((workdir / "sweep.json").read_text())
    assert outcomes["steps-2-seed0"]["step"] == 2
    assert "the loss of step" in outcomes["steps-3-lr-1e30-seed0"]["error"]
    before = (workdir / "steps-2-seed0.log").read_bytes()
    assert main(command) == 1
    assert (workdir / "steps-2-seed0.log").read_bytes() == before  # not started again
    capsys.readouterr()
    assert main([*command, "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one.get("step") for one in listed] == [2, None]
    assert main([*command, "--list"]) == 0
    title, finished, failed = capsys.readouterr().out.splitlines()
    assert title == "what it is without"
    assert finished.startswith(f"  {recipe}:steps=2,plain --config.seed=0: step 2, ")
    assert failed == f"  {recipe}:steps=3,lr=1e30 --config.seed=0"


@pytest.mark.slow
def test_asked_to_stop_it_ends_its_trainings(tiny_config, tmp_path):
    """It alone gets the signal, as from a supervisor; what it started saves and ends before it does."""
    recipe, workdir = tmp_path / "long.py", tmp_path / "runs"
    config = tiny_config(train__steps=10**6, train__eval_every=10**6)
    recipe.write_text(RECIPE.format(config=config.to_json()).replace("steps = int", "steps = 10**6 + int"))
    command = [sys.executable, "-m", "vidrec", "sweep", "--config", str(recipe), "--workdir", str(workdir)]
    process = subprocess.Popen(
        [*command, "--table", "length"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    log, metrics = workdir / "steps-1-seed0.log", workdir / "steps-1-seed0" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
    process.terminate()
    _, told = process.communicate()
    assert process.returncode == 130, log.read_text()
    assert "stopped: 0 of 2 trainings are finished" in told
    assert "interrupted; run the same command again" in told
    assert "failed" not in told
    with alone(workdir / "steps-1-seed0", wait=False) as mine:
        assert mine
    with Checkpoints(workdir / "steps-1-seed0" / "checkpoints") as checkpoints:
        assert checkpoints.latest()
    assert not (workdir / "steps-2-seed0").exists()
