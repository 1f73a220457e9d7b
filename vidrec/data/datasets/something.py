"""Something-Something V1 and V2, and Jester: lists of numbered clips, by the same authors."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidrec.data.datasets.entries import (
    UNLABELLED,
    Annotations,
    Entry,
    first_file,
    label_of,
    lines_of,
    order_classes,
    read_text,
)
from vidrec.errors import VidrecError
from vidrec.labels import ClassList

_SPLITS = {"train": "train", "validation": "val", "test": "test"}
"""As in the names of the files -> as in the records."""


def read_ssv1(annotations: Path, *, label_order: str = "sorted", classes: str | None = None) -> Annotations:
    """Reads something-something-v1-{labels,train,validation,test}.csv; clips are folders of pictures.

    Args:
      annotations: the folder of these files.
      label_order: "sorted", as in the lists of the TSM code and so of most published weights, or "file", as in the
        labels file and in MMAction2.
      classes: a file with one class name per line, in label order.
    """
    official = {"train": 86017, "val": 11522, "test": 10960}
    return _read_csv(annotations, "something-something-v1", label_order, classes, official)


def read_jester(annotations: Path, *, label_order: str = "sorted", classes: str | None = None) -> Annotations:
    """Reads jester-v1-{labels,train,validation,test}.csv; clips are folders of pictures.

    Args:
      annotations: the folder of these files.
      label_order: "sorted", as in the lists of the TSM code, or "file", as in the labels file and in MMAction2.
      classes: a file with one class name per line, in label order.
    """
    official = {"train": 118562, "val": 14787, "test": 14743}
    return _read_csv(annotations, "jester-v1", label_order, classes, official)


def _read_csv(
    folder: Path, prefix: str, label_order: str, classes_file: str | None, official: dict[str, int]
) -> Annotations:
    hint = f"the folder of {prefix}-labels.csv, {prefix}-train.csv and the others"
    listed = folder / f"{prefix}-labels.csv"
    classes = order_classes((line for _, line in lines_of(listed, hint)), label_order, classes_file)
    labels = {name: label for label, name in enumerate(classes)}
    entries = []
    for part, split in _SPLITS.items():
        file = folder / f"{prefix}-{part}.csv"
        for number, line in _lines(file, hint, part):
            # Labels hold commas, but no semicolon: the first one is what separates.
            clip, _, label_text = (text.strip() for text in line.partition(";"))
            where = f"{file}, line {number}"
            if not clip or "," in clip or not (label_text or part == "test"):
                raise VidrecError(f"{where}: expected 'id;label', found {line!r}")
            label = label_of(label_text, labels, where, listed.name) if label_text else UNLABELLED
            entries.append(Entry(clip, label, split, clip))
    return Annotations(classes, entries, official)


def _lines(file: Path, hint: str, part: str) -> Iterator[tuple[int, str]]:
    """The test list has no label and is no use for training, so one may do without it."""
    return iter(()) if part == "test" and not file.exists() else lines_of(file, hint)


def read_ssv2(annotations: Path) -> Annotations:
    """Reads something-something-v2-{labels,train,validation,test}.json; clips are <id>.webm.

    A clip's label is its template without the brackets; the labels file gives each its number.

    Args:
      annotations: the folder of these files; they may also be named labels.json, train.json and so on.
    """
    hint = "the folder of something-something-v2-labels.json and the others"
    classes = _numbered_classes(_json_file(annotations, "labels", hint), hint)
    labels = {name: label for label, name in enumerate(classes)}
    entries = []
    for part, split in _SPLITS.items():
        if part == "test" and not any((annotations / name).exists() for name in _names(part)):
            continue
        file = _json_file(annotations, part, hint)
        for number, item in enumerate(_parse(file, hint, list)):
            where = f"{file}, item {number}"
            if not isinstance(item, dict) or "id" not in item or (part != "test" and "template" not in item):
                raise VidrecError(f"{where}: expected an object with id{'' if part == 'test' else ' and template'}")
            template = item.get("template")
            text = None if template is None else str(template).replace("[", "").replace("]", "").strip()
            label = UNLABELLED if text is None else label_of(text, labels, where, "the labels file")
            entries.append(Entry(f"{item['id']}.webm", label, split, str(item["id"])))
    return Annotations(classes, entries, {"train": 168913, "val": 24777, "test": 27157})


def _names(part: str) -> tuple[str, str]:
    return f"something-something-v2-{part}.json", f"{part}.json"


def _json_file(folder: Path, part: str, hint: str) -> Path:
    return first_file(folder, _names(part), hint)


def _parse(file: Path, hint: str, kind: type) -> Any:
    try:
        content = json.loads(read_text(file, hint))
    except ValueError as error:
        raise VidrecError(f"{file} is no JSON: {error}; download it again") from None
    if not isinstance(content, kind):
        raise VidrecError(f"{file} should hold a JSON {'array' if kind is list else 'object'}; --annotations: {hint}")
    return content


def _numbered_classes(file: Path, hint: str) -> ClassList:
    """Class names in the order of the numbers that the file gives them."""
    numbers = {str(name).replace("[", "").replace("]", "").strip(): n for name, n in _parse(file, hint, dict).items()}
    by_number = {str(number): name for name, number in numbers.items()}
    wanted = [str(number) for number in range(len(numbers))]
    if set(by_number) != set(wanted):
        raise VidrecError(f"{file} should number its {len(numbers)} classes from 0 to {len(numbers) - 1}, each once")
    return ClassList(by_number[number] for number in wanted)
