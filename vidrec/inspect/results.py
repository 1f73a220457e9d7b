"""Evaluates a run and writes what there is to see: scores, tables, pictures."""

import csv
import io
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack
from zipfile import BadZipFile

import jax
import numpy as np
from ml_collections import FrozenConfigDict

from vidrec.errors import UsageError, VidrecError
from vidrec.eval.evaluate import evaluate
from vidrec.eval.predict import Recognizer, load
from vidrec.eval.protocols import find_protocol
from vidrec.eval.scores import Evaluation
from vidrec.eval.statistics import BINS, calibration, most_confused, share_interval
from vidrec.files import atomic_write, write_json
from vidrec.inspect.charts import as_file, curves_svg
from vidrec.inspect.prepared import (
    Choices,
    Prepared,
    changed_config,
    is_lead,
    prepare,
    results_folder,
    without_none,
)
from vidrec.inspect.render import confusion_csv, confusion_png

_TOLD = 5  # classes, and pairs of them, in the text for a terminal
VIEWS = ("clips", "crops", "sampling", "full_resolution", "average")  # fields of config.eval


def evaluate_run(
    workdir: str | Path,
    *,
    protocol: str | None = None,
    clips: int | None = None,
    crops: int | None = None,
    sampling: str | None = None,
    full_resolution: bool | None = None,
    average: str | None = None,
    top: Sequence[int] = (),
    step: int | None = None,
    out: str | None = None,
    **choices: Unpack[Choices],
) -> tuple[dict[str, Any], str]:
    """Evaluates a run's network on a split; options that are None are those of the run.

    Writes to `out` (default WORKDIR/eval, by a protocol WORKDIR/eval/PROTOCOL): results.json, scores.npz,
    per_class.csv, confusion.csv, confusion.png, calibration.svg.

    Args:
      protocol: a name of vidrec.eval.protocols; it sets which frames are seen, how they are cut and averaged.
      top: of each k, the share of videos whose class is among the k best; () is 1, and 5 of more than five classes.

    Returns:
      (results as for JSON, text for a terminal)

    Raises:
      UsageError: an option contradicts the protocol, does not fit the data, or the network has no such protocol.
    """
    recognizer = load(workdir, step=step)
    views = without_none(clips=clips, crops=crops, sampling=sampling, full_resolution=full_resolution, average=average)
    fields = find_protocol(protocol, views).fields(recognizer.config.data.image_size) if protocol else {"eval": views}
    run = prepare(recognizer, changed_config(recognizer.config, workdir, fields, **choices))
    if protocol:
        check_protocol(protocol, run)
    top = ranks(top, len(recognizer.classes))  # before hours of work
    evaluation = evaluate_prepared(run)
    result = run.facts(workdir) | without_none(protocol=protocol) | run.clip_facts()
    result |= {name: run.config.eval[name] for name in VIEWS} | counts_of(evaluation, top)
    folder = results_folder(workdir, out, protocol or "")
    if is_lead():
        write_evaluation(evaluation, result, folder)
    return result, evaluation_text(evaluation, result, folder)


def check_protocol(protocol: str, run: Prepared) -> None:
    """Raises UsageError where the network cannot be tested so: by its frames, or by the size of its pictures."""
    model = run.recognizer.model
    try:
        spec = run.spec
        if spec.picture != run.recognizer.spec.picture:
            clips = jax.ShapeDtypeStruct((1, spec.frames, *spec.picture, 3), np.float32)
            jax.eval_shape(partial(model.apply, train=False), run.recognizer.variables, clips)
    except VidrecError as error:
        raise UsageError(f"protocol {protocol} cannot be had for this network: {error}") from None


def evaluate_recognizer(recognizer: Recognizer, config: FrozenConfigDict) -> Evaluation:
    """Evaluates on all devices, with the records and views of a configuration.

    Raises:
      UsageError: the records have other classes than the network.
    """
    return evaluate_prepared(prepare(recognizer, config))


def evaluate_prepared(run: Prepared) -> Evaluation:
    """Evaluates on all devices."""
    with run.on_devices() as (mesh, variables):
        return evaluate(run.recognizer.model, variables, run.source, run.config, mesh, show=is_lead())


def counts_of(evaluation: Evaluation, top: Sequence[int] = ()) -> dict[str, Any]:
    """All that is counted from scores, as for JSON: metrics, 95 % intervals, calibration, classes most confused.

    Intervals are Wilson's, of the shares of single videos; the calibration error has 15 bins (see
    vidrec.eval.statistics).

    Args:
      top: as of `ranks`.
    """
    ks = ranks(top, len(evaluation.classes))
    metrics = {f"top{k}": evaluation.top(k) for k in ks}
    metrics |= {name: value for name, value in evaluation.metrics().items() if not name.startswith("top")}
    return metrics | {
        "intervals": {f"top{k}": share_interval(evaluation.correct(k)) for k in ks},
        "ece": calibration(evaluation.scores[evaluation.read], evaluation.labels[evaluation.read]).error,
        "confused": [pair._asdict() for pair in most_confused(evaluation.confusion(), evaluation.classes)],
    }


def ranks(top: Sequence[int], classes: int) -> tuple[int, ...]:
    """The k for which the share of videos is counted whose class is among the k best; () is 1, and 5 of more than 5.

    Raises:
      UsageError: the k best of k classes, or of fewer, are no measure.
    """
    if wrong := [k for k in top if not 0 < k < max(classes, 2)]:
        raise UsageError(f"--top {wrong[0]} tells nothing of {classes} classes: take 1 to {classes - 1}")
    return tuple(top) or ((1, 5) if classes > 5 else (1,))


def write_evaluation(evaluation: Evaluation, result: dict[str, Any], folder: Path) -> None:
    """Writes the files of an evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    matrix = evaluation.confusion()
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["class", "videos", "accuracy"])
    writer.writerows((name, videos, f"{accuracy:.6f}") for name, videos, accuracy in evaluation.per_class())
    for name, data in (
        ("per_class.csv", table.getvalue().encode()),
        ("confusion.csv", confusion_csv(matrix, evaluation.classes).encode()),
        ("confusion.png", confusion_png(matrix, evaluation.classes, notes=confused_lines(evaluation))),
        ("calibration.svg", as_file(calibration_svg(evaluation)).encode()),
    ):
        with atomic_write(folder / name) as file:
            file.write(data)
    with atomic_write(folder / "scores.npz") as file:
        np.savez(file, allow_pickle=False, **_arrays(evaluation))
    write_json(folder / "results.json", {**result, "unreadable_videos": evaluation.unreadable})


def read_evaluation(folder: str | Path) -> Evaluation:
    """The evaluation whose scores.npz is in `folder`, as `write_evaluation` wrote it, or in `folder`/eval.

    Evaluations by protocols lie in folders of their own, below `folder`/eval.

    Raises:
      UsageError: no scores there. VidrecError: they are damaged, or of an older version.
    """
    path = next(
        (path for path in (Path(folder, "scores.npz"), Path(folder, "eval/scores.npz")) if path.is_file()), None
    )
    if path is None:
        below = evaluation_folders(folder)
        hint = f"give {' or '.join(map(str, below))}" if below else f"run `vidrec eval --workdir {folder}` first"
        raise UsageError(f"there are no scores in {folder}: {hint}")
    try:
        with open(path, "rb") as data, np.load(data) as file:
            arrays = {name: file[name] for name in file.files}
        return Evaluation(
            arrays["scores"],
            arrays["labels"],
            arrays["read"],
            arrays["video_ids"].tolist(),
            tuple(arrays["classes"].tolist()),
            arrays.get("logits"),
            tuple(arrays["views"].tolist()),
        )
    except (KeyError, ValueError, OSError, EOFError, BadZipFile) as error:
        raise VidrecError(f"{path} is damaged or of an older version ({error}); run `vidrec eval` again") from error


def evaluation_folders(workdir: str | Path) -> list[Path]:
    """Where the evaluations of a run lie: the plain one, then those by protocols."""
    folder = Path(workdir, "eval")
    found = (folder / "results.json", *sorted(folder.glob("*/results.json")))
    return [path.parent for path in found if path.is_file()]


def _arrays(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """What scores.npz holds; logits of single views are not compressed, as they would hardly become smaller."""
    names = ("scores", "labels", "read", "logits")
    arrays = {name: array for name in names if (array := getattr(evaluation, name)) is not None}
    return arrays | {name: np.array(getattr(evaluation, name), str) for name in ("video_ids", "classes", "views")}


def confused_lines(evaluation: Evaluation) -> list[str]:
    """Which classes are most often taken for which, by name."""
    return [
        f"{pair.share:6.1%} of {pair.true!r} taken for {pair.called!r} ({pair.videos})"
        for pair in most_confused(evaluation.confusion(), evaluation.classes)
    ]


def calibration_svg(evaluation: Evaluation) -> str:
    """Accuracy against confidence, by bins that have videos; honest scores lie on the diagonal."""
    found = calibration(evaluation.scores[evaluation.read], evaluation.labels[evaluation.read])
    bins = [i for i in range(BINS) if found.videos[i]]
    points = [(float(found.confidence[i]), float(found.accuracy[i])) for i in bins]
    return curves_svg(
        {"videos in bins of confidence": points, "as often right as sure": [(0.0, 0.0), (1.0, 1.0)]},
        title=f"Calibration: expected error {found.error:.3f}",
        y_label="share that is right",
        x_label="score of the best class",
        y_range=(0, 1),
    )


def evaluation_text(evaluation: Evaluation, result: dict[str, Any], folder: Path | None) -> str:
    """The metrics, the weakest classes and the most confused ones, and where the rest stands."""
    views = (
        f", {result['clips']} x {result['crops']} clips and crops each, {result['num_frames']} frames a clip"
        if "clips" in result
        else ""
    )
    shares = [
        f"{name} {result[name]:.4f} ({low:.4f} to {high:.4f})" for name, (low, high) in result["intervals"].items()
    ]
    lines = [f"{result['videos']} videos{views}: {', '.join(shares)}, mean_class {result['mean_class']:.4f}"]
    lines.append(f"Intervals: 95 %, Wilson's. Expected calibration error (15 bins): {result['ece']:.4f}")
    if evaluation.unreadable:
        lines.append(f"Not counted, unreadable: {', '.join(evaluation.unreadable)}")
    present = [row for row in evaluation.per_class() if row[1]]
    lines.append(f"Weakest of {len(present)} classes:" if len(present) > _TOLD else "Each class:")
    for name, videos, accuracy in sorted(present, key=lambda row: row[2])[:_TOLD]:
        lines.append(f"  {accuracy:6.1%} of {videos:5d}  {name}")
    lines += [f"  {line}" for line in confused_lines(evaluation)[:_TOLD]]
    if folder:
        lines.append(f"Scores, tables and pictures: {folder}")
    return "\n".join(lines)


def names_of(workdirs: Sequence[str | Path]) -> list[str]:
    """What each run is called: the last part of its folder, or all that they do not have in common.

    Raises:
      UsageError: a run is given twice.
    """
    paths = [Path(folder).resolve() for folder in workdirs]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise UsageError(f"a run is given twice: {twice}")
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    above = Path(os.path.commonpath([path.parent for path in paths]))
    return [str(path.relative_to(above)) for path in paths]
