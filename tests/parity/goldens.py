"""Reading the golden arrays: outputs of public PyTorch code on small inputs, made on a CPU with torch 2.13.

Those of whole networks are too large for the repository; VIDREC_GOLDENS names a folder that holds them.
"""

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

DATA = Path(__file__).parent / "data"


def find(file: str) -> Path:
    """The path of a golden file; skips the test where it is too large for the repository and not at hand."""
    elsewhere = os.environ.get("VIDREC_GOLDENS")
    found = [DATA / file, *(sorted(Path(elsewhere).rglob(file)) if elsewhere else ())]
    if path := next((path for path in found if path.exists()), None):
        return path
    pytest.skip(f"{file} is not in the repository; set VIDREC_GOLDENS to a folder that holds it")


def load(name: str) -> dict[str, np.ndarray]:
    """All arrays of one golden file."""
    with np.load(find(f"{name}.npz")) as file:
        return dict(file)


def names(pattern: str, *known: str) -> list[str]:
    """The known goldens and whatever else VIDREC_GOLDENS holds under names of this pattern, e.g. "net_tcm_*"."""
    elsewhere = os.environ.get("VIDREC_GOLDENS")
    more = sorted(path.stem for path in Path(elsewhere).rglob(f"{pattern}.npz")) if elsewhere else []
    return list(dict.fromkeys([*known, *more]))


def weights(golden: dict[str, np.ndarray], mark: str = "w/") -> dict[str, np.ndarray]:
    """The state dict in a golden file: entries whose name starts with `mark`."""
    return {name.removeprefix(mark): array for name, array in golden.items() if name.startswith(mark)}


def as_clips(x: np.ndarray, frames: int) -> jnp.ndarray:
    """torch's [B*T, C, H, W] to [B, T, H, W, C]."""
    return jnp.asarray(x.reshape(-1, frames, *x.shape[1:]).transpose(0, 1, 3, 4, 2))


def assert_near(value, golden, relative: float = 1e-4, absolute: float = 0.0) -> None:
    """Equal up to a part of the golden's largest value, plus `absolute` for sums that cancel to nothing."""
    assert value.shape == golden.shape
    np.testing.assert_allclose(value, golden, rtol=0, atol=relative * np.abs(golden).max() + absolute)
