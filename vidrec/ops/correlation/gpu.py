"""Correlation and match estimation on Hopper GPUs (H100, H200), by Mosaic GPU kernels.

`match` keeps the scores in registers, forward and backward, and takes bfloat16 features: the tensor cores multiply
them exactly and add in float32. float32 features would need several such products per score and as many per gradient,
where `dense` is right already; `unsupported` says so. `correlate` writes the scores and takes any type.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vidrec.ops.correlation import gpu_backward, gpu_forward, gpu_volume
from vidrec.ops.correlation.batching import fold_pairs
from vidrec.ops.correlation.geometry import line, tiling
from vidrec.ops.correlation.gpu_gradient import known_of
from vidrec.ops.correlation.gpu_tiles import from_strips, pad_channels, to_strips
from vidrec.ops.correlation.shapes import Array, Float

Maps = Float[Array, "n h w c"]

SHARED_MEMORY = 227 * 1024  # bytes that a block can have


def unsupported(height: int, width: int, channels: int, patch: int, dtype: Any, operation: str) -> str | None:
    """Why the kernels do not serve maps of this size, in one clause; None where they do.

    Args:
      operation: "match" or "correlate".
    """
    if operation == "match":
        if jnp.dtype(dtype) != jnp.bfloat16:
            return f"the kernels match bfloat16 features, not {jnp.dtype(dtype).name}"
        need, what = gpu_backward.shared_memory(channels, tiling(height, width, patch)), f"{channels} channels"
    else:
        need, what = gpu_volume.shared_memory(line(height, width, patch)), f"windows of {patch} x {patch}"
    if need > SHARED_MEMORY:
        return f"{what} take {need // 1024} KB of a multiprocessor's {SHARED_MEMORY // 1024} KB of shared memory"
    return None


def check(f1: Maps, patch: int, operation: str) -> None:
    """Raises if the kernels do not serve these features."""
    height, width, channels = f1.shape[1:]
    reason = unsupported(height, width, channels, patch, f1.dtype, operation)
    if reason:
        raise ValueError(f"{reason}; implementation='dense' serves all features")


def correlate(f1: Maps, f2: Maps, *, patch: int, interpret: Any = None) -> Float[Array, "n h w p p"]:
    """Scores of every position with the patch x patch positions around it; see `reference.correlate`.

    Args:
      interpret: `InterpretGPUParams` to run on a CPU.

    Raises:
      ValueError: a window that is too large for the kernels.
    """
    check(f1, patch, "correlate")
    return gpu_volume.volume(f1, f2, patch, interpret)


class Settings(NamedTuple):
    """What a match is estimated with: see `reference.estimate`."""

    patch: int
    sigma: float
    tau: float
    amplitude: float
    interpret: Any


def match(
    f1: Maps,
    f2: Maps,
    *,
    patch: int,
    sigma: float,
    tau: float,
    amplitude: float,
    relu: bool,
    interpret: Any = None,
) -> tuple[Float[Array, "n h w 2"], Float[Array, "n h w"]]:
    """The displacement (x, y) in pixels and the confidence; see `reference.match`.

    Args:
      interpret: `InterpretGPUParams` to run on a CPU.

    Raises:
      ValueError: features or a setting that the kernels do not serve.
    """
    if not relu:
        raise ValueError("relu=False: the GPU kernels count negative scores as zero; implementation='dense' need not")
    check(f1, patch, "match")
    return matched(f1, f2, Settings(patch, sigma, tau, amplitude, interpret))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def matched(f1: Maps, f2: Maps, settings: Settings) -> tuple[Float[Array, "n h w 2"], Float[Array, "n h w"]]:
    """`match` with its own backward pass."""
    return match_forward(f1, f2, settings)[0]


def match_forward(f1: Maps, f2: Maps, settings: Settings) -> tuple[Any, tuple[Maps, Maps, Array]]:
    """Returns ((displacement, confidence), what the backward pass needs)."""
    height, width = f1.shape[1:3]
    tiles = tiling(height, width, settings.patch)
    one, two = (pad_channels(to_strips(f, tiles)) for f in (f1, f2))
    fixed = {"size": (height, width), "tiling": tiles, "sharpness": sharpness(settings)}
    found = fold_pairs(partial(gpu_forward.find, **fixed, interpret=settings.interpret))(one, two)
    maps = from_strips(found[:, :, :3].swapaxes(2, 3), height, width, tiles)
    return (maps[..., :2], maps[..., 2]), (f1, f2, found)


def match_backward(settings: Settings, residuals: Any, gradients: Any) -> tuple[Maps, Maps]:
    """Of f1 and f2, from the gradients of displacement and confidence; scores are computed again."""
    f1, f2, found = residuals
    height, width, channels = f1.shape[1:]
    tiles = tiling(height, width, settings.patch)
    one, two = (pad_channels(to_strips(f, tiles)) for f in (f1, f2))
    by_offset, by_peak = gradients
    by_found = to_strips(jnp.concatenate([by_offset, by_peak[..., None]], -1), tiles)
    position = to_strips(jnp.asarray(np.indices((height, width), np.float32)[::-1].transpose(1, 2, 0)[None]), tiles)[0]
    known = known_of(found, (position[..., 0], position[..., 1]), by_found[..., :2], by_found[..., 2])
    fixed = {"tiling": tiles, "sharpness": sharpness(settings), "interpret": settings.interpret}
    by_f1, by_f2 = (
        fold_pairs(partial(gpu_backward.gradient, **fixed, keep_queries=keep_queries))(one, two, known)
        for keep_queries in (True, False)
    )
    by_f1, by_f2 = (from_strips(g, height, width, tiles)[..., :channels] for g in (by_f1, by_f2))
    return by_f1, by_f2


matched.defvjp(match_forward, match_backward)


def sharpness(settings: Settings) -> gpu_forward.Sharpness:
    """The settings in the hardware's units."""
    return gpu_forward.Sharpness(
        narrow=math.sqrt(gpu_forward.LOG2_E / 2) / settings.sigma,
        scale=gpu_forward.LOG2_E * settings.amplitude / settings.tau,
    )
