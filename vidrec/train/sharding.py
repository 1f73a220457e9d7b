"""The mesh of devices and where state and batches lie on it."""

import os

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vidrec.errors import UsageError


def make_mesh(data: int = -1) -> Mesh:
    """A mesh with the axis "data" over `data` devices, or over all of them with -1.

    Raises:
      UsageError: more devices asked for than there are, or, with several processes, fewer.
    """
    devices = jax.devices()
    count = len(devices) if data == -1 else data
    if not 1 <= count <= len(devices):
        raise UsageError(f"mesh.data is {data}, but there are {len(devices)} devices; use -1 for all")
    if jax.process_count() > 1 and count != len(devices):
        raise UsageError(f"mesh.data is {data}: with several processes all {len(devices)} devices take part; use -1")
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:count])


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """The first axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch(batch_size: int, mesh: Mesh, name: str) -> None:
    """Raises UsageError if a global batch of that size does not split evenly over the devices."""
    devices = mesh.shape["data"]
    if batch_size % devices:
        raise UsageError(f"{name} is {batch_size}, which {devices} devices do not divide; use a multiple of {devices}")


def is_lead() -> bool:
    """Whether this is the process that writes files and talks to the person."""
    return jax.process_index() == 0


def start_hosts(coordinator: str | None, processes: int | None, process: int | None) -> int:
    """Joins the processes of a run into one; returns the number of this one.

    On Cloud TPU slices of several hosts no argument is needed; elsewhere give all three, or none for a single process.
    """
    if coordinator is not None:
        jax.distributed.initialize(coordinator, processes, process)
    elif len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1:
        jax.distributed.initialize()
    return jax.process_index()
