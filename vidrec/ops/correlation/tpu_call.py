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

from vidrec.ops.correlation.geometry import LANES, Tiles, vector_memory
from vidrec.ops.correlation.shapes import Array

VMEM_BYTES = 16 << 20  # the least that a supported chip gives a kernel
RESERVED = 1 << 20  # of it, for what the compiler keeps there itself


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
        """Bytes of vector memory: each block twice, as the next is fetched meanwhile, and the kernel's own.

        Factors of a float32 product are cut into three bfloat16 parts each: the keys a tile sees, and their scores.
        """
        blocks = [(buffer.block, buffer.dtype) for buffer in (*self.inputs, *self.outputs)]
        sizes = [vector_memory(shape, jnp.dtype(dtype).itemsize) for shape, dtype in (*blocks, *blocks, *self.scratch)]
        if jnp.dtype(self.inputs[0].dtype) == jnp.float32:
            seen = self.cut.keys * self.cut.columns
            sizes += [3 * vector_memory((seen, lanes), 2) for lanes in (self.inputs[0].size[-1], LANES)]
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


def fitted(build: Callable[[int], Call], sizes: Sequence[int]) -> Call:
    """The first of build(tiles of a step) that fits into vector memory, of sizes that fall; or else the last."""
    calls = map(build, sizes)
    return next((call for call in calls if call.memory <= VMEM_BYTES - RESERVED), build(sizes[-1]))


def tile_bytes(channels: int, dtype: Any) -> int:
    """Bytes of vector memory that one tile of a map with so many channels takes."""
    return vector_memory((LANES, channels), jnp.dtype(dtype).itemsize)
