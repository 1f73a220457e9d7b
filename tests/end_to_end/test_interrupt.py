"""Ctrl-C and SIGTERM to the whole process group, as terminals and supervisors send them."""

import os
import re
import signal
import subprocess
import sys

import pytest

from tests.end_to_end.runs import recipe


@pytest.mark.parametrize(
    ("workers", "moment", "number"),
    [
        pytest.param(0, "train:", signal.SIGINT, id="threads"),
        pytest.param(2, "parameters", signal.SIGINT, id="starting", marks=pytest.mark.slow),
        pytest.param(2, "train:", signal.SIGINT, id="processes", marks=pytest.mark.slow),
    ],
)
def test_training(workers, moment, number, tiny_config, tmp_path):
    config = tiny_config(data__workers=workers, train__steps=10**6, train__eval_every=10**6)
    process = subprocess.Popen(
        [sys.executable, "-m", "vidrec", "train", "--config", recipe(config, tmp_path), "--workdir", tmp_path / "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if moment in line:
            break
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, seen + err
    assert re.match(r"Stopped at step \d+, saved", out)
    assert "Traceback" not in seen + err, err
    assert err.count("stopping: what was done is saved first") == 1
    assert "leaked" not in err  # said by the process that watches over shared memory
