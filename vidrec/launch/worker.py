"""The process in which `vidrec compile` works: a task, one JSON object, comes on standard input.

It writes one JSON object to a line: {"now": what is compiled}, and at last {"report"} or {"error", "usage"}.
"""

import json
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import FrozenConfigDict

from vidrec import config as configuration
from vidrec.errors import UsageError, VidrecError
from vidrec.inspect.peaks import peak_of
from vidrec.inspect.steps import parameters, program_for, replaced, trace_eval, trace_train, useful_flops
from vidrec.launch import account
from vidrec.launch.compile import Tell
from vidrec.launch.topology import GPUS, TPUS, Slice, devices_of, parse, usable_memory
from vidrec.train.program import Program
from vidrec.train.sharding import batch_parts, make_mesh

CLIPS = 8  # of each device, where the recipe's batch does not split over the devices


class Target(NamedTuple):
    """What is compiled for.

    Attributes:
      wanted: the slice, as it is named.
      mesh: its devices, as the configuration lays them out.
      memory: bytes of a device; None where not known.
      limits: what a device can do.
    """

    wanted: Slice
    mesh: Mesh
    memory: int | None
    limits: account.Limits


def work(task: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """The report of a task of `compile_for`."""
    config = configuration.from_dict(task["config"])
    target = target_of(parse(task["topology"]), config)
    parts = batch_parts(target.mesh)
    sizes = batch_sizes(config, parts, task["batch"])
    config = with_batch(config, sizes["train"], sizes["eval"])
    program = program_for(config, target.mesh)
    report = {
        "topology": described(target),
        "versions": {"jax": jax.__version__, "full": task["full"]},
        "model": config.model.name,
        "parameters": parameters(program),
        "mesh": dict(target.mesh.shape),
        "batch": sizes,
        "state_bytes": account.state_bytes(program),
    }
    kinds = ("train",) if task["train_only"] else ("train", "eval")
    try:
        for kind in kinds:
            tell(f"compiling the {'training' if kind == 'train' else 'evaluation'} step of {sizes[kind]} clips")
            report[kind] = step_report(kind, program, config, sizes[kind], target)
    except account.DoesNotFit as error:
        if not task["find_batch"]:
            clips = sizes["eval" if "train" in report else "train"]
            raise VidrecError(
                f"the step of {clips} clips, {clips // parts} on each device, does not fit {target.wanted.name}: "
                f"{error}; lower --batch (--find-batch looks for the largest), recompute by "
                "--config.model.remat=block, or shard the state by mesh.fsdp"
            ) from error
    except jax.errors.JaxRuntimeError as error:
        raise VidrecError(f"the step does not compile for {target.wanted.name}: {account.reason(error)}") from error
    report["fits"] = all(kind in report for kind in kinds)
    if task["find_batch"]:
        report["largest_batch"] = largest_batch(config, target, sizes, report["fits"], tell)
    return report


def target_of(wanted: Slice, config: FrozenConfigDict) -> Target:
    """The devices of a slice, with what is known of them."""
    devices = devices_of(wanted)
    peak = peak_of(devices[0])
    memory = (usable_memory(devices[0]) if wanted.is_tpu else None) or (int(peak.memory) if peak else None)
    network = TPUS[wanted.chip].network if wanted.is_tpu else GPUS[wanted.chip][-1]
    cores = len(devices) // wanted.chips
    # A TPU's compiler refuses what does not fit by itself.
    limits = account.Limits(peak, network and network / cores, None if wanted.is_tpu else memory)
    return Target(wanted, make_mesh(config.mesh, devices), memory, limits)


def described(target: Target) -> dict[str, Any]:
    """A target as plain values."""
    wanted, devices = target.wanted, target.mesh.devices
    return {
        "name": wanted.name,
        "device": devices.flat[0].device_kind,
        "devices": devices.size,
        "chips": wanted.chips,
        "hosts": wanted.hosts,
        "memory_bytes": target.memory,
    }


def step_report(kind: str, program: Program, config: FrozenConfigDict, clips: int, target: Target) -> dict[str, Any]:
    """What a step ("train" or "eval") of a global batch costs."""
    if kind == "eval":
        return account.account(lambda: trace_eval(program, clips), program, target.limits)
    return account.account(
        lambda: trace_train(program, clips),
        program,
        target.limits,
        lambda traced: useful_flops(config, target.mesh, traced),
    )


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


def largest_batch(
    config: FrozenConfigDict, target: Target, sizes: dict[str, Any], first_fits: bool, tell: Tell
) -> dict[str, int]:
    """The largest batch whose training step fits: that of `largest`, and `global`."""
    parts = batch_parts(target.mesh)

    def fits(clips: int) -> bool:
        """Whether a training step of so many clips on each part compiles."""
        tell(f"trying {clips} clips on each device")
        tried = program_for(with_batch(config, clips * parts, sizes["eval"]), target.mesh)
        try:
            with jax.set_mesh(target.mesh):
                account.compile_step(trace_train(tried, clips * parts).lower(), target.limits.memory)
        except account.DoesNotFit:
            return False
        return True

    found = largest(fits, sizes["per_device"], first_fits, unit(config))
    return {**found, "global": found["per_device"] * parts}


def main() -> None:
    """Reads a task, and says what is done."""

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
