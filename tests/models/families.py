"""One small network of each kind there is, for the tests that hold for all of them."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from vidrec.models.registry import clip_shape, create_model

RESNET = {
    "num_frames": 4, "stem": "half", "stem_width": 8, "widths": (16, 16), "stage_sizes": (1, 1), "strides": (1, 2)
}  # fmt: skip
# Two stages: behind four, one position of a clip is left, and the norm of two values is the sign of their difference.
RESNEXT3D = {"num_frames": 8, "stem_width": 8, "widths": (16, 16), "stage_sizes": (1, 1), "strides": (1, 2)}
TRANSFORMER = {"num_frames": 4, "image_size": 32, "patch_size": 8, "dim": 16, "depth": 2, "heads": 2}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "tsn": ("tsn_resnet18", RESNET),
    "tsm": ("tsm_resnet50", RESNET),
    "stm": ("stm_resnet50", RESNET),
    "stm-basic": ("stm_resnet18", RESNET),
    "tdn": ("tdn_resnet50", RESNET),
    "ttsn": ("ttsn_resnet50", RESNET),
    "ttsn-tsn": ("ttsn_resnet50", {**RESNET, "backbone": "tsn", "tss_head": "clip"}),
    "tefe": ("tefe_resnet50", {**RESNET, "te": (1, 0), "fe": (0, 1)}),
    "tcm": ("tcm_resnet18", {**RESNET, "tcm_patch": 5}),
    "tcm-tea": ("tcm_resnet50", {**RESNET, "tcm_patch": 5, "tcm_host": "tea"}),
    "tcm-resnext3d": ("tcm_resnet101", {**RESNEXT3D, "tcm_patch": 3, "tcm_host": "resnext3d"}),
    "direcformer": ("direcformer_base", {**TRANSFORMER, "num_orders": 5}),
    "timesformer": ("timesformer_base", TRANSFORMER),
}
IMAGE_SIZE, CLASSES, BATCH = 32, 5, 8


def marked_slow(families: Iterable[str], *, quick: str) -> list[Any]:
    """The families as parameters of a test that is slow for all but one of them."""
    return [pytest.param(family, marks=[] if family == quick else pytest.mark.slow) for family in families]


def make(family: str, **fields: Any) -> Any:
    """The family's small network, without dropout."""
    name, small = FAMILIES[family]
    extra = {"drop_path": 0.0} if "patch_size" in small else {}
    return create_model(name, num_classes=CLASSES, **{**small, "dropout": 0.0, **extra, **fields})


def clips_for(model: Any, batch: int = 2) -> jax.Array:
    """Normalised random clips."""
    return jax.random.normal(jax.random.key(1), (batch, *clip_shape(model, IMAGE_SIZE)), jnp.float32)
