"""The papers' tables at a scale that fits a laptop: rows, what is expected of them, and what they came to.

A folder of each paper has its studies and, in results.jsonl, the result of each of their points: a recipe and a seed.
A point that stands there is not run again. All networks see the same videos (`vidrec toy --level benchmark`). The
command of such a folder is in `paper.py`.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from experiments.training import train_small
from vidrec import config as configuration
from vidrec.data.convert import convert
from vidrec.data.manifest import FILE_NAME
from vidrec.data.pool import usable_cores
from vidrec.data.toy import make_toy, toy_pairs
from vidrec.eval.predict import load
from vidrec.files import atomic_write
from vidrec.inspect.results import evaluate_recognizer
from vidrec.launch.sweep import slug
from vidrec.models.registry import model_fields
from vidrec.progress import Progress
from vidrec.train.tasks import task_fields

Measures = dict[str, float]
Found = dict[str, dict[int, float]]  # row -> seed -> percent

MOST_SEEDS = 8

# One-sided 95 % points of Student's t, by the number of seeds.
T95 = {2: 6.31, 3: 2.92, 4: 2.35, 5: 2.13, 6: 2.02, 7: 1.94, 8: 1.89}


def accuracy(folder: Path) -> Measures:
    """Top-1, and of toys the accuracy between the two classes of the true pair."""
    recognizer = load(folder)
    evaluation = evaluate_recognizer(recognizer, recognizer.config)
    measures = {"top1": evaluation.top(1)}
    pairs = toy_pairs("benchmark")
    if {name for pair in pairs for name in pair} == set(recognizer.classes):
        measures["pairs"] = evaluation.pair_accuracy(pairs)
    return measures


class Videos(NamedTuple):
    """Toy videos.

    Attributes:
      name: part of a result's name.
      make: folder, size in pixels -> folder of records.
    """

    name: str
    make: Callable[[Path, int], Path]


def benchmark_records(out: Path, size: int) -> Path:
    """Draws and converts the videos of the benchmark level; returns the folder of records."""
    with Progress("drawing videos", 0) as progress:
        made = make_toy(out / f"videos-{size}", level="benchmark", size=size, progress=progress)
    records = out / f"records-{size}"
    if not (records / FILE_NAME).exists():  # finished records are not locked: several processes may read them
        with Progress("converting", 0) as progress:
            convert(
                "list", out / f"videos-{size}", made["annotations"], records, name="toy", short_side=0,
                progress=progress,
            )  # fmt: skip
    return records


BENCHMARK = Videos("benchmark", benchmark_records)


class Row(NamedTuple):
    """One row of a table.

    Attributes:
      args: of the recipe, behind the data set.
      published: the paper's number.
      toy: arguments for the toy network where it needs others.
      overrides: of the toy recipe, --config.section.field=value.
      measure: by which it is compared, if not by the study's.
      only: "paper" where the toy network has no such row, "toys" where the paper's has none; "": both do.
    """

    args: str
    published: float | None = None
    toy: str | None = None
    overrides: tuple[str, ...] = ()
    measure: str = ""
    only: Literal["", "paper", "toys"] = ""


class Claim(NamedTuple):
    """What the paper says of two rows, which is looked for here: that one is better than the other."""

    better: str
    worse: str


class Study(NamedTuple):
    """A table or figure of a paper.

    Attributes:
      title: in the paper.
      recipe: file of the recipe.
      dataset: of the paper's rows.
      rows: name -> row.
      claims: stated before their rows were run.
      measure: of the measures of `ask`, that which rows are compared by.
      ask: folder of a run -> measures, shares of 1.
      overrides: of the toy recipes of all rows.
      longer: how many times as many steps the toys are trained; if not 1, the study is of toys alone.
      videos: that the toys are trained and tested on.
      curve: measures of `ask` that are drawn as a curve, named so with a number behind, such as "stride".
    """

    title: str
    recipe: str
    dataset: str
    rows: dict[str, Row]
    claims: tuple[Claim, ...]
    measure: str = "pairs"
    ask: Callable[[Path], Measures] = accuracy
    overrides: tuple[str, ...] = ()
    longer: int = 1
    videos: Videos = BENCHMARK
    curve: str = ""

    def rows_at(self, scale: "Scale") -> dict[str, Row]:
        """The rows that there are at a scale."""
        if self.longer != 1 and not scale.size:
            return {}
        return {name: row for name, row in self.rows.items() if row.only in ("", "toys" if scale.size else "paper")}


class Scale(NamedTuple):
    """How large the experiments are.

    Attributes:
      size: of the toy videos, in pixels; 0: the paper's own recipe and data.
      seeds: how many.
      overrides: of all toy recipes.
      records: of the paper's data set, folder or address; "": where its recipe says.
      init: weights that the paper's networks start from; {model} stands for the network's name.
    """

    size: int
    seeds: int
    overrides: tuple[str, ...] = ()
    records: str = ""
    init: str = ""


SCALES = {
    "cpu": Scale(64, 3),
    "gpu": Scale(112, 5, ("--config.data.image_size=64", "--config.data.resize=(64,)", "--config.train.steps=1500")),
    "paper": Scale(0, 1),
}


class Point(NamedTuple):
    """One training: a recipe, completed, the name of the videos it is trained on, and a seed."""

    spec: str
    config: FrozenConfigDict
    videos: str
    seed: int

    @property
    def key(self) -> str:
        """Names it among the results, and its run's folder: what its configuration adds to the defaults is in it."""
        path, _, args = self.spec.partition(":")
        own = hashlib.sha256(json.dumps(own_fields(self.config), sort_keys=True).encode()).hexdigest()[:8]
        return slug(f"{Path(path).stem} {args} {self.videos} {own} seed{self.seed}")


def own_fields(config: FrozenConfigDict) -> dict[str, Any]:
    """The fields that are not as they would be without the recipe, so that a new field of vidrec's changes nothing.

    Where files are is no part of it: of weights to start from the name counts.
    """
    defaults = configuration.to_dict(configuration.base())
    defaults["model"] |= model_fields(config.model.name)
    defaults["task"] |= task_fields(config.task.name)
    given = configuration.to_dict(config)
    given["data"]["records"] = defaults["data"]["records"]
    given["train"]["init"] = Path(given["train"]["init"]).stem
    return {
        f"{section}.{field}": value
        for section, fields in given.items()
        if isinstance(fields, dict)
        for field, value in fields.items()
        if value != plain(defaults[section].get(field))
    }


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    return list(map(plain, value)) if isinstance(value, tuple) else value


def point(study: Study, row: Row, scale: Scale, seed: int) -> Point:
    """The training that a row is at a scale."""
    args = row.args if not scale.size or row.toy is None else row.toy
    spec = f"{study.recipe}:{','.join(filter(None, ('toy' if scale.size else study.dataset, args)))}"
    overrides = (*study.overrides, *scale.overrides, *row.overrides) if scale.size else ()
    config = configuration.load(spec, overrides, model_fields=model_fields, task_fields=task_fields)
    own = [f"--config.train.init={scale.init.format(model=config.model.name)}"] if scale.init else []
    if scale.size and study.longer != 1:
        own.append(f"--config.train.steps={study.longer * config.train.steps}")
    if "image_size" in config.model:  # of a transformer, whose patches have places
        own.append(f"--config.model.image_size={config.data.image_size}")
    config = configuration.load(spec, (*overrides, *own), model_fields=model_fields, task_fields=task_fields)
    videos = study.videos.name if scale.size else Path(scale.records or config.data.records).name
    return Point(spec, config, videos, seed)


def measured_by(study: Study, row: Row, scale: Scale) -> str:
    """The measure by which a row is compared; only toys have mirrored pairs."""
    return row.measure or ("top1" if study.measure == "pairs" and not scale.size else study.measure)


class Results:
    """The points of results.jsonl, in the order they were run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._points = self._read()

    def measures(self, key: str) -> Measures | None:
        """Of a point, or None where it was not run."""
        return self._points[key]["measures"] if key in self._points else None

    def is_of_here(self, key: str) -> bool:
        """Whether a point was run, and on this kind of machine; of points without its name none can tell."""
        return self._points.get(key, {}).get("machine") == machine()

    def add(self, one: Point, measures: Measures) -> None:
        """Writes one more, or more measures of one: beside those that others wrote, in place of another machine's."""
        with alone(self._path.parent):
            self._points = self._read()
            before = self._points[one.key]["measures"] if self.is_of_here(one.key) else {}
            line = {"point": one.key, "recipe": one.spec, "seed": one.seed, "machine": machine()}
            self._points[one.key] = {**line, "measures": before | rounded(measures)}
            with atomic_write(self._path) as file:
                file.write("".join(json.dumps(row) + "\n" for row in self._points.values()).encode())

    def _read(self) -> dict[str, dict[str, Any]]:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return {one["point"]: one for one in map(json.loads, lines)}


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits until no other process is in here for the same folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def machine() -> str:
    """The kind of machine, on which alone numbers are the same again: JAX's name of the device, of a CPU its own."""
    if jax.default_backend() != "cpu":
        return jax.local_devices()[0].device_kind
    info = Path("/proc/cpuinfo")
    told = dict(re.findall(r"^(vendor_id|cpu family|model)\s*: (.*)$", info.read_text() if info.exists() else "", re.M))
    return " ".join([platform.machine(), *told.values(), f"{usable_cores()} cores"])


def run(study: Study, scale: Scale, seeds: Sequence[int], results: Results, out: Path) -> None:
    """Runs the points of a study that have no result yet, or none for its measure."""
    for name, row in study.rows_at(scale).items():
        for seed in seeds:
            one = point(study, row, scale, seed)
            if measured_by(study, row, scale) not in (results.measures(one.key) or {}):
                print(f"\n{study.title}: {name}, seed {seed} ({one.spec})", file=sys.stderr, flush=True)
                results.add(one, study.ask(trained(study, one, scale, out)))


def trained(study: Study, one: Point, scale: Scale, out: Path, runs: str = "runs") -> Path:
    """The folder of a point's run below `out`; trains it where that was not done."""
    records = str(study.videos.make(out, scale.size)) if scale.size else scale.records or one.config.data.records
    return train_small(ConfigDict(one.config.to_dict()), out / runs / one.key, records, seed=one.seed)


def again(
    studies: Iterable[Study], scale: Scale, seeds: Sequence[int], results: Results, out: Path
) -> Iterator[tuple[str, list[str] | None]]:
    """Runs each point that has results once more, from the start.

    Yields:
      its key, and what came to other numbers; None for these where the results are of another kind of machine.
    """
    done = set()
    for study in studies:
        for name, row in study.rows_at(scale).items():
            for one in (point(study, row, scale, seed) for seed in seeds):
                before = results.measures(one.key)
                if before is None or (one.key, study.ask) in done:
                    continue
                done.add((one.key, study.ask))
                if not results.is_of_here(one.key):
                    yield one.key, None
                    continue
                print(f"\n{study.title}: {name}, seed {one.seed} once more", file=sys.stderr, flush=True)
                shutil.rmtree(out / "again" / one.key, ignore_errors=True)
                now = rounded(study.ask(trained(study, one, scale, out, "again")))
                yield (
                    one.key,
                    [
                        f"{measure} was {before[measure]}, now {value}"
                        for measure, value in now.items()
                        if before.get(measure, value) != value
                    ],
                )


def rounded(measures: Measures) -> Measures:
    """As they are kept."""
    return {name: round(value, 5) for name, value in measures.items()}


class Verdict(NamedTuple):
    """What became of a claim.

    Attributes:
      claim: it.
      difference: mean over the seeds of better less worse, in points.
      spread: half of its 90 % interval.
      seeds: how many have both.
    """

    claim: Claim
    difference: float
    spread: float
    seeds: int

    @property
    def word(self) -> str:
        """Holds or reversed, where the interval is on one side of 0."""
        if self.seeds < 2:
            return "too few seeds" if self.seeds else "not run yet"
        if abs(self.difference) <= self.spread:
            return "not separable"
        return "holds" if self.difference > 0 else "reversed"


def values(study: Study, scale: Scale, results: Results) -> Found:
    """Of each row and seed the measure, in percent, as far as there are results."""
    found: Found = {}
    for name, row in study.rows_at(scale).items():
        one, measure = point(study, row, scale, 0), measured_by(study, row, scale)
        each = {seed: results.measures(one._replace(seed=seed).key) or {} for seed in range(MOST_SEEDS)}
        found[name] = {seed: 100 * measures[measure] for seed, measures in each.items() if measure in measures}
    return found


def verdicts(study: Study, found: Found) -> Iterator[Verdict]:
    """Of each claim about rows that there are, by the seeds that both have."""
    for claim in study.claims:
        if not {*claim} <= found.keys():
            continue
        better, worse = found[claim.better], found[claim.worse]
        differences = [better[seed] - worse[seed] for seed in better.keys() & worse.keys()]
        count = len(differences)
        spread = T95[count] * np.std(differences, ddof=1) / np.sqrt(count) if count > 1 else np.inf
        yield Verdict(claim, float(np.mean(differences)) if count else np.nan, float(spread), count)


def text(study: Study, scale: Scale, results: Results) -> str:
    """The table beside the paper's, and the claims, as Markdown."""
    found = values(study, scale, results)
    measure = measured_by(study, Row(""), scale)
    lines = [f"### {study.title}", "", f"| row | paper | here: {measure}, %, mean ± standard deviation | seeds |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, row in study.rows_at(scale).items():
        measured = list(found[name].values())
        here = f"{np.mean(measured):.1f}" if measured else "-"
        here += f" ± {np.std(measured, ddof=1):.1f}" if len(measured) > 1 else ""
        here += f" ({row.measure})" if row.measure else ""
        lines.append(f"| {name} | {row.published or ''} | {here} | {len(measured)} |")
    lines += ["", "| claim | difference ± half of its 90 % interval | | seeds |", "| --- | ---: | --- | ---: |"]
    for one in verdicts(study, found):
        told = f"{one.difference:+.1f} ± {one.spread:.1f}" if one.seeds > 1 else "-"
        lines.append(f"| {one.claim.better} > {one.claim.worse} | {told} | {one.word} | {one.seeds} |")
    return "\n".join(lines) + "\n"
