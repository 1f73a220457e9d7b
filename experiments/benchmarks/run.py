"""All benchmarks of this machine: one table of each part, results/MACHINE/PART.csv, and pictures of them.

    python -m experiments.benchmarks.run                             # a quarter of an hour on two CPU cores
    python -m experiments.benchmarks.run --only step predict --torch-python PYTHON
    python -m experiments.benchmarks.run --only scaling              # for TPU slices, by libtpu; needs no TPU
    python -m experiments.benchmarks.run --pictures                  # draws the tables that are there, runs nothing

A table is written anew after each measurement of its part, so that an interruption loses none that is done. Every
measurement runs in a process of its own: memory and compiled programs of one are not there in the next.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import FrozenConfigDict

from experiments import pod_check
from experiments.benchmarks import pictures, tables
from vidrec.cli.shared import tell, tells_errors
from vidrec.data.clips import ClipSpec
from vidrec.data.pool import usable_cores
from vidrec.inspect import bench_beside, bench_compile, bench_input, bench_predict, bench_step, bench_videos
from vidrec.ops.correlation import bench as bench_correlation
from vidrec.train.recipe import load_recipe
from vidrec.train.sharding import make_mesh

Row = dict[str, Any]


class Network(NamedTuple):
    """A recipe with what is changed of it."""

    recipe: str
    overrides: tuple[str, ...] = ()

    @property
    def config(self) -> FrozenConfigDict:
        """The configuration, complete."""
        flags = [f"--config.{override}" for override in self.overrides]
        return load_recipe(self.recipe, flags)

    def cells(self, report: Row) -> Row:
        """The first cells of its rows."""
        changed = " ".join(self.overrides)
        return {"recipe": self.recipe, "overrides": changed, "network": report["model"], "dtype": report["dtype"]}


class Plan(NamedTuple):
    """How much is measured.

    Attributes:
      networks: whose training steps and predictions are timed.
      compiled: whose steps' compiling is.
      correlations: settings of the correlation, the usual one first.
      steps: training steps of a round.
      rounds: in which everything takes its turns.
      batches: clips that are predicted together.
      clips: of the input pipeline in a round.
      workers: numbers of loader processes.
    """

    networks: tuple[Network, ...]
    compiled: tuple[Network, ...]
    correlations: tuple[dict[str, int], ...]
    steps: int
    rounds: int
    batches: tuple[int, ...]
    clips: int
    workers: tuple[int, ...]


FAMILY = ("configs/stm.py:ssv1,network=tsn", "configs/stm.py:ssv1,network=tsm", "configs/stm.py:ssv1")
PAPERS = ("configs/tcm.py:ssv1", "configs/tefe.py:ssv1", "configs/ttsn.py:ssv1", "configs/direcformer.py:ssv2")
# On two cores: full networks on few small pictures, and the toys.
SMALL = ("data.image_size=64", "data.resize=72", "train.batch_size=2", "eval.batch_size=2")
SMALL = (*SMALL, "model.dtype=float32", "model.bn=global")
FEW = tuple(Network(recipe, SMALL) for recipe in FAMILY)
TOYS = tuple(Network(f"{recipe.partition(':')[0]}:toy", ("model.num_classes=8",)) for recipe in PAPERS)
FULL = tuple(map(Network, (*FAMILY, *PAPERS)))
SIZES = ({}, {"pairs": 56}, {"size": 56, "pairs": 224}, {"size": 14}, {"patch": 29})


def plan(backend: str, quick: bool) -> Plan:
    """What suits a platform."""
    cores = usable_cores()
    workers = tuple(number for number in (1, 2, 4, 8, 16) if number <= cores)
    if backend == "cpu":
        if quick:
            return Plan(TOYS[:1], TOYS[:1], ({"size": 8, "patch": 5, "pairs": 2},), 1, 1, (2,), 8, (1,))
        return Plan((*FEW, *TOYS), (FEW[-1], *TOYS[:1]), SIZES[:1], 5, 2, (2,), 64, workers)
    if quick:
        return Plan((FULL[2], FULL[3]), (FULL[2],), SIZES[:2], 5, 2, (1, 8), 64, workers[-1:])
    return Plan(FULL, FULL, SIZES, 10, 3, (1, 8, 64), 128, workers)


class Bench:
    """The parts. Each gives the rows of one measurement after the other; what fails is told, and the others go on.

    Attributes:
      plan: how much.
      torch_python: interpreter with PyTorch, "" for none.
      torch: its version.
      fresh: calls a function with arguments in a process of its own.
      failed: what did, in words.
    """

    def __init__(self, plan: Plan, torch_python: str, fresh: Callable[..., Any]):
        self.plan, self.torch_python, self.fresh = plan, torch_python, fresh
        self.torch = torch_version(torch_python)
        self.failed: list[str] = []

    def tried(self, what: str, function: Callable[..., Row], *arguments: Any, **options: Any) -> Iterator[Row]:
        """The report of a measurement; none if it fails."""
        tell(what)
        try:
            yield self.fresh(function, *arguments, **options)
        except Exception as error:  # of one network or setting, such as too little memory: others may do
            reason = (str(error).splitlines() or [""])[0]
            self.failed.append(f"{what}: {type(error).__name__}: {reason}")
            tell(f"failed: {self.failed[-1]}")

    def beside(self, names: Iterable[str]) -> Row:
        """The cell of the PyTorch that took turns with others, if one of the names is PyTorch's."""
        return {"torch": self.torch if any(name.startswith("PyTorch") for name in names) else ""}

    def compile(self) -> Iterator[list[Row]]:
        """Seconds until the steps of a network run."""
        for network in self.plan.compiled:
            for report in self.tried(f"compile {network.recipe}", bench_compile.measure, network.config, tell):
                common = {**network.cells(report), "cache_bytes": report["cache_bytes"]}
                yield [{**common, **row} for row in report["rows"]]

    def correlation(self) -> Iterator[list[Row]]:
        """Every implementation that runs here, with what a roofline is drawn of."""
        for setting in self.plan.correlations:
            rounds = 10 * self.plan.rounds
            what = " ".join(["correlation", *(f"{name}={value}" for name, value in setting.items())])
            for report in self.tried(what, bench_correlation.measure, **setting, rounds=rounds, progress=tell):
                rates = report["ceilings_per_second"]
                common = {**report["setting"], "rounds": rounds}
                yield [{**common, **roofline(row, rates)} for row in report["rows"]]

    def step(self) -> Iterator[list[Row]]:
        """Training steps, beside PyTorch's where it has the network."""
        for network in self.plan.networks:
            much = {"steps": self.plan.steps, "rounds": self.plan.rounds}
            what = f"step {network.recipe}"
            for report in self.tried(what, train_beside, network.config, self.torch_python, **much, tell=tell):
                common = {**network.cells(report), **self.beside(row["name"] for row in report["rows"]), **much}
                common |= {name: report[name] for name in ("batch_size", "compile_s", "flops")}
                rows = [{**common, **row} for row in report["rows"]]
                rows[0]["times_torch"] = report.get("times_torch")
                yield rows

    def predict(self) -> Iterator[list[Row]]:
        """Predictions of clips, of a video file and of a stream's frames."""
        for network in self.plan.networks:
            much = {"rounds": self.plan.rounds}
            given = {**much, "batch_sizes": self.plan.batches, "tell": tell}
            what = f"predict {network.recipe}"
            for report in self.tried(what, predict_beside, network.config, self.torch_python, **given):
                common, beside = {**network.cells(report), **much}, self.beside(row["name"] for row in report["rows"])
                rows = [{**common, **beside, "what": "clips", **row} for row in report["rows"]]
                if report["video"]:
                    rows.append({**common, "what": "video", "name": "vidrec", **report["video"]})
                yield [*rows, {**common, "what": "frame", "name": "vidrec", **report["online"]}]

    def input(self) -> Iterator[list[Row]]:
        """The input pipeline, with more and more loader processes; what has none is measured with the fewest."""
        with tempfile.TemporaryDirectory(prefix="vidrec-bench-") as work:
            tell("drawing videos")
            records = (bench_videos.make_records(Path(work)),)
            for workers in self.plan.workers:
                setting = bench_input.Setting(
                    records=records, spec=ClipSpec(num_frames=8, image_size=224, flip="swap"), frames=(8,),
                    workers=workers, clips=self.plan.clips, rounds=self.plan.rounds, batches=10,
                    torch_python=self.torch_python,
                )  # fmt: skip
                for report in self.tried(f"input, {workers} processes", bench_input.measure, setting, tell):
                    common = {"cores": report["cores"], "decoder": report["decoder"], "rounds": setting.rounds}
                    common |= {"threads": setting.threads, "batch_size": setting.batch_size}
                    common |= self.beside(row["pipeline"] for row in report["rows"])
                    rows = []
                    for row in report["rows"]:
                        here = workers if row["pipeline"].endswith("processes") else 0
                        if here or workers == self.plan.workers[0]:
                            rows.append({**common, "processes": here, **row})
                    yield rows


def train_beside(config: FrozenConfigDict, torch_python: str, **options: Any) -> Row:
    """`bench_step.measure`, beside PyTorch where its side can train the same on these devices."""
    lacking = bench_step.without_peer(config, make_mesh(config.mesh))
    return bench_step.measure(config, torch_python="" if lacking else torch_python, **options)


def predict_beside(config: FrozenConfigDict, torch_python: str, **options: Any) -> Row:
    """`bench_predict.measure`, beside PyTorch where its side has the network."""
    lacking = bench_beside.without_network(config)
    return bench_predict.measure(config, torch_python="" if lacking else torch_python, **options)


def roofline(row: Row, rates: Row) -> Row:
    """A row of the correlation with the least work and the least bytes of a pair, and the machine's ceilings.

    Args:
      row: as from `vidrec.ops.correlation.bench.compare`.
      rates: ceilings per second.
    """
    floors = {f"floor_{name}_us": value for name, value in row["floor_us"].items()}
    least = {f"{name}_per_pair": row["floor_us"][name] * 1e-6 * rates[name] for name in ("flops", "bytes")}
    ceilings = {f"ceiling_{name}_per_second": value for name, value in rates.items()}
    return {**{name: value for name, value in row.items() if name != "floor_us"}, **floors, **least, **ceilings}


def in_fresh_process(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a function returns, called in a process that did nothing before."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **options).result()


def surroundings() -> tuple[str, str, int]:
    """JAX's name of the platform and of its devices, and how many they are."""
    devices = jax.local_devices()
    return jax.default_backend(), devices[0].device_kind, len(devices)


def torch_version(python: str) -> str:
    """Of an interpreter's PyTorch."""
    return bench_beside.said_by(python, "-c", "import torch; print(torch.__version__)").strip() if python else ""


def measure(parts: Sequence[str], results: Path, *, quick: bool, torch_python: str, fresh: Callable[..., Any]) -> int:
    """Runs parts, one after the other; returns how many measurements failed.

    A table from before is replaced as soon as the first measurement of its part is done.
    """
    backend, kind, count = fresh(surroundings)
    python = bench_beside.with_torch(torch_python)
    stamped = tables.stamp(tables.name_of(backend, kind, count))
    bench = Bench(plan(backend, quick), python, fresh)
    for part in parts:
        rows = []
        for measured in getattr(bench, part)():
            rows += measured
            tell(str(tables.write(results, part, stamped, rows)))
    return len(bench.failed)


PARTS = ("correlation", "step", "input", "predict", "compile")


@tells_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Measures or draws; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=(*PARTS, "scaling"), help="parts (default: all but scaling)")
    parser.add_argument("--torch-python", default="", help="interpreter with PyTorch (default: this one, if it has it)")
    parser.add_argument("--out", type=Path, default=tables.RESULTS, help="folder of the tables")
    parser.add_argument("--quick", action="store_true", help="little of each")
    parser.add_argument("--pictures", action="store_true", help="draw the tables that are there, run nothing")
    args = parser.parse_args(arguments)
    if args.pictures and (args.only or args.torch_python or args.quick):
        parser.error("--pictures draws the tables that are there: leave --only, --torch-python and --quick out")
    if args.only == ["scaling"] and (args.torch_python or args.quick):
        parser.error("scaling asks the TPU's compiler alone: leave --torch-python and --quick out")
    if args.pictures:
        for path in pictures.draw(args.out):
            print(path)
        return 0
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory of the same GPU
    given = {"quick": args.quick, "torch_python": args.torch_python, "fresh": in_fresh_process}
    only = args.only or PARTS
    parts = [part for part in only if part in PARTS]
    failed = measure(parts, args.out, **given) if parts else 0
    if "scaling" in only:
        pod_check.write_scaling(args.out)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
