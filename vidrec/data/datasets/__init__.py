"""Reading annotations: one plain function per data set, from the files its authors publish to a list of videos.

To add a data set, write such a function and name it in `READERS`; its keyword arguments become options of `convert`.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from vidrec.data.datasets import prepared
from vidrec.data.datasets.entries import UNLABELLED, Annotations, Entry
from vidrec.data.datasets.hmdb51 import archived_classes, read_hmdb51
from vidrec.data.datasets.kinetics import read_kinetics400
from vidrec.data.datasets.lists import read_jsonl, read_list, read_tsm
from vidrec.data.datasets.places import find_hmdb51, find_kinetics, locate
from vidrec.data.datasets.something import read_jester, read_ssv1, read_ssv2
from vidrec.data.datasets.ucf101 import read_ucf101
from vidrec.errors import UsageError, VidrecError, did_you_mean

__all__ = ["ARCHIVES", "FINDERS", "READERS", "UNLABELLED", "Annotations", "Entry"]
__all__ += ["OWN_LISTS", "effective_options", "locate", "prepared", "read_annotations"]

READERS: dict[str, Callable[..., Annotations]] = {
    "list": read_list,
    "jsonl": read_jsonl,
    "tsm": read_tsm,
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
    "ssv1": read_ssv1,
    "ssv2": read_ssv2,
    "jester": read_jester,
    "kinetics400": read_kinetics400,
}
"""Name of an annotation format -> its reader."""

OWN_LISTS = ("list", "jsonl", "tsm")
"""The formats that are not one data set's."""

FINDERS: dict[str, Callable[[Sequence[Entry], Iterable[Path]], dict[str, str]]] = {
    "hmdb51": find_hmdb51,
    "kinetics400": find_kinetics,
}
"""Format whose videos lie elsewhere than listed in places -> a function that finds them: listed path -> file."""

ARCHIVES: dict[str, Callable[[Iterable[str]], tuple[str, ...]]] = {"hmdb51": archived_classes}
"""Format whose videos come in archives -> names of these, from the class names."""


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
        raise UsageError(f"there is no data set format '{dataset}'{did_you_mean(dataset, [*READERS, 'tfds:NAME'])}")
    if not annotations.exists():
        raise VidrecError(f"annotations {annotations} do not exist; give the file or folder with --annotations")
    reader = READERS[dataset]
    result = reader(annotations, **effective_options(dataset, options))
    if not result.entries:
        raise VidrecError(f"{annotations} lists no video; give the right file or folder with --annotations")
    _check_unique(annotations, result.entries)
    return result


def effective_options(dataset: str, options: dict[str, Any]) -> dict[str, Any]:
    """Fills in a reader's defaults; an option that has no effect is a `UsageError`, None is none."""
    known = _defaults(READERS[dataset]) if dataset in READERS else {}
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in known:
            raise UsageError(f"--{name.replace('_', '-')} does not apply to data set format '{dataset}'; leave it out")
    if {"label_order", "classes"} <= given.keys():
        raise UsageError("--label-order has no effect with --classes, whose file is in label order; leave one out")
    return known | given


def _defaults(reader: Callable) -> dict[str, Any]:
    parameters = inspect.signature(reader).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.kind == parameter.KEYWORD_ONLY}


def _check_unique(annotations: Path, entries: list[Entry]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        if entry.video_id in seen:
            raise VidrecError(
                f"{annotations} lists {entry.path} and {seen[entry.video_id]}, which have the same name "
                f"'{entry.video_id}'; list every video once, under a name of its own"
            )
        seen[entry.video_id] = entry.path
