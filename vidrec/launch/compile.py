"""`vidrec compile`: the training and evaluation steps of a configuration, compiled for a slice that is not there.

The work is done in a process of its own: compilers look at the environment once, and JAX must start on the CPU. Run as
a module, this file is that process: it reads one JSON object on standard input and writes one to a line.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ml_collections import FrozenConfigDict

from vidrec import config as configuration
from vidrec.errors import UsageError, VidrecError
from vidrec.launch.topology import ENVIRONMENT, parse

Tell = Callable[[str], None]

CLIPS = 8  # of each device, where the recipe's batch does not split over the devices


def compile_for(
    config: FrozenConfigDict,
    topology: str,
    *,
    batch: int | None = None,
    full: bool = False,
    find_batch: bool = False,
    train_only: bool = False,
    tell: Tell = lambda line: None,
) -> dict[str, Any]:
    """Compiles the steps; a report of plain values (see `text` of vidrec.launch.report).

    Args:
      config: as from vidrec.config.load, with model.num_classes.
      topology: name of a slice, such as v5e:16x16.
      batch: clips of the global batch; None takes the recipe's, or `CLIPS` a device if that does not split evenly.
      full: compiles as a run does, which takes several times as long; otherwise with the least optimisation. Memory
        then is a few per cent more; what collectives carry is the same.
      find_batch: also looks for the largest batch that fits.
      train_only: leaves out the evaluation step.
      tell: is told what is compiled next.

    Raises:
      UsageError: a topology or a setting that cannot be.
      VidrecError: the compiler is not installed, or the step does not fit.
    """
    parse(topology)
    if batch is not None and batch < 1:
        raise UsageError(f"--batch is {batch}, but must be at least 1")
    task = {"config": configuration.to_dict(config), "topology": topology, "batch": batch}
    return _elsewhere({**task, "find_batch": find_batch, "train_only": train_only, "full": full}, tell)


def _elsewhere(task: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """`work` in a process of its own; its lines are told, its errors raised."""
    environment = os.environ | ENVIRONMENT
    if not task["full"]:
        environment["JAX_OPTIMIZATION_LEVEL"] = "O0"
    with tempfile.TemporaryFile("w+") as noise:  # libtpu writes warnings that mean nothing here
        process = subprocess.Popen(
            [sys.executable, "-m", "vidrec.launch.compile"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise, env=environment, text=True,
        )  # fmt: skip
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(task))
            process.stdin.close()
            said: dict[str, Any] = {}
            try:
                with still_running(tell):
                    for line in process.stdout:
                        said = json.loads(line)
                        if "now" in said:
                            tell(said["now"])
            except BaseException:
                process.kill()  # a compiler that nobody waits for would go on for minutes
                raise
        if "report" in said:
            return said["report"]
        if "error" in said:
            raise (UsageError if said["usage"] else VidrecError)(said["error"])
        noise.seek(0)
        reason = (noise.read().strip().splitlines() or [f"exit status {process.returncode}"])[-1]
        raise VidrecError(f"compiling for {task['topology']} ended without a result: {reason}")


@contextmanager
def still_running(tell: Tell, period: float = 60.0) -> Iterator[None]:
    """Tells every `period` seconds that what is done inside goes on: a compiler says nothing for minutes."""
    done = threading.Event()

    def remind() -> None:
        """What the other thread does."""
        seconds = 0.0
        while not done.wait(period):
            seconds += period
            tell(f"... {seconds / 60:.0f} min")

    thread = threading.Thread(target=remind, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


# In the process that compiles


def work(task: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """The report of a task of `compile_for`."""
    import jax

    from vidrec.inspect.peaks import peak_of
    from vidrec.inspect.steps import parameters, program_for, trace_eval, trace_train, useful_flops
    from vidrec.launch import account
    from vidrec.launch.topology import GPUS, TPUS, devices_of, usable_memory
    from vidrec.train.sharding import batch_parts, make_mesh

    config = configuration.from_dict(task["config"])
    wanted = parse(task["topology"])
    devices = devices_of(wanted)
    mesh = make_mesh(config.mesh, devices)
    peak = peak_of(devices[0])
    usable = usable_memory(devices[0]) if wanted.is_tpu else None
    network = GPUS[wanted.chip][-1] if not wanted.is_tpu else TPUS[wanted.chip].network
    cores = len(devices) // wanted.chips
    memory = usable or (int(peak.memory) if peak else None)
    limits = account.Limits(peak, network and network / cores, None if wanted.is_tpu else memory)
    parts = batch_parts(mesh)
    sizes = batch_sizes(config, parts, task["batch"])
    config = with_batch(config, sizes["train"], sizes["eval"])
    program = program_for(config, mesh)
    report: dict[str, Any] = {
        "topology": {
            "name": wanted.name,
            "device": devices[0].device_kind,
            "devices": len(devices),
            "chips": wanted.chips,
            "hosts": wanted.hosts,
            "memory_bytes": memory,
        },
        "versions": {"jax": jax.__version__, "full": task["full"]},
        "model": config.model.name,
        "parameters": parameters(program),
        "mesh": dict(mesh.shape),
        "batch": sizes,
        "state_bytes": account.state_bytes(program),
    }
    tell(f"compiling the training step of {sizes['train']} clips for {wanted.name}")
    try:
        report["train"] = account.account(
            lambda: trace_train(program, sizes["train"]),
            program,
            limits,
            lambda traced: useful_flops(config, mesh, traced),
        )
        if not task["train_only"]:
            tell(f"compiling the evaluation step of {sizes['eval']} clips")
            report["eval"] = account.account(lambda: trace_eval(program, sizes["eval"]), program, limits)
    except account.DoesNotFit as error:
        if not task["find_batch"]:
            clips = sizes["eval" if "train" in report else "train"]
            raise VidrecError(
                f"the step of {clips} clips, {clips // parts} on each device, does not fit {wanted.name}: {error}; "
                "lower --batch (--find-batch looks for the largest), recompute by --config.model.remat=block, or shard "
                "the state by mesh.fsdp"
            ) from error
    except jax.errors.JaxRuntimeError as error:
        raise VidrecError(f"the step does not compile for {wanted.name}: {account.reason(error)}") from error
    report["fits"] = "train" in report and (task["train_only"] or "eval" in report)

    def fits(clips: int) -> bool:
        """Whether a training step of so many clips on each part compiles."""
        tell(f"trying {clips} clips on each device")
        tried = program_for(with_batch(config, clips * parts, sizes["eval"]), mesh)
        try:
            with jax.set_mesh(mesh):
                account.compile_step(trace_train(tried, clips * parts).lower(), limits.memory)
        except account.DoesNotFit:
            return False
        return True

    if task["find_batch"]:
        report["largest_batch"] = largest(fits, sizes["train"] // parts, report["fits"], unit(config))
        report["largest_batch"]["global"] = report["largest_batch"]["per_device"] * parts
    return report


def batch_sizes(config: Any, parts: int, asked: int | None) -> dict[str, Any]:
    """The global batches of training and evaluation over so many parts, and why they are not the recipe's.

    Raises:
      UsageError: the batch that is asked for does not split.
    """
    if asked is not None and asked % parts:
        raise UsageError(
            f"--batch is {asked}, which {parts} parts of the mesh do not divide; use a multiple of {parts}"
        )
    own = config.train.batch_size
    train = asked or (own if own % parts == 0 else CLIPS * parts)
    evaluated = config.eval.batch_size if config.eval.batch_size % parts == 0 else train
    reason = ""
    if asked is None and train != own:
        reason = f"the recipe's batch of {own} does not split over {parts} devices, so that each has {CLIPS} clips"
    return {"train": train, "eval": evaluated, "per_device": train // parts, "reason": reason}


def with_batch(config: FrozenConfigDict, train: int, evaluated: int) -> FrozenConfigDict:
    """The configuration with other global batches."""
    from vidrec.inspect.steps import replaced

    return replaced(replaced(config, "train", batch_size=train), "eval", batch_size=evaluated)


def unit(config: Any) -> int:
    """Clips of a device come in multiples of this: the groups that norms take their statistics of stay whole."""
    grouped = re.fullmatch(r"group:(\d+)", str(config.model.get("bn", "")))
    micro = config.train.get("accumulate", 1)
    return (int(grouped[1]) if grouped else 1) * micro


def largest(fits: Callable[[int], bool], start: int, start_fits: bool, step: int) -> dict[str, int]:
    """The most clips of a device that fit, found by doubling and bisection: a multiple of `step`, to an eighth.

    Args:
      fits: clips -> whether they do.
      start: clips that are known to fit, or not (`start_fits`).

    Returns:
      `per_device`, 0 where nothing fits, and `too_many`, the least that was found not to fit.
    """
    good, bad = (start, None) if start_fits else (0, start)
    while bad is None:
        if fits(2 * good):
            good *= 2
        else:
            bad = 2 * good
    while bad - good > max(step, good // 8):
        middle = (good + bad) // 2 // step * step
        if middle <= good:
            break
        if fits(middle):
            good = middle
        else:
            bad = middle
    return {"per_device": good, "too_many": bad}


def main() -> None:
    """Reads a task, writes lines of JSON: {"now": what is compiled}, and at last {"report"} or {"error", "usage"}."""

    def say(value: dict[str, Any]) -> None:
        """One line."""
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    try:
        say({"report": work(json.load(sys.stdin), lambda line: say({"now": line}))})
    except VidrecError as error:
        say({"error": str(error), "usage": isinstance(error, UsageError)})


if __name__ == "__main__":
    main()
