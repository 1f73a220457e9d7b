"""A network and a loss of the user's own, as README shows them; what is not one is told."""

import re
from pathlib import Path

import pytest

from vidrec.cli import main

README = Path(__file__).parents[2] / "README.md"
NET, TASK = "--config.model.name=mine:Net", "--config.task.name=mine:focal"


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Function of replacements in README's code, which writes it as a module that can be imported; returns its name."""

    def write(name="mine", *replacements):
        code = next(c for c in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "class Net" in c)
        for old, new in replacements:
            assert old in code
            code = code.replace(old, new)
        (tmp_path / f"{name}.py").write_text(code)
        return name

    monkeypatch.syspath_prepend(str(tmp_path))
    return write


def train(records, workdir, *options):
    """The exit code of README's command, for two steps."""
    short = ["--config.train.steps=2", "--config.train.batch_size=4", f"--config.data.records={records}"]
    return main(["train", "--config", "configs/demo.py:tsn", "--workdir", str(workdir), *short, *options])


def test_readme_s_network_and_loss_are_trained(mine, records, tmp_path):
    mine()
    assert train(records, tmp_path / "run", NET, TASK, "--config.model.width=4", "--config.task.gamma=3.0") == 0
    assert main(["eval", "--workdir", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize(
    ("module", "old", "new", "told"),
    [
        ("no_length", "def clip_length", "def length", "gives a Net without clip_length"),
        ("bare", "return ModelOutput(", "return (", "but must give a vidrec.types.ModelOutput"),
        ("no_task", "return Task(loss)", "return loss", "gives a function, but must give a vidrec.train.tasks.Task"),
    ],
)
def test_what_is_none_is_told(module, old, new, told, mine, records, tmp_path, capsys):
    name = mine(module, (old, new))
    options = [option.replace("mine", name) for option in (NET, TASK)]
    assert train(records, tmp_path / "run", *options) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--config.data.sampling=random", "data.sampling is 'random'"),
        ("--config.data.crop=centre", "data.crop is 'centre'"),
        ("--config.data.flip=always", "data.flip is 'always'"),
        ("--config.data.eval_split=val", "val"),
        ("--config.train.batch_size=5000", "train.batch_size is 5000, but there are 26 records"),
    ],
)
def test_nothing_is_written_before_all_fields_are_checked(option, told, records, tmp_path, capsys):
    assert train(records, tmp_path / "run", option) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
