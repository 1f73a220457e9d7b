"""Tables and curves of a report of runs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vidrec import config as configuration
from vidrec.eval.scores import Evaluation
from vidrec.inspect import page
from vidrec.inspect.run_folder import Run
from vidrec.train.state import count_parameters


class Fact(NamedTuple):
    """A column of the table of results, and the value of a run in it."""

    column: page.Column
    of: Callable[[Run], str | float | None]


def headline(runs: Sequence[Run]) -> str:
    """The finding in one sentence."""
    told = [run for run in runs if "top1" in run.result]
    if not told:
        return "No run has been evaluated yet."
    counts = {run.result["videos"] for run in told}
    each = ", ".join(
        f"{run.name} {run.result['top1']:.1%}" + (f" of {run.result['videos']:,}" if len(counts) > 1 else "")
        for run in told
    )
    videos = f"{min(counts):,} videos" if len(counts) == 1 else "the videos each was evaluated on"
    return f"Of {videos} put into the right one of {len(runs[0].recognizer.classes)} classes: {each}."


def views_of(run: Run) -> str:
    """How a run was evaluated: the name of the protocol, and the views of each video."""
    result = run.result
    if not result:
        return ""
    views = f"{result.get('clips', 1)} x {result.get('crops', 1)}"
    details = [result["protocol"]] if "protocol" in result else []
    details += [result["sampling"]] if result.get("clips", 1) > 1 else []
    details += ["whole picture"] * bool(result.get("full_resolution"))
    return ", ".join([views, *details])


def interval_of(run: Run) -> str:
    """The 95 % interval of its top-1; nothing where it was not evaluated by itself."""
    if "intervals" not in run.result:
        return ""
    low, high = run.result["intervals"]["top1"]
    return f"{low:.1%} to {high:.1%}"


def results_table(runs: Sequence[Run], more: Sequence[Fact]) -> page.Table:
    """A row for each run."""
    count = len(runs[0].recognizer.classes)
    keys = {"top1": ("top-1", 1 / count), "top5": ("top-5", 5 / count), "mean_class": ("mean of classes", 1 / count)}
    if count <= 5:
        del keys["top5"]
    facts = [
        Fact(page.Column("network"), lambda run: run.recognizer.config.model.name),
        *more,
        *(
            Fact(page.Column(title, ".1%", bar=True, level=level), lambda run, key=key: run.result.get(key))
            for key, (title, level) in keys.items()
        ),
        Fact(page.Column("top-1, 95 % interval"), interval_of),
        Fact(page.Column("calibration error", ".3f"), lambda run: run.result.get("ece")),
        Fact(page.Column("clips x crops"), views_of),
        Fact(page.Column("steps", ",d"), lambda run: run.result.get("step", run.recognizer.step)),
        Fact(page.Column("parameters", ",d"), lambda run: count_parameters(run.recognizer.variables["params"])),
    ]
    rows = [[run.name, *(fact.of(run) for fact in facts)] for run in runs]
    counts = {run.result["videos"] for run in runs if run.result}
    caption = f"{counts.pop():,} videos." if len(counts) == 1 else ""
    return page.Table([page.Column("run"), *(fact.column for fact in facts)], rows, caption)


def classes_table(evaluations: Mapping[str, Evaluation]) -> page.Table | None:
    """Accuracy of each class by each evaluated run, worst of the first run first."""
    if not evaluations:
        return None
    found = {name: evaluation.per_class() for name, evaluation in evaluations.items()}
    first = next(iter(found.values()))
    rows = [[name, videos, *(of[k][2] for of in found.values())] for k, (name, videos, _) in enumerate(first)]
    rows.sort(key=lambda row: (not row[1], row[2]))  # classes without videos last
    columns = [page.Column("class"), page.Column("videos", ",d")]
    return page.Table([*columns, *(page.Column(name, ".1%", bar=True) for name in found)], rows)


def curves(runs: Sequence[tuple[str, list[dict[str, Any]]]]) -> list[page.Curves]:
    """Loss and accuracy in training, and the accuracy of evaluations where there was more than one.

    Args:
      runs: (name, rows of metrics.jsonl) of each.
    """
    charts = []
    for kind, key, title, limits in (
        ("train", "loss", "Training loss", None),
        ("train", "top1", "Training accuracy", (0.0, 1.0)),
        ("eval", "top1", "Evaluation accuracy", (0.0, 1.0)),
    ):
        series = {
            name: [(row["step"], row[key]) for row in rows if row["kind"] == kind and key in row] for name, rows in runs
        }
        if max(map(len, series.values())) > 1:
            charts.append(page.Curves(title, series, y_range=limits))
    return charts


def cards_table(runs: Sequence[Run]) -> page.Table | None:
    """What each run was made of, and below it the fields in which their configurations differ."""
    told = [run for run in runs if run.card]
    if not told:
        return None
    facts = {run.name: _facts(run.card) for run in told if run.card}
    fields = {run.name: _flat(configuration.to_dict(run.recognizer.config)) for run in told}
    differing = sorted(
        field
        for field in {field for of in fields.values() for field in of}
        if len({of.get(field) for of in fields.values()}) > 1
    )
    rows = [[fact, *(of[fact] for of in facts.values())] for fact in next(iter(facts.values()))]
    rows += [[field, *(of.get(field) for of in fields.values())] for field in differing]
    return page.Table([page.Column(""), *(page.Column(run.name) for run in told)], rows)


def _facts(start: dict[str, Any]) -> dict[str, str]:
    devices, git = start["devices"], start["git"]
    return {
        "started": start["started"],
        "configuration": start["fingerprint"],
        **{
            f"{kind} data": f"{of['videos']:,} videos of {of['split']}, digest {of['digest']}"
            for kind, of in start["data"].items()
        },
        "classes": f"{start['labels']['classes']}, digest {start['labels']['digest']}",
        "code": "not in a git repository"
        if git is None
        else git["commit"][:12] + (" + changes" * bool(git["changes"])),
        "devices": f"{devices['everywhere']} x {devices['kind']}, {devices['processes']} process(es)",
    }


def _flat(fields: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in fields.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": str(value)}
    return flat
