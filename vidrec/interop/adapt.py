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


def feature_enhancement(model: Any, weights: Weights, image_size: int | tuple[int, int]) -> Weights:
    """TEFE, Eq. 11: a 2D network's conv2 becomes the middle frame of FE's conv1, and FE's conv2 is 1 everywhere.

    The network is then the 2D one, whatever its `fe_init`. Blocks that have weights of FE keep them.
    """
    adapted = dict(weights)
    for stage, blocks in enumerate(model.stage_sizes, start=2):
        for index in range(blocks):
            block = f"layer{stage - 1}.{index}"
            source = weights.get(f"{block}.conv2.weight")
            if model.kind(stage, index) != "fe" or f"{block}.fe.conv1.weight" in weights:
                continue
            if source is None or source.array.ndim != 4:
                continue  # told as missing, and as a key without a place
            del adapted[f"{block}.conv2.weight"]
            taps = np.zeros((*source.array.shape[:2], 3, *source.array.shape[2:]), np.float32)
            one = {"fe.conv2.weight": taps.copy(), "fe.conv2.bias": np.ones(len(taps), np.float32)}
            taps[:, :, 1] = source.array
            for name, array in {"fe.conv1.weight": taps, **one}.items():
                adapted[f"{block}.{name}"] = made(f"{block}.{name}", source, array)
    return adapted


ADAPTERS: dict[str, Adapter] = {"TEFE": feature_enhancement}
