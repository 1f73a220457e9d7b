"""The mesh of devices, and where parameters, optimizer state and batches lie on it.

The mesh has three axes. A batch is split over "data" and "fsdp" alike; parameters, and what the optimizer keeps of
each, over "fsdp" and "model" by the rules of `vidrec.models.layout`.
"""

import importlib.util
import logging
import os
from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec.errors import UsageError
from vidrec.models.layout import layout, path_of
from vidrec.types import BATCH_AXES

logger = logging.getLogger(__name__)

AXES = ("data", "fsdp", "model")


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


def at_rest(tree: Any, mesh: Mesh) -> Any:
    """The sharding of each array of a tree of parameters, of optimizer state or of both, between steps."""

    def place(key_path: tuple[Any, ...], array: Any) -> NamedSharding:
        """The sharding of one array."""
        return NamedSharding(mesh, layout(path_of(key_path), array.shape, mesh).spec)

    return jax.tree_util.tree_map_with_path(place, tree)


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

    Raises:
      UsageError: there is no process of that number.
    """
    if coordinator is not None:
        if processes is not None and process is not None and not 0 <= process < processes:
            raise UsageError(f"--process is {process}, but {processes} processes have the numbers 0 to {processes - 1}")
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
    if any(name in os.environ for name in ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")):
        return True  # of a pod of Kubernetes, where the variable below is set as well
    return "TPU_SKIP_MDS_QUERY" not in os.environ  # JAX sets it at its import where no TPU is attached
