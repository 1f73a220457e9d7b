"""`vidrec eval --tempo`: accuracy against stride, of one run or of several in one figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from ml_collections import FrozenConfigDict

from vidrec.errors import UsageError
from vidrec.eval.statistics import share_interval
from vidrec.eval.tempo import evaluate_tempo
from vidrec.inspect.charts import as_file, curves_svg
from vidrec.inspect.prepared import Choices, Prepared, is_lead, open_run, results_folder, write_results
from vidrec.inspect.results import names_of


def tempo_run(
    workdirs: Sequence[str | Path],
    strides: tuple[int, ...],
    *,
    step: int | None = None,
    out: str | None = None,
    **choices: Unpack[Choices],
) -> tuple[dict[str, Any], str]:
    """Evaluates the networks of runs at each stride (TCM-Net, Fig. 4).

    Writes tempo.json and tempo.svg, the figure, to `out` (default, of a single run: WORKDIR/eval).

    Returns:
      (results as for JSON, text for a terminal)

    Raises:
      UsageError: several runs and no `out`, or runs on other classes.
    """
    if len(workdirs) > 1 and out is None:
        raise UsageError("the figure of several runs is of none of them: say by --out where it goes")
    runs = [open_run(workdir, step=step, **choices) for workdir in workdirs]
    classes = runs[0].recognizer.classes
    if any(run.recognizer.classes != classes for run in runs):
        raise UsageError("these runs know other classes than the first: a figure is of one set of classes")
    counts = {
        name: run.facts(workdir) | tempo_counts(run, strides)
        for name, workdir, run in zip(names_of(workdirs), workdirs, runs, strict=True)
    }
    result = {"strides": list(strides), "chance": 1 / len(classes), "runs": counts}
    folder = results_folder(workdirs[0], out)
    write_results(folder, "tempo", result, {"tempo.svg": as_file(tempo_svg(result)).encode()})
    return result, f"{tempo_text(result)}\nFigure: {folder / 'tempo.svg'}"


def tempo_counts(run: Prepared, strides: tuple[int, ...]) -> dict[str, Any]:
    """The accuracies of one network, as for JSON; intervals of 95 %."""
    with run.on_devices() as (mesh, variables):
        model = run.recognizer.model
        found = evaluate_tempo(model, variables, run.source, run.config, mesh, strides, show=is_lead())
    correct = [found[stride].correct() for stride in strides]
    return {
        "trained": trained_at(run.config),
        "videos": int(found[strides[0]].read.sum()),
        "unreadable": len(found[strides[0]].unreadable),
        "top1": [float(right.mean()) for right in correct],
        "intervals": [share_interval(right) for right in correct],
    }


def trained_at(config: FrozenConfigDict) -> str:
    """How the run took its clips in training."""
    data = config.data
    return f"stride {data.stride}" if data.sampling == "strided" else f"{data.sampling} sampling"


def tempo_svg(result: dict[str, Any]) -> str:
    """The curves of `tempo_run`'s result."""
    curves = {
        f"{name}, trained at {run['trained']}": list(zip(map(float, result["strides"]), run["top1"], strict=True))
        for name, run in result["runs"].items()
    }
    return curves_svg(
        curves,
        title="Accuracy against tempo",
        y_label="top-1",
        x_label="stride in frames",
        y_range=(0, 1),
        levels={"chance": result["chance"]},
    )


def tempo_text(result: dict[str, Any]) -> str:
    """A table: runs by row, strides by column."""
    names = [f"{name}, trained at {run['trained']}" for name, run in result["runs"].items()]
    width = max(map(len, names))
    lines = ["top-1 at stride".ljust(width) + "".join(f"{stride:7d}" for stride in result["strides"])]
    for name, run in zip(names, result["runs"].values(), strict=True):
        lines.append(name.ljust(width) + "".join(f"{value:7.3f}" for value in run["top1"]))
    return "\n".join(lines)
