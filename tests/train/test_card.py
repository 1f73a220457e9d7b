"""A run's card: the state of the code it ran, an entry for each start."""

import subprocess

import pytest

from vidrec.errors import UsageError
from vidrec.train import card


def test_starts_are_added_to_the_card(tmp_path):
    assert card.last(tmp_path) is None
    card.add(tmp_path, {"step": 0})
    card.add(tmp_path, {"step": 7})
    assert [start["step"] for start in card.read(tmp_path)] == [0, 7]
    assert card.last(tmp_path) == {"step": 7}


def test_what_is_no_card_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"it has no card\.json"):
        card.read(tmp_path)
    (tmp_path / "card.json").write_text("[]")
    with pytest.raises(UsageError, match="is not a card of a run"):
        card.read(tmp_path)


def test_the_code_is_a_commit_and_what_differs_from_it(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert card.git_state(tmp_path) is None

    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init")
    (tmp_path / "own.py").write_text("a = 1\n")
    git("add", "own.py")
    git("commit", "-m", "first")
    clean = card.git_state(tmp_path)
    assert clean == {"commit": git("rev-parse", "HEAD").strip(), "changes": ""}
    found = []
    for content in ("a = 2\n", "a = 3\n", "a = 1\n"):
        (tmp_path / "own.py").write_text(content)
        found.append(card.git_state(tmp_path)["changes"])
    assert len({*found}) == 3
    assert found[2] == ""
