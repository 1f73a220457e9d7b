"""What the folder of a run tells: its network, its metrics, its card, and an evaluation."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidrec.errors import VidrecError
from vidrec.eval.predict import Recognizer, load
from vidrec.eval.scores import Evaluation
from vidrec.inspect.results import evaluation_folders, read_evaluation
from vidrec.train import card
from vidrec.train.report import read_metrics

# Of results.json: what was evaluated, how, and how sure it is.
_TOLD = ("step", "protocol", "clips", "crops", "sampling", "full_resolution", "intervals", "ece")


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it.

    Attributes:
      name: in the report.
      recognizer: its network at the newest checkpoint.
      metrics: rows of metrics.jsonl.
      card: its latest start, None for imported weights.
      result: top1, top5, mean_class, videos and more of `vidrec eval`, or else of the last evaluation in training.
      evaluation: the scores that `vidrec eval` wrote, None where it was not run.
    """

    name: str
    recognizer: Recognizer
    metrics: list[dict[str, Any]]
    card: dict[str, Any] | None
    result: dict[str, Any]
    evaluation: Evaluation | None


def shared_evaluation(workdirs: Sequence[str | Path]) -> str:
    """The name, below `eval`, of the first evaluation that all evaluated runs have; "." is the plain one."""
    each = [[str(path.relative_to(Path(run, "eval"))) for path in evaluation_folders(run)] for run in workdirs]
    evaluated = [names for names in each if names]
    return next((name for name in evaluated[0] if all(name in names for names in evaluated)), ".") if evaluated else "."


def read_run(workdir: str | Path, name: str, evaluation: str = ".") -> Run:
    """Reads what is in the folder of a run.

    Args:
      name: of the run.
      evaluation: name of the one that is told, below `eval`; where it is not there, the run's first.

    Raises:
      UsageError: there is no run. VidrecError: one of its files is damaged.
    """
    folder = Path(workdir)
    recognizer, metrics = load(folder), read_metrics(folder / "metrics.jsonl")
    found = evaluation_folders(folder)
    if found:
        where = folder / "eval" / evaluation if folder / "eval" / evaluation in found else found[0]
        scores = read_evaluation(where)
        written = read_results(where / "results.json")
        result = {"step": recognizer.step} | {key: written[key] for key in _TOLD if key in written} | scores.metrics()
        return Run(name, recognizer, metrics, card.last(folder), result, scores)
    in_training = [row for row in metrics if row["kind"] == "eval"]
    return Run(name, recognizer, metrics, card.last(folder), in_training[-1] if in_training else {}, None)


def read_results(path: Path) -> dict[str, Any]:
    """The results of an evaluation; raises VidrecError where they are damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise VidrecError(f"{path} is damaged ({error}); run `vidrec eval` again") from error
