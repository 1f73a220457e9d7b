"""Moving channels along time: the fixed shift of TSM and the weighted three-tap sum of CSTM, TDN and TAM."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from vidrec.errors import UsageError


def temporal_shift(x: Shaped[Array, "b t h w c"], fold_div: int = 8) -> Shaped[Array, "b t h w c"]:
    """Replaces the first C // fold_div channels by those of frame t+1, the second as many by those of frame t-1.

    Frames outside the clip are zero, the remaining channels stay (Lin et al., TSM, ICCV 2019, section 3.3).
    Raises UsageError when `fold_div` is below 2: the two moved parts would not fit.
    """
    if fold_div < 2:
        raise UsageError(f"fold_div is {fold_div}; two parts of 1/fold_div are moved, so it must be 2 or more")
    fold = x.shape[-1] // fold_div
    blank = jnp.zeros_like(x[:, :1, ..., :fold])
    from_next = jnp.concatenate([x[:, 1:, ..., :fold], blank], axis=1)
    from_previous = jnp.concatenate([blank, x[:, :-1, ..., fold : 2 * fold]], axis=1)
    return jnp.concatenate([from_next, from_previous, x[..., 2 * fold :]], axis=-1)


def temporal_taps(x: Float[Array, "b t h w c"], taps: Float[Array, "*b 3 c"]) -> Float[Array, "b t h w c"]:
    """Returns G[t] = taps[0] F[t-1] + taps[1] F[t] + taps[2] F[t+1], each channel on its own, zero outside the clip.

    `taps` is `[3, C]` (one kernel for all clips: STM Eq. 1) or `[B, 3, C]` (one per clip: TEFE Eq. 6). Written as
    shifted multiply-adds, which fuse into one pass over x, where a grouped convolution is slow on CPU and TPU.
    """
    before, now, after = jnp.moveaxis(taps.astype(x.dtype).reshape(-1, 3, 1, 1, 1, x.shape[-1]), 1, 0)
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    return before * padded[:, :-2] + now * x + after * padded[:, 2:]


def shift_taps(channels: int, *, after: slice, before: slice, dtype: Any = jnp.float32) -> Float[Array, "3 1 c"]:
    """The kernel of `temporal_taps` that copies frame t+1 in channels `after`, t-1 in `before` and t in the others."""
    tap = jnp.full(channels, 1).at[after].set(2).at[before].set(0)
    return jax.nn.one_hot(tap, 3, axis=0, dtype=dtype)[:, None]
