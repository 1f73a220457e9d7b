"""Split expressions: `train`, `train[:90%]`, `train[100:-50]`, `train[:50%]+validation`."""

import re
from collections.abc import Mapping

from vidrec.errors import NoSplitError, UsageError, did_you_mean

_PART = re.compile(r"(?P<name>[^\[\]+]+?)\s*(?:\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


def parse_split(expression: str, sizes: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Resolves a split expression against the splits there are.

    Bounds count videos, or are percentages rounded to the nearest video; negative ones count from the end.

    Args:
      expression: as in the first line of this module.
      sizes: number of videos of each split.

    Returns:
      `(split, start, stop)` of each part, `0 <= start <= stop <= size`.

    Raises:
      NoSplitError: no such split. UsageError: not a split expression.
    """
    return [_parse_part(part.strip(), sizes) for part in expression.split("+")]


def _parse_part(part: str, sizes: Mapping[str, int]) -> tuple[str, int, int]:
    match = _PART.fullmatch(part)
    if match is None:
        raise UsageError(f"'{part}' is not a split; write 'train', 'train[:90%]' or 'train[100:200]'")
    name = match["name"]
    if name not in sizes:
        raise NoSplitError(
            f"there is no split '{name}'; the data set has {', '.join(sorted(sizes))}{_hint(name, sizes)}"
        )
    size = sizes[name]
    start, stop = _bound(match["start"], size, 0), _bound(match["stop"], size, size)
    return name, start, max(start, stop)


def _hint(name: str, sizes: Mapping[str, int]) -> str:
    hint = did_you_mean(name, sizes)
    return hint if hint.startswith(" (did") else ""


def _bound(text: str | None, size: int, default: int) -> int:
    if text is None:
        return default
    value = round(int(text[:-1]) * size / 100) if text.endswith("%") else int(text)
    return min(max(value + size if value < 0 else value, 0), size)
