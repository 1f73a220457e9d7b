"""Evaluates a run and writes what there is to see: scores, tables, pictures; and counts saved scores again."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec.config import check
from vidrec.data.records import TFRecordSource
from vidrec.errors import UsageError, VidrecError
from vidrec.eval.evaluate import evaluate
from vidrec.eval.predict import Recognizer, load
from vidrec.eval.protocols import find_protocol
from vidrec.eval.scores import Evaluation
from vidrec.eval.statistics import BINS, calibration, most_confused, share_interval
from vidrec.files import atomic_write, write_json
from vidrec.inspect.charts import curves_svg
from vidrec.inspect.render import confusion_csv, confusion_png
from vidrec.train.sharding import at_rest, check_batch, make_mesh
from vidrec.train.start import open_split

VIEWS = ("clips", "crops", "sampling", "full_resolution", "average")  # fields of config.eval


def evaluate_run(
    workdir: str | Path,
    *,
    records: str | None = None,
    split: str | None = None,
    protocol: str | None = None,
    clips: int | None = None,
    crops: int | None = None,
    sampling: str | None = None,
    full_resolution: bool | None = None,
    average: str | None = None,
    top: Sequence[int] = (),
    batch_size: int | None = None,
    step: int | None = None,
    out: str | None = None,
) -> tuple[dict[str, Any], str]:
    """Evaluates a run's network on a split; options that are None are those of the run.

    Writes to `out` (default WORKDIR/eval): results.json, scores.npz, per_class.csv, confusion.csv, confusion.png,
    calibration.svg.

    Args:
      protocol: a name of vidrec.eval.protocols; it sets how clips are cut and averaged.
      top: of each k, the share of videos whose class is among the k best; () is 1, and 5 of more than five classes.

    Returns:
      (results as for JSON, text for a terminal)

    Raises:
      UsageError: an option contradicts the protocol, or does not fit the data.
    """
    recognizer = load(workdir, step=step)
    views = given(clips=clips, crops=crops, sampling=sampling, full_resolution=full_resolution, average=average)
    named = find_protocol(protocol, views).fields(recognizer.config.data.image_size) if protocol else {"eval": views}
    config = changed(recognizer.config, workdir, named, records=records, split=split, batch_size=batch_size)
    top = ranks(top, len(recognizer.classes))  # before hours of work
    evaluation = evaluate_recognizer(recognizer, config)
    result = about(recognizer, workdir, config) | given(protocol=protocol)
    result |= {name: config.eval[name] for name in VIEWS} | counted(evaluation, top)
    folder = Path(out or Path(workdir) / "eval")
    if jax.process_index() == 0:
        write_evaluation(evaluation, result, folder)
    return result, evaluation_text(evaluation, result, folder)


def changed(
    config: FrozenConfigDict,
    workdir: str | Path,
    fields: dict[str, dict[str, Any]],
    *,
    records: str | None = None,
    split: str | None = None,
    batch_size: int | None = None,
) -> FrozenConfigDict:
    """A run's configuration with other data and other fields, by section and name; checked."""
    new = ConfigDict(config.to_dict())
    new.data.update(given(records=records, eval_split=split))
    new.eval.update(given(batch_size=batch_size))
    for section, values in fields.items():
        new[section].update(values)
    check(new, str(workdir))
    return FrozenConfigDict(new)


def evaluate_recognizer(recognizer: Recognizer, config: FrozenConfigDict, *, show: bool = True) -> Evaluation:
    """Evaluates on all devices.

    Raises:
      UsageError: the records have other classes than the network.
    """
    source, mesh, variables = placed(recognizer, config)
    with jax.set_mesh(mesh):
        return evaluate(recognizer.model, variables, source, config, mesh, show=show and jax.process_index() == 0)


def placed(recognizer: Recognizer, config: FrozenConfigDict) -> tuple[TFRecordSource, Mesh, dict[str, Any]]:
    """The evaluation split, the mesh of all devices, and the weights on it; use them below `jax.set_mesh(mesh)`.

    Raises:
      UsageError: the records have other classes than the network, or a batch does not split over the devices.
    """
    source = open_split(config, config.data.eval_split)
    if tuple(source.classes) != recognizer.classes:
        raise UsageError(
            f"{config.data.records} has other classes ({len(source.classes)}), or another order of them, than the "
            f"network was trained on ({len(recognizer.classes)}): evaluate on the records of that data set"
        )
    mesh = make_mesh(config.mesh)
    check_batch(config.eval.batch_size, mesh, "--batch-size")
    variables = jax.device_get(recognizer.variables)
    with jax.set_mesh(mesh):
        return source, mesh, jax.device_put(variables, at_rest(variables, mesh))


def about(recognizer: Recognizer, workdir: str | Path, config: FrozenConfigDict) -> dict[str, Any]:
    """What was evaluated, on what: the first fields of every result."""
    return {"workdir": str(workdir), "step": recognizer.step, "split": config.data.eval_split}


def counted(evaluation: Evaluation, top: Sequence[int] = ()) -> dict[str, Any]:
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
        ("calibration.svg", calibration_svg(evaluation).encode()),
    ):
        with atomic_write(folder / name) as file:
            file.write(data)
    with atomic_write(folder / "scores.npz") as file:
        np.savez(file, allow_pickle=False, **_arrays(evaluation))
    write_json(folder / "results.json", {**result, "unreadable_videos": evaluation.unreadable})


def read_evaluation(folder: str | Path) -> Evaluation:
    """The evaluation whose scores.npz is in `folder`, as `write_evaluation` wrote it, or in `folder`/eval.

    Raises:
      UsageError: no scores there. VidrecError: they are damaged, or of an older version.
    """
    path = next(
        (path for path in (Path(folder, "scores.npz"), Path(folder, "eval/scores.npz")) if path.is_file()), None
    )
    if path is None:
        raise UsageError(f"there are no scores in {folder}: give a folder that `vidrec eval` wrote, or a run's")
    try:
        with np.load(path) as file:
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
    except (KeyError, ValueError, OSError, EOFError) as error:
        raise VidrecError(f"{path} is damaged or of an older version ({error}); run `vidrec eval` again") from error


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
    views = f", {result['clips']} x {result['crops']} clips and crops each" if "clips" in result else ""
    shares = [
        f"{name} {result[name]:.4f} ({low:.4f} to {high:.4f})" for name, (low, high) in result["intervals"].items()
    ]
    lines = [f"{result['videos']} videos{views}: {', '.join(shares)}, mean_class {result['mean_class']:.4f}"]
    lines.append(f"Intervals: 95 %, Wilson's. Expected calibration error (15 bins): {result['ece']:.4f}")
    if evaluation.unreadable:
        lines.append(f"Not counted, unreadable: {', '.join(evaluation.unreadable)}")
    present = [row for row in evaluation.per_class() if row[1]]
    for name, videos, accuracy in sorted(present, key=lambda row: row[2])[:5]:
        lines.append(f"  {accuracy:6.1%} of {videos:5d}  {name}")
    lines += [f"  {line}" for line in confused_lines(evaluation)[:5]]
    if folder:
        lines.append(f"Scores, tables and pictures: {folder}")
    return "\n".join(lines)


def names_of(workdirs: Sequence[str | Path]) -> list[str]:
    """What each run is called: the last part of its folder, or all that they do not have in common."""
    paths = [Path(folder).resolve() for folder in workdirs]
    if len(set(paths)) < len(paths):
        raise UsageError("a run is given twice")
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    above = Path(os.path.commonpath(paths))
    return [str(path.relative_to(above)) for path in paths]


def given(**options: Any) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}
