"""`vidrec sweep`: the rows of a recipe's tables, trained one after the other on the devices of this machine."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import groupby, islice, product
from operator import itemgetter
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, NamedTuple

from vidrec import config as configuration
from vidrec.errors import BusyError, UsageError, VidrecError
from vidrec.files import alone, write_json
from vidrec.launch.commands import render
from vidrec.launch.run import Run, check, default_name, launch_command
from vidrec.train.loop import stop_signals
from vidrec.train.recipe import load_recipe
from vidrec.train.start import open_eval_records, open_training_records

# What tells a process which devices it sees, and what else it must be told to see one alone.
ONE_DEVICE: dict[str, tuple[str, dict[str, str]]] = {
    "gpu": ("CUDA_VISIBLE_DEVICES", {}),
    "tpu": ("TPU_VISIBLE_CHIPS", {"TPU_PROCESS_BOUNDS": "1,1,1", "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1"}),
}
OUTCOMES = "sweep.json"


class Point(NamedTuple):
    """One training of a sweep.

    Attributes:
      table: that it is of; of several, the first.
      config: recipe, as FILE:arg.
      overrides: --config.section.field=value.
      name: of its folder, the same whichever tables are chosen.
      fingerprint: of its configuration.
      also: arguments of other rows that are the same training.
    """

    table: str
    config: str
    overrides: tuple[str, ...]
    name: str
    fingerprint: str
    also: tuple[str, ...] = ()


def points(recipe: str, overrides: Sequence[str] = (), *, tables: Sequence[str] = (), seeds: int = 1) -> list[Point]:
    """The trainings of a recipe's `sweep()`: of each row as many as there are seeds.

    Args:
      recipe: FILE, which has sweep() -> {title of a table: arguments of its rows}.
      overrides: of all rows.
      tables: their titles, or the first words of them; () takes all.

    Raises:
      UsageError: no such file or table, a recipe without tables, a wrong override, one of the seed, or an argument
        behind a colon.
    """
    path, colon, _ = recipe.partition(":")
    if colon:
        raise UsageError(f"--config is {recipe!r}, but a sweep goes over all arguments: give {path} alone")
    if any(override.startswith("--config.seed=") for override in overrides):
        raise UsageError("--config.seed is what --seeds N counts, from 0 on: leave it out")
    if seeds < 1:
        raise UsageError(f"--seeds is {seeds}, but must be 1 or more")
    found = configuration.sweep(path)
    for table in tables:
        if not any(title.startswith(table) for title in found):
            raise UsageError(f"{path} has no table {table!r}: it has {', '.join(map(repr, found))}")
    trainings: dict[str, Point] = {}
    names: dict[str, str] = {}  # by fingerprint
    folders: dict[str, Point] = {}
    for title, args in found.items():
        chosen = title.startswith(tuple(tables) or "")
        for arg, seed in product(args, range(seeds)):
            spec, own = f"{path}:{arg}", (*overrides, f"--config.seed={seed}")
            try:
                with about(f"table {title!r}, row {arg!r}"):
                    config = load_recipe(spec, own)
            except UsageError:
                if chosen:
                    raise
                continue
            fingerprint = configuration.fingerprint(config)
            name = names.setdefault(fingerprint, f"{slug(arg)}-seed{seed}")
            point = Point(title, spec, own, name, fingerprint)
            other = folders.setdefault(name, point)
            if other.fingerprint != fingerprint:
                raise UsageError(
                    f"{other.config} and {spec} would be trained in one folder, {name}: spell one otherwise"
                )
            if chosen:
                first = trainings.setdefault(fingerprint, point)
                if spec != first.config and arg not in first.also:
                    trainings[fingerprint] = first._replace(also=(*first.also, arg))
    return list(trainings.values())


@contextmanager
def about(what: str) -> Iterator[None]:
    """Says first in errors what they are about."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from error
    except VidrecError as error:
        raise VidrecError(f"{what}: {error}") from error


def slug(arg: str) -> str:
    """An argument as part of a file's name."""
    return re.sub(r"[^a-z0-9.]+", "-", arg.lower()).strip("-")


def launch_commands(todo: Sequence[Point], kind: str, like: Run) -> list[str]:
    """The commands that print how to start each of the trainings elsewhere.

    Args:
      kind: one of `vidrec.launch.commands.KINDS`.
      like: what all have in common; each has a folder in its workdir.

    Raises:
      UsageError: options that do not go together.
    """
    commands = []
    for number, point in enumerate(todo):
        name = f"{default_name(point.config.partition(':')[0])}-{number}"  # machines have names of their own
        workdir = f"{like.workdir.rstrip('/')}/{point.name}"
        run = like._replace(name=name, config=point.config, overrides=point.overrides, workdir=workdir)
        render(kind, run)
        with about(point.config):
            check(run, load_recipe(point.config, point.overrides))
        commands.append(launch_command(kind, run))
    return commands


def run_sweep(todo: Sequence[Point], workdir: Path, tell: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Trains each point in a process and a folder of its own, one on each device at a time; what is finished is left.

    A point that fails does not stop the others; each has a log beside its folder. WORKDIR/sweep.json has the outcomes.

    Args:
      tell: called with a line when a training starts, from a thread, and when it ends.

    Returns:
      name of a point -> its fields with {"step", "metrics"}, or with {"error"}.

    Raises:
      VidrecError: records of a training are not there, so that none is started. BusyError: another sweep is at work in
        the folder.
      KeyboardInterrupt: it was asked to stop (SIGTERM, Ctrl-C), and its trainings have saved.
    """
    with alone(workdir, wait=False) as mine:
        if not mine:
            raise BusyError(f"another sweep is at work in {workdir}: wait for its end or choose another --workdir")
        return _run(todo, workdir, tell)


def _run(todo: Sequence[Point], workdir: Path, tell: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    outcomes = read_outcomes(workdir)
    signed = {point.name: json.loads(json.dumps(point._asdict())) for point in todo}
    left = [point for point in todo if not is_finished(point, outcomes)]
    check_records(left)
    if left:
        tell(f"{len(left)} of {len(todo)} trainings are to run")
        environments: SimpleQueue[dict[str, str]] = SimpleQueue()
        for environment in one_device_each():
            environments.put(environment)
        children = Children()
        with stop_signals() as stopping, ThreadPoolExecutor(environments.qsize()) as pool:
            running = {pool.submit(_train, point, workdir, environments, children, tell): point for point in left}
            try:
                while running:
                    done, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)  # a signal is seen between waits
                    for point, future in [(running.pop(future), future) for future in done if not future.cancelled()]:
                        outcome = future.result()
                        if stopping.is_set() and "error" in outcome:
                            continue  # it has no outcome yet
                        outcomes[point.name] = signed[point.name] | outcome
                        write_json(workdir / OUTCOMES, outcomes)
                        tell(f"{point.name}: {outcome_text(outcome)}")
                    if stopping.is_set():
                        running = {future: point for future, point in running.items() if not future.cancel()}
                        children.stop()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                children.stop()
                raise
        if stopping.is_set():
            ended = sum(is_finished(point, outcomes) for point in todo)
            tell(f"stopped: {ended} of {len(todo)} trainings are finished")
            raise KeyboardInterrupt
    return {point.name: outcomes[point.name] | signed[point.name] for point in todo}


def check_records(todo: Sequence[Point]) -> None:
    """Raises VidrecError where a training would find no records, or not the splits that it wants."""
    seen = set()
    for point in todo:
        config = load_recipe(point.config, point.overrides)
        wanted = (config.data.records, config.data.train_split, config.data.eval_split)
        if wanted not in seen:
            seen.add(wanted)
            with about(point.config):
                open_training_records(config)
                open_eval_records(config, "--config.data.eval_split")


def read_outcomes(workdir: Path) -> dict[str, dict[str, Any]]:
    """What `run_sweep` returned last in a folder, and of what it was stopped in; {} if it never ran."""
    written = workdir / OUTCOMES
    try:
        return json.loads(written.read_text()) if written.exists() else {}
    except ValueError as error:
        raise VidrecError(
            f"{written} is damaged ({error}): move it away; trainings then go on in their folders"
        ) from error


def is_finished(point: Point, outcomes: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a training is among the outcomes, with the configuration that it has now."""
    before = outcomes.get(point.name, {})
    return "metrics" in before and before["fingerprint"] == point.fingerprint


def one_device_each() -> list[dict[str, str]]:
    """For each device that JAX finds here, the environment of a process that is to see no other."""
    # A TPU chip of some kinds is two devices, with the same coordinates.
    ask = (
        "import jax; devices = jax.local_devices(); "
        "print(devices[0].platform, len({str(getattr(device, 'coords', device.id)) for device in devices}))"
    )
    asked = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["no message"])[-1]
        raise VidrecError(f"JAX finds no device: {reason}; `vidrec doctor` says more")
    platform, count = asked.stdout.split()
    if platform not in ONE_DEVICE:
        return [{}]  # a CPU is one device to all
    which, more = ONE_DEVICE[platform]
    given = os.environ.get(which, "")  # by a scheduler, say: numbers, or names
    devices = given.split(",") if given else map(str, range(int(count)))
    return [{which: device.strip(), **more} for device in islice(devices, int(count))]


class Children:
    """The processes of a sweep, which end with it."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._stopping = False
        self._lock = Lock()

    def run(self, command: Sequence[str], **how: Any) -> tuple[int, str]:
        """Runs a command to its end; returns its status and what it printed."""
        with self._lock:
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **how)
            self._running.add(child)
            if self._stopping:
                child.terminate()
        printed, _ = child.communicate()
        with self._lock:
            self._running.remove(child)
        return child.returncode, printed

    def stop(self) -> None:
        """Asks all to save and end."""
        with self._lock:
            if not self._stopping:
                for child in self._running:
                    child.terminate()
            self._stopping = True


def _train(
    point: Point,
    workdir: Path,
    environments: "SimpleQueue[dict[str, str]]",
    children: Children,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    environment, log = environments.get(), workdir / f"{point.name}.log"
    try:
        command = [sys.executable, "-m", "vidrec", "train", "--json", "--config", point.config, *point.overrides]
        tell(f"{point.name}: starts; its log is {log}")
        with open(log, "a+") as said:
            begun = said.tell()  # behind what earlier starts said
            command += ["--workdir", str(workdir / point.name)]
            status, printed = children.run(command, env=os.environ | environment, stderr=said)
            said.seek(begun)
            lines = said.read().strip().splitlines()
    except OSError as error:
        return {"error": f"{error.filename or log}: {error.strerror or error}"}
    finally:
        environments.put(environment)
    if status < 0:
        return {"error": f"ended by {signal.Signals(-status).name}; if no one did that, memory may have run out"}
    if status:
        return {"error": (lines or ["no message"])[-1].removeprefix("vidrec: ")}
    outcome = json.loads(printed)
    if not outcome["finished"]:
        return {"error": f"stopped at step {outcome['step']}; run the same command again to go on"}
    return {"step": outcome["step"], "metrics": outcome["metrics"]}


def outcome_text(outcome: Mapping[str, Any]) -> str:
    """How a point ended, in a line."""
    if "error" in outcome:
        return f"failed: {outcome['error']}"
    return f"step {outcome['step']}, " + ", ".join(f"{name} {value:.4g}" for name, value in outcome["metrics"].items())


def table(outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    """All outcomes, by table."""
    return _titled((row["table"], f"{name}{_also(row['also'])}: {outcome_text(row)}") for name, row in outcomes.items())


def listing(todo: Sequence[Point], outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    """All trainings, by table, and what came of those that are finished."""

    def line(point: Point) -> str:
        """What is trained, and how that ended."""
        told = f": {outcome_text(outcomes[point.name])}" if is_finished(point, outcomes) else ""
        return f"{shlex.join([point.config, *point.overrides])}{_also(point.also)}{told}"

    return _titled((point.table, line(point)) for point in todo)


def _also(arguments: Sequence[str]) -> str:
    return f" (and {', '.join(arguments)})" if arguments else ""


def _titled(rows: Iterable[tuple[str, str]]) -> str:
    tables = groupby(rows, itemgetter(0))
    return "\n\n".join("\n  ".join([title, *(line for _, line in group)]) for title, group in tables)
