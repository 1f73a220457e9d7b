"""Clips with one bright object on black, whose place is known, and tiny networks to look at them with."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from tests.quick import jit
from vidrec.models.registry import clip_shape, create_model

RESNET = {
    "num_classes": 3, "num_frames": 4, "stem": "small", "stem_width": 8, "widths": (8, 8), "stage_sizes": (1, 1),
    "strides": (1, 2), "dropout": 0.0,
}  # fmt: skip
TRANSFORMER = {
    "num_classes": 3, "num_frames": 3, "image_size": 32, "patch_size": 8, "dim": 8, "depth": 2, "heads": 2,
    "drop_path": 0.0, "num_orders": 0,
}  # fmt: skip


def squares(
    places: np.ndarray, height: int, width: int, side: int, texture: np.ndarray | None = None
) -> Float[jax.Array, "b t h w 3"]:
    """Black clips with a bright square whose upper left corner, (row, column) in pixels, is `places[b, t]`."""
    clips = np.zeros((*places.shape[:2], height, width, 3), np.float32)
    for b, t in np.ndindex(*places.shape[:2]):
        row, column = places[b, t]
        clips[b, t, row : row + side, column : column + side] = 1.0 if texture is None else texture
    return jnp.asarray(clips)


def make(name: str, height: int, width: int, **fields: Any) -> tuple[Any, dict[str, Any]]:
    """A network and drawn weights, for pictures of that size."""
    model = create_model(name, **fields)
    clips = jnp.zeros((1, *clip_shape(model, (height, width))))
    return model, dict(jit(lambda key: model.init(key, clips, train=False))(jax.random.key(0)))


def pointwise(variables: dict[str, Any]) -> dict[str, Any]:
    """The weights with the middle tap of each convolution alone, as positive numbers: every cell sees its own pixels.

    A cell then sees the pixel at its upper left corner, since strided convolutions start there.
    """

    def middle(kernel: jax.Array) -> jax.Array:
        if kernel.ndim != 4:
            return kernel
        kept = jnp.zeros_like(kernel)
        row, column = kernel.shape[0] // 2, kernel.shape[1] // 2
        return kept.at[row, column].set(jnp.abs(kernel[row, column]))

    return {**variables, "params": jax.tree.map(middle, variables["params"])}


def peaks(maps: Float[np.ndarray, "b t h w"]) -> list[list[tuple[int, int]]]:
    """The (row, column) of the highest value of each frame of each clip."""
    flat = maps.reshape(*maps.shape[:2], -1).argmax(-1)
    return [[tuple(map(int, divmod(int(best), maps.shape[-1]))) for best in clip] for clip in flat]
