"""The mesh of devices, and where parameters, optimizer state and batches lie on it.

The mesh has three axes. A batch is split over "data" and "fsdp" alike. Parameters, and what the optimizer keeps of
each, are split over "fsdp" while they wait and put together for the step that uses them; the matrices of transformers
are split over "model" in use as well. Dimensions of arrays have names, by `RULES`, and names an axis, by `PLACES`.
"""

import importlib.util
import logging
import os
import re
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec.errors import UsageError
from vidrec.train.optim import path_of
from vidrec.types import BATCH_AXES

logger = logging.getLogger(__name__)

AXES = ("data", "fsdp", "model")

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
PLACES = {"features": "fsdp", "heads": "model", "hidden": "model"}


class Layout(NamedTuple):
    """Where an array lies.

    Attributes:
      spec: the mesh's axis that each dimension is split over, or None.
      whole: why a dimension that the rules name is not split, in a clause; "" if it is.
    """

    spec: PartitionSpec
    whole: str = ""


def make_mesh(mesh: ConfigDict | FrozenConfigDict, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of `config.mesh` over `devices` (also those of a topology that is not there), or over all there are.

    With data=-1 all devices take part; otherwise the first data x fsdp x model of them. Neighbours along the batch are
    of one process, so that each process holds one block of the batch, in the order of the processes.

    Raises:
      UsageError: the sizes do not fit the devices, or one copy of the network (model) would span several processes.
    """
    devices = jax.devices() if devices is None else devices
    inner = mesh.fsdp * mesh.model
    data = len(devices) // inner if mesh.data == -1 else mesh.data
    sizes, asked = (data, mesh.fsdp, mesh.model), f"mesh.data={mesh.data}, fsdp={mesh.fsdp} and model={mesh.model}"
    processes = len({device.process_index for device in devices})
    if data < 1 or prod(sizes) > len(devices) or (mesh.data == -1 and prod(sizes) != len(devices)):
        raise UsageError(f"{asked} do not fit: there are {len(devices)} devices; data=-1 takes what fsdp x model leave")
    if processes > 1 and prod(sizes) != len(devices):
        raise UsageError(f"{asked} leave devices out: with several processes all {len(devices)} take part; use data=-1")
    if len(devices) // processes % mesh.model:
        raise UsageError(
            f"mesh.model is {mesh.model}, which does not divide the {len(devices) // processes} devices of a process"
        )
    ordered = sorted(devices, key=lambda d: (getattr(d, "slice_index", 0) or 0, d.process_index, d.id))
    grid = np.array(ordered[: prod(sizes)]).reshape(sizes)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """The first axis split over the devices that have a part of the batch."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def batch_parts(mesh: Mesh) -> int:
    """Into how many parts a batch is split."""
    return prod(mesh.shape[axis] for axis in BATCH_AXES)


def check_batch(batch_size: int, mesh: Mesh, name: str) -> None:
    """Raises UsageError if a batch of that many clips does not split evenly over the devices."""
    parts = batch_parts(mesh)
    if batch_size % parts:
        raise UsageError(f"{name} is {batch_size}, which {parts} devices do not divide; use a multiple of {parts}")


def layout(path: str, shape: Sequence[int], mesh: Mesh) -> Layout:
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


def at_rest(tree: Any, mesh: Mesh) -> Any:
    """The sharding of each array of a tree of parameters, of optimizer state or of both, between steps."""

    def place(key_path: tuple[Any, ...], array: Any) -> NamedSharding:
        return NamedSharding(mesh, layout(path_of(key_path), array.shape, mesh).spec)

    return jax.tree_util.tree_map_with_path(place, tree)


def in_use(params: Any, mesh: Mesh) -> Any:
    """The sharding of each parameter where the network uses it: put together over "fsdp", split over "model" only."""

    def gathered(sharding: NamedSharding) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec(*(axis if axis == "model" else None for axis in sharding.spec)))

    return jax.tree.map(gathered, at_rest(params, mesh))


def undivided(params: Any, mesh: Mesh) -> list[str]:
    """A line for each parameter that is not split as the rules say, with the reason."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    found = [(path_of(path), leaf.shape, layout(path_of(path), leaf.shape, mesh).whole) for path, leaf in leaves]
    return [f"{path} {list(shape)} stays whole: {reason}" for path, shape, reason in found if reason]


def check_effect(params: Any, mesh: Mesh) -> None:
    """Raises UsageError if an axis of the mesh that should split parameters splits none of them."""
    shardings = jax.tree.leaves(at_rest(params, mesh))
    for axis in ("fsdp", "model"):
        if mesh.shape[axis] > 1 and not any(axis in sharding.spec for sharding in shardings):
            reason = "only transformers have matrices for it" if axis == "model" else "it divides no dimension"
            raise UsageError(f"mesh.{axis} is {mesh.shape[axis]}, but splits no parameter: {reason}; set it to 1")


def is_lead() -> bool:
    """Whether this is the process that writes files and talks to the person."""
    return jax.process_index() == 0


def start_hosts(coordinator: str | None, processes: int | None, process: int | None) -> int:
    """Joins the processes of a run into one; returns the number of this one.

    On Cloud TPU no argument is needed; elsewhere give all three, or none for a single process.
    """
    if coordinator is not None:
        jax.distributed.initialize(coordinator, processes, process)
    elif on_cloud_tpu():
        try:
            jax.distributed.initialize()
        except ValueError as error:  # a notebook's TPU, for one, belongs to no slice
            logger.warning("This machine's TPU names no other hosts, so it runs alone: %s", error)
    return jax.process_index()


def on_cloud_tpu() -> bool:
    """Whether this machine has TPUs that JAX would use: it then knows the other hosts of its slice by itself."""
    wanted = os.environ.get("JAX_PLATFORMS", "")
    if importlib.util.find_spec("libtpu") is None or (wanted and "tpu" not in wanted.split(",")):
        return False
    return "TPU_SKIP_MDS_QUERY" not in os.environ  # JAX sets it at its import where no TPU is attached
