"""HMDB51: the folder testTrainMulti_7030_splits with `<class>_test_split<N>.txt` of 51 classes and three splits."""

import re
from collections.abc import Iterable
from pathlib import Path

from vidrec.data.datasets.entries import Annotations, Entry, lines_of, without_suffix
from vidrec.errors import UsageError, VidrecError
from vidrec.labels import ClassList

FOLDER = "testTrainMulti_7030_splits"

_SPLITS = {"1": "train", "2": "test"}  # 0: in neither
_OFFICIAL = {"train": 3570, "test": 1530}
_FILE = re.compile(r"([^.].*)_test_split([123])\.txt")  # not the hidden doubles that a Mac leaves


def read_hmdb51(annotations: Path, *, split_number: int = 1) -> Annotations:
    """Reads HMDB51's folder of lists, where each line is a file name and 1 (train), 2 (test) or 0 (neither).

    Classes are numbered in the order of their sorted names. File names hold brackets, signs and dots; lines end in
    blanks.

    Args:
      annotations: the folder testTrainMulti_7030_splits, or the one it lies in.
      split_number: 1 to 3.
    """
    if split_number not in (1, 2, 3):
        raise UsageError(f"--split-number {split_number}: HMDB51 has the splits 1, 2 and 3")
    folder = annotations / FOLDER if (annotations / FOLDER).is_dir() else annotations
    files = _class_files(folder, split_number)
    classes = ClassList(sorted(files))
    entries = []
    for label, name in enumerate(classes):
        for line, text in lines_of(files[name], f"the folder {FOLDER}"):
            video, _, split = (part.strip() for part in text.rpartition(" "))
            if not video or split not in ("0", "1", "2"):
                raise VidrecError(f"{files[name]}, line {line}: expected a file name and 0, 1 or 2, found {text!r}")
            if split in _SPLITS:
                path = f"{name}/{video}"
                entries.append(Entry(path, label, _SPLITS[split], without_suffix(path)))
    return Annotations(classes, entries, dict(_OFFICIAL))


def _class_files(folder: Path, split_number: int) -> dict[str, Path]:
    """Class -> its file of the split; every class must have one of it."""
    found: dict[str, dict[int, Path]] = {}
    for file in folder.iterdir() if folder.is_dir() else ():
        if match := _FILE.fullmatch(file.name):
            found.setdefault(match[1], {})[int(match[2])] = file
    if not found:
        raise VidrecError(f"{folder} holds no <class>_test_split{split_number}.txt; --annotations should be {FOLDER}")
    for name, files in sorted(found.items()):
        if split_number not in files:
            raise VidrecError(f"{folder} has no {name}_test_split{split_number}.txt; unpack the lists again")
    return {name: files[split_number] for name, files in found.items()}


def archived_classes(classes: Iterable[str]) -> tuple[str, ...]:
    """Names, without suffix, of the archives that the videos come in: one of all, and in it one of each class."""
    return ("hmdb51_org", *classes)
