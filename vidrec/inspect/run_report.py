"""`vidrec report`: what runs came to, as one HTML file: results, curves, confusions, clips, cards."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vidrec import config as configuration
from vidrec.errors import UsageError, VidrecError
from vidrec.eval.predict import Recognizer, load
from vidrec.eval.scores import Evaluation
from vidrec.files import atomic_write
from vidrec.inspect import page
from vidrec.inspect.results import confused_lines, evaluation_folders, names_of, read_evaluation
from vidrec.inspect.run_clips import gallery
from vidrec.train import card
from vidrec.train.report import read_metrics
from vidrec.train.state import count_parameters


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it.

    Attributes:
      name: in the report.
      recognizer: its network at the newest checkpoint.
      metrics: rows of metrics.jsonl.
      card: its latest start, None for imported weights.
      result: top1, top5, mean_class and videos of `vidrec eval`, or else of the last evaluation in training.
      evaluation: the scores that `vidrec eval` wrote, None where it was not run.
    """

    name: str
    recognizer: Recognizer
    metrics: list[dict[str, Any]]
    card: dict[str, Any] | None
    result: dict[str, Any]
    evaluation: Evaluation | None


class Fact(NamedTuple):
    """A column of the table of results, and the value of a run in it."""

    column: page.Column
    of: Callable[[Run], str | float | None]


# Of results.json: what was evaluated, and how.
_HOW = ("step", "protocol", "clips", "crops", "sampling", "full_resolution")


def report(workdirs: Sequence[str | Path], *, out: str | Path | None = None, clips: int = 12) -> dict[str, Any]:
    """Writes the report of one run, or of several beside each other.

    Args:
      workdirs: folders of the runs, all trained on the same classes.
      out: file to write; None: report.html in the first run's folder.
      clips: videos shown, first those that the first run is most surely wrong about; 0: none.

    Returns:
      as `write_report`.

    Raises:
      UsageError: no run there, or runs of different classes.
    """
    if clips < 0:
        raise UsageError(f"--clips is {clips}, but must be a number of videos")
    shared = shared_evaluation(workdirs)
    runs = [read_run(folder, name, shared) for folder, name in zip(workdirs, names_of(workdirs), strict=True)]
    return write_report(
        runs,
        Path(out or Path(workdirs[0]) / "report.html"),
        title=f"vidrec: {', '.join(run.name for run in runs)}",
        finding=headline(runs),
        command=f"vidrec report --workdir {' '.join(map(str, workdirs))}",
        clips=clips,
    )


def write_report(
    runs: Sequence[Run],
    path: Path,
    *,
    title: str,
    finding: str,
    command: str,
    clips: int,
    columns: Sequence[Fact] = (),
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes the report of runs to a file.

    Args:
      title, finding, command: of the page: its name, what it shows in one sentence, and how it was made.
      clips: videos shown.
      columns: of the table of results, beside its own.
      notes: paragraphs at the end, beside those about what is left out.

    Returns:
      {"report": the file, "runs": {name: its result}, "clips": how many are shown, "notes": what is left out and why}.

    Raises:
      UsageError: runs of different classes.
    """
    for run in runs[1:]:
        if run.recognizer.classes != runs[0].recognizer.classes:
            raise UsageError(f"{run.name} knows other classes than {runs[0].name}: a report is of one set of classes")
    evaluations = {run.name: run.evaluation for run in runs if run.evaluation is not None}
    shown, left_out = gallery({run.name: run.recognizer for run in runs}, evaluations, clips)
    left_out += remarks(runs)
    text = page.report_page(
        title=title,
        intro=finding,
        table=results_table(runs, columns),
        curves=curves([(run.name, run.metrics) for run in runs]),
        confusions=[
            page.Confusion(name, of.confusion(), of.classes, [line.strip() for line in confused_lines(of)[:5]])
            for name, of in evaluations.items()
        ],
        classes=classes_table(evaluations),
        gallery=shown,
        cards=cards_table(runs),
        footer=page.Footer(
            command, {name: number for name, number in card.versions().items() if number}, [*notes, *left_out]
        ),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode())
    results = {run.name: run.result for run in runs}
    return {"report": str(path), "runs": results, "clips": len(shown.clips), "notes": left_out}


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
        written = read_json(where / "results.json")
        result = {"step": recognizer.step} | {key: written[key] for key in _HOW if key in written} | scores.metrics()
        return Run(name, recognizer, metrics, card.last(folder), result, scores)
    in_training = [row for row in metrics if row["kind"] == "eval"]
    return Run(name, recognizer, metrics, card.last(folder), in_training[-1] if in_training else {}, None)


def read_json(path: Path) -> dict[str, Any]:
    """The results of an evaluation; raises VidrecError where they are damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise VidrecError(f"{path} is damaged ({error}); run `vidrec eval` again") from error


def remarks(runs: Sequence[Run]) -> list[str]:
    """What is not there, and what makes the results of runs less than comparable."""
    told = [f"{run.name} has no metrics.jsonl: there are no curves of its training." for run in runs if not run.metrics]
    told += [f"{run.name} has no card.json: what it was made of is not told." for run in runs if not run.card]
    told += [
        f"{run.name} was not evaluated by itself: its row is the last evaluation in training, of one view of each "
        "video, and it has no confusion matrix."
        for run in runs
        if run.evaluation is None and run.result
    ]
    told += [
        f"{run.name} was evaluated at step {run.result['step']}; its newest checkpoint is of {run.recognizer.step}."
        for run in runs
        if run.result.get("step", run.recognizer.step) != run.recognizer.step
    ]
    return told + different_views(runs)


def different_views(runs: Sequence[Run]) -> list[str]:
    """A sentence where runs were evaluated with different views of a video, whose accuracies then do not compare."""
    views = {run.name: views_of(run) for run in runs if run.result}
    if len(set(views.values())) < 2:
        return []
    return ["Accuracies are of different views: " + "; ".join(f"{name} {how}" for name, how in views.items()) + "."]


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
