"""The correlation volume as a TPU kernel, and its gradient as another.

A product gives the scores of 128 queries with rows of keys; the volume wants them by offset, which is a different key
for every query. Queries lie on lanes, so that a query in column x needs its scores x sublanes further up: each binary
digit of x moves the lanes that have it by a power of two. This needs shifts along sublanes and selections alone, which
every TPU has. The gradient goes the same way back.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu

from vidrec.ops.correlation import tpu_tiles
from vidrec.ops.correlation.geometry import LANES, SUBLANES, Tiles, round_up, step_sizes, tiles
from vidrec.ops.correlation.shapes import Array, Float
from vidrec.ops.correlation.tpu_call import Buffer, Call, fitted, tile_bytes
from vidrec.ops.correlation.tpu_tiles import Maps, Ref


def correlate(f1: Maps, f2: Maps, *, patch: int, interpret: Any = False) -> Float[Array, "n h w p p"]:
    """Scores of every position with the patch x patch positions around it; see `reference.correlate`."""
    return volume(f1, f2, patch, interpret)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def volume(f1: Maps, f2: Maps, patch: int, interpret: Any) -> Float[Array, "n h w p p"]:
    """`correlate` with its own backward pass."""
    return scores(f1, f2, patch, interpret).reshape(*f1.shape[:3], patch, patch)


def volume_forward(f1: Maps, f2: Maps, patch: int, interpret: Any) -> tuple[Array, tuple[Maps, Maps]]:
    """Returns (the scores, what the backward pass needs)."""
    return volume(f1, f2, patch, interpret), (f1, f2)


def volume_backward(
    patch: int, interpret: Any, residuals: tuple[Maps, Maps], by_volume: Float[Array, "n h w p p"]
) -> tuple[Maps, Maps]:
    """Of f1 and f2, from the gradient of the volume."""
    f1, f2 = residuals
    return push(f1, f2, by_volume.reshape(*f1.shape[:3], patch**2), patch, interpret)


volume.defvjp(volume_forward, volume_backward)


def border(patch: int) -> int:
    """Rows of zeros before and after the scores of a row of keys: the window's reach, in whole registers."""
    return round_up(patch // 2, SUBLANES)


# Forward


def scores_call(size: Sequence[int], patch: int, dtype: Any) -> Call:
    """What the forward kernel is given: f1, f2 -> the scores."""
    height, width, channels = size
    cut = tiles(height, width, patch)

    def build(per_step: int) -> Call:
        """The call with so many tiles a step."""
        rows = per_step * cut.rows
        return Call(
            cut,
            per_step,
            inputs=[Buffer((*size,), dtype, rows), Buffer((*size,), dtype)],
            outputs=[Buffer((height, width, patch**2), jnp.float32, rows)],
            scratch=[
                ((LANES, channels), dtype),
                ((cut.staged * cut.columns, channels), dtype),
                ((cut.keys * (cut.columns + 2 * border(patch)), LANES), jnp.float32),
                ((round_up(patch**2, LANES), LANES), jnp.float32),
            ],
        )

    return fitted(build, step_sizes(cut.count, tile_bytes(patch**2, jnp.float32)))


def scores(f1: Maps, f2: Maps, patch: int, interpret: Any) -> Float[Array, "n h w {patch**2}"]:
    """All scores by window position."""
    call = scores_call(f1.shape[1:], patch, f1.dtype)
    costs = {"flops": 2 * f1.shape[-1], "transcendentals": 0}
    return call(forward_kernel, "vidrec_volume_forward", f1, f2, **costs, interpret=interpret, patch=patch)[0]


def forward_kernel(
    f1_ref: Ref,
    f2_ref: Ref,
    volume_ref: Ref,
    queries_ref: Ref,
    keys_ref: Ref,
    scores_ref: Ref,
    turned_ref: Ref,
    *,
    call: Call,
    patch: int,
) -> None:
    """One step: f1_ref [1, rows, W, C], f2_ref [1, H, W, C] -> volume_ref [1, rows, W, D^2]; the rest is scratch."""
    cut, height, margin = call.cut, f2_ref.shape[1], border(patch)
    pitch = cut.columns + 2 * margin

    def before() -> None:
        """Lays out the keys of a pair, with margins of zeros."""
        tpu_tiles.stage_keys(f2_ref, keys_ref, cut, patch // 2)
        queries_ref[...] = jnp.zeros_like(queries_ref)
        for row in range(cut.keys):
            tpu_tiles.clear(scores_ref, row * pitch, row * pitch + margin)
            tpu_tiles.clear(scores_ref, (row + 1) * pitch - margin, (row + 1) * pitch)

    def per_tile(tile: Array, place: Array) -> None:
        """The scores of one tile of queries."""
        tpu_tiles.stage_queries(f1_ref, queries_ref, tile, place, cut, height)
        scores = tpu_tiles.scores_of(queries_ref, keys_ref, tile, cut)
        for row in range(cut.keys):
            start = row * pitch + margin
            scores_ref[start : start + cut.columns, :] = scores[row * cut.columns : (row + 1) * cut.columns]
        for row in range(patch):
            turned_ref[row * patch : (row + 1) * patch, :] = pick(scores_ref, row, cut, patch)
        tpu_tiles.write_queries(turned_ref[...].T[:, : patch**2], volume_ref, tile, place, cut, height)

    tpu_tiles.over_tiles(call, before, per_tile)


def pick(scores_ref: Ref, row: int, cut: Tiles, patch: int) -> Float[Array, "patch l"]:
    """The scores of one row of every query's window."""
    pitch = cut.columns + 2 * border(patch)
    found = scores_ref[row * pitch : (row + 1) * pitch, :]
    for lower in range(1, cut.rows):  # queries further down have their window's row further down
        below = scores_ref[(row + lower) * pitch : (row + lower + 1) * pitch, :]
        found = jnp.where(tpu_tiles.lane_row(cut) == lower, below, found)
    start = border(patch) - patch // 2
    column = tpu_tiles.lane_column(cut)
    for step in reversed(powers(cut.columns)):
        size = min(round_up(start + patch + step - 1, SUBLANES), found.shape[0])
        moved = pltpu.roll(found, found.shape[0] - step, 0)
        found = jnp.where(column & step != 0, moved[:size], found[:size])
    return found[start : start + patch]


def powers(columns: int) -> list[int]:
    """The powers of two that add up to any column."""
    return [1 << digit for digit in range((columns - 1).bit_length())]


# Backward


def push_call(size: Sequence[int], patch: int, dtype: Any) -> Call:
    """What the backward kernel is given: f1, f2, the gradient of the scores -> those of f1 and f2."""
    height, width, channels = size
    cut = tiles(height, width, patch)

    def build(per_step: int) -> Call:
        """The call with so many tiles a step."""
        rows = per_step * cut.rows
        maps = [Buffer((*size,), dtype, rows), Buffer((*size,), dtype)]
        return Call(
            cut,
            per_step,
            inputs=[*maps, Buffer((height, width, patch**2), jnp.float32, rows)],
            outputs=maps,
            scratch=[
                ((LANES, channels), dtype),
                ((cut.staged * cut.columns, channels), dtype),
                ((LANES, patch**2), jnp.float32),
                ((round_up(patch**2, SUBLANES) + SUBLANES, LANES), jnp.float32),
                ((patch * cut.columns, LANES), jnp.float32),
                ((cut.keys * cut.columns, LANES), dtype),
                ((cut.staged * cut.columns, channels), jnp.float32),
            ],
        )

    return fitted(build, step_sizes(cut.count, tile_bytes(patch**2, jnp.float32)))


def push(
    f1: Maps, f2: Maps, by_volume: Float[Array, "n h w {patch**2}"], patch: int, interpret: Any
) -> tuple[Maps, Maps]:
    """The gradients of f1 and f2 from that of all scores by window position."""
    call = push_call(f1.shape[1:], patch, f1.dtype)
    costs = {"flops": 4 * f1.shape[-1], "transcendentals": 0}
    arrays = (f1, f2, by_volume)
    return tuple(call(backward_kernel, "vidrec_volume_backward", *arrays, **costs, interpret=interpret, patch=patch))


def backward_kernel(
    f1_ref: Ref,
    f2_ref: Ref,
    by_volume_ref: Ref,
    by_f1_ref: Ref,
    by_f2_ref: Ref,
    queries_ref: Ref,
    keys_ref: Ref,
    pulls_ref: Ref,
    turned_ref: Ref,
    moved_ref: Ref,
    by_scores_ref: Ref,
    by_keys_ref: Ref,
    *,
    call: Call,
    patch: int,
) -> None:
    """One step: the gradients by_f1_ref [1, rows, W, C] and by_f2_ref [1, H, W, C]; the last seven are scratch."""
    cut, height = call.cut, f2_ref.shape[1]

    def before() -> None:
        """Lays out the keys of a pair and clears the gradients."""
        tpu_tiles.stage_keys(f2_ref, keys_ref, cut, patch // 2)
        for ref in (queries_ref, pulls_ref, by_keys_ref):
            ref[...] = jnp.zeros_like(ref)

    def per_tile(tile: Array, place: Array) -> None:
        """The gradient of one tile of queries, and what it adds to that of the keys."""
        tpu_tiles.stage_queries(f1_ref, queries_ref, tile, place, cut, height)
        tpu_tiles.stage_queries(by_volume_ref, pulls_ref, tile, place, cut, height)
        turned_ref[: patch**2, :] = pulls_ref[...].T
        for row in range(patch):
            moved_ref[tpu_tiles.of_row(row, cut), :] = put(turned_ref, row, cut, patch)
        for row in range(cut.keys):
            by_scores = by_key_row(moved_ref, row, cut, patch)
            by_scores_ref[tpu_tiles.of_row(row, cut), :] = by_scores.astype(by_scores_ref.dtype)
        by_queries = tpu_tiles.add_gradients(by_scores_ref[...], queries_ref[...], keys_ref, by_keys_ref, tile, cut)
        tpu_tiles.write_queries(by_queries, by_f1_ref, tile, place, cut, height)

    def after() -> None:
        """Writes the gradient of the keys."""
        tpu_tiles.write_keys(by_keys_ref, by_f2_ref, cut, patch // 2)

    tpu_tiles.over_tiles(call, before, per_tile, after)


def put(turned_ref: Ref, row: int, cut: Tiles, patch: int) -> Float[Array, "columns l"]:
    """What belongs to one row of every query's window, by keys: the inverse of `pick`."""
    start = border(patch) - patch // 2
    size = round_up(patch, SUBLANES)
    values = turned_ref[row * patch : row * patch + size, :]
    values = jnp.where(jax.lax.broadcasted_iota(jnp.int32, values.shape, 0) < patch, values, 0)
    column = tpu_tiles.lane_column(cut)
    values = pltpu.roll(lengthen(values, start + patch), start, 0) if start else values
    for step in powers(cut.columns):
        values = lengthen(values, start + patch + 2 * step - 1)
        values = jnp.where(column & step != 0, pltpu.roll(values, step, 0), values)
    return values[border(patch) : border(patch) + cut.columns]


def lengthen(values: Float[Array, "s l"], size: int) -> Float[Array, "t l"]:
    """With zeros below, `size` rows or as many as fill a register."""
    missing = round_up(size, SUBLANES) - values.shape[0]
    return jnp.concatenate([values, jnp.zeros((missing, LANES), values.dtype)]) if missing > 0 else values


def by_key_row(moved_ref: Ref, key_row: int, cut: Tiles, patch: int) -> Float[Array, "columns l"]:
    """The gradient of the scores with one row of keys: each row of queries has it in another row of its window."""
    total = jnp.zeros((cut.columns, LANES), jnp.float32)
    for row in range(cut.rows):
        if 0 <= key_row - row < patch:
            here = moved_ref[tpu_tiles.of_row(key_row - row, cut), :]
            total = jnp.where(tpu_tiles.lane_row(cut) == row, here, total)
    return total
