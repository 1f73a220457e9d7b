"""The six published layouts in miniature, from files to evaluated networks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.data_sets import main

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_layout_goes_all_the_way(tmp_path):
    command = [sys.executable, "-m", "experiments.data_sets", "--out", str(tmp_path / "out"), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["layout"]: row for row in json.loads(done.stdout)}
    assert len(rows) == 6
    for name, row in rows.items():
        labelled_only = name in ("UCF101", "HMDB51")
        assert row["videos"] == 4 * (6 + 3 + (0 if labelled_only else 2)) - 2
        assert row["frames"] == 16 * row["videos"]
        assert [why.partition(":")[0] for why in row["skipped"]] == ["missing", "damaged"]
        assert 0 <= row["top1"] <= 1
    assert rows["Jester"]["mirror_pairs"] == [
        ["Swiping Left", "Swiping Right"],
        ["Turning Hand Clockwise", "Turning Hand Counterclockwise"],
    ]
    assert rows["Kinetics-400"]["mirror_pairs"] == []
    assert rows["Something-Something V1"]["one_sided"] == ["Turning the camera left while filming something"]


def test_a_folder_with_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path)])
    assert "holds something else; choose another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
