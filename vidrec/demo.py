"""`vidrec demo`: the whole way from video files to trained networks and a report, in a few minutes on two CPU cores.

Networks see the same videos, whose classes come in mirrored pairs: the same frames in another order. One averages
frames and cannot tell a pair apart; the others model time and can: STM, or with --all one of each paper.
"""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

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
from vidrec.inspect.run_report import curves
from vidrec.models.registry import model_fields
from vidrec.progress import Progress
from vidrec.train.loop import train
from vidrec.train.report import read_metrics
from vidrec.train.state import count_parameters
from vidrec.train.tasks import task_fields


class Toy(NamedTuple):
    """How one network is made small enough for the toy videos, and trained on them.

    Attributes:
      model: its name.
      steps: length of training.
      sees: what it has beside single frames, in words.
      fields: fields of the network that differ from its defaults.
      lr: learning rate.
      clip_norm: of the gradient; 0 is off.
      task: fields of `config.task`.
    """

    model: str
    steps: int
    sees: str
    fields: dict[str, Any]
    lr: float = 0.02
    clip_norm: float = 0.0
    task: dict[str, Any] = {}  # noqa: RUF012  read only


RESNET = {
    "stem": "half", "stem_width": 8, "widths": (8, 16, 32, 64), "stage_sizes": (1, 1, 1, 1), "strides": (1, 2, 2, 1),
    "dtype": "float32", "bn": "global", "bn_momentum": 0.8,  # running statistics of a short run
}  # fmt: skip
TRANSFORMER = {
    "image_size": 32, "patch_size": 8, "dim": 64, "depth": 2, "heads": 4, "drop_path": 0.0, "dtype": "float32",
    "time_embed_std": 1.0, "init_std": 0.125,  # too few steps to grow from nothing, or from what suits a wide network
}  # fmt: skip
TOYS = {
    "tsn": Toy("tsn_resnet18", 80, "the mean of the frames", RESNET),
    "tsm": Toy("tsm_resnet18", 160, "channels shifted in time", RESNET),
    "tdn": Toy("tdn_resnet50", 160, "differences of neighbouring frames", RESNET),
    "stm": Toy("stm_resnet18", 160, "motion between frames", {**RESNET, "reduction": 4}),  # not 8/16 channels
    "tcm": Toy("tcm_resnet18", 120, "where things went, by correlation", {**RESNET, "tcm_patch": 7}),
    "tefe": Toy(
        "tefe_resnet50", 140, "excitation over time, 3D products",
        {**RESNET, "bottleneck": False, "te": (1, 1, 0, 0), "fe": (0, 0, 1, 1), "fe_init": "random"},
    ),
    "ttsn": Toy(
        "ttsn_resnet50", 300, "attention between frames",
        {**RESNET, "bottleneck": False, "backbone": "tsn", "ett_pe_std": 1.5, "ett_inverse_std": 0.25},
        lr=0.03, task={"name": "tss", "weight": 0.1},
    ),
    "timesformer": Toy("timesformer_base", 160, "attention in time and space", TRANSFORMER, 0.003, 1.0),
    "direcformer": Toy(
        "direcformer_base", 160, "directed attention in time", {**TRANSFORMER, "num_orders": 100}, 0.003, 1.0,
        {"name": "order", "order_weight": 0.1, "guided_weight": 0.1},
    ),
}  # fmt: skip
PAIR = ("tsn", "stm")
ALL = ("tsn", "stm", "tcm", "tefe", "ttsn", "direcformer")


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of configs/demo.py: a thin network on 8 frames of 32 x 32 pixels."""
    network = parse_arg(arg, network=tuple(TOYS)).network
    toy = TOYS[network]

    c = base()
    c.model.name = toy.model
    c.model.update(dropout=0.0, **toy.fields)
    c.task.update(toy.task)

    c.data.records = "records/toy"
    c.data.eval_split = "test"
    c.data.image_size = 32
    c.data.resize = (32,)
    c.data.crop = "center"
    c.data.flip = "never"  # a flipped move to the left is a move to the right

    c.optim.update(name="nadamw", lr=toy.lr, b2=0.99, weight_decay=0.01, decay="kernels", clip_norm=toy.clip_norm)
    c.optim.update(schedule="cosine", warmup_steps=20)

    c.train.update(batch_size=32, steps=toy.steps, log_every=10, eval_every=toy.steps, checkpoint_every=toy.steps)
    c.eval.batch_size = 64
    return c


def demo(
    workdir: Path,
    *,
    seed: int = 0,
    networks: tuple[str, ...] = PAIR,
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
        for section, fields in ((config.model, model_fields), (config.task, task_fields)):
            section.update({field: value for field, value in fields(section.name).items() if field not in section})
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
        [n.upper(), TOYS[n].sees, r["top1"], r["pair_accuracy"], count_parameters(recognizers[n].variables["params"])]
        for n, r in results.items()
    ]
    confusions = [page.Confusion(n.upper(), e.confusion(), e.classes) for n, e in evaluations.items()]
    return page.report_page(
        title="vidrec demo",
        intro=headline(results),
        table=page.Table(columns, rows, caption=f"{len(next(iter(evaluations.values())).labels)} evaluation videos."),
        curves=curves([(name.upper(), read_metrics(workdir / name / "metrics.jsonl")) for name in results]),
        confusions=confusions,
        clips=cards,
        footer=page.Footer(command=f"vidrec demo --workdir {workdir}", versions=_versions(), notes=_NOTES),
    )


def headline(results: dict[str, dict[str, float]]) -> str:
    """The finding in one sentence, from the numbers."""
    told = [f"{name.upper()}, which sees {TOYS[name].sees}, {r['pair_accuracy']:.0%}" for name, r in results.items()]
    return (
        "Each action here has a mirror action: the same frames in another order. "
        f"How often a network tells the two apart: {'; '.join(told)}; chance is 50%."
    )


_NOTES = (
    "The videos were drawn, written as H.264 files, converted to TFRecords of JPEG frames and read back by the input "
    "pipeline that real data sets go through.",
    "The clips at the end were drawn after training, with another seed.",
)


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("jax", "flax", "optax", "grain")}
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores"
    return {"vidrec": vidrec.__version__, "python": platform.python_version(), **packages, "device": device}
