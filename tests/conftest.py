"""Shared by all tests: a small record set of real videos, and a configuration that trains on it in seconds."""

import os
import signal

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import csv
from pathlib import Path

import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from vidrec.config import base
from vidrec.data.convert import convert
from vidrec.data.video import write_mp4
from vidrec.models.registry import model_fields

# A runner in the background may have Ctrl-C switched off, which every process started here would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def draw(path: Path, seed: int, rightwards: bool) -> None:
    """A bright square that crosses 12 noisy frames of 24 x 32 pixels."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 60, (12, 24, 32, 3), dtype=np.uint8)
    top = rng.integers(4, 14)
    for t, frame in enumerate(frames if rightwards else frames[::-1]):
        frame[top : top + 6, 2 * t : 2 * t + 6] = rng.integers(150, 255, 3)
    write_mp4(path, frames, fps=12)


@pytest.fixture(scope="session")
def video_list(tmp_path_factory) -> Path:
    """Folder of 38 videos with annotations.csv: 26 to train on, 12 to test."""
    root = tmp_path_factory.mktemp("videos")
    with open(root / "annotations.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for number in range(38):
            name, label = f"clip{number:02d}.mp4", ("right", "left")[number % 2]
            draw(root / name, number, label == "right")
            rows.writerow([name, label, "train" if number < 26 else "test"])
    return root


@pytest.fixture(scope="session")
def records(video_list, tmp_path_factory) -> Path:
    """The same videos as records, in three training shards."""
    out = tmp_path_factory.mktemp("records") / "squares"
    convert(
        "list", video_list, video_list / "annotations.csv", out,
        workers=1, short_side=0, quality=95, codec="jpeg", videos_per_shard=10, seed=0,
    )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def tiny_config(records):
    """Function of overrides ("section.field", value) -> configuration of a run of 8 steps that lasts a second."""

    def make(model: str = "stm_resnet18", **overrides) -> FrozenConfigDict:
        c = base()
        c.model.name = model
        c.model.update(
            num_frames=4, stem="small", stem_width=8, widths=(8, 8), stage_sizes=(1, 1), strides=(1, 2), dropout=0.2
        )
        if model.startswith("stm"):
            c.model.reduction = 4
        c.data.update(records=str(records), eval_split="test", image_size=16, resize=(16,), crop="random")
        c.optim.update(lr=0.05, boundaries=(1.0,))
        c.train.update(batch_size=8, steps=8, eval_every=4, log_every=2, checkpoint_every=3)
        c.eval.batch_size = 8
        for name, value in overrides.items():
            section, _, field = name.partition("__")
            c[section][field] = value
        for field, value in model_fields(model).items():  # as the command line does
            if field not in c.model:
                c.model[field] = value
        return FrozenConfigDict(c)

    return make


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Each network is compiled once for all tests of a session, in this process and in those it starts."""
    import jax

    folder = str(tmp_path_factory.mktemp("compiled"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
