"""Kernels under vmap: one more axis of pairs is folded into the one there is."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vidrec.ops.correlation.shapes import Array


def fold_pairs(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of arrays [N, ...] with results [N, ...], for which vmap means more pairs in the same call."""
    folded = jax.custom_batching.custom_vmap(function)

    @folded.def_vmap
    def rule(size: int, is_batched: Sequence[bool], *arrays: Array) -> tuple[Any, Any]:
        """Calls it with [size * N, ...]."""
        whole = [
            array if batched else jnp.broadcast_to(array, (size, *array.shape))
            for array, batched in zip(arrays, is_batched, strict=True)
        ]
        results = folded(*(array.reshape(-1, *array.shape[2:]) for array in whole))
        unfolded = jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]), results)
        return unfolded, jax.tree.map(lambda _: True, unfolded)

    return folded
