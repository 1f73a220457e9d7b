"""The few layers every convolutional network here is made of, with torch's padding and initialisation."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vidrec.ops.depthwise import depthwise_conv
from vidrec.ops.shift import temporal_taps

KAIMING = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
TORCH_DEFAULT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # what torch's convolutions start from


class Layers(NamedTuple):
    """Constructors with a network's own settings (compute type, BatchNorm policy, train or not) filled in.

    `conv(features, size, stride, ..., name=)` and `norm(name=, ...)`; see `conv` and `vidrec.models.norm.BatchNorm`.
    """

    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]


def conv(
    features: int,
    size: int | Sequence[int] = 1,
    stride: int | Sequence[int] = 1,
    *,
    name: str,
    dtype: DTypeLike = jnp.float32,
    groups: int = 1,
    use_bias: bool = False,
    kernel_init: nn.initializers.Initializer = KAIMING,
) -> nn.Module:
    """A size x size convolution on `[..., H, W, C]`, padded by (size - 1) // 2 on every side.

    Three sizes (with one stride or three) make it one in time and space on `[B, T, H, W, C]`.
    """
    sizes = (size, size) if isinstance(size, int) else tuple(size)
    if set(sizes) == {stride} == {1} and groups == 1 and not use_bias:
        return PointwiseConv(features, sizes, kernel_init, dtype, name=name)
    return nn.Conv(
        features,
        sizes,
        strides=(stride,) * len(sizes) if isinstance(stride, int) else tuple(stride),
        padding=[((n - 1) // 2, (n - 1) // 2) for n in sizes],
        feature_group_count=groups,
        use_bias=use_bias,
        kernel_init=kernel_init,
        dtype=dtype,
        name=name,
    )


class PointwiseConv(nn.Module):
    """A 1x1 (or 1x1x1) convolution, stride 1, no bias, as the matrix product that it is: kernel `[1, 1, C, features]`.

    Written as a convolution, its gradient would be computed from transposed copies of the features.
    """

    features: int
    sizes: Sequence[int]
    kernel_init: nn.initializers.Initializer = KAIMING
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b h w c"]) -> Float[Array, "*b h w d"]:
        shape = (*self.sizes, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        return x.astype(self.dtype) @ kernel.reshape(shape[-2:]).astype(self.dtype)


def max_pool(x: Float[Array, "b t h w c"], size: int, stride: int, padding: int = 0) -> Float[Array, "b t h2 w2 c"]:
    """Maximum over size x size windows of every frame; the padding never wins."""
    frames = x.reshape(-1, *x.shape[2:])
    around: Any = ((padding, padding), (padding, padding))  # flax accepts pairs, its annotation says str
    pooled = nn.max_pool(frames, (size, size), (stride, stride), around)
    return pooled.reshape(*x.shape[:2], *pooled.shape[1:])


class TemporalConv(nn.Module):
    """Convolution over time alone, kernel 3, zero padding 1, no bias, on `[B, T, H, W, C]`.

    `channelwise` (kernel `[3, 1, C]`) weighs frames t-1, t, t+1 of each channel on its own (STM Eq. 1); otherwise
    it is an ordinary convolution (kernel `[3, C, C]`).
    """

    kernel_init: nn.initializers.Initializer
    channelwise: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        channels = x.shape[-1]
        shape = (3, 1 if self.channelwise else channels, channels)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(self.dtype)
        if self.channelwise:
            return temporal_taps(x, kernel[:, 0])
        padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
        return sum((padded[:, i : i + x.shape[1]] @ kernel[i] for i in (1, 2)), padded[:, : x.shape[1]] @ kernel[0])


class DepthwiseConv(nn.Module):
    """A 3x3 convolution of each channel on its own, stride 1, zero padding 1, no bias, on `[..., H, W, C]`.

    Kernel `[3, 3, 1, C]`; see `vidrec.ops.depthwise`.
    """

    kernel_init: nn.initializers.Initializer = TORCH_DEFAULT
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
        kernel = self.param("kernel", self.kernel_init, (3, 3, 1, x.shape[-1]), jnp.float32).astype(self.dtype)
        return depthwise_conv(x, kernel[:, :, 0])
