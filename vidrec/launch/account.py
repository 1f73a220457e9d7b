"""What a compiler tells of a step: its memory, operations and collectives, and the least time they can take."""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from vidrec.inspect.flops import matrix_flops
from vidrec.inspect.peaks import Peak
from vidrec.launch import hlo
from vidrec.train.program import Program, abstract_state

SHOWN = 5  # of the largest collectives, and of the stages with the most operations


class Limits(NamedTuple):
    """What a device can do; None where not known.

    Attributes:
      peak: by itself.
      network: bytes per second that it sends.
      memory: bytes that a step must fit into, where the compiler takes any (a GPU's); None where it refuses by itself.
    """

    peak: Peak | None
    network: float | None
    memory: int | None = None


class DoesNotFit(Exception):
    """A step needs more memory than a device has; the text says how much."""


def account(
    make: Callable[[], Any], program: Program, limits: Limits, useful: Callable[[Any], int] | None = None
) -> dict[str, Any]:
    """Traces and compiles a step; what it costs each device, as plain values.

    Args:
      make: traces the step.
      useful: traced step -> operations that its utilisation is measured by, of all devices; None takes all that its
        matrix products have.

    Raises:
      DoesNotFit: as `compile_step` does.
      jax.errors.JaxRuntimeError: it does not compile.
    """
    began = time.perf_counter()
    traced = make()
    with jax.set_mesh(program.mesh):
        lowered = traced.lower()
        lowered_at = time.perf_counter()
        compiled = compile_step(lowered, limits.memory)
    done = time.perf_counter()
    text = compiled.as_text() or ""
    devices = program.mesh.size
    found = hlo.collectives(text, devices)
    stages = matrix_flops(traced.jaxpr)
    matrix = sum(stages.values())
    costs = costs_of(compiled, matrix / devices, (useful(traced) if useful else matrix) / devices)
    wire = sum(one.wire_bytes for one in found)
    return {
        "memory": memory(compiled),
        "flops": {**costs["flops"], "stages": shares(stages)},
        "bytes_accessed": costs["bytes"],
        "collectives": collected(found),
        "kernels": dict(hlo.kernels(text)),
        "roofline": roofline(costs, wire, limits),
        "seconds": {"trace": lowered_at - began, "compile": done - lowered_at},
    }


def compile_step(lowered: Any, available: int | None) -> Any:
    """The compiled step; raises DoesNotFit where it needs more than the device's memory, or than `available` bytes."""
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error) or "Ran out of memory" in str(error):
            raise DoesNotFit(reason(error)) from error
        raise
    needed = memory(compiled)["total"]
    if available is not None and needed > available:
        raise DoesNotFit(f"it needs {needed / 1e9:.2f} GB of {available / 1e9:.2f} GB")
    return compiled


def reason(error: Exception) -> str:
    """What a compiler's error says, without the program in it."""
    return " ".join(str(error).split("HLO module")[0].split())[:400].rstrip(" .")


def memory(compiled: Any) -> dict[str, int]:
    """Bytes on each device, by kind, as the compiler has laid them out; `total` is what must fit.

    Donated are those of the arguments that results take the place of: of the state, when nothing is copied.
    """
    stats = compiled.memory_analysis()
    found = {
        "arguments": stats.argument_size_in_bytes,
        "results": stats.output_size_in_bytes,
        "donated": stats.alias_size_in_bytes,
        "temporaries": stats.temp_size_in_bytes,
        "code": stats.generated_code_size_in_bytes,
    }
    return {**found, "total": sum(found.values()) - 2 * found["donated"]}


def costs_of(compiled: Any, matrix: float, useful: float) -> dict[str, Any]:
    """Operations and bytes of one device: the compiler's own count, where it has one, and that of matrix products."""
    counted: Any = compiled.cost_analysis() or {}
    flops = counted.get("flops")
    return {
        "flops": {"compiler": flops, "matrix": matrix, "useful": useful, "counted": flops or matrix},
        "bytes": counted.get("bytes accessed"),
    }


def roofline(costs: dict[str, Any], wire: float, limits: Limits) -> dict[str, Any]:
    """The least time that a step can take: each of arithmetic, memory and network at its limit, all overlapped.

    Returns:
      `seconds` of each and of the `step`, the longest of them, which `bound` names; `utilisation`, the share of the
      arithmetic's limit that its useful matrix products then reach. No step is as fast; the compiler's own estimate of
      its time is of no use, for it lacks what has no estimate.
    """
    peak, network = limits.peak, limits.network
    seconds = {
        "arithmetic": costs["flops"]["counted"] / peak.flops if peak else None,
        "memory": costs["bytes"] / peak.bandwidth if peak and costs["bytes"] else None,
        "network": wire / network if network else None,
    }
    known = {name: value for name, value in seconds.items() if value is not None}
    bound = max(known, key=lambda name: known[name]) if known else None
    step = known[bound] if bound else None
    used = costs["flops"]["useful"] / (step * peak.flops) if step and peak else None
    return {"seconds": {**seconds, "step": step}, "bound": bound, "utilisation": used}


def collected(found: Sequence[hlo.Collective]) -> dict[str, Any]:
    """Collectives by kind, the largest one by one, and what each device sends."""
    kinds: dict[str, dict[str, float]] = {}
    for one in found:
        of = kinds.setdefault(one.kind, {"count": 0, "bytes": 0, "wire_bytes": 0.0})
        of["count"] += one.times
        of["bytes"] += one.times * one.bytes
        of["wire_bytes"] += one.wire_bytes
    largest = sorted(found, key=lambda one: one.bytes * one.times, reverse=True)[:SHOWN]
    return {
        "count": sum(one.times for one in found),
        "wire_bytes": sum(one.wire_bytes for one in found),
        "kinds": kinds,
        "largest": [one._asdict() for one in largest],
    }


def shares(stages: Counter[str]) -> dict[str, float]:
    """The stages with the most operations, and their shares of all."""
    whole = sum(stages.values()) or 1
    return {stage: flops / whole for stage, flops in stages.most_common(SHOWN)}


def state_bytes(program: Program) -> dict[str, int]:
    """Bytes of each part of the state: on one device, and of the parameters also as a whole."""
    state = abstract_state(program)
    parts = {name: local_bytes(part) for name, part in state._asdict().items() if name != "step"}
    return {**parts, "all_params": sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.params))}


def local_bytes(tree: Any) -> int:
    """Bytes of the shards of arrays on one device, without the padding of the compiler's layouts."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
