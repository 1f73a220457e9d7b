"""The proof of exact resumption: it passes on sound records, small ones too, and fails where the stream differs."""

import json
from pathlib import Path

import pytest

from vidrec.cli import main
from vidrec.data import verify_resume as module
from vidrec.data.pipeline import StepIterator
from vidrec.data.verify_resume import verify_resume

WAYS = [
    "stopped after 3 batches and gone on from the saved state",
    "by 1 loader process instead of none, likewise",
    "by 2 hosts, their parts side by side",
    "gone on after 3 batches with batches of 4",
]


@pytest.fixture
def without_processes(monkeypatch):
    """A loader process takes seconds to start."""
    loader = module.Loader
    monkeypatch.setattr(module, "Loader", lambda workers=0: loader(0))


@pytest.mark.usefixtures("without_processes")
def test_what_is_compared_is_told(tiny_folder: Path):
    report = verify_resume(tiny_folder)
    assert (report.problems, report.same) == ([], WAYS)
    assert "6 training batches of 8, 48 clips\nthe same bit for bit: stopped after 3 batches" in report.text()
    assert json.loads(json.dumps(report.as_dict()))["ok"] is True


@pytest.mark.usefixtures("without_processes")
@pytest.mark.parametrize(("split", "size", "ways"), [("test[:3]", 2, 4), ("test[:1]", 1, 2)])
def test_small_folders(tiny_folder: Path, split: str, size: int, ways: int):
    report = verify_resume(tiny_folder, split)
    assert (report.problems, report.batch_size, len(report.same)) == ([], size, ways)


@pytest.mark.usefixtures("without_processes")
def test_a_stream_that_goes_on_elsewhere_is_a_problem(tiny_folder: Path, monkeypatch):
    monkeypatch.setattr(StepIterator, "get_state", lambda self: {"version": 1, "step": self._step + 1})
    report = verify_resume(tiny_folder, batches=4)
    assert [problem.partition(":")[0] for problem in report.problems] == [WAYS[0].replace("3", "2"), WAYS[1]]
    assert "batch 2 is another one, 2 of 4 differ" in report.problems[0]


@pytest.mark.usefixtures("without_processes")
def test_the_command(tiny_folder: Path, capsys):
    assert main(["verify", str(tiny_folder), "--resume", "test", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"] == [*WAYS[:3], WAYS[3].replace("of 4", "of 2")]
    assert main(["verify", str(tiny_folder), "--resume", "--deep"]) == 2
    assert "--resume is a check of its own" in capsys.readouterr().err


@pytest.mark.slow
def test_with_processes(records: Path):
    assert verify_resume(records).same == WAYS
