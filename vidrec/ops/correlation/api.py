"""The two operations, and how the implementation that computes them is found and called."""

import functools
import importlib
import logging
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vidrec.ops.correlation.select import (
    Case,
    batch_axes,
    explicit_split,
    free_axes,
    obstacle,
    select,
    split_over,
    surroundings,
)
from vidrec.ops.correlation.shapes import Array, Float

GAUSSIANS = ("code", "paper")

# Each is a module with the functions `correlate(f1, f2, *, patch)` and `match(f1, f2, *, patch, sigma, tau, amplitude,
# relu) -> (offset (x, y) in pixels, confidence)`, as `reference` defines them. Kernels are loaded when they are used.
IMPLEMENTATIONS = {
    "reference": "reference",
    "gather": "gather",
    "dense": "xla",
    "pallas_tpu": "tpu",
    "pallas_gpu": "gpu",
}


def local_correlation(
    f1: Float[Array, "n h w c"], f2: Float[Array, "n h w c"], *, patch: int, implementation: str | None = None
) -> Float[Array, "n h w {patch} {patch}"]:
    """Scores of every position of f1 with the patch x patch positions of f2 around it (TCM Eq. 1 and 2).

    S[n, y, x, i, j] = <f1[n, y, x], f2[n, y + i - R, x + j - R]> with R = patch // 2, zero where that lies outside the
    map, not divided by the channels; float32, whatever the type of the features. Differentiable (reverse mode).

    Args:
      patch: side of the window, odd.
      implementation: a name of `IMPLEMENTATIONS`; None picks.

    Raises:
      ValueError: an even or non-positive patch, an unknown implementation, features of different or wrong shapes or
        types.
    """
    f1, f2, patch = *check_maps(f1, f2), check_patch(patch)
    return run("correlate", implementation, f1, f2, patch=patch)


def match(
    f1: Float[Array, "n h w c"],
    f2: Float[Array, "n h w c"],
    *,
    patch: int,
    sigma: float = 5.0,
    tau: float = 0.01,
    gaussian: str = "code",
    normalize: bool = True,
    relu: bool = True,
    implementation: str | None = None,
) -> tuple[Float[Array, "n h w 2"], Float[Array, "n h w"]]:
    """Where every position of f1 went in f2, and how surely (TCM Eq. 1 to 5): a soft-argmax of the correlation.

    The displacement is the mean offset in the window under softmax(g * S / tau), as (x, y) in units of R = patch // 2,
    so within -1..1; the confidence is the highest score. g is a Gaussian around the first highest score, without
    gradient. Positions outside the map take part with score zero; where all scores are zero, all three values are.
    Both are float32; products are of features in their own type (the normalised ones too), sums in float32.
    Differentiable (reverse mode).

    Args:
      patch: side of the window, odd.
      sigma: width of the Gaussian in pixels; a Python number, like tau: what is compiled depends on both.
      tau: temperature of the softmax.
      gaussian: "code" (the authors' code: exp(-d^2 / (2 sigma^2))) or "paper" (exp(-d^2 / sigma^2) / (sqrt(2 pi)
        sigma), which makes the softmax twelve times as soft at sigma = 5).
      normalize: divide features by their length over the channels first, so that scores are cosines (as the code).
      relu: negative scores count as zero (as the code).
      implementation: a name of `IMPLEMENTATIONS`; None picks.

    Raises:
      ValueError: a wrong argument, or features of different or wrong shapes or types.
    """
    f1, f2, patch = *check_maps(f1, f2), check_patch(patch)
    sigma, tau = check_number("sigma", sigma), check_number("tau", tau)
    if gaussian not in GAUSSIANS:
        raise ValueError(f"gaussian={gaussian!r} is not one of {', '.join(GAUSSIANS)}")
    if normalize:
        f1, f2 = unit_length(f1), unit_length(f2)
    amplitude = 1.0
    if gaussian == "paper":
        sigma, amplitude = sigma / math.sqrt(2), 1 / (math.sqrt(2 * math.pi) * sigma)
    settings = {"patch": patch, "sigma": sigma, "tau": tau, "amplitude": amplitude, "relu": relu}
    displacement, confidence = run("match", implementation, f1, f2, **settings)
    return displacement / max(patch // 2, 1), confidence


def unit_length(f: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
    """f / sqrt(sum of f^2 over the channels + 1e-6), computed in float32, in f's type."""
    wide = f.astype(jnp.float32)
    return (wide * jax.lax.rsqrt(jnp.sum(jnp.square(wide), -1, keepdims=True) + 1e-6)).astype(f.dtype)


def check_patch(patch: Any) -> int:
    """The side of a window; raises ValueError unless the window has a middle."""
    if isinstance(patch, bool) or not hasattr(patch, "__index__") or isinstance(patch, Tracer):
        raise ValueError(f"patch={patch} must be a Python integer: what is compiled depends on it")
    side = operator.index(patch)
    if side < 1 or side % 2 == 0:
        raise ValueError(f"patch={side} must be odd and positive, so that the window has a middle")
    return side


def check_number(name: str, value: Any) -> float:
    """A setting as a Python number; raises ValueError unless it is known while tracing, and positive."""
    if isinstance(value, Tracer):
        raise ValueError(f"{name} is traced and must be a Python number: name it in static_argnames of jax.jit")
    if not value > 0:
        raise ValueError(f"{name}={value} must be positive")
    return float(value)


def check_maps(
    f1: Float[Array, "..."], f2: Float[Array, "..."]
) -> tuple[Float[Array, "n h w c"], Float[Array, "n h w c"]]:
    """Both maps in one floating type; raises ValueError unless they are alike, real, and not empty."""
    if f1.ndim != 4 or f1.shape != f2.shape or 0 in f1.shape:
        shapes = f"f1 {list(f1.shape)} and f2 {list(f2.shape)}"
        raise ValueError(f"{shapes} must be feature maps [N, H, W, C] of one shape without a size of zero")
    for name, dtype in (("f1", f1.dtype), ("f2", f2.dtype)):
        if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
            raise ValueError(f"{name} is {dtype} and must be of floats or integers: cast it by {name}.astype(float32)")
    dtype = jnp.result_type(f1, f2)
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype = jnp.float32
    return f1.astype(dtype), f2.astype(dtype)


def run(operation: str, implementation: str | None, f1: Array, f2: Array, **settings: Any) -> Any:
    """Calls the implementation of an operation, on each device's own pairs where that has to be said."""
    f1, f2, checked = varying_alike(f1, f2)
    platform, kind, mesh = surroundings(f1, f2)
    pairs, height, width, channels = f1.shape
    patch, relu, own = settings["patch"], settings.get("relu", True), explicit_split(f1, f2)
    case = Case(platform, kind, f1.dtype, height, width, channels, patch, relu, mesh, pairs, operation, checked, own)
    name = choose(implementation, case)
    compute = load(name, operation, settings)
    kernel = name.startswith("pallas")
    if kernel and implementation is None:  # what is lowered for another platform after all takes the plain form
        fast, compute = compute, load("dense", operation, settings)
        key = {"tpu": "tpu", "gpu": "cuda"}[platform]
        compute = functools.partial(jax.lax.platform_dependent, default=compute, **{key: fast})
    explicit = mesh is not None and AxisType.Explicit in mesh.axis_types
    if mesh is None or not free_axes(mesh) or not (kernel or explicit):
        return compute(f1, f2)
    # A kernel is not split by itself, and on explicit axes nothing is that moves positions.
    axes = batch_axes(mesh, own)
    split = PartitionSpec(axes if pairs % split_over(mesh, own) == 0 else own)
    parted = jax.shard_map(compute, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)

    @jax.jit  # which brings a map that is on no mesh yet to that of the other
    def whole(*maps: Array) -> Any:
        """All devices' parts."""
        if explicit:  # only explicit axes are named in the type of an array
            maps = jax.sharding.reshard(maps, NamedSharding(mesh, PartitionSpec(own)))
        return parted(*maps)

    return whole(f1, f2)


def varying_alike(f1: Array, f2: Array) -> tuple[Array, Array, bool]:
    """Both maps varying over the same axes, and whether a surrounding shard_map takes account of that (check_vma=True).

    What is computed from both varies with either, also within loops and backward passes, where nothing is cast.
    """
    over = [jax.typeof(f).manual_axis_type.varying for f in (f1, f2)]
    axes = over[0] | over[1]
    f1, f2 = (
        jax.lax.pcast(f, tuple(axes - own), to="varying") if axes - own else f
        for f, own in zip((f1, f2), over, strict=True)
    )
    return f1, f2, bool(axes)


def load(name: str, operation: str, settings: dict[str, Any]) -> Callable[[Array, Array], Any]:
    """An implementation's function of (f1, f2)."""
    module = importlib.import_module(f"vidrec.ops.correlation.{IMPLEMENTATIONS[name]}")
    return functools.partial(getattr(module, operation), **settings)


def choose(implementation: str | None, case: Case) -> str:
    """The named implementation, if it can run; without a name, what `select` picks."""
    if implementation is None:
        name, reason = select(*case)
        if name == "dense" and case.platform != "cpu":
            tell(reason)
        return name
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(f"implementation={implementation!r} is not one of {', '.join(IMPLEMENTATIONS)}")
    if reason := obstacle(implementation, case):
        raise ValueError(f"implementation={implementation!r} cannot run here: {reason}; None picks one that can")
    return implementation


@functools.cache
def tell(reason: str) -> None:
    """Says once why no kernel runs on a device that might have one."""
    logging.getLogger(__name__).warning("correlation runs as plain XLA operations, without a kernel: %s", reason)
