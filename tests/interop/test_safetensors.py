"""Weights as .safetensors: other readers take them, and they become the same checkpoint again."""

import json

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import vidrec
from tests.eval.recognizers import fresh, save
from vidrec.cli import main
from vidrec.errors import UsageError, VidrecError
from vidrec.files import write_json
from vidrec.interop import safetensors as writing
from vidrec.interop.export import export, load_artifact
from vidrec.interop.model_card import evaluations, write_model_card
from vidrec.interop.torch import to_torch
from vidrec.train import card as run_card


@pytest.fixture(scope="module")
def recognizer(tiny_config):
    return fresh(tiny_config(), ("nach rechts", "左"))


def test_the_library_that_made_the_format_reads_it(recognizer, tmp_path):
    path, card, _ = export(recognizer, tmp_path / "w.safetensors", "safetensors")
    expected = to_torch(recognizer.model, recognizer.variables)
    assert "checked" not in card  # beyond reading it back, without which there is no file
    found = safetensors.numpy.load_file(path)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], array) for name, array in expected.items())
    with safetensors.safe_open(path, "numpy") as file:
        assert json.loads(file.metadata()["classes"]) == ["nach rechts", "左"]


def test_there_and_back_by_the_command_line(recognizer, tmp_path, capsys):
    save(recognizer, tmp_path / "run")
    file = str(tmp_path / "w.safetensors")
    assert main(["export", "--workdir", str(tmp_path / "run"), "--format", "safetensors", "--out", file]) == 0
    assert main(["import", "--weights", file, "--out", str(tmp_path / "again"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["missing"] == []
    again = vidrec.load(tmp_path / "again")
    assert again.classes == recognizer.classes
    assert again.model == recognizer.model
    jax.tree.map(np.testing.assert_array_equal, again.variables, recognizer.variables)
    with pytest.raises(UsageError, match="weights alone"):
        load_artifact(file)


def test_other_files_name_their_network(tmp_path, capsys):
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    for arguments in ((), ("--num-frames", "4")):
        command = ["import", "--weights", str(tmp_path / "w.npz"), "--out", str(tmp_path / "o"), *arguments]
        assert main(command) == 2
        assert "give either --model" in capsys.readouterr().err
    assert main(["import", "--weights", str(tmp_path / "no.npz"), "--out", str(tmp_path / "o")]) == 2
    assert f"there is no weights file {tmp_path / 'no.npz'}" in capsys.readouterr().err


def test_weights_that_would_not_come_back_are_not_written(recognizer, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "to_torch", lambda *given: {k: v + 1 for k, v in to_torch(*given).items()})
    with pytest.raises(VidrecError, match=r"does not give \S+ back"):
        export(recognizer, tmp_path / "w.safetensors", "safetensors")
    with pytest.raises(UsageError, match="leave --frame-size out"):
        export(recognizer, tmp_path / "w.safetensors", "safetensors", frame_size=(24, 32))
    assert list(tmp_path.iterdir()) == []


def test_the_model_card_tells_what_the_run_knows(recognizer, tmp_path):
    exported = export(recognizer, tmp_path / "w.safetensors", "safetensors")
    text = write_model_card(exported, run_card.last(tmp_path), evaluations(tmp_path)).read_text()
    assert text.startswith("# stm_resnet18, step 3\n")
    assert "its weights were imported" in text
    assert "not evaluated" in text
    assert "2, in the order of the scores: nach rechts, 左." in text
    start = {
        "data": {"train": {"split": "train", "videos": 26, "digest": "abc"}},
        "config": recognizer.config.to_dict(),
        "fingerprint": "f00",
        "versions": {"vidrec": "1.2", "jax": "0.12", "optax": None},
        "git": None,
    }
    run_card.add(tmp_path, start)
    write_json(tmp_path / "eval.json", {})
    (tmp_path / "metrics.jsonl").write_text('{"kind": "eval", "top1": 0.75, "videos": 12}\n')
    text = write_model_card(exported, run_card.last(tmp_path), evaluations(tmp_path)).read_text()
    for told in ("26 of split train", "8 steps of 8 clips", "jax 0.12", "top1 0.7500 on 12 videos, one view each."):
        assert told in text
    (tmp_path / "eval").mkdir()
    result = {"top1": 0.5, "videos": 12, "split": "test", "step": 7, "clips": 10, "crops": 3}
    write_json(tmp_path / "eval" / "results.json", result)
    told = "top1 0.5000 on 12 videos of split test, at step 7, 10 x 3 views each."  # not that of the file, step 3
    assert told in write_model_card(exported, run_card.last(tmp_path), evaluations(tmp_path)).read_text()
    (tmp_path / "eval" / "stm30").mkdir()
    write_json(tmp_path / "eval" / "stm30" / "results.json", {**result, "digest": "f0", "protocol": "stm30"})
    text = write_model_card(exported, run_card.last(tmp_path), evaluations(tmp_path)).read_text()
    assert told in text
    assert "of split test (digest f0), at step 7, 10 x 3 views each, protocol stm30." in text
