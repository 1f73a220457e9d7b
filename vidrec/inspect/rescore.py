"""Counts saved scores again, without a network: averaged in another way, of several networks together, of splits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidrec.errors import UsageError
from vidrec.eval.scores import Evaluation, ensemble
from vidrec.inspect.prepared import without_none
from vidrec.inspect.results import counts_of, evaluation_text, read_evaluation, write_evaluation

COMBINATIONS = ("ensemble", "splits")


def rescore(
    folders: Sequence[str | Path],
    *,
    combine: str | None = None,
    average: str | None = None,
    top: Sequence[int] = (),
    out: str | None = None,
) -> tuple[dict[str, Any], str]:
    """Counts what `vidrec eval` saved.

    Args:
      folders: of evaluations or of evaluated runs.
      combine: of several folders: "ensemble", the mean scores of networks on the same videos; "splits", the mean of
        what each came to, such as on the three splits of UCF101.
      average: of the views of each video: softmax or logits; None keeps the scores.
      top: as of `evaluate_run`.
      out: folder for the files of an evaluation; None writes none.

    Returns:
      (results as for JSON, text for a terminal)

    Raises:
      UsageError: no scores there, evaluations that do not go together, or an option without effect.
    """
    if (len(folders) > 1) != (combine is not None):
        several = f"say what becomes of {len(folders)} evaluations: --combine {' or '.join(COMBINATIONS)}"
        raise UsageError(several if len(folders) > 1 else f"--combine {combine} is for two or more evaluations")
    evaluations = [read_evaluation(folder) for folder in folders]
    if average:
        evaluations = [evaluation.averaged(average) for evaluation in evaluations]
    result = {"from": [str(folder) for folder in folders], **without_none(combine=combine, average=average)}
    if combine == "splits":
        if out:
            raise UsageError("--out has no effect with --combine splits: there is no single set of scores to write")
        return mean_of_splits(evaluations, result, top)
    evaluation = ensemble(evaluations) if combine else evaluations[0]
    result |= counts_of(evaluation, top)
    if out:
        write_evaluation(evaluation, result, Path(out))
    return result, evaluation_text(evaluation, result, Path(out) if out else None)


def mean_of_splits(
    evaluations: Sequence[Evaluation], result: dict[str, Any], top: Sequence[int]
) -> tuple[dict[str, Any], str]:
    """The mean of each metric over splits, with its values; the splits share videos, so the mean has no interval.

    Raises:
      UsageError: evaluations of other classes, or twice the same videos.
    """
    if any(evaluation.classes != evaluations[0].classes for evaluation in evaluations):
        raise UsageError("these evaluations are of other classes, or of another order of them: they are no splits")
    if len({frozenset(evaluation.video_ids) for evaluation in evaluations}) < len(evaluations):
        raise UsageError("two of these evaluations are of the same videos: they are no splits, but an ensemble")
    each = [counts_of(evaluation, top) for evaluation in evaluations]
    names = [name for name in each[0] if name.startswith("top")] + ["mean_class"]
    values = {name: [counts[name] for counts in each] for name in names}
    means = {name: float(np.mean(several)) for name, several in values.items()}
    lines = [f"Mean of {len(each)} splits:"]
    lines += [f"  {name} {means[name]:.4f} ({', '.join(f'{v:.4f}' for v in values[name])})" for name in names]
    return result | means | {"splits": values, "videos": [counts["videos"] for counts in each]}, "\n".join(lines)
