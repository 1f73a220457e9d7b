"""Do the papers' claims still hold here? A few trainings now, and what all the others came to.

    python -m experiments.regress [--full] [--out runs/papers] [--json]
    python -m experiments.regress --summary         # trains nothing, prints what the papers' claims came to
    python -m experiments.regress --figure          # trains nothing, draws claims.svg and questions.svg

Trained now, in minutes on two CPU cores, are the networks of which the outcome is certain: each paper's tells mirrored
videos apart and the mean of frames does not (`vidrec demo --all`), and DirecFormer's loss of maps teaches the order of
frames. The other claims are those of each paper's folder, with what results.jsonl there holds; --full trains what is
certain with three seeds and runs what those lack. Ends with status 1 where a certain claim does not hold.
"""

import argparse
import importlib
import json
import os
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import experiments
from experiments.claims import Verdict, verdicts
from experiments.direcformer.run import forward_records
from experiments.figures import Mark, claim_mark, marks_svg, write
from experiments.grid import SCALES, Study, point, run, trained
from experiments.results import Results
from vidrec.cli.shared import tells_errors
from vidrec.data.pool import usable_cores
from vidrec.demo import TOYS, make_records, scores, train_network
from vidrec.errors import BusyError
from vidrec.files import alone
from vidrec.inspect.run_folder import read_run

PAPERS = {name: TOYS[name].title for name in ("ttsn", "direcformer", "stm", "tefe", "tcm")}
# Accuracy within mirrored pairs, stated beforehand with room for seeds; the mean of frames stays about a half.
REACHED = {"stm": 0.9, "tcm": 0.9, "tefe": 0.78, "ttsn": 0.85, "direcformer": 0.88}
CHANCE = (0.45, 0.55)
ORDER = ("C-S, order and maps, of shuffled clips", "C-S, none")  # rows of DirecFormer's study of OrderAcc by signs
ORDER_GAIN = 20.0  # points between them


class Line(NamedTuple):
    """One claim.

    Attributes:
      claim: what is said.
      beforehand: what must be seen for it to hold, stated before anything was run.
      measured: what was seen.
      seeds: of how many trainings of each row.
      holds: what that means.
      certain: whether it must hold.
      ours: it is no claim of the paper but a question of ours.
    """

    claim: str
    beforehand: str
    measured: str
    seeds: int
    holds: str
    certain: bool = False
    ours: bool = False


def certain(out: Path, seeds: int) -> list[Line]:
    """Trains what is certain anew, on all cores, and compares the means over the seeds with its thresholds.

    Raises:
      BusyError: another process does so in the same folder.
    """
    with alone(out, wait=False) as mine:
        if not mine:
            raise BusyError(f"another process trains in {out}: wait for its end, or give another --out")
        shutil.rmtree(out / "anew", ignore_errors=True)
        accuracies, guided, none = train_certain(out / "anew", range(seeds))
    average = accuracies.pop("tsn")
    lines = [
        Line(
            f"{PAPERS[name]} sees time, the mean of frames does not",
            f"within mirrored pairs at least {least:.0%} against {CHANCE[0]:.0%} to {CHANCE[1]:.0%}",
            f"{own:.1%} against {average:.1%}",
            seeds,
            word(own >= least and CHANCE[0] <= average <= CHANCE[1]),
            certain=True,
        )
        for (name, least), own in zip(REACHED.items(), accuracies.values(), strict=True)
    ]
    order = Line(
        "DirecFormer's loss of maps, of shuffled clips alone (ours), teaches the order of frames",
        f"OrderAcc by signs (ours) at least {ORDER_GAIN:.0f} points above that without it",
        f"{guided:.1f} against {none:.1f}",
        seeds,
        word(guided - none >= ORDER_GAIN),
        certain=True,
    )
    return [*lines, order]


def train_certain(out: Path, seeds: Sequence[int]) -> tuple[dict[str, float], float, float]:
    """Means over seeds: accuracy within pairs of the demo's networks, OrderAcc with and without the loss of maps."""
    records, _ = make_records(out / "demo")
    study = order_study()
    study.videos.make(out, SCALES["cpu"].size)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # small networks, side by side: a GPU would be in the way
    with ProcessPoolExecutor(usable_cores(), get_context("spawn")) as pool:
        orders = [[pool.submit(order_accuracy, out, row, seed) for seed in seeds] for row in study.rows]  # the longest
        pairs = {
            name: [pool.submit(pair_accuracy, out / f"demo{seed or ''}" / name, name, seed, records) for seed in seeds]
            for name in ("tsn", *REACHED)
        }
        accuracies = {name: mean(one.result() for one in each) for name, each in pairs.items()}
        guided, none = (mean(one.result() for one in each) for each in orders)
    return accuracies, guided, none


def pair_accuracy(run: Path, name: str, seed: int, records: Path) -> float:
    """Of a network of the demo, trained in a process of its own."""
    train_network(run, name, records, seed=seed)
    evaluation = read_run(run, name).evaluation
    assert evaluation is not None
    return scores(evaluation)["pair_accuracy"]


def order_accuracy(out: Path, row: str, seed: int) -> float:
    """OrderAcc, in percent, of a row of DirecFormer's study of it, trained in a process of its own."""
    study = order_study()
    one = point(study, study.rows[row], SCALES["cpu"], seed)
    return 100 * study.ask(trained(study, one, SCALES["cpu"], out))[study.measure]


def order_study() -> Study:
    """The two rows of DirecFormer's study of OrderAcc that differ most, trained half as long on half the videos."""
    study = studies_of("direcformer")["signs"]
    few = partial(forward_records, splits={"train": 256, "test": 64})
    return study._replace(
        rows={name: study.rows[name] for name in ORDER},
        overrides=(*study.overrides, "--config.train.steps=150"),
        videos=study.videos._replace(make=few),
    )


def found_out(full: bool, out: Path) -> list[Line]:
    """The claims of the papers' folders."""
    scale = SCALES["cpu"]
    if full:
        for paper in PAPERS:
            results = Results(folder_of(paper) / "results.jsonl")
            for study in studies_of(paper).values():
                run(study, scale, range(scale.seeds), results, out)
    return [
        Line(
            f"{PAPERS[paper]}, {study.title}: {one.name}",
            f"{one.measure}: {'one' if study.ours else 'the first'} is better, beyond the difference's 90 % interval",
            f"{one.better:.1f} against {one.worse:.1f}" if one.seeds else "-",
            one.seeds,
            one.word,
            ours=study.ours,
        )
        for paper, study, tested in tests_of_claims()
        for one in tested
    ]


def tests_of_claims() -> Iterator[tuple[str, Study, list[Verdict]]]:
    """Of each study the paper, itself, and its claims.

    A claim about two trainings that another study made before is left out.
    """
    scale = SCALES["cpu"]
    seen = set()
    for paper in PAPERS:
        results = Results(folder_of(paper) / "results.jsonl")
        for study in studies_of(paper).values():
            tested = []
            for one in verdicts(study, scale, results):
                what = (one.measure, *(point(study, study.rows[row], scale, 0).key for row in one.claim[:2]))
                if what not in seen:
                    seen.add(what)
                    tested.append(one)
            yield paper, study, tested


def figures() -> dict[str, str]:
    """File name -> claims, or questions, that have seeds enough: differences of their rows, with intervals."""
    claims: dict[str, list[Mark]] = {}
    questions: dict[str, list[Mark]] = {}
    for paper, study, tested in tests_of_claims():
        marks = [claim_mark(one) for one in tested if one.seeds > 1]
        (questions if study.ours else claims)[f"{PAPERS[paper]}, {study.title}"] = marks
    titles = {
        "claims.svg": ("The papers' claims on toy videos: differences of rows, with 90 % intervals", claims),
        "questions.svg": ("Questions of ours: differences of rows, with 90 % intervals", questions),
    }
    return {
        file: marks_svg({"difference in points": groups}, title=title, level=0.0)
        for file, (title, groups) in titles.items()
    }


def summary() -> str:
    """The papers' claims, by what became of them, as Markdown."""
    cells: dict[str, dict[str, list[str]]] = {paper: defaultdict(list) for paper in PAPERS}
    for paper, study, tested in tests_of_claims():
        for one in tested if not study.ours else ():
            cells[paper][one.word].append(f"{one.name_and_measure}: {one.difference:+.1f}")
    lines = ["| paper | holds | reversed | not separable |", "| --- | --- | --- | --- |"]
    for paper, by in cells.items():
        left = len(by["too few seeds"]) + len(by["not run yet"])
        others = f"{len(by['not separable'])}{f', and {left} not run yet' if left else ''}"
        holds, reverse = ("<br>".join(by[way]) for way in ("holds", "reversed"))
        lines.append(f"| [{PAPERS[paper]}](experiments/{paper}/README.md) | {holds} | {reverse} | {others} |")
    return "\n".join(lines)


def studies_of(paper: str) -> dict[str, Study]:
    """Those of a paper's folder."""
    return importlib.import_module(f"experiments.{paper}.run").STUDIES


def folder_of(paper: str) -> Path:
    """Where a paper's results stand."""
    return Path(*experiments.__path__) / paper


def word(holds: bool) -> str:
    """As it stands in the table."""
    return "holds" if holds else "DOES NOT HOLD"


def table(lines: Sequence[Line]) -> str:
    """All claims as Markdown, and below them how many came out which way."""
    rows = ["| claim | stated beforehand | measured | seeds | |", "| --- | --- | --- | ---: | --- |"]
    for one in lines:
        claim = f"{one.claim} (ours)" if one.ours else one.claim
        rows.append(f"| {claim} | {one.beforehand} | {one.measured} | {one.seeds} | {one.holds} |")
    papers = [one for one in lines if not one.certain and not one.ours]
    ours = [one for one in lines if one.ours]
    told = f"The papers' claims: {counted(papers, 'holds', 'reversed')}."
    return "\n".join([*rows, "", f"{told} Questions of ours: {counted(ours, 'first ahead', 'second ahead')}."])


def counted(lines: Sequence[Line], first: str, second: str) -> str:
    """How many came out which way, and how many of them chance would show."""
    tested = [one for one in lines if one.seeds > 1]
    words = Counter(one.holds for one in tested)
    ways = ", ".join(f"{words[way]} {way}" for way in (first, second, "not separable"))
    left = f" ({len(lines) - len(tested)} not tested)" if len(tested) < len(lines) else ""
    by_chance = f"where chance alone would give about {len(tested) / 10:.0f} of the first two"
    return f"of {len(tested)} tested at 5 % on either side{left} {ways}, {by_chance}"


@tells_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Runs, prints the table, returns the exit status."""
    parser = argparse.ArgumentParser(
        description="The papers' claims: a few trainings now, and what the others came to."
    )
    parser.add_argument("--full", action="store_true", help="three seeds, and what the papers' folders lack")
    parser.add_argument("--out", type=Path, help="folder of videos and runs (default: runs/papers)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--summary", action="store_true", help="train nothing, print what the papers' claims came to")
    instead.add_argument(
        "--figure", action="store_true", help="train nothing, draw what there is: claims.svg and questions.svg"
    )
    args = parser.parse_args(argv)
    if (args.figure or args.summary) and (args.full or args.out or args.json):
        parser.error("--summary and --figure show what there is: leave the other options out")
    if args.summary:
        print(summary())
        return 0
    if args.figure:
        for file, picture in figures().items():
            write(Path(*experiments.__path__) / file, picture)
        return 0
    out = args.out or Path("runs/papers")
    others = found_out(args.full, out)  # first: what cannot be read is told before minutes of training
    lines = [*certain(out / "regress", SCALES["cpu"].seeds if args.full else 1), *others]
    print(json.dumps([one._asdict() for one in lines]) if args.json else table(lines))
    return int(any(one.certain and one.holds != word(True) for one in lines))


if __name__ == "__main__":
    sys.exit(main())
