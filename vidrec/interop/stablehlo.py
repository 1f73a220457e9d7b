"""A function as StableHLO, by jax.export: `jax.export.deserialize(open(path, "rb").read()).call(clips)` runs it."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from vidrec.errors import VidrecError

PLATFORMS = ("cpu", "cuda", "tpu")
DTYPES = ("float32", "bfloat16", "float16")  # that a network can compute with there


def write(function: Callable[[Any], Any], shape: tuple[int, ...]) -> bytes:
    """The function of uint8 clips of this shape, for a batch of any size."""
    _check_installed()
    (batch,) = export.symbolic_shape("batch")
    clips = jax.ShapeDtypeStruct((batch, *shape), jnp.uint8)
    return bytes(export.export(jax.jit(function), platforms=PLATFORMS)(clips).serialize())


def read(data: bytes) -> Callable[[Any], Any]:
    """The function again."""
    _check_installed()
    try:
        call = jax.jit(export.deserialize(bytearray(data)).call)
    except Exception as error:  # flatbuffers and XLA raise what comes
        reason = " ".join(str(error).split())[:200]
        raise VidrecError(f"the file is damaged, or of a JAX that this one does not understand: {reason}") from error
    return lambda clips: np.asarray(call(clips))


def _check_installed() -> None:
    if find_spec("flatbuffers") is None:
        raise VidrecError("StableHLO files need flatbuffers: pip install 'vidrec[export]'")
