"""Weights of one network made into those of another: what a paper takes from ImageNet, beyond equal names.

An adapter is a function of the network, its picture size and the weights by name; it returns them with entries
added, split or resized, in torch's axes. `ADAPTERS` names it by the class of the network.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Weight(NamedTuple):
    """One array of a file, under torch's name and axes.

    Attributes:
      key: the file's key; for an array that an adapter made, the new name and the keys it was made of.
      array: the values.
      adapted: whether an adapter made it.
    """

    key: str
    array: np.ndarray
    adapted: bool = False


Weights = dict[str, Weight]
Adapter = Callable[[Any, Weights, int | tuple[int, int]], Weights]

ADAPTERS: dict[str, Adapter] = {}


def adapt(model: Any, weights: Mapping[str, Weight], image_size: int | tuple[int, int]) -> Weights:
    """Returns the weights after the adapters of the network's class and its ancestors."""
    adapted = dict(weights)
    for cls in type(model).__mro__:
        if adapter := ADAPTERS.get(cls.__name__):
            adapted = adapter(model, adapted, image_size)
    return adapted


def made(name: str, source: Weight, array: np.ndarray) -> Weight:
    """The entry of an array that was made out of another one."""
    return Weight(f"{name} <- {source.key}", np.asarray(array), True)
