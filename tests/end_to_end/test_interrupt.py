"""Ctrl-C, as a terminal sends it: to the whole process group, loader processes included."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vidrec import config as configuration


def shared_memory():
    folder = Path("/dev/shm")
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


@pytest.mark.parametrize("moment", ["parameters", "train:"], ids=["starting", "running"])
@pytest.mark.parametrize("workers", [0, 2])
def test_training(workers, moment, tiny_config, tmp_path):
    config = configuration.to_dict(tiny_config(data__workers=workers, train__steps=10**6, train__eval_every=10**6))
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "import json\nfrom ml_collections import ConfigDict\nfrom vidrec.config import from_dict\n"
        f"def get_config(arg=None):\n    return ConfigDict(from_dict(json.loads({json.dumps(config)!r})))\n"
    )
    before = shared_memory()
    process = subprocess.Popen(
        [sys.executable, "-m", "vidrec", "train", "--config", str(recipe), "--workdir", str(tmp_path / "run")],
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
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, seen + err
    assert re.match(r"Stopped at step \d+, saved", out)
    assert "Traceback" not in seen + err, err
    assert "leaked" not in err
    assert shared_memory() <= before
