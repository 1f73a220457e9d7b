"""The two operations and the implementations they run on."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vidrec.ops.correlation import reference, xla
from vidrec.ops.correlation.shapes import Array, Float

GAUSSIANS = ("code", "paper")


class Implementation(NamedTuple):
    """One way to compute both operations.

    Attributes:
      correlate: `(f1, f2, *, patch) -> scores [N, H, W, patch, patch]` in float32.
      match: `(f1, f2, *, patch, sigma, tau, amplitude, relu) -> (offset (x, y) in pixels, confidence)` in float32;
        the softmax is over amplitude * g * scores / tau with g = exp(-|p - p*|^2 / (2 sigma^2)).
    """

    correlate: Callable[..., Float[Array, "n h w p p"]]
    match: Callable[..., tuple[Float[Array, "n h w 2"], Float[Array, "n h w"]]]


IMPLEMENTATIONS: dict[str, Implementation] = {
    "reference": Implementation(reference.correlate, reference.match),
    "xla": Implementation(xla.correlate, xla.match),
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
      ValueError: an even or non-positive patch, an unknown implementation, features of different or wrong shapes.
    """
    check_maps(f1, f2, patch)
    return choose(implementation).correlate(f1, f2, patch=patch)


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

    Args:
      patch: side of the window, odd.
      sigma: width of the Gaussian in pixels.
      tau: temperature of the softmax.
      gaussian: "code" (the authors' code: exp(-d^2 / (2 sigma^2))) or "paper" (exp(-d^2 / sigma^2) / (sqrt(2 pi)
        sigma), which makes the softmax twelve times as soft at sigma = 5).
      normalize: divide features by their length over the channels first, so that scores are cosines (as the code).
      relu: negative scores count as zero (as the code).
      implementation: a name of `IMPLEMENTATIONS`; None picks.

    Raises:
      ValueError: a wrong argument, or features of different or wrong shapes.
    """
    check_maps(f1, f2, patch)
    if not (sigma > 0 and tau > 0):
        raise ValueError(f"sigma={sigma}, tau={tau}: both must be positive")
    if gaussian not in GAUSSIANS:
        raise ValueError(f"gaussian={gaussian!r} is not one of {', '.join(GAUSSIANS)}")
    if normalize:
        f1, f2 = unit_length(f1), unit_length(f2)
    amplitude = 1.0
    if gaussian == "paper":
        sigma, amplitude = sigma / math.sqrt(2), 1 / (math.sqrt(2 * math.pi) * sigma)
    displacement, confidence = choose(implementation).match(
        f1, f2, patch=patch, sigma=sigma, tau=tau, amplitude=amplitude, relu=relu
    )
    return displacement / max(patch // 2, 1), confidence


def unit_length(f: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
    """f / sqrt(sum of f^2 over the channels + 1e-6), computed in float32, in f's type."""
    wide = f.astype(jnp.float32)
    return (wide * jax.lax.rsqrt(jnp.sum(jnp.square(wide), -1, keepdims=True) + 1e-6)).astype(f.dtype)


def choose(implementation: str | None) -> Implementation:
    """The named implementation; without a name, the one that is fast on every device."""
    name = "xla" if implementation is None else implementation
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"implementation={name!r} is not one of {', '.join(IMPLEMENTATIONS)}")
    return IMPLEMENTATIONS[name]


def check_maps(f1: Float[Array, "..."], f2: Float[Array, "..."], patch: int) -> None:
    """Raises unless both are maps [N, H, W, C] of one shape and the window has a middle."""
    if patch < 1 or patch % 2 == 0:
        raise ValueError(f"patch={patch} must be odd and positive, so that the window has a middle")
    if f1.ndim != 4 or f1.shape != f2.shape:
        raise ValueError(f"f1 {list(f1.shape)} and f2 {list(f2.shape)} must be feature maps [N, H, W, C] of one shape")
