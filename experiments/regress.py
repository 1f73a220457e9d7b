"""Do the papers' claims still hold here? A few trainings now, and what all the others came to.

    python -m experiments.regress [--full] [--out runs/papers] [--json]
    python -m experiments.regress --summary         # trains nothing, prints what the papers' claims came to
    python -m experiments.regress --figure          # trains nothing, draws claims.svg

Trained now, in minutes on two CPU cores, are the networks of which the outcome is certain: each paper's tells mirrored
videos apart and the mean of frames does not (`vidrec demo --all`), and DirecFormer's loss of maps teaches the order of
frames. The other claims are those of each paper's folder, with what results.jsonl there holds; --full runs first what
it lacks, in hours. Ends with status 1 where a certain claim does not hold.
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
from typing import NamedTuple

import experiments
from experiments.claims import Verdict, verdicts
from experiments.direcformer.run import forward_records
from experiments.figures import Mark, claim_mark, marks_svg, write
from experiments.grid import SCALES, Study, point, run, trained
from experiments.results import Results
from vidrec.cli.shared import tells_errors
from vidrec.data.pool import usable_cores
from vidrec.demo import make_records, scores, train_network
from vidrec.inspect.run_folder import read_run

PAPERS = {"ttsn": "TTSN", "direcformer": "DirecFormer", "stm": "STM", "tefe": "TEFE", "tcm": "TCM-Net"}
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


def certain(out: Path) -> list[Line]:
    """Trains what is certain, in a folder that is made anew, on all cores, and compares it with its thresholds."""
    shutil.rmtree(out, ignore_errors=True)
    records, _ = make_records(out / "demo")
    study = order_study()
    study.videos.make(out, SCALES["cpu"].size)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # small networks, side by side: a GPU would be in the way
    with ProcessPoolExecutor(usable_cores(), get_context("spawn")) as pool:
        orders = [pool.submit(order_accuracy, out, row) for row in study.rows]  # the longest first
        pairs = {name: pool.submit(pair_accuracy, out / "demo" / name, name, records) for name in ("tsn", *REACHED)}
        average, *accuracies = (one.result() for one in pairs.values())
        guided, none = (one.result() for one in orders)
    lines = [
        Line(
            f"{PAPERS[name]} sees time, the mean of frames does not",
            f"within mirrored pairs at least {least:.0%} against {CHANCE[0]:.0%} to {CHANCE[1]:.0%}",
            f"{own:.1%} against {average:.1%}",
            1,
            word(own >= least and CHANCE[0] <= average <= CHANCE[1]),
            certain=True,
        )
        for (name, least), own in zip(REACHED.items(), accuracies, strict=True)
    ]
    order = Line(
        "DirecFormer's loss of maps teaches the order of frames",
        f"OrderAcc at least {ORDER_GAIN:.0f} points above that without it",
        f"{guided:.1f} against {none:.1f}",
        1,
        word(guided - none >= ORDER_GAIN),
        certain=True,
    )
    return [*lines, order]


def pair_accuracy(run: Path, name: str, records: Path) -> float:
    """Of a network of the demo, trained in a process of its own."""
    train_network(run, name, records)
    evaluation = read_run(run, name).evaluation
    assert evaluation is not None
    return scores(evaluation)["pair_accuracy"]


def order_accuracy(out: Path, row: str) -> float:
    """OrderAcc, in percent, of a row of DirecFormer's study of it, trained in a process of its own."""
    study = order_study()
    one = point(study, study.rows[row], SCALES["cpu"], 0)
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
            f"{one.measure}: the first is better, beyond the 90 % interval of the difference",
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


def figure() -> str:
    """All claims and questions that have seeds enough: differences of their rows, with intervals."""
    charts: dict[str, dict[str, list[Mark]]] = {"the papers' claims: difference in points": {}, "questions of ours": {}}
    claims, ours = charts.values()
    for paper, study, tested in tests_of_claims():
        marks = [claim_mark(one) for one in tested if one.seeds > 1]
        (ours if study.ours else claims)[f"{PAPERS[paper]}, {study.title}"] = marks
    return marks_svg(charts, title="On toy videos: differences of rows, with 90 % intervals", level=0.0)


def summary() -> str:
    """The papers' claims, by what became of them, as Markdown."""
    cells: dict[str, dict[str, list[str]]] = {paper: defaultdict(list) for paper in PAPERS}
    for paper, study, tested in tests_of_claims():
        for one in tested if not study.ours else ():
            told = "" if one.measure in ("pairs", one.claim.measure) else f" ({one.measure})"
            cells[paper][one.word].append(f"{one.name}{told}: {one.difference:+.1f}")
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
    parser.add_argument("--full", action="store_true", help="run what the papers' folders lack, too: hours")
    parser.add_argument("--out", type=Path, help="folder of videos and runs (default: runs/papers)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--summary", action="store_true", help="train nothing, print what the papers' claims came to")
    instead.add_argument("--figure", action="store_true", help="train nothing, draw what there is: claims.svg")
    args = parser.parse_args(argv)
    if (args.figure or args.summary) and (args.full or args.out or args.json):
        parser.error("--summary and --figure show what there is: leave the other options out")
    if args.summary:
        print(summary())
        return 0
    if args.figure:
        write(Path(*experiments.__path__) / "claims.svg", figure())
        return 0
    out = args.out or Path("runs/papers")
    lines = [*certain(out / "regress"), *found_out(args.full, out)]
    print(json.dumps([one._asdict() for one in lines]) if args.json else table(lines))
    return int(any(one.certain and one.holds != word(True) for one in lines))


if __name__ == "__main__":
    sys.exit(main())
