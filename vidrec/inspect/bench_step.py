"""How fast a configuration's training step runs on the devices that are here, beside plain PyTorch in the same run.

Batches are random pixels on the devices, so that nothing but the step is measured. Both take turns, round by round, and
medians count. `torch_networks` holds what is compared with.
"""

import time
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import FrozenConfigDict

from vidrec.errors import UsageError
from vidrec.inspect import bench_beside
from vidrec.inspect.bench_beside import WARM_UP, Tell
from vidrec.inspect.steps import parameters, program_for, replaced, trace_train, useful_flops
from vidrec.train.program import Program, abstract_batch
from vidrec.train.sharding import check_batch, make_mesh
from vidrec.types import Batch


def measure(
    config: FrozenConfigDict,
    *,
    batch_size: int | None = None,
    steps: int = 10,
    rounds: int = 3,
    torch_python: str = "",
    tell: Tell = lambda line: None,
) -> dict[str, Any]:
    """Times training steps.

    Args:
      config: as from vidrec.config.load, with model.num_classes.
      batch_size: clips of the global batch; None takes the recipe's.
      steps: timed in each round.
      rounds: in which all take their turns.
      torch_python: interpreter with PyTorch, "" for this one if it has it.

    Returns:
      `device`, `devices`, `compile_s`, `flops` of a step (matrix products, recomputation left out) and `rows`: for
      vidrec, and for PyTorch where it has the network, `clips_per_second`, `ms` of a step, `mfu` (of the devices' limit
      in bfloat16; None where that is not known), `memory_bytes` of a device; `times_torch`; `without_torch`, why not.

    Raises:
      UsageError: numbers that cannot be; an interpreter is named for a network that PyTorch's side does not have.
      VidrecError: that interpreter fails.
    """
    if min(steps, rounds, batch_size or 1) < 1:
        raise UsageError("batch size, steps and rounds of the benchmark are at least 1")
    config = replaced(config, "train", batch_size=batch_size or config.train.batch_size)
    mesh = make_mesh(config.mesh)
    check_batch(config.train.batch_size, mesh, "--batch-size")
    python, lacking = bench_beside.find_peer(without_peer(config, mesh), torch_python)
    own = Step(config, mesh, tell)
    ours, theirs = bench_beside.in_turns(own.run, steps, rounds, python, peer_task(config) if python else {}, tell)
    report = own.report(ours)
    if theirs:
        most = bench_beside.limit(own.devices)
        peer = bench_beside.peer_row(parameters(own.program), theirs, own.clips, own.flops, most)
        peer |= {"memory_bytes": theirs[0]["memory_bytes"], "memory_by": "allocator"}
        report["rows"].append(peer)
        report["times_torch"] = peer["ms"] / report["rows"][0]["ms"]
    return {**report, "without_torch": lacking}


def without_peer(config: FrozenConfigDict, mesh: Mesh) -> str:
    """Why PyTorch's side cannot run what a configuration trains, in a clause; "" if it can."""
    if lacking := bench_beside.without_network(config):
        return lacking
    if config.task.name != "supervised" or config.optim.name != "sgd":
        return "in PyTorch there is only supervised training by SGD here"
    if mesh.size != 1:
        return "in PyTorch there is only training on one device here"
    return ""


class Step:
    """The training step of a configuration, compiled, on random clips."""

    def __init__(self, config: FrozenConfigDict, mesh: Mesh, tell: Tell):
        self.config, self.clips = config, config.train.batch_size
        self.devices = list(mesh.devices.flat)
        tell(f"compiling the step of {self.clips} clips")
        self.program = program_for(config, mesh)
        began = time.perf_counter()
        traced = trace_train(self.program, self.clips)
        with jax.set_mesh(mesh):
            self.compiled = traced.lower().compile()
        self.compile_s = time.perf_counter() - began
        self.flops = useful_flops(config, mesh, traced)
        self._batch = random_batch(self.program, self.clips)
        key = jax.random.key(0)
        with jax.set_mesh(mesh):
            self._state = self.program.make_state(key)
        for _ in range(WARM_UP):
            self.run()

    def run(self) -> float:
        """Takes a step; returns its seconds."""
        start = time.perf_counter()
        self._state, metrics, _ = self.compiled(self._state, self._batch)
        jax.block_until_ready((self._state, metrics))
        return time.perf_counter() - start

    def report(self, seconds: list[float]) -> dict[str, Any]:
        """What was measured, but for PyTorch's part."""
        own = bench_beside.row("vidrec", seconds, self.clips, self.flops, bench_beside.limit(self.devices))
        return {
            "model": self.config.model.name,
            "dtype": str(self.config.model.get("dtype", "float32")),
            "batch_size": self.clips,
            "device": self.devices[0].device_kind,
            "devices": len(self.devices),
            "compile_s": self.compile_s,
            "flops": self.flops,
            "rows": [{**own, **memory(self.devices[0], self.compiled)}],
        }


def random_batch(program: Program, batch_size: int) -> Batch:
    """A global batch of random pixels on the devices."""
    shapes = abstract_batch(program, batch_size)
    draw = np.random.default_rng(0)
    classes = program.model.num_classes  # pyright: ignore[reportAttributeAccessIssue]
    given = shapes._replace(
        clips=draw.integers(0, 256, shapes.clips.shape, np.uint8),
        label=draw.integers(0, classes, shapes.label.shape).astype(np.int32),
        record=np.arange(batch_size, dtype=np.int32),
        valid=np.ones(batch_size, bool),
    )
    return jax.tree.map(lambda array, shape: jax.device_put(array, shape.sharding), given, shapes)


def peer_task(config: FrozenConfigDict) -> dict[str, Any]:
    """What PyTorch's side is told (`torch_networks.run`)."""
    optim, size = config.optim, config.data.image_size
    training = {name: optim[name] for name in ("lr", "momentum", "weight_decay", "clip_norm")}
    return {**bench_beside.network_task(config, config.train.batch_size, (size, size)), "training": training}


def memory(device: Any, compiled: Any) -> dict[str, Any]:
    """Bytes of a device that were in use at most; where the device does not tell, those that the compiler planned."""
    stats = device.memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return {"memory_bytes": stats["peak_bytes_in_use"], "memory_by": "allocator"}
    planned = compiled.memory_analysis()
    held = planned.argument_size_in_bytes + planned.output_size_in_bytes - planned.alias_size_in_bytes
    return {"memory_bytes": held + planned.temp_size_in_bytes, "memory_by": "compiler"}


def text(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [
        f"{report['model']}, {report['dtype']}, {report['batch_size']} clips a step on {report['devices']} x "
        f"{report['device']}; {report['flops'] / 1e12:.3f} TFLOP a step, compiled in {report['compile_s']:.1f} s",
        f"{'':<24}{'clips/s':>10}{'ms a step':>12}{'MFU':>8}{'GB':>8}",
    ]
    for row in report["rows"]:
        used = "" if row["mfu"] is None else f"{row['mfu']:.1%}"
        held = "" if row["memory_bytes"] is None else f"{row['memory_bytes'] / 1e9:.2f}"
        lines.append(f"{row['name']:<24}{row['clips_per_second']:>10.2f}{row['ms']:>12.1f}{used:>8}{held:>8}")
    if "times_torch" in report:
        lines.append(f"{report['times_torch']:.2f} times as fast as PyTorch")
    else:
        lines.append(f"Not beside PyTorch: {report['without_torch']}.")
    return "\n".join(lines)
