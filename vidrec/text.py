"""Text for the terminal."""

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]], left: int) -> str:
    """A table of lines with as many cells each: the first `left` columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([*map(str.ljust, line[:left], widths[:left]), *map(str.rjust, line[left:], widths[left:])]).rstrip()
        for line in lines
    )
