"""The toy data set: short videos of simple actions whose classes differ only in the order of their frames.

Averaging a video's frames says nothing about which of its family's two classes it is, so a network without a sense
of time stays at chance between them. A training video shows one of the two orders of a drawn clip; of an evaluation
clip there are two videos, one in each order, with the same number in the folders of both classes.
"""

import csv
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidrec.data import toy_draw
from vidrec.data.pool import Progress, Tick, run_tasks, usable_cores
from vidrec.data.remote import RemotePath, place
from vidrec.data.toy_draw import FAMILIES, PLAIN, Scene
from vidrec.data.video import write_mp4
from vidrec.errors import UsageError, VidrecError, did_you_mean
from vidrec.files import atomic_write, write_json

LEVELS = {"demo": ("horiz", "scale", "order", "tempo"), "benchmark": tuple(FAMILIES)}
"""Level -> the families in it."""
SCENES = {"demo": PLAIN, "benchmark": Scene(clutter=4, distractors=1, shake=0.02)}
"""Level -> what is in the pictures beside the action."""

SPLITS = ("train", "test")
HOLD = 2
"""How many frames of the video show one drawn frame."""
FPS = 10.0

_CLIPS_PER_TASK = 8
_PLAN, _DONE, _LIST = ".toy-plan.json", "toy.json", "annotations.csv"


@dataclass(frozen=True)
class _Task:
    """Some clips of one family and split: numbers `first` to `last - 1`."""

    out: Path
    level: str
    family: str
    split: str
    seed: int
    size: int
    first: int
    last: int


def toy_pairs(level: str = "demo") -> list[tuple[str, str]]:
    """Returns the two class names of each family of a level; an unknown level is a `UsageError`."""
    if level not in LEVELS:
        raise UsageError(f"there is no level '{level}'{did_you_mean(level, LEVELS)}")
    return [FAMILIES[family].classes for family in LEVELS[level]]


def make_toy(
    out: str | os.PathLike[str],
    *,
    level: str = "demo",
    seed: int = 0,
    train_per_family: int = 512,
    eval_per_family: int = 64,
    size: int = 64,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Draws the videos of a level as `<split>/<class>/<number>.mp4` and lists them in annotations.csv.

    Interrupted and called again, it goes on where it was; a finished folder is left as it is. The same arguments give
    the same files.

    Args:
      out: folder to write.
      level: one of LEVELS.
      seed: of everything drawn.
      train_per_family: training videos of each family, half of them in each order.
      eval_per_family: evaluation clips of each family, each written in both orders.
      size: height and width in pixels, even.
      workers: processes; one per core by default.
      progress: called with (videos done, videos in all).

    Returns:
      `{"videos", "classes", "annotations", "made"}`: number of videos and of classes, path of the list, and whether
      there was anything left to do.

    Raises:
      UsageError: unknown level, impossible size, negative seed or remote address. VidrecError: the folder holds
        another toy set, or cannot be written.
    """
    found = place(out)
    if isinstance(found, RemotePath):
        raise UsageError(f"--out {found}: toy writes to local folders; copy the finished folder there")
    out = found
    pairs = toy_pairs(level)
    if size < 16 or size % 2 or train_per_family < 2 or eval_per_family < 1:
        raise UsageError("a toy set needs an even size of at least 16, 2 training and 1 evaluation clip per family")
    if seed < 0:
        raise UsageError(f"--seed {seed}: should be 0 or more")
    settings = {
        "level": level,
        "seed": seed,
        "size": size,
        "train_per_family": train_per_family,
        "eval_per_family": eval_per_family,
    }
    counts = {"train": train_per_family, "test": eval_per_family}
    videos = len(pairs) * (train_per_family + 2 * eval_per_family)
    try:
        made = not _is_finished(out, settings)
        if made:
            tasks = [
                _Task(out, level, family, split, seed, size, first, min(first + _CLIPS_PER_TASK, counts[split]))
                for split in SPLITS
                for family in LEVELS[level]
                for first in range(0, counts[split], _CLIPS_PER_TASK)
            ]
            workers = usable_cores() if workers is None else workers
            run_tasks(_write_clips, tasks, workers=workers, total=videos, progress=progress)
            _finish(out, settings, counts)
    except OSError as error:
        raise VidrecError(
            f"cannot write {error.filename or out}: {error.strerror}; free or choose another folder"
        ) from None
    return {"videos": videos, "classes": 2 * len(pairs), "annotations": str(out / _LIST), "made": made}


def _is_finished(out: Path, settings: dict[str, Any]) -> bool:
    """Makes the folder with its plan; raises when another plan is in it."""
    for file in (_DONE, _PLAN):
        if (out / file).is_file():
            found = json.loads((out / file).read_text())
            other = [f"{name} {found.get(name)}" for name, value in settings.items() if found.get(name) != value]
            if other:
                raise VidrecError(
                    f"{out} holds another toy set ({', '.join(other)}); choose another folder or delete it"
                )
            if file == _DONE:
                return True
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / _PLAN, settings)
    return False


def _write_clips(task: _Task, tick: Tick) -> None:
    family = FAMILIES[task.family]
    place = list(FAMILIES).index(task.family)
    rng = np.random.default_rng([task.seed, place, SPLITS.index(task.split), task.first])
    clips = task.last - task.first
    pixels = toy_draw.draw(family, clips, task.size, rng, SCENES[task.level])
    orders = family.orders(clips, rng)
    for clip in range(clips):
        for which in _orders_shown(task.split, task.first + clip):
            path = task.out / _relative_path(task.split, family.classes[which], task.first + clip)
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_mp4(path, pixels[clip][orders[clip, which]].repeat(HOLD, 0), FPS)
            tick()


def _orders_shown(split: str, number: int) -> tuple[int, ...]:
    return (number % 2,) if split == "train" else (0, 1)


def _relative_path(split: str, class_name: str, number: int) -> str:
    return f"{split}/{class_name.replace(' ', '_')}/{number:04d}.mp4"


def _finish(out: Path, settings: dict[str, Any], counts: dict[str, int]) -> None:
    """Writes the list and, last of all, toy.json."""
    rows = [
        (_relative_path(split, FAMILIES[family].classes[which], number), FAMILIES[family].classes[which], split)
        for split in SPLITS
        for family in LEVELS[settings["level"]]
        for number in range(counts[split])
        for which in _orders_shown(split, number)
    ]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("path", "label", "split"), *rows])
    with atomic_write(out / _LIST) as file:
        file.write(text.getvalue().encode())
    families = {family: list(FAMILIES[family].classes) for family in LEVELS[settings["level"]]}
    write_json(out / _DONE, settings | {"families": families, "frames": toy_draw.FRAMES * HOLD, "fps": FPS})
    (out / _PLAN).unlink()
