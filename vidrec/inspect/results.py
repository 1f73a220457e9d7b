"""Evaluates a run and writes what there is to see: scores, per-class table, confusion matrix as numbers and picture."""

import csv
import io
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec.config import check
from vidrec.errors import UsageError
from vidrec.eval.evaluate import Evaluation, evaluate
from vidrec.eval.predict import Recognizer, load
from vidrec.files import atomic_write, write_json
from vidrec.inspect.render import confusion_csv, confusion_png
from vidrec.train.sharding import at_rest, check_batch, make_mesh
from vidrec.train.start import open_split


def evaluate_run(
    workdir: str | Path,
    *,
    records: str | None = None,
    split: str | None = None,
    clips: int | None = None,
    crops: int | None = None,
    sampling: str | None = None,
    full_resolution: bool = False,
    batch_size: int | None = None,
    step: int | None = None,
    out: str | None = None,
) -> tuple[dict[str, Any], str]:
    """Evaluates a run's network on a split; options that are None are those of the run.

    Writes to `out` (default WORKDIR/eval): results.json, scores.npz, per_class.csv, confusion.csv, confusion.png.

    Returns:
      (results as for JSON, text for a terminal)
    """
    recognizer = load(workdir, step=step)
    config = ConfigDict(recognizer.config)
    config.data.update(_given(records=records, eval_split=split))
    views = {"clips": clips, "crops": crops, "sampling": sampling, "full_resolution": full_resolution or None}
    config.eval.update(_given(batch_size=batch_size, **views))
    check(config, str(workdir))
    config = FrozenConfigDict(config)
    evaluation = evaluate_recognizer(recognizer, config)
    result = {"workdir": str(workdir), "step": recognizer.step, "split": config.data.eval_split}
    result |= {name: config.eval[name] for name in ("clips", "sampling", "crops", "full_resolution")}
    result |= evaluation.metrics()
    folder = Path(out or Path(workdir) / "eval")
    if jax.process_index() == 0:
        write_evaluation(evaluation, result, folder)
    return result, evaluation_text(evaluation, result, folder)


def evaluate_recognizer(recognizer: Recognizer, config: FrozenConfigDict, *, show: bool = True) -> Evaluation:
    """Evaluates on all devices.

    Raises:
      UsageError: the records have other classes than the network.
    """
    source = open_split(config, config.data.eval_split)
    if tuple(source.classes) != recognizer.classes:
        raise UsageError(
            f"{config.data.records} has other classes ({len(source.classes)}), or another order of them, than the "
            f"network was trained on ({len(recognizer.classes)}): evaluate on the records of that data set"
        )
    mesh = make_mesh(config.mesh)
    check_batch(config.eval.batch_size, mesh, "--batch-size")
    with jax.set_mesh(mesh):
        variables = jax.device_get(recognizer.variables)
        variables = jax.device_put(variables, at_rest(variables, mesh))
        return evaluate(recognizer.model, variables, source, config, mesh, show=show and jax.process_index() == 0)


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
        ("confusion.png", confusion_png(matrix, evaluation.classes)),
    ):
        with atomic_write(folder / name) as file:
            file.write(data)
    with atomic_write(folder / "scores.npz") as file:
        ids = np.array(evaluation.video_ids)
        np.savez_compressed(file, scores=evaluation.scores, labels=evaluation.labels, video_ids=ids)
    write_json(folder / "results.json", {**result, "unreadable_videos": evaluation.unreadable})


def evaluation_text(evaluation: Evaluation, result: dict[str, Any], folder: Path) -> str:
    """The metrics, the five weakest classes, and where the rest stands."""
    names = [name for name in ("top1", "top5", "mean_class") if name in result]
    views = f", {result['clips']} x {result['crops']} clips and crops each"
    lines = [f"{result['videos']} videos{views}: " + ", ".join(f"{name} {result[name]:.4f}" for name in names)]
    if evaluation.unreadable:
        lines.append(f"Not counted, unreadable: {', '.join(evaluation.unreadable)}")
    present = [row for row in evaluation.per_class() if row[1]]
    for name, videos, accuracy in sorted(present, key=lambda row: row[2])[:5]:
        lines.append(f"  {accuracy:6.1%} of {videos:5d}  {name}")
    lines.append(f"Scores, per-class table and confusion matrix: {folder}")
    return "\n".join(lines)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
