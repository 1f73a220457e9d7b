"""Where the parameters of a network lie on a mesh of devices: while they wait, and where they are used.

Dimensions of arrays have names, by `RULES`, and names an axis of the mesh, by `PLACES`. Parameters are split over
"fsdp" while they wait and put together for the layers that use them; the matrices of transformers are split over
"model" in use as well.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import AbstractMesh, Mesh, PartitionSpec
from jax.typing import DTypeLike

from vidrec.errors import UsageError

# (pattern of an array's path, names of its last dimensions); the first match counts. What matches none, and dimensions
# without a name, are on every device: norms and biases hold little, and splitting them costs a message each.
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"attn/qkv/kernel$", ("features", "heads")),
    (r"attn/proj/kernel$", ("heads", "features")),
    (r"mlp/fc1/kernel$", ("features", "hidden")),
    (r"mlp/fc1/bias$", ("hidden",)),
    (r"mlp/fc2/kernel$", ("hidden", "features")),
    (r"(^|/)(fc|head|order)/kernel$", ("features", None)),  # the other one is of classes, which seldom divide
    (r"kernel$", ("features",)),  # what a convolution or matrix gives
)
BLOCKS = re.compile(r"(^|/)blocks_\d+/")  # of transformers, which put their parameters together themselves
PLACES = {"features": "fsdp", "heads": "model", "hidden": "model"}


class Layout(NamedTuple):
    """Where an array lies.

    Attributes:
      spec: the mesh's axis that each dimension is split over, or None.
      whole: why a dimension that the rules name is not split, in a clause; "" if it is.
    """

    spec: PartitionSpec
    whole: str = ""


def layout(path: str, shape: Sequence[int], mesh: Mesh | AbstractMesh) -> Layout:
    """Where an array of parameters, or what an optimizer keeps of one, lies while it waits, by `RULES`.

    A dimension that its axis does not divide stays whole.

    Raises:
      UsageError: a rule puts two dimensions of one array on the same axis.
    """
    names = next((names for pattern, names in RULES if re.search(pattern, path)), ())
    names = (None,) * (len(shape) - len(names)) + names[-len(shape) :] if shape else ()
    axes = [name and PLACES[name] for name in names]
    used = [axis for axis in axes if axis]
    if len(used) != len(set(used)):
        raise UsageError(f"the rules for {path} put two of its dimensions {names} on one axis of the mesh: {axes}")
    whole = [
        f"{axis}={mesh.shape[axis]} does not divide {size}"
        for axis, size in zip(axes, shape, strict=True)
        if axis and size % mesh.shape[axis]
    ]
    fitting = (axis if axis and size % mesh.shape[axis] == 0 else None for axis, size in zip(axes, shape, strict=True))
    return Layout(PartitionSpec(*fitting), ", ".join(whole))


def path_of(key_path: tuple[Any, ...]) -> str:
    """A JAX key path as "layer1_0/conv1/kernel"."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def put_together(params: Any, *, but: re.Pattern[str] | None = None, dtype: DTypeLike | None = None) -> Any:
    """Parameters as the layers below use them, on the mesh of `jax.set_mesh`: whole over "fsdp", split over "model".

    Their gradients are split over "fsdp" as they are summed.

    Args:
      but: those with such a path are left as they are.
      dtype: the type that the layers compute with, in which they travel; None: as they are.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.shape.get("fsdp", 1) == 1:
        return params

    def one(key_path: tuple[Any, ...], parameter: Any) -> Any:
        """A parameter as its layer uses it."""
        path = path_of(key_path)
        if but and but.search(path):
            return parameter
        rest = layout(path, parameter.shape, mesh).spec
        use = PartitionSpec(*(axis if axis == "model" else None for axis in rest))

        if "fsdp" not in rest:
            return parameter

        @jax.custom_vjp
        def whole(x: Any) -> Any:
            """Gathered over fsdp; its gradient is split again."""
            split = jax.lax.with_sharding_constraint(x, rest)  # or it would travel as it was before `dtype`
            return jax.lax.with_sharding_constraint(split, use)

        whole.defvjp(lambda x: (whole(x), None), lambda _, g: (jax.lax.with_sharding_constraint(g, rest),))
        return whole(parameter if dtype is None else parameter.astype(dtype))

    return jax.tree_util.tree_map_with_path(one, params)
