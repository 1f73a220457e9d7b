"""Reading annotations: one plain function per data set, from the files its authors publish to a list of videos.

To add a data set, write such a function and name it in `READERS`; its keyword arguments become options of `convert`.
"""

import csv
import inspect
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vidrec.data.openfiles import reading
from vidrec.errors import UsageError, VidrecError, did_you_mean
from vidrec.labels import ClassList

log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One listed video: its path below the root, label, split, and a name that is unique in the data set."""

    path: str
    label: int
    split: str
    video_id: str


@dataclass(frozen=True)
class Annotations:
    """What an annotation reader returns."""

    classes: ClassList
    entries: list[Entry]


def read_annotations(dataset: str, annotations: Path, options: dict[str, Any]) -> Annotations:
    """Reads the annotations of a data set.

    Args:
      dataset: one of READERS.
      annotations: the file or folder its reader expects.
      options: keyword arguments of the reader; None stands for the reader's default.

    Raises:
      UsageError: unknown data set, or an option that does not apply to it. VidrecError: annotations that are missing
        or wrong; the sentence names file and line.
    """
    if dataset not in READERS:
        raise UsageError(f"there is no data set format '{dataset}'{did_you_mean(dataset, READERS)}")
    if not annotations.exists():
        raise VidrecError(f"annotations {annotations} do not exist; give the file or folder with --annotations")
    reader = READERS[dataset]
    result = reader(annotations, **effective_options(dataset, options))
    _check_unique(annotations, result.entries)
    return result


def effective_options(dataset: str, options: dict[str, Any]) -> dict[str, Any]:
    """Fills in a reader's defaults; an option that it does not have is a `UsageError` unless at its default."""
    known = _defaults(READERS[dataset])
    for name, value in options.items():
        if value is not None and name not in known and value not in _all_defaults(name):
            raise UsageError(f"--{name.replace('_', '-')} does not apply to data set format '{dataset}'; leave it out")
    return known | {name: value for name, value in options.items() if name in known and value is not None}


def _defaults(reader: Callable) -> dict[str, Any]:
    parameters = inspect.signature(reader).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.kind == parameter.KEYWORD_ONLY}


def _all_defaults(name: str) -> list[Any]:
    return [defaults[name] for reader in READERS.values() if name in (defaults := _defaults(reader))]


def read_list(annotations: Path, *, label_order: str = "sorted") -> Annotations:
    """Reads a CSV of `path,label,split`, with or without that header (with it, in any order and with other columns).

    Args:
      annotations: the CSV file, UTF-8. Labels are class names.
      label_order: order of the classes: "sorted", "file" (as they first occur), or a text file with one per line.
    """
    rows = list(_csv_rows(annotations))
    if not rows:
        raise VidrecError(f"{annotations} lists no video; each line is path,label,split")
    classes = ClassList(_ordered(dict.fromkeys(label for _, _, label, _ in rows), label_order))
    labels = {name: label for label, name in enumerate(classes)}
    entries = []
    for line, path, label, split in rows:
        if label not in labels:
            raise VidrecError(
                f"{annotations}, line {line}: label '{label}' is not in {label_order}{did_you_mean(label, labels)}"
            )
        entries.append(Entry(path, labels[label], split, _without_suffix(path)))
    return Annotations(classes, entries)


_COLUMNS = ("path", "label", "split")


def _csv_rows(file: Path) -> Iterator[tuple[int, str, str, str]]:
    """Yields line number, path, label and split."""
    columns, where = _COLUMNS, (0, 1, 2)
    try:
        with open(file, newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines)
            for row in reader:
                cells = [cell.strip() for cell in row]
                if not any(cells):
                    continue
                if reader.line_num == 1 and set(_COLUMNS) <= {cell.lower() for cell in cells}:
                    columns = tuple(cell.lower() for cell in cells)
                    where = tuple(columns.index(name) for name in _COLUMNS)
                    continue
                if len(cells) != len(columns) or not all(cells[place] for place in where):
                    raise VidrecError(
                        f"{file}, line {reader.line_num}: expected {','.join(columns)}, found {','.join(row)!r}"
                    )
                path, label, split = (cells[place] for place in where)
                yield reader.line_num, path, label, split
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise VidrecError(
            f"cannot read {file}: {error}; it should be a CSV file of path,label,split in UTF-8"
        ) from None


def _ordered(names: Iterable[str], label_order: str) -> list[str]:
    if label_order == "sorted":
        return sorted(names)
    if label_order == "file":
        return list(names)
    file = Path(label_order)
    if not file.is_file():
        raise UsageError(f"--label-order {label_order}: choose 'sorted', 'file' or a text file with one class per line")
    return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def read_ucf101(annotations: Path, *, split_number: int = 1) -> Annotations:
    """Reads UCF101's folder of lists: classInd.txt, trainlist0N.txt and testlist0N.txt.

    Labels there start at 1 and test lines have none. One class is written HandstandPushups in places and
    HandStandPushups in others, so class names are compared without regard to case.

    Args:
      annotations: the folder.
      split_number: N, 1 to 3.
    """
    if split_number not in (1, 2, 3):
        raise UsageError(f"--split-number {split_number}: UCF101 has the splits 1, 2 and 3")
    classes = _ucf101_classes(annotations / "classInd.txt")
    labels = {name.casefold(): label for label, name in enumerate(classes)}
    entries = []
    for split in ("train", "test"):
        file = annotations / f"{split}list{split_number:02d}.txt"
        for line, (path, *given) in _words(file):
            class_name = path.replace("\\", "/").split("/")[0]
            label = labels.get(class_name.casefold())
            if label is None:
                hint = did_you_mean(class_name, classes)
                raise VidrecError(f"{file}, line {line}: class '{class_name}' is not in classInd.txt{hint}")
            if given and given != [str(label + 1)]:
                wrong = " ".join(given)
                raise VidrecError(
                    f"{file}, line {line}: label {wrong}, but classInd.txt says {label + 1} for {class_name}"
                )
            entries.append(Entry(path, label, split, _without_suffix(path)))
    _warn_of_shared_groups(entries)
    return Annotations(classes, entries)


def _ucf101_classes(file: Path) -> ClassList:
    names = []
    for line, words in _words(file):
        if len(words) != 2 or words[0] != str(len(names) + 1):
            raise VidrecError(f"{file}, line {line}: expected '{len(names) + 1} ClassName', found '{' '.join(words)}'")
        names.append(words[1])
    return ClassList(names)


def _words(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields number and words of each line that has any."""
    if not file.is_file():
        raise VidrecError(f"{file} does not exist; --annotations should be the folder of UCF101's lists")
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if words := line.split():
            yield number, words


def _warn_of_shared_groups(entries: list[Entry]) -> None:
    """Videos of one group are cut from one recording; the published lists keep each group in one split."""
    groups: dict[str, set[tuple[int, str]]] = {"train": set(), "test": set()}
    for entry in entries:
        if match := re.search(r"_(g\d+)_c\d+$", entry.video_id):
            groups[entry.split].add((entry.label, match[1]))
    shared = groups["train"] & groups["test"]
    if shared:
        log.warning("%d groups of videos are in both train and test, so the test is not a fair one", len(shared))


def _without_suffix(path: str) -> str:
    return path[: -len(Path(path).suffix)] if Path(path).suffix else path


def _check_unique(annotations: Path, entries: list[Entry]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        if entry.video_id in seen:
            raise VidrecError(
                f"{annotations} lists {entry.path} and {seen[entry.video_id]}, which have the same name "
                f"'{entry.video_id}'; list every video once, under a name of its own"
            )
        seen[entry.video_id] = entry.path


READERS: dict[str, Callable[..., Annotations]] = {"list": read_list, "ucf101": read_ucf101}
"""Name of an annotation format -> its reader."""


def locate(root: Path, path: str) -> Path:
    """Finds a listed file below `root`; names may differ in case from the list, as some of UCF101's do.

    Returns:
      Its path, which need not exist when nothing like it does.

    Raises:
      Unreadable: the system does not let a folder on the way be read.
    """
    found = root
    with reading(root / path):
        for part in Path(path).parts:
            if not (found / part).exists() and found.is_dir():
                alike = [entry.name for entry in found.iterdir() if entry.name.casefold() == part.casefold()]
                part = min(alike, default=part)
            found = found / part
    return found
