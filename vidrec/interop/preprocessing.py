"""What is done to a frame before a network sees it, as a function that can be exported: resize, centre crop.

`vidrec.data.images` resizes by weighed sums over rows and columns, rounded to whole levels. For frames of one size the
weights are known, so that the same sums are two matrix products per step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from vidrec.data.augment import resized_shape
from vidrec.data.clips import ClipSpec, cut_and_resize, eval_view
from vidrec.data.images import BACKEND, resizing
from vidrec.errors import VidrecError
from vidrec.eval.predict import as_stored

ALLOWED = 2  # levels of 255 between this and OpenCV or Pillow, which differ by as much from each other


class Difference(NamedTuple):
    """How far pixels are from those of vidrec's own preprocessing, in levels of 255.

    Attributes:
      largest, mean: over all pixels and colours.
      library: by which vidrec resized: "opencv" or "pillow".
    """

    largest: float
    mean: float
    library: str


def preprocessing(
    spec: ClipSpec, size: tuple[int, int]
) -> Callable[[UInt8[Array, "b t h w 3"]], UInt8[Array, "b t h2 w2 3"]]:
    """The function of decoded frames that gives the pictures of an evaluation with one view.

    Args:
      spec: how clips are made of frames.
      size: (height, width) of the frames.
    """
    height, width = size
    stored = resized_shape(height, width, spec.resize[:1])  # as `as_stored` makes of large frames
    stored = stored if stored[0] < height else size
    box = eval_view(*stored, spec=spec).box
    first, second = resizing(size, stored), resizing((box.height, box.width), spec.picture)

    def function(frames: UInt8[Array, "b t h w 3"]) -> UInt8[Array, "b t h2 w2 3"]:
        """Resized, cut, and resized again where the cut part is not as large as the picture."""
        x = apply(first, frames.astype(jnp.float32))
        cut = x[:, :, box.y : box.y + box.height, box.x : box.x + box.width]
        return apply(second, cut).astype(jnp.uint8)

    return function


def apply(steps: list[tuple[np.ndarray, np.ndarray]], frames: Float[Array, "b t h w 3"]) -> Float[Array, "b t _h _w 3"]:
    """Weighed sums of rows and of columns, rounded after each step as pixels are."""
    product = partial(jnp.einsum, precision="highest")
    for rows, columns in steps:
        frames = jnp.round(product("jw,btiwc->btijc", columns, product("ih,bthwc->btiwc", rows, frames)))
    return frames


def own_pictures(frames: UInt8[np.ndarray, "t h w 3"], spec: ClipSpec) -> UInt8[np.ndarray, "t h2 w2 3"]:
    """The pictures that vidrec itself makes of the frames of a clip."""
    stored = [as_stored(frame, spec) for frame in frames]
    return cut_and_resize(stored, range(len(stored)), spec.picture, [partial(eval_view, spec=spec)])


def check_preprocessing(
    function: Callable[[Any], Any], spec: ClipSpec, frames: UInt8[np.ndarray, "b t h w 3"]
) -> Difference:
    """Compares the pictures that a function makes of frames with vidrec's own.

    Raises:
      VidrecError: a pixel is further away than OpenCV and Pillow are from each other.
    """
    own = np.stack([own_pictures(clip, spec) for clip in frames]).astype(np.float32)
    away = np.abs(np.asarray(function(frames), np.float32) - own)
    found = Difference(float(away.max()), float(away.mean()), BACKEND)
    if not found.largest <= ALLOWED:
        raise VidrecError(
            f"resizing frames inside the file gives pixels up to {found.largest:g} levels from vidrec's own, more than "
            f"{ALLOWED}; nothing was written"
        )
    return found
