"""Maps of features: how strong each stage answers where, and the weights that TEFE and TCM give to frames."""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vidrec.errors import UsageError
from vidrec.inspect.maps import Map, Maps
from vidrec.inspect.probe import patch_grid, recorded_for

CELLS = ("clip", "frame", "row", "column")
# The end of a recorded name -> axes and meaning.
_WEIGHTS = {
    "te/activation": (("clip", "frame", "channel"), "TE: weight of each frame's channels, 0..1 (Eq. 3)"),
    "te/taps": (("clip", "tap", "channel"), "TE: weights of frames t-1, t, t+1 (Eq. 5)"),
    "eta/weights": (("clip", "frame", "channel"), "ETA: weight of each frame's channels, 0..1 (Eq. 6-11)"),
    "frame_logits": (("clip", "frame", "class"), "scores of each frame"),
}


def features(model: Any, variables: Mapping[str, Any], clips: Float[Array, "b t h w 3"]) -> Maps:
    """How strong the features of every stage are, and what weighs frames and channels.

    By stage ("stem", "stage2", ..., "tcm3"; "tokens_embed", "blocks_0", ...; "ett_map"): the root mean square over
    channels (clip, frame, row, column). Of TEFE's blocks "layer1_0/te/activation" (clip, frame, channel) and
    "layer1_0/te/taps" (clip, tap, channel); of TCM "tcm3/tam/eta/weights" (clip, frame, channel); of ResNets
    "frame_logits" (clip, frame, class).

    Args:
      clips: normalised.

    Raises:
      UsageError: the network records nothing.
    """
    maps: dict[str, Map] = {}
    for name, value in recorded_for("features", model, variables, clips).items():
        ending = next((ending for ending in _WEIGHTS if name.endswith(ending)), None)
        if ending:
            axes, about = _WEIGHTS[ending]
            place = name.partition("/")[0]
            maps[name] = Map(np.asarray(value), axes, about if name == place else f"{place}, {about}")
        elif name.rpartition("/")[2] in ("tokens", "tokens_embed"):
            stage = name.removesuffix("/tokens")
            maps[stage] = Map(energy(patch_grid(value, model=model, clips=clips)), CELLS, f"strength of {stage}")
        elif "/" not in name.removesuffix("/out") and value.ndim == 5:
            stage = name.removesuffix("/out")
            maps[stage] = Map(energy(value), CELLS, f"strength of {stage}")
    if not maps:
        raise UsageError(f"{type(model).__name__} records no features to look at: `sow` those of its stages")
    return Maps("features", maps, tuple(_in_order(maps)))


def energy(features: Float[Array, "b t h w c"]) -> Float[np.ndarray, "b t h w"]:
    """Root mean square over channels."""
    return np.asarray(jnp.sqrt(jnp.square(features.astype(jnp.float32)).mean(-1)))


def _in_order(maps: Mapping[str, Map]) -> list[str]:
    """What lies on the frames, the last stage first, then the other maps by name."""
    spatial = [name for name in maps if maps[name].axes == CELLS]
    return sorted(spatial, key=_depth, reverse=True) + sorted(name for name in maps if name not in spatial)


def _depth(name: str) -> tuple[int, list[int], str]:
    numbers = [int(digits) for digits in re.findall(r"\d+", name)]
    return 0 if name in ("stem", "tokens_embed") else 1 if numbers else 2, numbers, name
