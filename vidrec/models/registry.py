"""Networks by name: `create_model("stm_resnet50", num_classes=174)`."""

import fnmatch
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax

from vidrec.errors import UsageError, did_you_mean
from vidrec.models.direcformer import DirecFormer
from vidrec.models.resnet import SHAPES
from vidrec.models.stm import STM
from vidrec.models.tcm import TCM
from vidrec.models.tdn import TDN
from vidrec.models.tefe import TEFE
from vidrec.models.tsm import TSM, TSN
from vidrec.models.ttsn import ttsn

Maker = Callable[..., Any]  # makes a flax.linen module with num_frames and clip_length

MODELS: dict[str, Maker] = {
    **{f"tsn_resnet{depth}": partial(TSN, **shape) for depth, shape in SHAPES.items()},
    **{f"tsm_resnet{depth}": partial(TSM, **shape) for depth, shape in SHAPES.items()},
    **{f"stm_resnet{depth}": partial(STM, **SHAPES[depth]) for depth in (18, 34, 50)},
    **{f"tcm_resnet{depth}": partial(TCM, **shape) for depth, shape in SHAPES.items()},
    "tefe_resnet50": partial(TEFE, **SHAPES[50]),
    "direcformer_base": DirecFormer,
    "timesformer_base": partial(DirecFormer, time_attn="softmax", num_orders=0),
    "tdn_resnet50": partial(TDN, **SHAPES[50]),
    "ttsn_resnet50": partial(ttsn, backbone="tdn", **SHAPES[50]),
}

CLASSIFIERS = ("fc", "head")  # what the networks call the layer whose outputs are the classes; "order": the orders

REQUIRED = inspect.Parameter.empty


def list_models(pattern: str = "*") -> list[str]:
    """Returns the known names that match a glob pattern, sorted; e.g. `list_models("*resnet50")`."""
    return sorted(fnmatch.filter(MODELS, pattern))


def create_model(name: str, **fields: Any) -> Any:
    """Makes a network by name, or by "package.module:function" for one of the user's own.

    It is a flax.linen module; `model.apply(variables, clips, train=...)` gives a `vidrec.types.ModelOutput`.
    `fields` override the name's defaults (see `model_fields`); lists become tuples. Raises UsageError for an unknown
    name or field, a missing field, or a wrong value.
    """
    maker, known = find_model(name), model_fields(name)
    if not accepts_any_field(maker):
        for field in fields:
            if field not in known:
                raise UsageError(f"model {name!r} has no field {field!r}{did_you_mean(field, known)}")
    missing = [field for field, default in known.items() if default is REQUIRED and field not in fields]
    if missing:
        raise UsageError(f"model {name!r} needs {', '.join(missing)}")
    return maker(**{field: tuple(v) if isinstance(v, list) else v for field, v in fields.items()})


def model_fields(name: str) -> dict[str, Any]:
    """Returns every field of a network and its default; `REQUIRED` stands for a field that has none."""
    parameters = inspect.signature(find_model(name)).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return {p.name: p.default for p in named if p.name not in ("parent", "name")}


def clip_shape(model: Any, image_size: int | tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns (frames, height, width, 3) of one clip for a network, given the side or (height, width) of its pictures.

    `model.clip_length` counts: `num_frames`, or a multiple where a segment holds several frames.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return model.clip_length, height, width, 3


def init_options() -> dict[str, Any]:
    """Compiler options for the jit of a network's `init`.

    XLA's CPU compiler spends seconds on every random array when it optimises, and such code runs once.
    """
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}


def find_model(name: str) -> Maker:
    """Returns the function (or class) that makes the network `name`; raises UsageError when there is none."""
    return find_maker("model", name, MODELS)


def find_maker(kind: str, name: str, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """Returns the function `name` of those known, or imports "package.module:function"; `kind` is what it makes.

    Raises UsageError when there is none.
    """
    if ":" in name:
        return import_maker(kind, name)
    if name not in known:
        hint = did_you_mean(name, known)
        raise UsageError(f"no {kind} is called {name!r}{hint}; your own is named as 'package.module:function'")
    return known[name]


def import_maker(kind: str, name: str) -> Callable[..., Any]:
    """Imports the function of "package.module:function"."""
    module, _, function = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # the command's own start does not have the folder it is called in
    try:
        maker = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"{kind} {name!r} cannot be imported: {error}") from error
    if not callable(maker):
        raise UsageError(f"{kind} {name!r} is a {type(maker).__name__}, not a function that makes a {kind}")
    return maker


def accepts_any_field(maker: Maker) -> bool:
    """Whether the function takes **fields, so that its names cannot be checked."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(maker).parameters.values())
