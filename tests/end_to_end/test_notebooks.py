"""The notebooks run from top to bottom and show what their text says."""

import re
import runpy
import tempfile
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "experiments/notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))
CELL = re.compile(r"^# %%( \[markdown\])?$", re.MULTILINE)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Function of a name -> what the notebook leaves behind; its files go into the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda name: runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_alternate_between_text_and_code(path):
    """In the percent format: each file starts with a titled text cell; text cells hold comments alone."""
    before, *parts = CELL.split(path.read_text())
    assert not before.strip()
    cells = list(zip(parts[::2], parts[1::2], strict=True))
    assert cells[0][0]
    assert cells[0][1].startswith("\n# # ")
    for kind, content in cells:
        lines = [line for line in content.splitlines() if line]
        assert lines
        if kind:
            assert all(line.startswith("#") for line in lines)


@pytest.mark.slow
def test_attention_maps(run):
    left = run("attention_maps")
    assert left["maps"]["rollout"].values.shape == (1, 8, 4, 4)
    assert left["signs"].shape == (8, 8)
    assert left["picture"].width > 8 * 128
    assert left["single"].height < left["picture"].height  # without the heads side by side


@pytest.mark.slow
def test_correlation_and_motion(run):
    left = run("correlation_and_motion")
    assert left["best"] == (2, 0)
    np.testing.assert_allclose(left["found"], (2, 0), atol=0.1)
    np.testing.assert_allclose(left["on_square"], (1, 0), atol=0.3)
    assert left["change"]["layer1_0/difference"].values[0, :3].max() > 0


@pytest.mark.slow
def test_order_correction(run):
    left = run("order_correction")
    assert set(left["recovered"].values()) == {100.0}
    assert left["by_distance"]["raw"] < 70 < 90 < left["by_distance"]["sign"]


@pytest.mark.slow
def test_checkpoint_to_prediction(run):
    left = run("checkpoint_to_prediction")
    assert left["again"].top(1) == left["prediction"].top(1)
    assert left["overlay"].shape == (8, 128, 128, 3)


@pytest.mark.slow
def test_data_pipeline_tour(run):
    left = run("data_pipeline_tour")
    assert left["checked"].ok
    assert left["normalised"].shape == (1, 8, 32, 32, 3)
    assert abs(float(left["normalised"].mean())) < 3
