"""Batch normalisation whose statistics are a stated choice: over the whole batch, over groups of clips, or frozen.

What a training step costs where a batch is split over devices, beside the all-reduces of the gradient:

    global          two small all-reduces for each norm, one forward and one backward: some hundred for a ResNet50,
                    each of which waits for all devices
    group:<clips>   none where every group lies on one device (the clips of a device are a multiple of a group's);
                    those of global where groups are shared
    partial         two, of the first norm
    frozen          none
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vidrec.errors import UsageError, VidrecError

FIRST = ("bn1",)  # where every network here keeps its first BatchNorm, the only one that `partial` trains


class Policy(NamedTuple):
    """The parsed `bn` field: `kind` is global, group, frozen or partial; `clips` is a group's size (0: the batch)."""

    kind: str
    clips: int = 0


def parse_bn(text: str) -> Policy:
    """Parses `global | group:<clips> | frozen | partial`; raises UsageError naming bn otherwise."""
    kind, colon, clips = str(text).partition(":")
    if kind == "group" and clips.isdecimal() and int(clips) > 0:
        return Policy(kind, int(clips))
    if kind in ("global", "frozen", "partial") and not colon:
        return Policy(kind)
    raise UsageError(f"bn={text!r} is not known (choose from: global, group:<clips> as in group:8, frozen, partial)")


def is_trained(policy: Policy, first: bool) -> bool:
    """Whether a BatchNorm, `first` of its network or not, moves its statistics and its scale and bias in training."""
    return policy.kind in ("global", "group") or (policy.kind == "partial" and first)


def frozen_params(bn: str, variables: dict[str, Any]) -> frozenset[tuple[str, ...]]:
    """Returns the paths below `variables["params"]` that the policy `bn` keeps fixed, for the optimizer's mask.

    A BatchNorm is recognised by its running statistics, so the scale of another norm is never taken for one.
    """
    policy = parse_bn(bn)
    norms = {path[:-1] for path in flatten_dict(variables.get("batch_stats", {}))}
    fixed = {norm for norm in norms if not is_trained(policy, norm == FIRST)}
    return frozenset(path for path in flatten_dict(variables["params"]) if path[:-1] in fixed)


class BatchNorm(nn.Module):
    """Normalises every channel (last axis) of `[B, ..., C]`; a row of the first axis is one clip.

    Follows torch's BatchNorm, so that its weights mean the same here: eps 1e-5, `batch_stats` mean and var move by
    1 - `momentum` in a training step, var as the UNBIASED variance while the batch is normalised by the biased one.
    With `group:<clips>` statistics belong to that many clips and the running ones take the mean over groups, so results
    do not depend on how many devices share the batch. Statistics and arithmetic are float32, the result has x's type.
    Raises VidrecError when the batch is not a whole number of groups.
    """

    policy: Policy = Policy("global")
    train: bool = False
    momentum: float = 0.9
    epsilon: float = 1e-5
    first: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b *rest c"]) -> Float[Array, "b *rest c"]:
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        trained = is_trained(self.policy, self.first)
        if not trained:
            scale, bias = jax.lax.stop_gradient((scale, bias))
        if not (self.train and trained) or self.is_initializing():
            return normalize(x, mean.value, var.value, scale, bias, self.epsilon)
        groups = self.split(x)
        batch_mean, batch_var = moments(groups, around=jnp.asarray(mean.value))
        count = x.size // (len(groups) * x.shape[-1])
        unbiased = batch_var.mean(0) * (count / max(count - 1, 1))
        mean.value = self.momentum * mean.value + (1 - self.momentum) * batch_mean.mean(0)
        var.value = self.momentum * var.value + (1 - self.momentum) * unbiased
        per_group = (len(groups), *(1 for _ in x.shape[:-1]), *channels)
        y = normalize(groups, batch_mean.reshape(per_group), batch_var.reshape(per_group), scale, bias, self.epsilon)
        return y.reshape(x.shape)

    def split(self, x: Float[Array, "b *rest c"]) -> Float[Array, "g clips *rest c"]:
        """Cuts the batch into groups of the policy's clips."""
        clips = self.policy.clips or len(x)
        if len(x) % clips:
            raise VidrecError(
                f"bn='group:{clips}' needs a batch that is a multiple of {clips} clips, but it has {len(x)}: "
                "change bn or the batch size"
            )
        return x.reshape(-1, clips, *x.shape[1:])


def moments(
    groups: Float[Array, "g *rest c"], around: Float[Array, " c"]
) -> tuple[Float[Array, "g c"], Float[Array, "g c"]]:
    """Returns the mean and biased variance of each group in one pass (one all-reduce when the batch is sharded).

    Sums are taken around the running mean, a constant that drops out of the result, because E[x^2] - E[x]^2 of raw
    values cancels badly when the mean is large beside the deviation.
    """
    around = jax.lax.stop_gradient(around)
    axes = tuple(range(1, groups.ndim - 1))
    shifted = groups.astype(jnp.float32) - around
    mean, square = shifted.mean(axes), jnp.square(shifted).mean(axes)
    return mean + around, jnp.maximum(square - jnp.square(mean), 0.0)


def normalize(x: Array, mean: ArrayLike, var: ArrayLike, scale: ArrayLike, bias: ArrayLike, epsilon: float) -> Array:
    """Returns (x - mean) / sqrt(var + epsilon) * scale + bias, computed in float32, in x's type."""
    y = (x.astype(jnp.float32) - mean) * (jax.lax.rsqrt(jnp.add(var, epsilon)) * scale) + bias
    return y.astype(x.dtype)
