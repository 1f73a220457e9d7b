"""Grad-CAM (Selvaraju et al., ICCV 2017), frame by frame as in the figures of TCM-Net (Fig. 5)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vidrec.errors import UsageError, VidrecError
from vidrec.inspect.maps import Map, Maps
from vidrec.inspect.probe import default_stage, score_gradient

EPSILON = 1e-7  # added to the largest value of a frame before dividing by it, as the public implementations do


def cam(
    model: Any,
    variables: Mapping[str, Any],
    clips: Float[Array, "b t h w 3"],
    *,
    stage: str | None = None,
    target: int | Sequence[int] | None = None,
) -> Maps:
    """Where a stage's features speak for a class, by the gradient of the class's score.

    Args:
      clips: normalised.
      stage: whose features (`vidrec.inspect.probe.stages` lists them); None takes the last that reaches the score cell
        by cell: the last of a ResNet, of a transformer the one before its last block.
      target: class index of all clips, or one for each; None takes each clip's best class.

    Returns:
      "cam" (clip, frame, row, column): each frame's map scaled to 0..1, as published; "evidence", the same before it is
      scaled, whose values compare over the frames of a clip; "class" (clip): the class it is about.

    Raises:
      UsageError: no such stage or class. VidrecError: the score does not depend on the features of the stage.
    """
    stage = stage or default_stage(model)
    found = score_gradient(model, variables, clips, stage, chosen_classes(model, len(clips), target))
    if not jnp.any(found.gradient):
        raise VidrecError(
            f"no score depends on the patches behind {stage!r} of this {type(model).__name__}: choose an earlier stage"
        )
    evidence = evidence_of(found.features, found.gradient)
    axes = ("clip", "frame", "row", "column")
    maps = {
        "cam": Map(np.asarray(scaled(evidence)), axes, f"Grad-CAM at {stage}, each frame scaled to 0..1"),
        "evidence": Map(np.asarray(evidence), axes, f"Grad-CAM at {stage}, unscaled"),
        "class": Map(np.asarray(found.target), ("clip",), "class index"),
    }
    return Maps("cam", maps, ("cam",))


def chosen_classes(model: Any, clips: int, target: int | Sequence[int] | None) -> Array | None:
    """A class index for each clip, or None; raises UsageError where one is no class."""
    if target is None:
        return None
    chosen = np.broadcast_to(np.asarray(target, np.int32), (clips,))
    if chosen.min() < 0 or chosen.max() >= model.num_classes:
        raise UsageError(f"target={target} is no class: they are 0..{model.num_classes - 1}")
    return jnp.asarray(chosen)


def evidence_of(features: Float[Array, "b t h w c"], gradient: Float[Array, "b t h w c"]) -> Float[Array, "b t h w"]:
    """ReLU of the channels' sum, each weighed by the mean of its gradient over the cells of the frame."""
    weights = gradient.astype(jnp.float32).mean((2, 3))
    return jax.nn.relu(jnp.einsum("bthwc,btc->bthw", features.astype(jnp.float32), weights))


def scaled(maps: Float[Array, "b t h w"]) -> Float[Array, "b t h w"]:
    """Each frame minus its least value, over its largest."""
    maps = maps - maps.min((2, 3), keepdims=True)
    return maps / (maps.max((2, 3), keepdims=True) + EPSILON)
