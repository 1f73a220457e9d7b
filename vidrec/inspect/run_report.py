"""`vidrec report`: what runs came to, as one HTML file: results, curves, confusions, clips, cards."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidrec import config as configuration
from vidrec.data.clips import ClipSpec, EvalReader
from vidrec.errors import UsageError, VidrecError
from vidrec.eval.evaluate import one_view
from vidrec.eval.predict import Recognizer, load
from vidrec.eval.scores import Evaluation
from vidrec.files import atomic_write
from vidrec.inspect import page
from vidrec.inspect.looking import FPS, default_look, drawn_over
from vidrec.inspect.render import animation
from vidrec.inspect.results import names_of, read_evaluation
from vidrec.train import card
from vidrec.train.report import read_metrics
from vidrec.train.start import open_split
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


def report(workdirs: Sequence[str | Path], *, out: str | Path | None = None, clips: int = 12) -> dict[str, Any]:
    """Writes the report of one run, or of several beside each other.

    Args:
      workdirs: folders of the runs, all trained on the same classes.
      out: file to write; None: report.html in the first run's folder.
      clips: videos shown, first those that the first run is most surely wrong about; 0: none.

    Returns:
      {"report": the file, "runs": {name: its result}, "clips": how many are shown, "notes": what is left out and why}.

    Raises:
      UsageError: no run there, or runs of different classes.
    """
    if clips < 0:
        raise UsageError(f"--clips is {clips}, but must be a number of videos")
    runs = [read_run(folder, name) for folder, name in zip(workdirs, names_of(workdirs), strict=True)]
    for run in runs[1:]:
        if run.recognizer.classes != runs[0].recognizer.classes:
            raise UsageError(f"{run.name} knows other classes than {runs[0].name}: a report is of one set of classes")
    cards, notes = shown_clips(runs, clips)
    notes += [
        f"{run.name} was not evaluated by itself: its row is the last evaluation in training, of one view of each "
        "video, and it has no confusion matrix."
        for run in runs
        if run.evaluation is None
    ]
    notes += [
        f"{run.name} was evaluated at step {run.result['step']}; its newest checkpoint is of {run.recognizer.step}."
        for run in runs
        if run.result.get("step", run.recognizer.step) != run.recognizer.step
    ]
    versions = {name: number for name, number in card.versions().items() if number}
    text = page.report_page(
        title=f"vidrec: {', '.join(run.name for run in runs)}",
        intro=headline(runs),
        table=results_table(runs),
        curves=curves([(run.name, run.metrics) for run in runs]),
        confusions=[
            page.Confusion(run.name, run.evaluation.confusion(), run.evaluation.classes)
            for run in runs
            if run.evaluation is not None
        ],
        clips=cards,
        cards=cards_table(runs),
        footer=page.Footer(f"vidrec report --workdir {' '.join(map(str, workdirs))}", versions, notes),
    )
    path = Path(out or Path(workdirs[0]) / "report.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode())
    return {"report": str(path), "runs": {run.name: run.result for run in runs}, "clips": len(cards), "notes": notes}


def read_run(workdir: str | Path, name: str) -> Run:
    """Reads what is in the folder of a run; raises UsageError if there is no run."""
    folder = Path(workdir)
    recognizer = load(folder)
    metrics = read_metrics(folder / "metrics.jsonl")
    evaluation = read_evaluation(folder / "eval") if (folder / "eval" / "scores.npz").exists() else None
    in_training = [row for row in metrics if row["kind"] == "eval"]
    result = evaluation.metrics() if evaluation else (in_training[-1] if in_training else {})
    told = folder / "eval" / "results.json"
    if evaluation and told.is_file():
        result = {"step": json.loads(told.read_text(encoding="utf-8")).get("step", recognizer.step)} | result
    return Run(name, recognizer, metrics, card.last(folder), result, evaluation)


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


def results_table(runs: Sequence[Run]) -> page.Table:
    """A row for each run."""
    count = len(runs[0].recognizer.classes)
    columns = [
        page.Column("run"),
        page.Column("network"),
        page.Column("parameters", ",d"),
        page.Column("steps", ",d"),
        page.Column("top-1", ".1%", bar=True, level=1 / count),
        *([page.Column("top-5", ".1%", bar=True, level=5 / count)] if count > 5 else []),
        page.Column("mean of classes", ".1%", bar=True, level=1 / count),
    ]
    keys = ["top1", *(["top5"] if count > 5 else []), "mean_class"]
    rows = [
        [
            run.name,
            run.recognizer.config.model.name,
            count_parameters(run.recognizer.variables["params"]),
            run.result.get("step", run.recognizer.step),
            *(run.result.get(key) for key in keys),
        ]
        for run in runs
    ]
    return page.Table(columns, rows)


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


def shown_clips(runs: Sequence[Run], count: int) -> tuple[list[page.ClipCard], list[str]]:
    """Clips of the first evaluated run's split with what each such run says of them, and what could not be shown.

    The look that suits the first run's network best is drawn over the frames.
    """
    told = [(run.name, run.evaluation) for run in runs if run.evaluation is not None]
    if not (told and count):
        return [], []
    recognizer = next(run.recognizer for run in runs if run.evaluation is not None)
    scores = told[0][1]
    try:
        source = open_split(recognizer.config, recognizer.config.data.eval_split)
    except VidrecError as error:
        return [], [f"Clips are left out, for the records cannot be opened: {error}"]
    numbers = {source.video_id(record): record for record in range(len(source))}
    shown = [row for row in worth_seeing(scores, len(scores.video_ids)) if scores.video_ids[row] in numbers][:count]
    if not shown:
        return [], [f"Clips are left out: {told[0][0]} was evaluated on other videos than those of {source!r}."]
    model = recognizer.model
    reader = EvalReader(
        source, ClipSpec.from_config(one_view(recognizer.config), model.num_frames, model.clip_length), 1, 1
    )
    cards = []
    for row in shown:
        video = scores.video_ids[row]
        picture = animation(drawn_over(recognizer, np.array(reader(numbers[video]).clips)), fps=FPS, scale=1)
        predictions = [said for name, evaluation in told for said in said_of(name, evaluation, video)]
        cards.append(page.ClipCard(picture, scores.classes[scores.labels[row]], predictions, note=video))
    look = default_look(model)
    return cards, [f"Over the clips: what `vidrec inspect --what {look}` shows of {told[0][0]}."]


def worth_seeing(evaluation: Evaluation, count: int) -> list[int]:
    """Rows of an evaluation: the surest mistakes, at most half, then the surest right ones, of each class in turn."""
    best = evaluation.scores.max(1)
    right = evaluation.scores.argmax(1) == evaluation.labels
    surest = [int(row) for row in np.argsort(-best, kind="stable") if evaluation.read[row]]
    wrong = [row for row in surest if not right[row]][: (count + 1) // 2]
    seen: dict[int, int] = {}
    ranked = []
    for row in surest:
        if right[row]:
            label = int(evaluation.labels[row])
            seen[label] = seen.get(label, 0) + 1
            ranked.append((seen[label], row))
    return [*wrong, *(row for _, row in sorted(ranked, key=lambda pair: pair[0]))][:count]


def said_of(name: str, evaluation: Evaluation, video: str) -> list[page.Prediction]:
    """What a network says of a video; nothing where it was not evaluated on it, or could not read it."""
    rows = [row for row, of in enumerate(evaluation.video_ids) if of == video and evaluation.read[row]]
    best = [evaluation.scores[row] for row in rows[:1]]
    return [page.Prediction(name, evaluation.classes[int(of.argmax())], float(of.max())) for of in best]
