"""Which old place each new one takes its value from: torch's rule for "nearest"."""

import numpy as np
from jaxtyping import Int


def nearest_index(size: int, target: int) -> Int[np.ndarray, " target"]:
    """Index of one of `size` places for each of `target` ones: floor(i * (size / target)), in float32 as torch has it.

    Rounding moves a few places to the left of the exact ones (14 to 46); the rule of half-pixel centres
    (`jax.image.resize`) differs wherever the sizes do not divide.
    """
    places = np.arange(target, dtype=np.float32) * (np.float32(size) / np.float32(target))
    return np.minimum(places.astype(np.int64), size - 1)
