"""Calling a kernel on pairs of maps: the blocks of each array it is given step by step, and the memory that takes.

The grid is (pair, step of the pair). What belongs to queries comes in blocks of a step's rows; what belongs to keys is
in vector memory whole, through all steps of a pair.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from vidrec.ops.correlation.geometry import LANES, Tiles, tiles, tiles_per_step, vector_memory
from vidrec.ops.correlation.shapes import Array


class Buffer(NamedTuple):
    """An array [pairs, ...] in memory.

    Attributes:
      size: shape of what one pair has of it.
      dtype: of its items.
      rows: of its first dimension that a step sees; 0: all of them, the same in every step of a pair.
    """

    size: tuple[int, ...]
    dtype: Any
    rows: int = 0

    @property
    def block(self) -> tuple[int, ...]:
        """Shape of what is in vector memory at a time."""
        return (min(self.rows or self.size[0], self.size[0]), *self.size[1:])

    @property
    def spec(self) -> pl.BlockSpec:
        """Which block belongs to which step."""
        rest = (0,) * (len(self.size) - 1)
        return pl.BlockSpec((1, *self.block), lambda pair, step: (pair, step if self.rows else 0, *rest))


class Call(NamedTuple):
    """What a kernel is given.

    Attributes:
      cut: the map's tiles.
      per_step: tiles of one step.
      inputs: arrays it reads.
      outputs: arrays it writes.
      scratch: shapes and types of its own memory.
    """

    cut: Tiles
    per_step: int
    inputs: Sequence[Buffer]
    outputs: Sequence[Buffer]
    scratch: Sequence[tuple[tuple[int, ...], Any]]

    @property
    def memory(self) -> int:
        """Bytes of vector memory: each block twice, as the next is fetched meanwhile, and the kernel's own."""
        blocks = [(buffer.block, buffer.dtype) for buffer in (*self.inputs, *self.outputs)]
        sizes = [vector_memory(shape, jnp.dtype(dtype).itemsize) for shape, dtype in (*blocks, *blocks, *self.scratch)]
        return sum(sizes)

    def __call__(
        self,
        kernel: Callable[..., None],
        name: str,
        *arrays: Array,
        flops: int,
        transcendentals: int,
        interpret: Any,
        **settings: Any,
    ) -> Any:
        """Runs the kernel on arrays; the costs are those of one score of one query, which all take part in."""
        pairs = arrays[0].shape[0]
        out_shape = [jax.ShapeDtypeStruct((pairs, *buffer.size), buffer.dtype) for buffer in self.outputs]
        scores = pairs * self.cut.count * LANES * self.cut.keys * self.cut.columns
        touched = sum(array.size * array.dtype.itemsize for array in (*arrays, *out_shape))
        return pl.pallas_call(
            partial(kernel, call=self, **settings),
            name=name,
            grid=(pairs, self.cut.count // self.per_step),
            in_specs=[buffer.spec for buffer in self.inputs],
            out_specs=[buffer.spec for buffer in self.outputs],
            out_shape=out_shape,
            scratch_shapes=[pltpu.VMEM(shape, dtype) for shape, dtype in self.scratch],
            compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
            cost_estimate=pl.CostEstimate(
                flops=scores * flops, transcendentals=scores * transcendentals, bytes_accessed=touched
            ),
            interpret=interpret,
        )(*arrays)


def plan(
    height: int, width: int, patch: int, row: tuple[int, Any]
) -> tuple[Tiles, int, Callable[[int, Any], Buffer], Callable[[int, Any], Buffer]]:
    """Tiles, tiles of a step, and makers of the buffers of maps [H, W, channels] of queries and of keys.

    Args:
      row: channels and type of the largest map of queries, which decides how many tiles a step has.
    """
    cut = tiles(height, width, patch)
    per_step = tiles_per_step(cut.count, vector_memory((LANES, row[0]), jnp.dtype(row[1]).itemsize))

    def queries(channels: int, dtype: Any) -> Buffer:
        return Buffer((height, width, channels), dtype, per_step * cut.rows)

    def keys(channels: int, dtype: Any) -> Buffer:
        return Buffer((height, width, channels), dtype)

    return cut, per_step, queries, keys
