"""Looking at networks and at what they see.

    maps = vidrec.inspect.attention(model, variables, clips)
    maps.draw(frames)

`attention`, `cam`, `motion`, `order` and `features` take a network, its variables and normalised clips
`[B, T, H, W, 3]`; they return `vidrec.inspect.maps.Maps`, arrays with named axes. `overlay_of` draws the look that
suits a trained network best over a video.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidrec.inspect.attention_maps import attention
    from vidrec.inspect.feature_maps import features
    from vidrec.inspect.grad_cam import cam
    from vidrec.inspect.looking import overlay_of
    from vidrec.inspect.motion_maps import motion
    from vidrec.inspect.order_maps import order

__all__ = ["attention", "cam", "features", "motion", "order", "overlay_of"]

_HOMES = {
    "attention": "vidrec.inspect.attention_maps",
    "cam": "vidrec.inspect.grad_cam",
    "features": "vidrec.inspect.feature_maps",
    "motion": "vidrec.inspect.motion_maps",
    "order": "vidrec.inspect.order_maps",
    "overlay_of": "vidrec.inspect.looking",
}


def __getattr__(name: str) -> Any:
    """Imports a function when it is first used, so that looking at one thing loads nothing else."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vidrec.inspect' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
