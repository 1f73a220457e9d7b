"""What a vision transformer for video is made of beside its attention (Dosovitskiy et al., ICLR 2021; TimeSformer)."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vidrec.errors import VidrecError
from vidrec.models.layers import TORCH_DEFAULT
from vidrec.ops.resize import nearest_index

STD = 0.02  # of initial weights; published as cut at 2.0, which is a hundred deviations away

Tokens = Float[Array, "b s d"]
Dense = Callable[..., nn.Dense]  # `dense` with a network's own settings filled in


def dense(features: int, *, name: str, dtype: DTypeLike = jnp.float32, std: float = STD) -> nn.Dense:
    """A linear layer that starts from normal weights of deviation `std` (0: zeros) and bias 0."""
    kernel_init = nn.initializers.normal(std) if std else nn.initializers.zeros
    return nn.Dense(features, kernel_init=kernel_init, dtype=dtype, name=name)


def layer_norm(*, name: str, dtype: DTypeLike = jnp.float32) -> nn.LayerNorm:
    """LayerNorm over channels, eps 1e-6, in float32; the result has the given type."""
    return nn.LayerNorm(epsilon=1e-6, dtype=dtype, name=name)


class MLP(nn.Module):
    """Two linear layers with the exact (erf) GELU between, `[..., D]` in and out."""

    hidden: int
    dense: Dense = dense

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        y = nn.gelu(self.dense(self.hidden, name="fc1")(x), approximate=False)
        return self.dense(x.shape[-1], name="fc2")(y)


class PatchProjection(nn.Module):
    """Every patch x patch square of pixels to one vector: a strided convolution with bias, as one matrix product.

    `[B, T, H, W, C]` to `[B, T, H/patch, W/patch, D]`; kernel `[patch, patch, C, D]`.
    """

    dim: int
    patch: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, clips: Float[Array, "b t h w c"]) -> Float[Array, "b t h2 w2 d"]:
        batch, frames, height, width, channels = clips.shape
        p = self.patch
        kernel = self.param("kernel", TORCH_DEFAULT, (p, p, channels, self.dim), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.dim,), jnp.float32)
        pixels = clips.astype(self.dtype).reshape(batch, frames, height // p, p, width // p, p, channels)
        pixels = jnp.swapaxes(pixels, 3, 4).reshape(batch, frames, height // p, width // p, p * p * channels)
        return pixels @ kernel.astype(self.dtype).reshape(-1, self.dim) + bias.astype(self.dtype)


class Embedding(nn.Module):
    """A clip to its tokens: patch vectors + place in the picture + place in time, and one cls token before them.

    `[B, T, H, W, 3]` to `[B, 1 + N*T, D]`, where frame t of patch n stands at 1 + n*T + t. The cls token has a place in
    the picture but none in time. Pictures of another size than `image_size` get the nearest places of its grid.
    Raises VidrecError when the sides are not multiples of the patch.

    Attributes:
      time_std: standard deviation that time embeddings start from.
    """

    dim: int
    num_frames: int
    image_size: int
    patch: int
    time_std: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, clips: Float[Array, "b t h w c"]) -> Tokens:
        batch, frames, height, width, _ = clips.shape
        if height % self.patch or width % self.patch:
            raise VidrecError(
                f"pictures of {height}x{width} cannot be cut into patches of {self.patch}x{self.patch}: choose an "
                f"image_size that is a multiple of patch_size={self.patch}"
            )
        side = self.image_size // self.patch
        cls = self.param("cls_token", nn.initializers.normal(STD), (1, 1, self.dim), jnp.float32)
        places = self.param("pos_embed", nn.initializers.normal(STD), (1, 1 + side * side, self.dim), jnp.float32)
        times = self.param("time_embed", nn.initializers.normal(self.time_std), (1, frames, self.dim), jnp.float32)
        patches = PatchProjection(self.dim, self.patch, self.dtype, name="proj")(clips)
        place = resize_places(places, (height // self.patch, width // self.patch))[0]
        where = (place[1:, None] + times).astype(self.dtype)  # [N, T, D]
        patches = jnp.swapaxes(patches.reshape(batch, frames, -1, self.dim), 1, 2) + where
        first = jnp.broadcast_to((cls + place[:1]).astype(self.dtype), (batch, 1, self.dim))
        return jnp.concatenate([first, patches.reshape(batch, -1, self.dim)], axis=1)


def resize_places(places: Any, grid: tuple[int, int]) -> Any:
    """Position embeddings `[1, 1 + side*side, D]` (cls first) for a grid of rows x columns, by nearest neighbour."""
    side = round((places.shape[1] - 1) ** 0.5)
    if grid == (side, side):
        return places
    index = nearest_index(side, grid[0])[:, None] * side + nearest_index(side, grid[1])
    return places[:, np.concatenate([[0], 1 + index.ravel()])]


def resize_times(times: Any, frames: int) -> Any:
    """Time embeddings `[1, T, D]` for another number of frames, by nearest neighbour."""
    return times[:, nearest_index(times.shape[1], frames)]


def drop_path(x: jax.Array, rate: float, train: bool) -> jax.Array:
    """Stochastic depth on `[..., S, D]`: each sequence is dropped as a whole, or scaled by 1 / (1 - rate).

    Draws from the random stream "dropout"; must be called within a module.
    """
    return nn.Dropout(rate, broadcast_dims=(-2, -1), deterministic=not train)(x)
