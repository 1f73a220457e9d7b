"""The correlation's TPU kernels, for v4 and later: `tpu_match` and `tpu_volume`, and which maps they serve.

Limits: maps at most 128 wide, and what one pair keeps in vector memory within `tpu_call.VMEM_BYTES`; `unsupported` says
so of a shape. The backward passes need most: of the keys' map two copies for the next pair's transfer and one with its
surroundings, and as many of its gradient. With 64 channels and a window of 15 x 15 that is 5 MiB for 28 x 28 and 12 for
56 x 56 (bfloat16), or 8 and 15 (float32); maps 56 wide may be 118 high (bfloat16) or 63 (float32).
"""

from typing import Any

import jax.numpy as jnp

from vidrec.ops.correlation import tpu_match, tpu_volume
from vidrec.ops.correlation.geometry import LANES
from vidrec.ops.correlation.tpu_call import RESERVED, VMEM_BYTES
from vidrec.ops.correlation.tpu_match import match
from vidrec.ops.correlation.tpu_volume import correlate

__all__ = ["CALLS", "correlate", "match", "unsupported"]

CALLS = {  # by kernel: what it is given, a function of (height, width, channels), patch and type
    "vidrec_match_forward": tpu_match.find_call,
    "vidrec_match_backward": tpu_match.push_call,
    "vidrec_volume_forward": tpu_volume.scores_call,
    "vidrec_volume_backward": tpu_volume.push_call,
}


def unsupported(height: int, width: int, channels: int, patch: int, dtype: Any) -> str | None:
    """Why the kernels cannot serve maps of this shape and type; None if they can."""
    if jnp.dtype(dtype) not in (jnp.float32, jnp.bfloat16):
        return f"the TPU kernels need float32 or bfloat16 features, and these are {jnp.dtype(dtype)}"
    if width > LANES:
        return f"the TPU kernels serve maps up to {LANES} wide, and this one is {width}"
    needed = max(call((height, width, channels), patch, dtype).memory for call in CALLS.values())
    if needed > VMEM_BYTES - RESERVED:
        return (
            f"maps of {height} x {width} x {channels} in {jnp.dtype(dtype)} with a window of {patch} take "
            f"{needed / 2**20:.2f} MiB of a TPU's vector memory, and {(VMEM_BYTES - RESERVED) >> 20} are there"
        )
    return None
