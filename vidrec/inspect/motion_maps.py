"""Maps of motion: TCM's displacements with their confidence, and STM's differences of neighbouring frames."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from vidrec.inspect.feature_maps import energy
from vidrec.inspect.maps import Map, Maps
from vidrec.inspect.probe import recorded_for
from vidrec.models.tcm import PATCHES

CELLS = ("clip", "frame", "row", "column")


def motion(model: Any, variables: Mapping[str, Any], clips: Float[Array, "b t h w 3"]) -> Maps:
    """What a network found to have moved.

    Of TCM, for each module and tempo: "tcm3/fast/displacement" (clip, frame, row, column, xy): by how many cells of the
    stage's maps what is there moves, from frame t to t+1 (slow: what is there in the first frame, until t+1; the last
    frame repeats the one before); "tcm3/fast/confidence" (clip, frame, row, column): the cosine of the best match.

    Of STM, for each block with CMM: "layer1_0/difference" (clip, frame, row, column): the root mean square over
    channels of Eq. 2, frame t+1 against t; zero in the last frame.

    Args:
      clips: normalised.

    Raises:
      UsageError: the network has no such module; the sentence says what it has.
    """
    sown = recorded_for("motion", model, variables, clips)
    maps: dict[str, Map] = {}
    for name, value in sown.items():
        if name.endswith("_displacement"):
            maps |= matches(model, name.removesuffix("_displacement"), sown)
        elif name.endswith("cmm/difference"):
            block = name.partition("/")[0]
            maps[f"{block}/difference"] = Map(energy(value), CELLS, f"{block}: change to the next frame (CMM)")
    first = [name for name in maps if not name.endswith("confidence")]
    return Maps("motion", maps, tuple(first))


def matches(model: Any, name: str, sown: Mapping[str, Array]) -> dict[str, Map]:
    """Displacement and confidence of one module and tempo; `name` is such as "tcm3/mtdm/fast"."""
    module, tempo = name.partition("/")[0], name.rpartition("/")[2]
    reach = max((model.tcm_patch or PATCHES[int(module.removeprefix("tcm"))]) // 2, 1)
    displacement = np.asarray(sown[f"{name}_displacement"]) * reach
    about = f"{module}: moves to the next frame" if tempo == "fast" else f"{module}: has moved since the first frame"
    return {
        f"{module}/{tempo}/displacement": Map(displacement, (*CELLS, "xy"), f"{about}, in cells"),
        f"{module}/{tempo}/confidence": Map(np.asarray(sown[f"{name}_confidence"]), CELLS, "cosine of the best match"),
    }
