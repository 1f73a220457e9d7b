"""What every annotation reader returns, and what they share: reading lines, ordering classes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vidrec.errors import UsageError, VidrecError, did_you_mean
from vidrec.labels import ClassList

UNLABELLED = -1
"""The label of a video whose class is not published."""

VIDEO_SUFFIXES = (
    ".mp4",
    ".webm",
    ".mkv",
    ".avi",
    ".mov",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".flv",
    ".wmv",
    ".3gp",
    ".ts",
    ".ogv",
)


class Entry(NamedTuple):
    """One listed video.

    Attributes:
      path: below the root.
      label: from 0; `UNLABELLED` where the annotations give none.
      split: name of its split.
      video_id: a name that is unique in the data set.
      start: seconds into the file where the video begins.
      end: seconds into the file where it ends; None is the end of the file.
    """

    path: str
    label: int
    split: str
    video_id: str
    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True)
class Annotations:
    """What an annotation reader returns.

    Attributes:
      classes: in label order.
      entries: the listed videos.
      official: number of videos in each split as its authors published it; empty where there is no such number.
    """

    classes: ClassList
    entries: list[Entry]
    official: dict[str, int] = field(default_factory=dict)


def read_text(file: Path, hint: str) -> str:
    """Reads an annotation file.

    Args:
      file: UTF-8, with or without a byte order mark.
      hint: what --annotations should be, for the error.

    Raises:
      VidrecError: it does not exist or is no UTF-8 text.
    """
    if not file.is_file():
        raise VidrecError(f"{file} does not exist; --annotations should be {hint}")
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise VidrecError(f"cannot read {file}: {error}; it should be a text in UTF-8") from None


def lines_of(file: Path, hint: str) -> Iterator[tuple[int, str]]:
    """Yields number and text of each line that is not blank, without blanks at its ends; raises as `read_text`."""
    # Not splitlines: texts may hold what Unicode also calls the end of a line.
    for number, line in enumerate(read_text(file, hint).split("\n"), 1):
        if line := line.strip():
            yield number, line


def order_classes(names: Iterable[str], label_order: str, classes: str | None = None) -> ClassList:
    """Puts class names in label order.

    Args:
      names: in the order of the file, repeats allowed.
      label_order: "sorted" (by code point) or "file" (as they first occur).
      classes: a text file with one class name per line in label order, which decides alone and may have more names.

    Raises:
      UsageError: no such order, or no such file. VidrecError: an empty or repeated class name.
    """
    if label_order not in ("sorted", "file"):
        raise UsageError(f"--label-order {label_order}: choose 'sorted' or 'file'")
    if classes is not None:
        return read_names(Path(classes))
    distinct = dict.fromkeys(names)
    return ClassList(sorted(distinct) if label_order == "sorted" else distinct)


def read_names(file: Path) -> ClassList:
    """Reads a file of class names, one per line in label order."""
    if not file.is_file():
        raise UsageError(f"--classes {file}: there is no such file; give a text file with one class name per line")
    return ClassList(line for _, line in lines_of(file, "a text file"))


def label_of(name: str, labels: dict[str, int], where: str, listed_in: str) -> int:
    """Looks a class name up; an unknown one is a `VidrecError` that says where it stands."""
    if name not in labels:
        raise VidrecError(f"{where}: label '{name}' is not in {listed_in}{did_you_mean(name, labels)}")
    return labels[name]


def first_file(folder: Path, names: Iterable[str], hint: str) -> Path:
    """Returns the first of several possible files that exists; raises VidrecError where none does."""
    names = list(names)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise VidrecError(f"{folder} has no {' or '.join(names)}; --annotations should be {hint}")


def without_suffix(path: str) -> str:
    """Cuts the suffix of a video file off; a dot in the name of a folder of pictures is none."""
    suffix = Path(path).suffix
    return path[: -len(suffix)] if suffix.lower() in VIDEO_SUFFIXES else path
