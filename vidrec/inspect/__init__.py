"""Looking at networks and at what they see.

    maps = vidrec.inspect.attention(model, variables, clips)
    maps.draw(frames)

`attention`, `cam`, `motion`, `order` and `features` take a network, its variables and normalised clips
`[B, T, H, W, 3]`; they return `vidrec.inspect.maps.Maps`, arrays with named axes. `overlay_of` draws the look that
suits a trained network best over a video.
"""

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from vidrec.inspect.attention_maps import attention
    from vidrec.inspect.feature_maps import features
    from vidrec.inspect.grad_cam import cam
    from vidrec.inspect.looking import overlay_of
    from vidrec.inspect.motion_maps import motion
    from vidrec.inspect.order_maps import order

__all__ = ["LOOKS", "attention", "cam", "features", "motion", "order", "overlay_of"]


class Look(NamedTuple):
    """A kind of maps; its name is that of the function that makes them.

    Attributes:
      home: module of the function.
      about: in a few words, for the command line.
      needs: endings of names, by one of which a network must `sow` something to have these maps; (): every network.
    """

    home: str
    about: str
    needs: tuple[str, ...] = ()


LOOKS = {
    "attention": Look(
        "vidrec.inspect.attention_maps",
        "of TTSN, DirecFormer, TimeSformer: which frame attends to which, and where",
        ("ett_map", "time_attention"),
    ),
    "cam": Look("vidrec.inspect.grad_cam", "Grad-CAM: where the features speak for a class"),
    "motion": Look(
        "vidrec.inspect.motion_maps",
        "of TCM, STM: displacements, changes from frame to frame",
        ("_displacement", "cmm/difference"),
    ),
    "order": Look(
        "vidrec.inspect.order_maps",
        "of DirecFormer, TimeSformer, TTSN: the clip shuffled, and put in order again",
        ("time_attention", "ett_attention"),
    ),
    "features": Look("vidrec.inspect.feature_maps", "strength of each stage, weights of frames"),
}
_HOMES = {name: look.home for name, look in LOOKS.items()} | {"overlay_of": "vidrec.inspect.looking"}


def __getattr__(name: str) -> Any:
    """Imports a function when it is first used, so that looking at one thing loads nothing else."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vidrec.inspect' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
