"""The implementations side by side on this machine: time per pair, memory, and what bounds it.

All run in one process on the same data, in turns, so that whatever else slows the machine slows all alike. Beside them
stand three ceilings measured in the same run: how fast memory is copied, matrices are multiplied, and scores pass
through the elementwise work of a match. A floor is the time that the work which no implementation can avoid takes at a
ceiling; the highest of the three floors binds.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vidrec.ops.correlation.api import IMPLEMENTATIONS, local_correlation, match, unit_length
from vidrec.ops.correlation.geometry import inside_line
from vidrec.ops.correlation.select import Case, obstacle, surroundings

PASSES = ("forward", "forward+backward")
ROUNDS, WARM_UP = 20, 2
VECTOR_OPERATIONS = 16  # multiply-adds, of a score in a match, beside one exponential


class Setting(NamedTuple):
    """What is correlated: pairs of maps [size, size, channels] of a dtype, with a window of side `patch`."""

    pairs: int
    size: int
    channels: int
    patch: int
    dtype: str


class Ceilings(NamedTuple):
    """Rates of this machine: bytes, floating-point operations of matrix products, and scores, per second."""

    bytes: float
    flops: float
    scores: float


def measure(
    pairs: int = 0,
    *,
    size: int = 28,
    channels: int = 64,
    patch: int = 15,
    dtype: str = "",
    rounds: int = ROUNDS,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Times every implementation that can run here; a report of plain values.

    Args:
      pairs: N; 0 takes so many that one call lasts milliseconds and its data leave the caches: 896, or 14 on a CPU.
      size: height and width of the maps.
      channels: C of the maps.
      patch: side of the window, odd.
      dtype: float32 or bfloat16; "" takes what networks compute in: bfloat16, or float32 on a CPU.
      rounds: times that each is measured; the median is reported.
      progress: is told what is measured next.

    Raises:
      ValueError: a setting that cannot be.
    """
    platform, kind, _ = surroundings()
    cpu = platform == "cpu"
    setting = Setting(pairs or (14 if cpu else 896), size, channels, patch, dtype or ("float32" if cpu else "bfloat16"))
    check(setting)
    if rounds < 1:
        raise ValueError(f"{rounds=} must be positive")
    progress("measuring the ceilings")
    ceilings = measure_ceilings(setting.dtype, 1 if cpu else 8, rounds)
    rows = []
    for operation in ("match", "correlate"):
        for name in PASSES:
            progress(f"measuring {operation}, {name}")
            rows += compare(operation, name, setting, ceilings, rounds)
    return {
        "device": kind,
        "jax": jax.__version__,
        "setting": setting._asdict(),
        "ceilings_per_second": ceilings._asdict(),
        "rows": rows,
    }


def check(setting: Setting) -> None:
    """Raises ValueError unless all numbers are positive and the window has a middle."""
    numbers = (setting.pairs, setting.size, setting.channels, setting.patch)
    if min(numbers) < 1 or setting.patch % 2 == 0:
        raise ValueError(
            "pairs={}, size={}, channels={}, patch={}: all must be positive, and patch odd".format(*numbers)
        )


def compare(operation: str, direction: str, setting: Setting, ceilings: Ceilings, rounds: int) -> list[dict[str, Any]]:
    """One row per implementation of an operation, of one of `PASSES`."""
    f1, f2, *cotangents = jax.jit(partial(draw, setting, operation))(jax.random.key(0))
    names = able(operation, setting)
    calls = {}
    for name in names:
        function = jax.jit(partial(differentiated, operation, direction, setting.patch, name))
        calls[name] = function.lower(f1, f2, *cotangents).compile()
    seconds = interleaved({name: partial(call, f1, f2, *cotangents) for name, call in calls.items()}, rounds)
    floors = {key: 1e6 * value for key, value in floor(operation, direction, setting, ceilings).items()}
    rows = []
    for name in names:
        spent = 1e6 * seconds[name] / setting.pairs
        rows.append(
            {
                "operation": operation,
                "pass": direction,
                "implementation": name,
                "us_per_pair": spent,
                "times_as_fast_as_dense": seconds["dense"] / seconds[name],
                "times_as_fast_as_gather": seconds["gather"] / seconds[name],
                "temp_bytes": calls[name].memory_analysis().temp_size_in_bytes,
                "floor_us": floors,
                "binds": max(floors, key=lambda key: floors[key]),
                "share_of_ceiling": max(floors.values()) / spent,
            }
        )
    return rows


def able(operation: str, setting: Setting) -> list[str]:
    """The implementations that can run here, but for the reference."""
    platform, kind, mesh = surroundings()
    size = (setting.size, setting.size, setting.channels, setting.patch)
    case = Case(platform, kind, setting.dtype, *size, mesh=mesh, pairs=setting.pairs, operation=operation)
    return [name for name in IMPLEMENTATIONS if name != "reference" and obstacle(name, case) is None]


def draw(setting: Setting, operation: str, key: Any) -> list[Any]:
    """Two random maps, each position of length one, and gradients of an operation's results."""
    shape = (setting.pairs, setting.size, setting.size)
    keys = jax.random.split(key, 4)
    maps = [unit_length(jax.random.normal(k, (*shape, setting.channels))).astype(setting.dtype) for k in keys[:2]]
    results = [(*shape, 2), shape] if operation == "match" else [(*shape, setting.patch, setting.patch)]
    return maps + [jax.random.normal(k, s) for k, s in zip(keys[2:], results, strict=False)]


def differentiated(
    operation: str, direction: str, patch: int, implementation: str, f1: Any, f2: Any, *cotangents: Any
) -> Any:
    """The results of an operation or, in the pass "forward+backward", the gradients of both maps with them."""
    functions = {"match": partial(match, normalize=False), "correlate": local_correlation}
    function = partial(functions[operation], patch=patch)
    if direction == "forward":
        return function(f1, f2, implementation=implementation)
    results, pull = jax.vjp(partial(function, implementation=implementation), f1, f2)
    return results, pull(tuple(cotangents) if operation == "match" else cotangents[0])


def interleaved(
    calls: dict[str, Callable[[], Any]], rounds: int, of: Callable[[list[float]], float] = statistics.median
) -> dict[str, float]:
    """The median seconds of each call, or another number `of` them; in every round each runs once."""
    seconds = {name: [] for name in calls}
    for turn in range(WARM_UP + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if turn >= WARM_UP:
                seconds[name].append(time.perf_counter() - start)
    return {name: of(measured) for name, measured in seconds.items()}


def measure_ceilings(dtype: str, scale: int, rounds: int) -> Ceilings:
    """The best that this machine reaches; `scale` makes the arrays large enough for an accelerator."""
    side = 1024 * scale
    flat = jnp.ones(1024 * 1024 * 16 * scale, jnp.float32)
    square = jnp.ones((side, side), dtype)
    few = jnp.linspace(0, 1, 1024 * 1024 * scale)
    chain = 8 * scale  # long enough that starting the call does not count

    def elementwise(x: Any) -> Any:
        """A chain of elementwise operations, bound by arithmetic."""
        for _ in range(chain):
            for _ in range(VECTOR_OPERATIONS):
                x = x * 0.999 + 0.001
            x = jnp.exp2(-x)
        return x

    calls = {
        "bytes": jax.jit(lambda x: x + 1).lower(flat).compile(),
        "flops": jax.jit(squared).lower(square).compile(),
        "scores": jax.jit(elementwise).lower(few).compile(),
    }
    arguments = {"bytes": flat, "flops": square, "scores": few}
    turns = {name: partial(call, arguments[name]) for name, call in calls.items()}
    seconds = interleaved(turns, rounds, min)
    return Ceilings(
        2 * flat.nbytes / seconds["bytes"], 2 * side**3 / seconds["flops"], chain * few.size / seconds["scores"]
    )


def squared(x: Any) -> Any:
    """x times x, as exactly as the implementations multiply: float32 takes several passes on an accelerator."""
    return jnp.dot(x, x, precision="highest", preferred_element_type=jnp.float32)


def floor(operation: str, direction: str, setting: Setting, ceilings: Ceilings) -> dict[str, float]:
    """Seconds per pair that the unavoidable work takes at each ceiling.

    Read both maps and write the results, in the backward pass read all of them and write both gradients; one matrix
    product of all queries with their windows, and backward two more, or three of a match, whose scores nobody keeps;
    of a match, the elementwise work of each score in either pass.
    """
    rows, _ = inside_line(np.arange(setting.size), setting.size, setting.patch)
    scores = float(rows.sum()) ** 2
    positions = setting.size**2
    maps = 2 * positions * setting.channels * jnp.dtype(setting.dtype).itemsize
    results = 4 * positions * (3 if operation == "match" else setting.patch**2)
    backward = direction != "forward"
    return {
        "bytes": ((maps + results) + backward * (2 * maps + results)) / ceilings.bytes,
        "flops": 2 * setting.channels * scores * (1 + backward * (3 if operation == "match" else 2)) / ceilings.flops,
        "scores": (1 + backward) * scores / ceilings.scores if operation == "match" else 0.0,
    }


def text(report: dict[str, Any]) -> str:
    """The report as aligned lines."""
    setting, rates = Setting(**report["setting"]), report["ceilings_per_second"]
    lines = [("", "", "", "us per pair", "x dense", "x gather", "temp MB", "floor us", "binds", "of it")]
    for row in report["rows"]:
        lines.append(
            (
                row["operation"], row["pass"], row["implementation"], f"{row['us_per_pair']:.2f}",
                f"{row['times_as_fast_as_dense']:.2f}", f"{row['times_as_fast_as_gather']:.2f}",
                f"{row['temp_bytes'] / 1e6:.1f}", f"{max(row['floor_us'].values()):.2f}", row["binds"],
                f"{row['share_of_ceiling']:.0%}",
            )
        )  # fmt: skip
    head = (
        f"{report['device']}, JAX {report['jax']}: {setting.pairs} pairs of {setting.size} x {setting.size} x "
        f"{setting.channels} {setting.dtype}, patch {setting.patch}. Ceilings: copy {rates['bytes'] / 1e9:.0f} GB/s, "
        f"products {rates['flops'] / 1e12:.2f} TFLOP/s, elementwise {rates['scores'] / 1e9:.1f} G scores/s."
    )
    legend = "x: times as fast; floor us: the least that the ceilings allow; binds: which; of it: floor over measured"
    return f"{head}\n{aligned(lines, left=3)}\n{legend}"


def aligned(lines: list[tuple[str, ...]], left: int) -> str:
    """As vidrec.text.aligned: this folder needs nothing of vidrec beside itself."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([*map(str.ljust, line[:left], widths[:left]), *map(str.rjust, line[left:], widths[left:])]).rstrip()
        for line in lines
    )
