"""`vidrec demo`: the whole way from video files to trained networks and a report, in a few minutes on two CPU cores.

Two networks see the same videos, whose classes come in mirrored pairs: the same frames in another order. One averages
frames and cannot tell a pair apart; the other models time and can.
"""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict, FrozenConfigDict

import vidrec
from vidrec.config import base, parse_arg
from vidrec.data.convert import convert
from vidrec.data.toy import HOLD, make_toy, toy_pairs
from vidrec.data.verify import verify
from vidrec.data.video import read_video
from vidrec.errors import VidrecError
from vidrec.eval.evaluate import Evaluation, make_evaluator
from vidrec.eval.predict import Recognizer, load
from vidrec.files import atomic_write
from vidrec.inspect import page
from vidrec.inspect.render import animation
from vidrec.inspect.results import evaluate_recognizer, write_evaluation
from vidrec.models.registry import model_fields
from vidrec.progress import Progress
from vidrec.train.loop import train
from vidrec.train.report import read_metrics
from vidrec.train.state import count_parameters

STEPS = {"tsn": 80, "tsm": 160, "stm": 160}
SEES = {"tsn": "the mean of the frames", "tsm": "channels shifted in time", "stm": "motion between frames"}


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of configs/demo.py: a ResNet of four thin blocks on 8 frames of 32 x 32 pixels."""
    network = parse_arg(arg, network=tuple(STEPS)).network

    c = base()
    c.model.name = f"{network}_resnet18"
    c.model.update(stem="half", stem_width=8, widths=(8, 16, 32, 64), stage_sizes=(1, 1, 1, 1), strides=(1, 2, 2, 1))
    c.model.update(dropout=0.0, dtype="float32", bn="global", bn_momentum=0.8)  # running statistics of a short run
    if network == "stm":
        c.model.reduction = 4  # a sixteenth of eight channels would be none

    c.data.records = "records/toy"
    c.data.eval_split = "test"
    c.data.image_size = 32
    c.data.resize = (32,)
    c.data.crop = "center"
    c.data.flip = "never"  # a flipped move to the left is a move to the right

    c.optim.update(name="nadamw", lr=0.02, b2=0.99, weight_decay=0.01, decay="kernels", clip_norm=0.0)
    c.optim.update(schedule="cosine", warmup_steps=20)

    c.train.update(batch_size=32, steps=STEPS[network], log_every=10)
    c.train.update(eval_every=STEPS[network], checkpoint_every=STEPS[network])
    c.eval.batch_size = 64
    return c


def demo(
    workdir: Path,
    *,
    seed: int = 0,
    networks: tuple[str, ...] = ("tsn", "stm"),
    steps: int | None = None,
    train_per_family: int = 512,
    eval_per_family: int = 64,
) -> dict[str, Any]:
    """Runs everything below `workdir`; what is there already from an earlier call is used again.

    Args:
      steps: of each network's training; None takes those of its recipe.
      train_per_family, eval_per_family: videos and, for evaluation, pairs of mirrored videos of each pair of classes.

    Returns:
      {"videos", network: {"top1", "pair_accuracy"}, ..., "seconds", "report"}
    """
    started = time.monotonic()
    records, videos = make_records(workdir, seed, train_per_family, eval_per_family)
    recognizers, evaluations = {}, {}
    for network in networks:
        config = get_config(network)
        config.seed = seed
        config.train.steps = steps or config.train.steps
        config.data.records = str(records)
        for field, value in model_fields(config.model.name).items():
            if field not in config.model:
                config.model[field] = value
        run = workdir / network
        if not train(FrozenConfigDict(config), run, make_evaluator).finished:
            raise KeyboardInterrupt
        recognizers[network] = load(run)
        evaluations[network] = evaluate_recognizer(recognizers[network], recognizers[network].config)
        write_evaluation(evaluations[network], evaluations[network].metrics(), run / "eval")
    results = {name: scores(evaluation) for name, evaluation in evaluations.items()}
    report = workdir / "report.html"
    cards = fresh_clips(workdir, seed, recognizers)
    with atomic_write(report) as file:
        file.write(make_report(workdir, results, recognizers, evaluations, cards).encode())
    seconds = round(time.monotonic() - started, 1)
    return {"videos": videos, **results, "seconds": seconds, "report": str(report)}


def make_records(workdir: Path, seed: int, train_per_family: int, eval_per_family: int) -> tuple[Path, int]:
    """Draws the videos, converts and verifies them; gives the folder of records and the number of videos."""
    with Progress("drawing videos", 0) as progress:
        made = make_toy(
            workdir / "videos",
            seed=seed,
            train_per_family=train_per_family,
            eval_per_family=eval_per_family,
            progress=progress,
        )
    records = workdir / "records"
    with Progress("converting", 0) as progress:
        convert("list", workdir / "videos", made["annotations"], records, name="toy", short_side=0, progress=progress)
    checked = verify(records)
    if checked.problems:
        raise VidrecError(f"{records}: {checked.problems[0]}")
    return records, made["videos"]


def scores(evaluation: Evaluation) -> dict[str, float]:
    """Accuracy among all classes, and between the two classes of the true pair."""
    return {"top1": round(evaluation.top(1), 4), "pair_accuracy": round(evaluation.pair_accuracy(toy_pairs()), 4)}


def fresh_clips(workdir: Path, seed: int, recognizers: dict[str, Recognizer]) -> list[page.ClipCard]:
    """Draws one new video of each class and lets every network say what it is."""
    folder = workdir / "fresh"
    make_toy(folder, seed=seed + 1, train_per_family=2, eval_per_family=1, workers=1)
    cards = []
    for pair in toy_pairs():
        for name in pair:
            path = folder / "test" / name.replace(" ", "_") / "0000.mp4"
            predictions = []
            for network, recognizer in recognizers.items():
                predicted, score = recognizer.predict(path).top(1)[0]
                predictions.append(page.Prediction(network.upper(), predicted, score))
            video = read_video(path)
            picture = animation(video.array()[::HOLD], fps=video.fps / HOLD, scale=1)
            cards.append(page.ClipCard(picture, name, predictions))
    return cards


def make_report(
    workdir: Path,
    results: dict[str, dict[str, float]],
    recognizers: dict[str, Recognizer],
    evaluations: dict[str, Evaluation],
    cards: list[page.ClipCard],
) -> str:
    """The HTML page."""
    columns = [
        page.Column("network"),
        page.Column("sees"),
        page.Column("top-1", ".1%", bar=True, level=1 / len(toy_pairs()) / 2),
        page.Column("within mirrored pairs", ".1%", bar=True, level=0.5),
        page.Column("parameters", ",d"),
    ]
    rows = [
        [n.upper(), SEES[n], r["top1"], r["pair_accuracy"], count_parameters(recognizers[n].variables["params"])]
        for n, r in results.items()
    ]
    curves = []
    for key, title, limits in (("loss", "Training loss", None), ("top1", "Training accuracy", (0.0, 1.0))):
        series = {name.upper(): _curve(workdir / name, key) for name in results}
        curves.append(page.Curves(title, series, y_range=limits))
    confusions = [page.Confusion(n.upper(), e.confusion(), e.classes) for n, e in evaluations.items()]
    return page.report_page(
        title="vidrec demo",
        intro=headline(results),
        table=page.Table(columns, rows, caption=f"{len(next(iter(evaluations.values())).labels)} evaluation videos."),
        curves=curves,
        confusions=confusions,
        clips=cards,
        footer=page.Footer(command=f"vidrec demo --workdir {workdir}", versions=_versions(), notes=_NOTES),
    )


def headline(results: dict[str, dict[str, float]]) -> str:
    """The finding in one sentence, from the numbers."""
    told = [f"{name.upper()}, which sees {SEES[name]}, {r['pair_accuracy']:.0%}" for name, r in results.items()]
    return (
        "Each action here has a mirror action: the same frames in another order. "
        f"How often a network tells the two apart: {'; '.join(told)}; chance is 50%."
    )


_NOTES = (
    "The videos were drawn, written as H.264 files, converted to TFRecords of JPEG frames and read back by the input "
    "pipeline that real data sets go through.",
    "The clips at the end were drawn after training, with another seed.",
)


def _curve(run: Path, key: str) -> list[tuple[float, float]]:
    return [(row["step"], row[key]) for row in read_metrics(run / "metrics.jsonl") if row["kind"] == "train"]


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("jax", "flax", "optax", "grain")}
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores"
    return {"vidrec": vidrec.__version__, "python": platform.python_version(), **packages, "device": device}
