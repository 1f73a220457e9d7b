"""Both sides of a benchmark beside PyTorch: a small network, and an interpreter that answers as PyTorch's would."""

import json
from pathlib import Path

from vidrec.train.recipe import load_recipe

SMALL = ("stage_sizes=(1,)", "widths=(4,)", "strides=(2,)", "stem=small", "stem_width=4", "num_frames=2")
RECIPE = "configs/tsn.py:ucf101"


def small(*overrides: str):
    """A recipe whose network PyTorch's side has by name, on pictures of 8 x 8."""
    flags = [f"--config.model.{field}" for field in SMALL]
    flags += ["--config.data.image_size=8", "--config.data.resize=8", "--config.train.batch_size=2"]
    flags += ["--config.mesh.data=1", *overrides]
    return load_recipe(RECIPE, flags)


def peer(folder: Path, parameters: int, seconds: float) -> str:
    """An interpreter that says what PyTorch's side would, and writes down what it was told."""
    found = {"seconds": [seconds] * 3, "parameters": parameters, "memory_bytes": None, "device": "cpu", "torch": "9.9"}
    path = folder / "python"
    path.write_text(f"#!/bin/sh\ncat >{folder}/told\nprintf '%s' '{json.dumps(found)}'\n")
    path.chmod(0o755)
    return str(path)
