"""UCF101: classInd.txt, trainlist01.txt to trainlist03.txt, testlist01.txt to testlist03.txt."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from vidrec.data.datasets.entries import Annotations, Entry, lines_of, without_suffix
from vidrec.errors import UsageError, VidrecError, did_you_mean
from vidrec.labels import ClassList

log = logging.getLogger(__name__)

_OFFICIAL = {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}


def read_ucf101(annotations: Path, *, split_number: int = 1) -> Annotations:
    """Reads UCF101's folder of lists: classInd.txt, trainlist0N.txt and testlist0N.txt.

    Labels there start at 1 and test lines have none. One class is written HandstandPushups in places and
    HandStandPushups in others, so class names are compared without regard to case.

    Args:
      annotations: the folder.
      split_number: N, 1 to 3.
    """
    if split_number not in _OFFICIAL:
        raise UsageError(f"--split-number {split_number}: UCF101 has the splits 1, 2 and 3")
    classes = _read_classes(annotations / "classInd.txt")
    labels = {name.casefold(): label for label, name in enumerate(classes)}
    entries = []
    for split in ("train", "test"):
        file = annotations / f"{split}list{split_number:02d}.txt"
        for line, (path, *given) in _words(file):
            path = path.replace("\\", "/")  # as in lists that were made anew on Windows
            class_name = path.split("/")[0]
            label = labels.get(class_name.casefold())
            if label is None:
                hint = did_you_mean(class_name, classes)
                raise VidrecError(f"{file}, line {line}: class '{class_name}' is not in classInd.txt{hint}")
            if given and given != [str(label + 1)]:
                wrong = " ".join(given)
                raise VidrecError(
                    f"{file}, line {line}: label {wrong}, but classInd.txt says {label + 1} for {class_name}"
                )
            entries.append(Entry(path, label, split, without_suffix(path)))
    _warn_of_shared_groups(entries)
    return Annotations(classes, entries, dict(zip(("train", "test"), _OFFICIAL[split_number], strict=True)))


def _read_classes(file: Path) -> ClassList:
    names = []
    for line, words in _words(file):
        if len(words) != 2 or words[0] != str(len(names) + 1):
            raise VidrecError(f"{file}, line {line}: expected '{len(names) + 1} ClassName', found '{' '.join(words)}'")
        names.append(words[1])
    return ClassList(names)


def _words(file: Path) -> Iterator[tuple[int, list[str]]]:
    return ((number, line.split()) for number, line in lines_of(file, "the folder of UCF101's lists"))


def _warn_of_shared_groups(entries: list[Entry]) -> None:
    """Videos of one group are cut from one recording; the published lists keep each group in one split."""
    groups: dict[str, set[tuple[int, str]]] = {"train": set(), "test": set()}
    for entry in entries:
        if match := re.search(r"_(g\d+)_c\d+$", entry.video_id):
            groups[entry.split].add((entry.label, match[1]))
    shared = groups["train"] & groups["test"]
    if shared:
        log.warning("%d groups of videos are in both train and test, so the test is not a fair one", len(shared))
