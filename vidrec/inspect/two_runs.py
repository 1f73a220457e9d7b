"""`vidrec doctor A B`: how two runs differ, from their cards and the losses they logged."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from vidrec.config import differences
from vidrec.train.card import read
from vidrec.train.report import read_metrics

# Parts of a card, as people call them; what else a card holds is of its start alone.
PARTS = {
    "configuration": "config", "data": "data", "labels": "labels", "versions": "versions", "code (git)": "git",
    "devices": "devices",
}  # fmt: skip


def compare(a: str | Path, b: str | Path) -> dict[str, Any]:
    """How the latest starts of two runs, and their losses, differ.

    Args:
      a, b: folders of the runs.

    Returns:
      {"a", "b": the folders, "parts": {name: lines "field: of a -> of b"}, "restarts": {folder: lines of what changed
      between the starts of that run}, "losses": see `compare_losses`}.

    Raises:
      UsageError: one of the folders holds no card of a run.
    """
    first, second = read(a), read(b)
    return {
        "a": str(a),
        "b": str(b),
        "parts": parts(first[-1], second[-1]),
        "restarts": {str(run): restarts(starts) for run, starts in ((a, first), (b, second))},
        "losses": compare_losses(losses(a), losses(b)),
    }


def parts(one: dict[str, Any], other: dict[str, Any]) -> dict[str, list[str]]:
    """For each of `PARTS`, a line "field: of one -> of other" for every difference between two starts."""
    return {name: differences(one[key] or {}, other[key] or {}) for name, key in PARTS.items()}


def restarts(starts: list[dict[str, Any]]) -> list[str]:
    """What changed from one start of a run to the next, a line for each change."""
    return [
        f"at step {after['step']}, {after['started']}: {name} {line}"
        for before, after in pairwise(starts)
        for name, lines in parts(before, after).items()
        for line in lines
    ]


def losses(run: str | Path) -> dict[int, float]:
    """step -> loss, of the steps that a run has logged."""
    rows = read_metrics(Path(run) / "metrics.jsonl")
    return {row["step"]: row["loss"] for row in rows if row["kind"] == "train"}


def compare_losses(a: dict[int, float], b: dict[int, float]) -> dict[str, Any]:
    """Where two series of step -> loss differ; equal is the same in all digits.

    Returns:
      {"steps": how many both have, "first": {"step", "a", "b"} where they first differ or None, "last": the same of the
      last step that both have, or None}.
    """
    common = sorted(a.keys() & b.keys())
    differing = [step for step in common if a[step] != b[step]]

    def of(step: int) -> dict[str, Any]:
        """What both runs have at a step."""
        return {"step": step, "a": a[step], "b": b[step]}

    return {
        "steps": len(common),
        "first": of(differing[0]) if differing else None,
        "last": of(common[-1]) if common else None,
    }


def text(report: dict[str, Any]) -> str:
    """The report as lines."""
    lines = [f"{report['a']} -> {report['b']}"]
    for name, changes in report["parts"].items():
        lines.append(f"{name}: " + ("the same" if not changes else ""))
        lines += [f"  {change}" for change in changes]
    for run, changes in report["restarts"].items():
        if changes:
            lines += [f"{run} was started again with changes:", *(f"  {change}" for change in changes)]
    found = report["losses"]
    if not found["steps"]:
        lines.append("losses: there is no step that both have logged")
    elif found["first"] is None:
        lines.append(f"losses: the same in all digits, in all {found['steps']} steps that both have logged")
    else:
        lines.append(f"losses: of {found['steps']} steps that both have logged, the first to differ is {_line(found)}")
    return "\n".join(line.rstrip() for line in lines)


def _line(found: dict[str, Any]) -> str:
    first, last = (
        f"step {at['step']}: {at['a']!r} -> {at['b']!r} ({abs(at['b'] - at['a']) / max(abs(at['a']), 1e-12):.1e} of it)"
        for at in (found["first"], found["last"])
    )
    return first if first == last else f"{first}; the last is {last}"
