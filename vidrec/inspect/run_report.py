"""`vidrec report`: what runs came to, as one HTML file: results, curves, confusions, classes, clips, cards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidrec.errors import UsageError
from vidrec.files import atomic_write
from vidrec.inspect import page
from vidrec.inspect.results import confused_lines, names_of
from vidrec.inspect.run_clips import gallery
from vidrec.inspect.run_folder import Run, read_run, shared_evaluation
from vidrec.inspect.run_tables import Fact, cards_table, classes_table, curves, headline, results_table, views_of
from vidrec.train import card


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
