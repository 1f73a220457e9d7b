"""Kinetics-400: quoted CSV files with a header; many of the clips they list are no longer to be had."""

import csv
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vidrec.data.datasets.entries import UNLABELLED, Annotations, Entry, label_of, order_classes
from vidrec.errors import VidrecError

log = logging.getLogger(__name__)

_FILES = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}
_PREFIXES = ("kinetics_", "kinetics400_", "kinetics-400_", "kinetics_400_", "")


class _Row(NamedTuple):
    where: str
    label: str | None
    clip: str
    split: str


def read_kinetics400(annotations: Path, *, label_order: str = "sorted", classes: str | None = None) -> Annotations:
    """Reads kinetics_{train,val,test}.csv with the columns label, youtube_id, time_start, time_end, split.

    The columns are found by the header; the test file may lack the label, then its videos have none. A clip listed
    again is counted in a warning and left out.

    Args:
      annotations: the folder of these files (also kinetics400_train.csv, train.csv, validate.csv ...); test may lack.
      label_order: "sorted", as everywhere, or "file".
      classes: a file with one class name per line, in label order.
    """
    rows = [row for split, names in _FILES.items() for row in _rows(_find(annotations, names), split)]
    order = order_classes((row.label for row in rows if row.label is not None), label_order, classes)
    labels = {name: label for label, name in enumerate(order)}
    entries: dict[str, Entry] = {}
    for row in rows:
        label = UNLABELLED if row.label is None else label_of(row.label, labels, row.where, str(classes))
        folder = row.label or "test"
        entries.setdefault(row.clip, Entry(f"{folder}/{row.clip}.mp4", label, row.split, row.clip))
    if again := len(rows) - len(entries):
        log.warning("%s lists %d clips again that it has listed already; the first place counts", annotations, again)
    return Annotations(order, list(entries.values()))


def _find(folder: Path, names: tuple[str, ...]) -> Path | None:
    candidates = [f"{prefix}{name}.csv" for prefix in _PREFIXES for name in names]
    for candidate in candidates:
        if (folder / candidate).is_file():
            return folder / candidate
    if "test" in names:
        return None
    raise VidrecError(
        f"{folder} has neither {candidates[0]} nor {candidates[-1]}; --annotations should be the folder of these lists"
    )


_NEEDED = ("youtube_id", "time_start", "time_end")


def _rows(file: Path | None, split: str) -> Iterator[_Row]:
    if file is None:
        return
    try:
        with open(file, newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, skipinitialspace=True)
            missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
            if split != "test" and "label" not in (reader.fieldnames or ()):
                missing.append("label")
            if missing:
                raise VidrecError(f"{file}: the header names no {' and '.join(missing)}; it should be {_HEADER}")
            for row in reader:
                yield _row(file, reader.line_num, row, split)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise VidrecError(f"cannot read {file}: {error}; it should be a CSV file in UTF-8") from None


_HEADER = "label,youtube_id,time_start,time_end,split"


def _row(file: Path, line: int, row: dict[str, str | None], split: str) -> _Row:
    where = f"{file}, line {line}"
    label = (row.get("label") or "").strip() or None
    clip, *times = ((row[name] or "").strip() for name in _NEEDED)
    try:
        start, end = (int(float(time)) for time in times)
    except ValueError:
        clip = ""
    if not clip or (label is None and split != "test"):
        raise VidrecError(f"{where}: expected {_HEADER}, found {','.join(map(str, row.values()))!r}")
    return _Row(where, label, f"{clip}_{start:06d}_{end:06d}", split)


def clip_names(video_id: str) -> list[str]:
    """File names, without suffix, under which downloaders store a clip `{youtube_id}_{start:06d}_{end:06d}`."""
    youtube, start, end = video_id.rsplit("_", 2)
    short = str(int(start)), str(int(end))
    return [video_id, f"{youtube}_{start}", f"{youtube}_{short[0]}_{short[1]}", f"{youtube}_{short[0]}", youtube]
