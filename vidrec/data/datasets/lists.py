"""One's own lists: CSV, JSON lines, and the lists of the TSM and TRN code."""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vidrec.data.datasets.entries import (
    UNLABELLED,
    Annotations,
    Entry,
    label_of,
    lines_of,
    order_classes,
    read_names,
    without_suffix,
)
from vidrec.errors import VidrecError
from vidrec.labels import ClassList

_COLUMNS, _CUT = ("path", "label", "split"), ("start", "end")


class _Row(NamedTuple):
    where: str
    path: str
    label: str | None
    split: str
    start: float
    end: float | None


def read_list(annotations: Path, *, label_order: str = "sorted", classes: str | None = None) -> Annotations:
    """Reads a CSV of `path,label,split`, with or without that header.

    With it, the columns come in any order and others may be there; `start` and `end` (seconds, may be empty) cut a
    piece out of a longer video.

    Args:
      annotations: the CSV file, UTF-8. A label is a class name, or empty where it is not known.
      label_order: order of the classes: "sorted" or "file" (as they first occur).
      classes: a file with one class name per line, in label order.
    """
    return _listed(annotations, _csv_rows(annotations), label_order, classes)


def read_jsonl(annotations: Path, *, label_order: str = "sorted", classes: str | None = None) -> Annotations:
    """Reads a file of one JSON object per line: `{"path", "label", "split"}`, and maybe `start` and `end` in seconds.

    A label is a class name, or null where it is not known; other keys are left alone.

    Args:
      annotations: the file, UTF-8.
      label_order: order of the classes: "sorted" or "file" (as they first occur).
      classes: a file with one class name per line, in label order.
    """
    return _listed(annotations, _json_rows(annotations), label_order, classes)


def _listed(file: Path, rows: Iterable[_Row], label_order: str, classes: str | None) -> Annotations:
    rows = list(rows)
    if not rows:
        raise VidrecError(f"{file} lists no video; each line is path,label,split")
    names = order_classes((row.label for row in rows if row.label is not None), label_order, classes)
    labels = {name: label for label, name in enumerate(names)}
    entries = []
    for row in rows:
        label = UNLABELLED if row.label is None else label_of(row.label, labels, row.where, str(classes))
        video_id = without_suffix(row.path)
        if row.start or row.end is not None:
            video_id += f"@{_seconds(row.start)}-{'' if row.end is None else _seconds(row.end)}"
        entries.append(Entry(row.path, label, row.split, video_id, row.start, row.end))
    return Annotations(names, entries)


def _seconds(time: float) -> str:
    """With all its digits, so that no two pieces have one name."""
    return repr(time).removesuffix(".0")


def _csv_rows(file: Path) -> Iterator[_Row]:
    columns, first = _COLUMNS, True
    try:
        with open(file, newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines)
            for row in reader:
                cells = [cell.strip() for cell in row]
                if not any(cells):
                    continue
                lower = tuple(cell.lower() for cell in cells)
                if first and set(_COLUMNS) <= set(lower):
                    columns, first = lower, False
                    continue
                if first and set(_COLUMNS) & set(lower):
                    raise VidrecError(
                        f"{file} begins with the columns {','.join(row)}, but must name {', '.join(_COLUMNS)}; "
                        "rename them, or leave the first line out"
                    )
                first = False
                found = dict(zip(columns, cells, strict=False))
                where = f"{file}, line {reader.line_num}"
                if len(cells) != len(columns) or not (found["path"] and found["split"]):
                    raise VidrecError(f"{where}: expected {','.join(columns)}, found {','.join(row)!r}")
                start, end = _piece(where, *(found.get(name) or None for name in _CUT))
                yield _Row(where, found["path"], found["label"] or None, found["split"], start, end)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise VidrecError(
            f"cannot read {file}: {error}; it should be a CSV file of path,label,split in UTF-8"
        ) from None


def _json_rows(file: Path) -> Iterator[_Row]:
    for number, line in lines_of(file, "a file of one JSON object per line"):
        where = f"{file}, line {number}"
        try:
            found = json.loads(line)
        except ValueError as error:
            raise VidrecError(f"{where} is no JSON object: {error}") from None
        if not isinstance(found, dict) or not set(_COLUMNS) <= found.keys():
            raise VidrecError(f"{where}: expected an object with path, label and split, found {line[:80]!r}")
        path, label, split = (found[name] for name in _COLUMNS)
        texts = [path, split, *([] if label is None else [label])]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise VidrecError(f"{where}: path, label (a class name, or null) and split should be texts")
        yield _Row(where, path, label, split, *_piece(where, found.get("start"), found.get("end")))


def _piece(where: str, start: Any, end: Any) -> tuple[float, float | None]:
    """Checks the two ends of a piece, in seconds."""
    try:
        first, last = float(start or 0), None if end is None else float(end)
    except (TypeError, ValueError):
        first, last = -1.0, None
    if not 0 <= first < float("inf") or (last is not None and not first < last < float("inf")):
        raise VidrecError(f"{where}: start {start} and end {end} should be seconds, the start before the end")
    return first, last


_SPLIT_WORD = re.compile(r"(?<![a-z])(train|val|validation|test)(?![a-z])")


def read_tsm(annotations: Path, *, classes: str | None = None) -> Annotations:
    """Reads lists as the TSM and TRN code makes them: `folder num_frames label` on each line, labels from 0.

    The number of frames is not believed: frames are counted in the folder. Splits are named by the files, such as
    train_videofolder.txt and val_videofolder.txt.

    Args:
      annotations: one such file, or a folder with one for each split.
      classes: a file with one class name per line, in label order; without it the numbers are the names.
    """
    rows = []
    for split, file in _tsm_files(annotations).items():
        for number, line in lines_of(file, "a list of 'folder num_frames label' or a folder of such lists"):
            match = re.fullmatch(r"(.+?)\s+(\d+)\s+(\d+)", line)
            if match is None:
                raise VidrecError(f"{file}, line {number}: expected 'folder num_frames label', found {line!r}")
            rows.append((f"{file}, line {number}", match[1], int(match[3]), split))
    if not rows:
        raise VidrecError(f"{annotations} lists no video; each line is 'folder num_frames label'")
    names = read_names(Path(classes)) if classes else ClassList(map(str, range(max(row[2] for row in rows) + 1)))
    for where, _, label, _ in rows:
        if label >= len(names):
            raise VidrecError(f"{where}: label {label} is outside 0..{len(names) - 1}, the classes of {classes}")
    return Annotations(names, [Entry(path, label, split, without_suffix(path)) for _, path, label, split in rows])


def _tsm_files(annotations: Path) -> dict[str, Path]:
    """Split -> list, in the order train, val, test."""
    candidates = [annotations] if annotations.is_file() else sorted(annotations.glob("[!.]*.txt"))
    found: dict[str, Path] = {}
    for file in candidates:
        words = {word.replace("validation", "val") for word in _SPLIT_WORD.findall(file.stem.lower())}
        if len(words) != 1:
            continue
        if (split := words.pop()) in found:
            both = f"{found[split].name} and {file.name}"
            raise VidrecError(
                f"{both} in {annotations} both list '{split}'; give a folder with one list for each split"
            )
        found[split] = file
    if not found:
        raise VidrecError(f"{annotations}: no list is named after its split, such as train_videofolder.txt; rename it")
    return {split: found[split] for split in ("train", "val", "test") if split in found}
