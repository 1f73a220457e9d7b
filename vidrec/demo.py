"""`vidrec demo`: the whole way from video files to trained networks and a report, in a few minutes on two CPU cores.

Networks see the same videos, whose classes come in mirrored pairs: the same frames in another order. One averages
frames and cannot tell a pair apart; the others model time and can: STM, or with --all one of each paper.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from vidrec.config import base, parse_arg
from vidrec.data.convert import convert
from vidrec.data.toy import make_toy, toy_pairs
from vidrec.data.verify import verify
from vidrec.errors import VidrecError
from vidrec.eval.evaluate import make_evaluator
from vidrec.eval.scores import Evaluation
from vidrec.inspect import page
from vidrec.inspect.results import evaluate_run
from vidrec.inspect.run_folder import Run, read_run
from vidrec.inspect.run_report import write_report
from vidrec.inspect.run_tables import Fact
from vidrec.progress import Progress
from vidrec.text import aligned
from vidrec.train.loop import train
from vidrec.train.recipe import complete


class Toy(NamedTuple):
    """How one network is made small enough for the toy videos, and trained on them.

    Attributes:
      title: how its paper writes it.
      model: its name.
      steps: length of training.
      sees: what it has beside single frames, in words.
      fields: fields of the network that differ from its defaults.
      lr: learning rate.
      clip_norm: of the gradient; 0 is off.
      task: fields of `config.task`.
    """

    title: str
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
    "tsn": Toy("TSN", "tsn_resnet18", 80, "the mean of the frames", RESNET),
    "tsm": Toy("TSM", "tsm_resnet18", 160, "channels shifted in time", RESNET),
    "tdn": Toy("TDN", "tdn_resnet50", 160, "differences of neighbouring frames", RESNET),
    "stm": Toy("STM", "stm_resnet18", 160, "motion between frames", {**RESNET, "reduction": 4}),  # not 8/16 channels
    "tcm": Toy("TCM-Net", "tcm_resnet18", 120, "where things went, by correlation", {**RESNET, "tcm_patch": 7}),
    "tefe": Toy(
        "TEFE", "tefe_resnet50", 140, "excitation over time, 3D products",
        {**RESNET, "bottleneck": False, "te": (1, 1, 0, 0), "fe": (0, 0, 1, 1), "fe_init": "random"},
    ),
    "ttsn": Toy(
        "TTSN", "ttsn_resnet50", 300, "attention between frames",
        {**RESNET, "bottleneck": False, "backbone": "tsn", "ett_pe_std": 1.5, "ett_inverse_std": 0.25},
        lr=0.03, task={"name": "tss", "weight": 0.1},
    ),
    "timesformer": Toy(
        "TimeSformer", "timesformer_base", 160, "attention in time and space", TRANSFORMER, 0.003, 1.0
    ),
    "direcformer": Toy(
        "DirecFormer", "direcformer_base", 160, "directed attention in time", {**TRANSFORMER, "num_orders": 100},
        0.003, 1.0, {"name": "order", "order_weight": 0.1, "guided_weight": 0.1},
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
    for network in networks:
        train_network(workdir / network, network, records, seed=seed, steps=steps)
    runs = [read_run(workdir / network, TOYS[network].title) for network in networks]
    results = {network: scores(run.evaluation) for network, run in zip(networks, runs, strict=True) if run.evaluation}
    report = write_demo_report(workdir, runs, results)
    return {"videos": videos, **results, "seconds": round(time.monotonic() - started, 1), "report": report}


def table(result: dict[str, Any]) -> str:
    """What `demo` returned, to read."""
    lines = [("network", "sees", "top-1", "within mirrored pairs")]
    for name in (name for name in TOYS if name in result):
        toy, measured = TOYS[name], result[name]
        lines.append((toy.title, toy.sees, f"{measured['top1']:.1%}", f"{measured['pair_accuracy']:.1%}"))
    pages = f"{result['videos']} videos, {result['seconds']:.0f} seconds; what the networks see: {result['report']}"
    return f"{aligned(lines, left=2)}\n{pages}"


def make_records(
    workdir: Path, seed: int = 0, train_per_family: int = 512, eval_per_family: int = 64
) -> tuple[Path, int]:
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


def train_network(run: Path, network: str, records: Path, *, seed: int = 0, steps: int | None = None) -> None:
    """Trains a network of TOYS, or goes on with it, and evaluates it.

    Raises:
      KeyboardInterrupt: it was asked to stop before the end.
    """
    config = get_config(network)
    config.seed = seed
    config.train.steps = steps or config.train.steps
    config.data.records = str(records)
    if not train(complete(config), run, make_evaluator).finished:
        raise KeyboardInterrupt
    evaluate_run(run)


def scores(evaluation: Evaluation) -> dict[str, float]:
    """Accuracy among all classes, and between the two classes of the true pair."""
    return {"top1": round(evaluation.top(1), 4), "pair_accuracy": round(evaluation.pair_accuracy(toy_pairs()), 4)}


def write_demo_report(workdir: Path, runs: list[Run], results: dict[str, dict[str, float]]) -> str:
    """Writes report.html, with what is particular to these networks and videos; gives its path."""
    within = page.Column("within mirrored pairs", ".1%", bar=True, level=0.5)
    names = {TOYS[name].title: name for name in results}
    told = write_report(
        runs,
        workdir / "report.html",
        title="vidrec demo",
        finding=headline(results),
        command=f"vidrec demo --workdir {workdir}",
        clips=len(toy_pairs()) * 2,
        columns=[
            Fact(page.Column("sees"), lambda run: TOYS[names[run.name]].sees),
            Fact(within, lambda run: results[names[run.name]]["pair_accuracy"]),
        ],
        notes=_NOTES,
    )
    return told["report"]


def headline(results: dict[str, dict[str, float]]) -> str:
    """The finding in one sentence, from the numbers."""
    told = [
        f"{TOYS[name].title}, which sees {TOYS[name].sees}, {measured['pair_accuracy']:.0%}"
        for name, measured in results.items()
    ]
    return (
        "Each action here has a mirror action: the same frames in another order. "
        f"How often a network tells the two apart: {'; '.join(told)}; chance is 50%."
    )


_NOTES = (
    "The videos were drawn, written as H.264 files, converted to TFRecords of JPEG frames and read back by the input "
    "pipeline that real data sets go through. No network was trained on those that are evaluated and shown.",
)
