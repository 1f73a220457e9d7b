"""Which implementation runs where, and why: decided from names and sizes alone, before anything is traced.

A kernel for another kind of GPU than it is compiled on does not raise, it ends the process; so nothing is ever tried.
"""

import math
import re
from typing import Any, NamedTuple

import jax
from jax.sharding import AbstractMesh, AxisType

# As JAX calls them, now or in some releases.
TPUS = ("TPU v4", "TPU v5", "TPU v5p", "TPU v5 lite", "TPU v5e", "TPU v6 lite", "TPU v6e", "TPU7x")
HOPPER = re.compile(r"\bG?H(20|100|200|800)\b")  # the GPUs of compute capability 9.0, by their product names
BATCH_AXES = ("data", "fsdp")  # axes of a mesh that pairs are split over; vidrec.types has the same


class Choice(NamedTuple):
    """An implementation and the reason for it, in a clause that follows "because"."""

    name: str
    reason: str


class Case(NamedTuple):
    """What is asked for.

    Attributes:
      platform: cpu, tpu or gpu.
      device_kind: the device's name, as `jax.devices()[0].device_kind`.
      dtype: of the features.
      height, width, channels: of the maps.
      patch: side of the window.
      relu: negative scores count as zero (of `match`).
      mesh: the mesh that the arrays are sharded over, None for a single device.
      pairs: N; None if not known yet.
      operation: match or correlate.
      checked: whether a surrounding shard_map checks what varies over its axes.
      own: the explicit axes of the mesh that the pairs are split over already.
    """

    platform: str
    device_kind: str
    dtype: Any
    height: int
    width: int
    channels: int
    patch: int
    relu: bool = True
    mesh: Any = None
    pairs: int | None = None
    operation: str = "match"
    checked: bool = False
    own: tuple[str, ...] = ()


def select(*arguments: Any, **options: Any) -> Choice:
    """The implementation that a call without a name takes; the arguments are the attributes of `Case`."""
    case = Case(*arguments, **options)
    kernel = {"tpu": "pallas_tpu", "gpu": "pallas_gpu"}.get(case.platform)
    if kernel is None:
        return Choice("dense", f"there is no kernel for a {case.platform}")
    reason = obstacle(kernel, case)
    return Choice("dense", reason) if reason else Choice(kernel, f"it is made for {case.device_kind}")


def obstacle(name: str, case: Case) -> str | None:
    """Why the implementation `name` cannot run in this case, in a clause; None if it can."""
    if name not in ("pallas_tpu", "pallas_gpu"):
        return None
    return wrong_device(name, case) or wrong_features(name, case) or wrong_mesh(case)


def wrong_device(name: str, case: Case) -> str | None:
    """The device is not one that the kernel is made for."""
    platform = name.removeprefix("pallas_")
    if case.platform != platform:
        return f"{name} needs a {platform.upper()}, and this is a {case.platform}"
    if platform == "tpu" and case.device_kind not in TPUS:
        return f"{name} needs one of {', '.join(TPUS)}, and this is a {case.device_kind}"
    if platform == "gpu" and not HOPPER.search(case.device_kind):
        return f"{name} needs a Hopper GPU (compute capability 9.0, such as an H100), and this is a {case.device_kind}"
    return None


def wrong_features(name: str, case: Case) -> str | None:
    """Settings or sizes that the kernel does not serve."""
    if jax.config.jax_enable_x64:
        return f"jax_enable_x64 is on, and {name} is compiled without 64-bit numbers"
    if case.pairs is not None and not isinstance(case.pairs, int):
        return f"the number of pairs is symbolic, and {name} is compiled for a known one"
    if case.operation == "match" and not case.relu:
        return f"{name} needs relu=True"
    if name == "pallas_tpu":
        from vidrec.ops.correlation import tpu

        return tpu.unsupported(case.height, case.width, case.channels, case.patch, case.dtype)
    from vidrec.ops.correlation import gpu

    return gpu.unsupported(case.height, case.width, case.channels, case.patch, case.dtype, case.operation)


def wrong_mesh(case: Case) -> str | None:
    """The pairs cannot be split over the mesh, as a kernel must be."""
    if case.checked:
        return "a kernel runs only in a shard_map with check_vma=False"
    if case.mesh is None or case.mesh.size == 1 or not free_axes(case.mesh):
        return None
    auto = axes_of(case.mesh, AxisType.Auto)
    if auto and not batch_axes(case.mesh, case.own):
        return (
            f"none of the mesh's axes {auto} is called {' or '.join(BATCH_AXES)}; over others, split "
            "the pairs by a shard_map with check_vma=False"
        )
    parts = split_over(case.mesh, case.own)
    if case.pairs is not None and case.pairs % parts:
        return f"{case.pairs} pairs do not split over {parts} devices"
    return None


def free_axes(mesh: AbstractMesh) -> tuple[str, ...]:
    """The axes that no surrounding shard_map has split already."""
    return axes_of(mesh, AxisType.Auto, AxisType.Explicit)


def axes_of(mesh: AbstractMesh, *kinds: AxisType) -> tuple[str, ...]:
    """The axes of some kinds, in the mesh's order."""
    return tuple(axis for axis, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind in kinds)


def batch_axes(mesh: AbstractMesh, own: tuple[str, ...]) -> tuple[str, ...]:
    """The free axes that pairs are split over: explicit ones they are split over already, others by their names."""
    auto = axes_of(mesh, AxisType.Auto)
    return (*own, *(axis for axis in BATCH_AXES if axis in auto))


def split_over(mesh: AbstractMesh, own: tuple[str, ...]) -> int:
    """Into how many parts."""
    return math.prod(mesh.shape[axis] for axis in batch_axes(mesh, own))


def explicit_split(*features: Any) -> tuple[str, ...]:
    """The explicit axes of a mesh that the pairs of the first features which are split so are split over."""
    for entry in (jax.typeof(f).sharding.spec[0] for f in features):
        if entry is not None:
            return entry if isinstance(entry, tuple) else (entry,)
    return ()


def surroundings(*features: Any) -> tuple[str, str, AbstractMesh | None]:
    """(platform, device kind, mesh) of the code that is being traced: of the mesh in `jax.set_mesh`, or of the first
    that features are sharded over, else the default device and no mesh.

    What `in_shardings` of jax.jit say is not known while tracing: such a function is called in `jax.set_mesh`. A mesh
    of a topology that is only compiled for has a platform, too, when the default is a CPU.
    """
    meshes = (jax.sharding.get_abstract_mesh(), *(jax.typeof(f).sharding.mesh for f in features))
    mesh = next((mesh for mesh in meshes if not mesh.empty), meshes[0])
    device = mesh.abstract_device
    if device is None:
        device = jax.local_devices()[0]
    return device.platform, device.device_kind, None if mesh.empty else mesh
