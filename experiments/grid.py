"""The papers' tables at a scale that fits a laptop: rows, what is expected of them, and their training.

A folder of each paper has its studies and, in results.jsonl, the result of each of their points: a recipe and a seed.
A point that stands there is not run again. All networks see the same videos (`vidrec toy --level benchmark`). What
comes of it is judged in `claims.py`; the command of such a folder is in `paper.py`.
"""

import functools
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ml_collections import ConfigDict, FrozenConfigDict

from experiments.results import Measures, Results, rounded
from experiments.training import train_small
from vidrec import config as configuration
from vidrec.cli.shared import tell
from vidrec.data.convert import convert
from vidrec.data.manifest import FILE_NAME
from vidrec.data.records import TFRecordSource
from vidrec.data.toy import make_toy, toy_pairs
from vidrec.errors import BusyError, UsageError
from vidrec.eval.predict import load
from vidrec.files import alone
from vidrec.inspect.results import evaluate_recognizer
from vidrec.interop.weights import import_weights
from vidrec.launch.sweep import slug
from vidrec.models.registry import model_fields
from vidrec.progress import Progress
from vidrec.train.checkpoint import Checkpoints
from vidrec.train.recipe import load_recipe
from vidrec.train.start import open_training_records
from vidrec.train.tasks import task_fields


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
      tests: how many there are to test on; 0: not known.
    """

    name: str
    make: Callable[[Path, int], Path]
    tests: int = 0


def benchmark_records(out: Path, size: int, train_per_family: int = 512) -> Path:
    """Draws and converts the videos of the benchmark level; returns the folder of records."""
    videos, records = out / f"videos-{size}", out / f"records-{size}"
    with Progress("drawing videos", 0) as progress:
        made = make_toy(videos, level="benchmark", size=size, train_per_family=train_per_family, progress=progress)
    if not (records / FILE_NAME).exists():  # finished records are not locked: several processes may read them
        with Progress("converting", 0) as progress:
            convert("list", videos, made["annotations"], records, name="toy", short_side=0, progress=progress)
    return records


def eighth_records(out: Path, size: int) -> Path:
    """The same with an eighth of the videos to train on, beside all others; those to test on are the same."""
    return benchmark_records(out / "eighth", size, train_per_family=64)


BENCHMARK = Videos("benchmark", benchmark_records, 896)
EIGHTH = Videos("benchmark-eighth", eighth_records, 896)


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
    """That one row is better than another.

    Attributes:
      better, worse: the rows.
      measure: by which they are compared, if not by their own: where a row has the same value of that by construction.
    """

    better: str
    worse: str
    measure: str = ""


class Study(NamedTuple):
    """A table or figure of a paper.

    Attributes:
      title: in the paper.
      recipe: file of the recipe.
      dataset: of the paper's rows.
      rows: name -> row.
      claims: of the paper, stated before their rows were run.
      measure: of the measures of `ask`, that which rows are compared by.
      ask: folder of a run -> measures, shares of 1.
      overrides: of the toy recipes of all rows.
      longer: how many times as many steps the toys are trained; if not 1, the study is of toys alone.
      videos: that the toys are trained and tested on.
      curve: measures of `ask` that are drawn as a curve, named so with a number behind, such as "stride".
      along: what these numbers are, with their unit.
      ours: the claims are not the paper's but questions that we put, before their rows were run all the same.
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
    along: str = ""
    ours: bool = False

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
      overrides: of all recipes.
      records: of the paper's data set, folder or address; "": where its recipe says.
      init: weights that the paper's networks start from, as `vidrec import` takes or writes them; {model} stands for
        the network's name.
      drawn: patterns of parameters that such a file lacks, which start as drawn.
    """

    size: int
    seeds: int
    overrides: tuple[str, ...] = ()
    records: str = ""
    init: str = ""
    drawn: tuple[str, ...] = ()


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
    overrides = (*study.overrides, *scale.overrides, *row.overrides) if scale.size else scale.overrides
    config = loaded(spec, overrides)
    own = [f"--config.train.init={scale.init.replace('{model}', config.model.name)}"] if scale.init else []
    if scale.size and study.longer != 1:
        own.append(f"--config.train.steps={study.longer * config.train.steps}")
    if "image_size" in config.model:  # of a transformer, whose patches have places
        own.append(f"--config.model.image_size={config.data.image_size}")
    config = loaded(spec, (*overrides, *own))
    videos = study.videos.name if scale.size else Path(scale.records or config.data.records).name
    return Point(spec, config, videos, seed)


loaded = functools.cache(load_recipe)  # a table asks for the same recipes again and again


def measured_by(study: Study, scale: Scale, row: Row | None = None) -> str:
    """The measure by which a study's rows are compared, or one of them; only toys have mirrored pairs."""
    own = row.measure if row else ""
    return own or ("top1" if study.measure == "pairs" and not scale.size else study.measure)


def run(study: Study, scale: Scale, seeds: Sequence[int], results: Results, out: Path) -> int:
    """Runs the points of a study that have no result yet, or none for its measure, and that no other process is at.

    Returns:
      how many had none.
    """
    begun, left = 0, 0
    for name, row in study.rows_at(scale).items():
        measure = measured_by(study, scale, row)
        for seed in seeds:
            one = point(study, row, scale, seed)
            made_of = {} if scale.size else digests(one, scale)
            if not results.lacks(one.key, measure, made_of):
                continue
            begun += 1
            tell(f"\n{study.title}: {name}, seed {seed} ({one.spec})")
            start = time.monotonic()
            try:
                measures = study.ask(trained(study, one, scale, out))
            except BusyError:
                tell("another process is at it")
                left += 1
                continue
            results.add(one.key, measures, time.monotonic() - start, recipe=one.spec, seed=seed, **made_of)
    if left:
        tell(f"\n{study.title}: trainings left to another process: {left}; when it has ended, --table has them, too")
    return begun


def trained(study: Study, one: Point, scale: Scale, out: Path, runs: str = "runs") -> Path:
    """The folder of a point's run below `out`; trains it where that was not done."""
    config = ConfigDict(one.config.to_dict())
    if scale.size:
        with alone(out, wait=True):  # no one else draws the same videos meanwhile
            records = str(study.videos.make(out, scale.size))
    else:
        records = records_of(one, scale)
        config.train.init = weights_of(one, scale, out)
    return train_small(config, out / runs / one.key, records, seed=one.seed)


def records_of(one: Point, scale: Scale) -> str:
    """Where the paper's videos are."""
    return scale.records or one.config.data.records


def source_of(one: Point, scale: Scale) -> TFRecordSource:
    """The paper's videos to train on."""
    config = ConfigDict(one.config.to_dict())
    config.data.records = records_of(one, scale)
    return open_training_records(FrozenConfigDict(config))


def weights_of(one: Point, scale: Scale, out: Path) -> str:
    """The folder of weights that a paper's row starts from: of a file, what its own network takes of it; "": none."""
    init = one.config.train.init
    if not Path(init).is_file():
        return init
    folder = out / "init" / f"{one._replace(seed=0).key}-{digest_of(Path(init))}"
    with alone(folder, wait=True):
        with Checkpoints(folder / "checkpoints") as before:
            there = before.latest() is not None
        if not there:
            count = len(source_of(one, scale).classes)
            import_weights(one.config, init, folder, num_classes=count, allow_missing=scale.drawn)
    return str(folder)


def check_weights(studies: Iterable[Study], scale: Scale) -> None:
    """Raises UsageError where a row is to start from weights that are not there."""
    for study in studies:
        for name, row in study.rows_at(scale).items():
            init = point(study, row, scale, 0).config.train.init
            if init and not Path(init).exists():
                raise UsageError(f"--init: {study.title}: {name} is to start from {init}, which is not there")


def digests(one: Point, scale: Scale) -> dict[str, str]:
    """Of the records and weights that a paper's row is made of, which its key knows by their names alone."""
    init = one.config.train.init
    return {"records": source_of(one, scale).digest} | ({"init": digest_of(Path(init))} if init else {})


@functools.cache
def digest_of(path: Path) -> str:
    """Of a file, or of the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for file in sorted(one for one in (path, *path.rglob("*")) if one.is_file()):
        digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:16]


def again(
    studies: Iterable[Study], scale: Scale, seeds: Sequence[int], results: Results, out: Path
) -> Iterator[tuple[str, list[str] | None]]:
    """Runs each point that has results once more, from the start.

    Yields:
      its key, and what came to other numbers; None for these where the results are of another kind of machine.

    Raises:
      BusyError: another process does so below `out`.
    """
    with alone(out / "again", wait=False) as mine:
        if not mine:
            raise BusyError(f"another process runs points again in {out / 'again'}: wait for its end, or give --out")
        yield from _again(studies, scale, seeds, results, out)


def _again(
    studies: Iterable[Study], scale: Scale, seeds: Sequence[int], results: Results, out: Path
) -> Iterator[tuple[str, list[str] | None]]:
    done = set()
    for study in studies:
        for name, row in study.rows_at(scale).items():
            for one in (point(study, row, scale, seed) for seed in seeds):
                before = results.measures(one.key) or {}
                if measured_by(study, scale, row) not in before or (one.key, study.ask) in done:
                    continue
                done.add((one.key, study.ask))
                if not results.is_of_here(one.key):
                    yield one.key, None
                    continue
                tell(f"\n{study.title}: {name}, seed {one.seed} once more")
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
