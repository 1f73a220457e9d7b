"""vidrec: video action recognition in JAX/Flax, from video files to trained and evaluated networks."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vidrec.eval.predict import load, predict
    from vidrec.models.registry import create_model, list_models

__all__ = ["create_model", "list_models", "load", "predict"]

_HOMES = {
    "create_model": "vidrec.models.registry",
    "list_models": "vidrec.models.registry",
    "load": "vidrec.eval.predict",
    "predict": "vidrec.eval.predict",
}


_PARTS = ("inspect", "interop", "launch", "ops")  # subpackages that need no import of their own


def __getattr__(name: str) -> Any:
    """Imports what is public when it is first used, so that `import vidrec` loads nothing else."""
    if name in _PARTS:
        return importlib.import_module(f"vidrec.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'vidrec' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
