"""Floating-point operations of a traced function: those of its matrix products and convolutions, stage by stage.

Unlike a compiler's count it is the same for every device, and it does not depend on how the program is optimised. It is
what a utilisation (MFU) is measured by: two operations per multiply-add, elementwise work left out.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from vidrec.inspect.summary import stage_of

OTHER = "other"  # what no module of the network does


def matrix_flops(traced: Any) -> Counter[str]:
    """Stage of the network -> operations; a loop's body counts as often as it runs.

    Args:
      traced: a jaxpr, closed or not, such as `jax.jit(f).trace(...).jaxpr`.
    """
    counts: Counter[str] = Counter()
    _count(_open(traced), "", 1, counts)
    return counts


def _count(jaxpr: Any, where: str, times: int, counts: Counter[str]) -> None:
    for eqn in jaxpr.eqns:
        name, place = eqn.primitive.name, f"{where}/{eqn.source_info.name_stack}"
        if name == "cond":  # one of the branches runs: the dearest
            branches = [matrix_flops(branch) for branch in eqn.params["branches"]]
            dearest = max(branches, key=lambda counted: sum(counted.values()))
            counts[stage(place)] += times * sum(dearest.values())
        elif name == "pallas_call":
            estimate = eqn.params.get("cost_estimate")
            counts[stage(place)] += times * (estimate.flops if estimate else 0)
        elif flops := _own(name, eqn):
            counts[stage(place)] += times * flops
        else:
            for inner in _inner(eqn.params):
                _count(inner, place, times * _repeats(name, eqn.params), counts)


def _own(name: str, eqn: Any) -> int:
    """Operations of one matrix product or convolution; 0 for anything else."""
    if name == "dot_general":
        left, out = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return 2 * math.prod(out) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, out = eqn.invars[1].aval.shape, eqn.outvars[0].aval.shape
        per_output = math.prod(kernel) // kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
        # zeros between the values of a strided convolution's gradient are no work
        return 2 * math.prod(out) * per_output // math.prod(eqn.params["lhs_dilation"])
    return 0


def _repeats(name: str, params: dict[str, Any]) -> int:
    """How often an operation runs what is inside it."""
    if name == "scan":
        return params["length"]
    if name == "shard_map":  # shapes inside are those of one device
        return math.prod(params["mesh"].shape[axis] for axis in params.get("manual_axes", params["mesh"].axis_names))
    return 1


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if hasattr(item, "eqns"):
                yield _open(item)


def _open(jaxpr: Any) -> Any:
    return jaxpr.jaxpr if hasattr(jaxpr, "jaxpr") else jaxpr


def stage(place: str) -> str:
    """The stage of a name such as "jvp(TSM)/TSM.stage_features/layer1_0/conv1"; `OTHER` outside the network."""
    flat = re.sub(r"(jvp|transpose|vmap|checkpoint|remat|rematted_computation|jit)\(|\)", "/", place)
    parts = [part for part in flat.split("/") if part and not re.match(r"[A-Z]\w*(\.|$)", part)]
    named = [part for part in parts if part not in ("checkpoint", "rematted_computation")]
    return stage_of(named[0]) if named and "/" in place.strip("/") else OTHER
