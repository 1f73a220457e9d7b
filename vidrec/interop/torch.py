"""PyTorch weights into the networks here and back. torch itself is not needed.

state_dict = read("resnet50.pth")
variables, report = convert(model, state_dict, image_size=224, num_frames=8, allow_missing=["fc"])
"""

import dataclasses
import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vidrec.errors import VidrecError
from vidrec.interop.adapt import Weight, Weights, adapt
from vidrec.interop.names import COMMON, Rules, clean_name, rules_of, torch_name
from vidrec.interop.reading import read
from vidrec.models.registry import CLASSIFIERS, clip_shape, init_options

__all__ = ["Report", "convert", "fill", "read", "to_torch", "torch_name"]

Variables = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of the weights: keys of the file (matched, reshaped, unexpected) and paths of the network (missing).

    Attributes:
      matched: keys taken as they are, the order of axes apart.
      reshaped: keys taken after axes of length one were dropped or added (TCM's classifier is a 1x1 convolution), and
        "name <- key" for arrays made out of others (see `vidrec.interop.adapt`).
      missing: parameters and statistics the file does not have, which keep their initial values.
      unexpected: keys the network has no place for.
    """

    matched: list[str]
    reshaped: list[str]
    missing: list[str]
    unexpected: list[str]

    def as_dict(self) -> dict[str, list[str]]:
        """The four lists by name."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """One line per list with its length, and the names where something was not simply taken."""
        lines = [f"matched     {len(self.matched)}"]
        for name in ("reshaped", "missing", "unexpected"):
            keys = getattr(self, name)
            lines += [f"{name:<11} {len(keys)}", *(f"  {key}" for key in keys)]
        return "\n".join(lines)


def convert(
    model: Any,
    state_dict: Mapping[str, np.ndarray],
    *,
    image_size: int | tuple[int, int],
    num_frames: int,
    allow_missing: Sequence[str] = (),
) -> tuple[Variables, Report]:
    """Returns the network's variables (float32 numpy arrays) with the weights of a torch state dict, and a report.

    Names may carry the prefixes of public training code (see `clean_name`); `num_batches_tracked` is ignored.

    Args:
      image_size: side, or (height, width), of the pictures the network is for.
      num_frames: frames per clip, as the network has it.
      allow_missing: patterns ("fc", "*/cmm/*", "fc.weight") of what the file need not have; it keeps its initial
        value. A classifier (or order head) for another number of classes counts as missing.

    Raises:
      VidrecError: something else is missing, a shape differs, two keys mean the same, or num_frames is not the
        network's.
    """
    if num_frames != model.num_frames:
        raise VidrecError(f"num_frames is {num_frames}, but the network was made with {model.num_frames}")
    init, rules = initializer(model, image_size), rules_of(model)
    weights = adapt(model, by_name(state_dict), image_size)
    variables, report = put(jax.eval_shape(init), weights, allow_missing, rules)
    if report.missing:
        initial = jax.tree.map(np.asarray, jax.jit(init, compiler_options=init_options())())
        variables, report = put(initial, weights, allow_missing, rules)
    return variables, report


def fill(
    variables: Variables,
    state_dict: Mapping[str, np.ndarray],
    *,
    allow_missing: Sequence[str] = (),
    rules: Rules = COMMON,
) -> tuple[Variables, Report]:
    """Puts a state dict into the variables of any module, a single block's too; see `convert`.

    Rules see names alone. Modules whose parts are called otherwise in torch (TE, CMM, mSE, ETA and others in
    `vidrec.interop.names`) are told by the name their parent gives them: nest their variables under it, as in
    `{"params": {"cmm": ...}}`, for keys that start with the parent's name of it in torch, as "mb.stage_conv.weight".
    """
    return put(variables, by_name(state_dict), allow_missing, rules)


def put(variables: Variables, weights: Weights, allow_missing: Sequence[str], rules: Rules) -> tuple[Variables, Report]:
    """Takes the array of each parameter and statistic out of the weights."""
    weights = dict(weights)
    report = Report([], [], [], [])
    filled = {}
    for collection in sorted(variables, reverse=True):  # parameters before statistics: they are what a person knows
        for path, leaf in by_path(variables[collection]).items():
            weight = weights.pop(torch_name(path, rules), None)
            array = None if weight is None else as_here(path, weight.array)
            value = None if weight is None else fit(path, weight.key, array, leaf.shape)
            if weight is None or array is None or value is None:
                report.missing.append(path)
            elif array.shape == leaf.shape and not weight.adapted:
                report.matched.append(weight.key)
            else:
                report.reshaped.append(weight.key)
            filled[collection, *path.split("/")] = leaf if value is None else value
    report.unexpected.extend(weight.key for weight in weights.values())
    check_missing(report, allow_missing, rules)
    return unflatten_dict(filled), report


def to_torch(model: Any, variables: Variables) -> dict[str, np.ndarray]:
    """Returns the variables under torch's names and axes; `convert` takes them back.

    Names are torchvision's ("layer1.0.conv1.weight", "fc.weight"), or timm's for transformers, so that the plain
    network takes its part by `load_state_dict(..., strict=False)`. Public training code wraps that network: its own
    classes expect prefixes such as "base_model.", "new_fc" for "fc" and ".net" in shifted layers, which are not here;
    there strict=False would load nothing and say nothing. `num_batches_tracked` is left out.

    Raises VidrecError when `variables` are not of this network. Parameters that a network lists as `sized`, because
    their shape follows from the pictures' size, may have any shape.
    """
    arrays = {path: array for tree in variables.values() for path, array in by_path(tree).items()}
    shapes = jax.eval_shape(initializer(model, getattr(model, "image_size", 64)))
    expected = {path: leaf.shape for tree in shapes.values() for path, leaf in by_path(tree).items()}
    sized = getattr(model, "sized", ())
    for path in sorted(expected.keys() | arrays.keys()):
        here, there = np.shape(arrays.get(path, 0)), expected.get(path)
        if path not in arrays or there is None or (here != there and path not in sized):
            raise VidrecError(f"the variables are not of this network: {path} differs")
    rules = rules_of(model)
    return {torch_name(path, rules): as_torch(path, array) for path, array in arrays.items()}


def by_path(tree: Any) -> dict[str, Any]:
    """Lists the leaves of a nested dictionary under paths like "layer1_0/conv1/kernel"."""
    return cast(dict[str, Any], flatten_dict(tree, sep="/"))


def initializer(model: Any, image_size: int | tuple[int, int]) -> Any:
    """Returns a function that makes the network's variables for clips of this size."""
    shape = clip_shape(model, image_size)
    return lambda: dict(model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False))


def by_name(state_dict: Mapping[str, np.ndarray]) -> Weights:
    """Returns torchvision's name -> array; raises VidrecError when two keys mean the same."""
    weights: Weights = {}
    for key, array in state_dict.items():
        name = clean_name(key)
        if name.endswith("num_batches_tracked"):
            continue
        if name in weights:
            raise VidrecError(f"keys {weights[name].key} and {key} of the weights both mean {name}; remove one")
        weights[name] = Weight(key, array)
    return weights


def as_here(path: str, array: Any) -> np.ndarray:
    """Moves torch's kernel axes [out, in, space...] to [space..., in, out]; other arrays stay. Returns float32."""
    array = np.asarray(array, np.float32)
    return np.moveaxis(array, (0, 1), (-1, -2)) if path.endswith("kernel") and array.ndim > 1 else array


def as_torch(path: str, array: Any) -> np.ndarray:
    """The inverse of `as_here`, laid out in memory as its axes are, since safetensors writes memory as it lies."""
    array = np.asarray(array, np.float32)
    return np.ascontiguousarray(np.moveaxis(array, (-1, -2), (0, 1))) if path.endswith("kernel") else array


def fit(path: str, key: str, value: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Drops or adds axes of length one to reach a parameter's shape; None for a head of another size.

    Raises VidrecError when the shapes differ otherwise.
    """
    if [n for n in value.shape if n > 1] == [n for n in shape if n > 1]:
        return np.ascontiguousarray(value).reshape(shape)
    if path.partition("/")[0] in (*CLASSIFIERS, "order"):
        return None
    raise VidrecError(
        f"{key} has shape {list(value.shape)} in the weights, but {path} of the network has "
        f"{list(shape)}: the weights are of another network, or the widths differ"
    )


def check_missing(report: Report, allow_missing: Sequence[str], rules: Rules) -> None:
    """Raises VidrecError unless every missing path is allowed by name."""
    refused = [path for path in report.missing if not is_allowed(path, allow_missing, rules)]
    if refused:
        found = len(report.matched) + len(report.reshaped)
        if not found and report.unexpected:
            raise VidrecError(
                f"none of the weights' names is one of this network: they have {report.unexpected[0]}, ..., where it "
                f"has {torch_name(refused[0], rules)}, ...; they are of another network or another library"
            )
        shown = ", ".join(refused[:5]) + (" and others" if len(refused) > 5 else "")
        hint = f"; the file also has {report.unexpected[0]}, ..." if report.unexpected else ""
        raise VidrecError(
            f"the weights lack {len(refused)} of {found + len(report.missing)} arrays of this network (or have them "
            f"for another number of classes): {shown}{hint}; to start them afresh, allow them by name: "
            f"{', '.join(sorted({covering(path) for path in refused}))}"
        )


def covering(path: str) -> str:
    """A pattern for the module of a path, in whatever block it stands: '*/cmm', or 'fc' outside of blocks."""
    first, *rest = path.split("/")
    return f"'*/{rest[0]}'" if re.search(r"_\d+$", first) and len(rest) > 1 else f"'{first}'"


def is_allowed(path: str, patterns: Sequence[str], rules: Rules) -> bool:
    """Whether a pattern matches the path, a module it lies in, or its torch name."""
    parts = path.split("/")
    names = ["/".join(parts[: i + 1]) for i in range(len(parts))] + [torch_name(path, rules)]
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)
