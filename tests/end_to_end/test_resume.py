"""Killed at any moment and started again, a run ends as if nothing had happened."""

import json
import shutil
import signal

import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from tests.end_to_end.runs import assert_same_run, damage, finish, rows, signalled, start, straight
from vidrec.config import fingerprint, from_dict
from vidrec.data.clips import ClipSpec
from vidrec.data.pipeline import train_plan
from vidrec.data.records import open_records
from vidrec.errors import BusyError, UsageError, VidrecError
from vidrec.files import alone
from vidrec.train.checkpoint import Checkpoints


@pytest.fixture(scope="module")
def whole(tiny_config, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "whole"
    straight(tiny_config(), run)
    return run


@pytest.mark.slow
def test_killed_and_started_again(whole, tiny_config, tmp_path):
    broken = tmp_path / "broken"
    for step in (1, 5, 7):  # before the first checkpoint, between two, after the last but one
        assert finish(start(tiny_config(), broken, at=step, do=signalled(signal.SIGKILL))) == -signal.SIGKILL
    assert straight(tiny_config(), broken).finished
    assert_same_run(whole, broken)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_asked_to_stop_it_saves_and_goes_on_later(number, whole, tiny_config, tmp_path):
    stopped = tmp_path / "stopped"
    process = start(tiny_config(), stopped, at=5, do=signalled(number))
    assert finish(process) == 0
    assert "Traceback" not in process.errors
    with Checkpoints(stopped / "checkpoints") as checkpoints:
        assert checkpoints.latest() == 6  # the step that was under way is finished and saved
    assert straight(tiny_config(), stopped).finished
    assert_same_run(whole, stopped)


@pytest.mark.slow
def test_stopped_where_an_evaluation_is_due(whole, tiny_config, tmp_path):
    stopped = tmp_path / "stopped"
    assert finish(start(tiny_config(), stopped, at=3, do=signalled(signal.SIGTERM))) == 0
    assert straight(tiny_config(), stopped).finished
    assert_same_run(whole, stopped)


def test_a_folder_is_of_one_training_at_a_time(whole, tiny_config):
    before = rows(whole)
    with alone(whole, wait=False), pytest.raises(BusyError, match=r"another training is at work in .*whole:"):
        straight(tiny_config(train__steps=12), whole)
    assert rows(whole) == before


def test_a_finished_run_does_nothing(whole, tiny_config):
    before = rows(whole)
    outcome = straight(tiny_config(), whole)
    assert (outcome.step, outcome.finished) == (8, True)
    assert outcome.metrics["videos"] == 12
    assert rows(whole) == before


@pytest.mark.slow
def test_a_longer_run_goes_on(whole, tiny_config, tmp_path):
    longer = shutil.copytree(whole, tmp_path / "longer")
    straight(tiny_config(train__steps=12), longer)
    straight(tiny_config(train__steps=12), tmp_path / "long")
    assert_same_run(longer, tmp_path / "long")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2])
def test_loader_processes_change_nothing(workers, whole, tiny_config, tmp_path):
    straight(tiny_config(data__workers=workers), tmp_path / "workers")
    assert_same_run(whole, tmp_path / "workers")


@pytest.mark.slow
def test_a_killed_loader_process_ends_the_run_with_one_sentence(tiny_config, tmp_path):
    settings = {"train__steps": 30, "train__eval_every": 100}  # more than is read ahead
    straight(tiny_config(**settings), tmp_path / "whole")
    config = tiny_config(data__workers=2, **settings)
    kill = "import multiprocessing as m, os; os.kill(m.active_children()[0].pid, 9)"
    process = start(config, tmp_path / "run", at=2, do=kill)
    assert finish(process) == 1
    said = [line for line in process.errors.splitlines() if line.startswith("vidrec:")]
    assert len(said) == 1
    assert "of 2 was killed by SIGKILL: memory may have run out" in said[0]
    assert "Traceback" not in process.errors
    assert straight(tiny_config(**settings), tmp_path / "run").finished
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_a_balanced_run_goes_on_with_smaller_batches(tiny_config, tmp_path):
    """Two steps of eight clips, then four of four: the clips are those of four steps of eight."""
    settings = {"data__balance": "class", "train__class_weights": (), "train__eval_every": 100}
    config = tiny_config(train__steps=2, **settings)
    straight(config, tmp_path / "run")
    source = open_records(config.data.records, "train")
    spec = ClipSpec(4, 16, resize=(16,), crop="random")
    whole = train_plan(source, spec, batch_size=8, seed=0, balance="class")
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        position = checkpoints.describe(2)[0]
    assert (position["clip"], position["global_batch"]) == (16, 8)
    smaller = train_plan(source, spec, batch_size=4, seed=0, balance="class", first_step=2, first_clip=position["clip"])
    clips = [np.concatenate([smaller.batches[2 * i].clips, smaller.batches[2 * i + 1].clips]) for i in range(2)]
    for found, expected in zip(clips, (whole.batches[2], whole.batches[3]), strict=True):
        np.testing.assert_array_equal(found, expected.clips)
    assert straight(tiny_config(train__steps=6, train__batch_size=4, **settings), tmp_path / "run").step == 6
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.describe(6)[0]["clip"] == 32


def test_another_configuration_is_refused(whole, tiny_config):
    with pytest.raises(UsageError, match=r"optim\.lr: 0\.05 -> 0\.1"):
        straight(tiny_config(optim__lr=0.1), whole)


def test_a_run_is_not_asked_to_end_before_where_it_is(whole, tiny_config):
    before = (whole / "config.json").read_bytes()
    with pytest.raises(UsageError, match=r"is at step 8 already, and the training is to end at 4: .*train\.steps=8"):
        straight(tiny_config(train__steps=4), whole)
    assert (whole / "config.json").read_bytes() == before


def test_what_changes_is_told(whole, tiny_config, tmp_path, caplog):
    caplog.set_level("INFO")
    shutil.copytree(whole, tmp_path / "run")
    assert straight(tiny_config(train__steps=9, eval__batch_size=4), tmp_path / "run").step == 9
    assert "The run goes on with changes: eval.batch_size: 8 -> 4; train.steps: 8 -> 9" in caplog.messages


def test_what_one_configuration_does_not_name_is_the_default(whole, tiny_config):
    config = ConfigDict(tiny_config().to_dict())
    del config.model["bottleneck"]
    assert straight(FrozenConfigDict(config), whole).finished


def test_a_loss_that_is_not_finite_stops_the_run(tiny_config, tmp_path):
    with pytest.raises(VidrecError) as error:
        straight(tiny_config(optim__lr=1e30, optim__clip_norm=0.0), tmp_path / "run")
    text = str(error.value)
    assert "the loss of step" in text
    assert "step 0 in" in text  # a checkpoint from before it
    assert "clip0" in text or "clip1" in text  # ids of its videos
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.latest() is not None


@pytest.mark.slow
def test_a_full_disk_is_told_and_costs_no_checkpoint(whole, tiny_config, tmp_path):
    full = tmp_path / "full"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, -1))"  # as if the disk were full
    process = start(tiny_config(), full, at=5, do=limit)
    assert finish(process) == 1
    said = [line for line in process.errors.splitlines() if line.startswith("vidrec:")]
    assert len(said) == 1
    assert "cannot write a checkpoint in" in said[0]
    assert "Traceback" not in process.errors
    with Checkpoints(full / "checkpoints") as checkpoints:
        assert checkpoints.latest() in (3, 4)  # 4 may be under way when the disk is full
    assert straight(tiny_config(), full).finished
    assert_same_run(whole, full)


@pytest.mark.slow
def test_unreadable_videos_are_counted_across_restarts(tiny_config, records, tmp_path):
    folder = shutil.copytree(records, tmp_path / "records")
    epoch = train_plan(open_records(folder, "train"), ClipSpec(4, 16), batch_size=8, seed=0)
    damage(folder, "train", epoch.wanted(0)[:1])
    settings = {"data__records": str(folder), "train__eval_every": 100}
    assert straight(tiny_config(train__steps=3, **settings), tmp_path / "run").finished  # one always may
    damage(folder, "train", epoch.wanted(3)[:1])
    with pytest.raises(VidrecError, match="2 of 26 videos cannot be read"):
        straight(tiny_config(train__steps=4, **settings), tmp_path / "run")


def test_the_log_names_the_configuration(whole, tiny_config, caplog):
    caplog.set_level("INFO")
    straight(tiny_config(), whole)
    assert f"configuration {fingerprint(from_dict(json.loads((whole / 'config.json').read_text())))}" in caplog.text
