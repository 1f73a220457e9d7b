"""Slices by name, such as v5e:16x16: what the installed compiler knows of them, and what one of their devices can do.

Nothing here needs the slice. The compiler is libtpu for TPUs and JAX's CUDA plugin for GPUs; both look at the process's
environment once, so that they are asked in a process that was started with `ENVIRONMENT`.
"""

import importlib.util
import math
import re
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from vidrec.errors import UsageError, VidrecError

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",  # do not look for a TPU machine's description of itself
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several processes may compile at once
    "JAX_ENABLE_COMPILATION_CACHE": "0",  # a program from the cache was not compiled
}
_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_DEEP = ("1x1x1", "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16")


class Chip(NamedTuple):
    """One version of the TPU.

    Attributes:
      shapes: the usual shapes of its slices, in chips.
      cores: JAX devices of a chip on a TPU machine.
      network: bytes per second that a chip sends to its neighbours over all its links, by Cloud TPU's description of
        the version; None where that does not say.
    """

    shapes: tuple[str, ...]
    cores: int
    network: float | None


TPUS = {
    "v2": Chip(("2x2", "4x4", "8x8", "16x16"), 2, None),
    "v3": Chip(("2x2", "4x4", "8x8", "16x16"), 2, None),
    "v4": Chip(_DEEP, 1, 300e9),
    "v5e": Chip(_FLAT, 1, 200e9),
    "v5p": Chip(_DEEP, 1, 600e9),
    "v6e": Chip(_FLAT, 1, 400e9),
    "tpu7x": Chip(_DEEP, 2, 600e9),
}
# Name -> (JAX's device kind, cores of it, bytes/s, bytes of memory, bytes/s of NVLink each way); all are Hopper.
GPUS = {
    "h100": ("NVIDIA H100 80GB HBM3", 132, 3_350_000_000_000, 80_000_000_000, 450e9),
    "h200": ("NVIDIA H200", 132, 4_800_000_000_000, 141_000_000_000, 450e9),
}


class Slice(NamedTuple):
    """A name, read.

    Attributes:
      name: as it was given.
      chip: a key of `TPUS` or `GPUS`.
      shape: chips along each axis; of GPUs the number in one machine.
    """

    name: str
    chip: str
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    @property
    def devices(self) -> int:
        """JAX devices, on machines that have it; a compiler may count a chip's cores one by one."""
        return self.chips * (TPUS[self.chip].cores if self.is_tpu else 1)

    @property
    def hosts(self) -> int:
        """Machines: of TPUs with four chips each, but up to eight v5e or v6e are in one; of GPUs one."""
        flat = self.is_tpu and len(self.shape) == 2
        return 1 if not self.is_tpu or (flat and self.chips <= 8) else -(-self.chips // 4)

    @property
    def grid(self) -> str:
        """The shape as text, such as 16x16."""
        return "x".join(map(str, self.shape))

    @property
    def is_tpu(self) -> bool:
        """Whether its chips are TPUs."""
        return self.chip in TPUS


def parse(name: str) -> Slice:
    """Reads v5e:16x16, v5p:4x4x8, h200 or h200:8.

    Raises:
      UsageError: another form, or a chip that is not known by that name.
    """
    match = re.fullmatch(r"([a-z]+\d+[a-z]*)(?::(\d+(?:x\d+)*))?", name)
    chip = match[1] if match else name.partition(":")[0]
    if match is None or chip not in (*TPUS, *GPUS) or (match[2] is None and chip in TPUS):
        raise UsageError(f"there is no topology {name!r}; {_examples()}")
    shape = tuple(int(side) for side in (match[2] or "1").split("x"))
    axes = 1 if chip in GPUS else len(TPUS[chip].shapes[0].split("x"))
    if len(shape) != axes or 0 in shape:
        raise UsageError(f"topology {name!r}: the shape of a {chip} slice has {axes} sides; {_examples(chip)}")
    if chip in GPUS and shape[0] > 8:
        raise UsageError(f"topology {name!r}: name the GPUs of one machine, at most 8, such as {chip}:8")
    return Slice(name, chip, shape)


def check_offered(wanted: Slice) -> None:
    """Raises UsageError for a shape in which slices of TPUs are not handed out.

    Those with two sides come in a few shapes; those with three in any whose sides are 1, 2 or multiples of 4, in rising
    order, from 2x2x1 on.
    """
    shapes = TPUS[wanted.chip].shapes
    deep = len(wanted.shape) == 3 and list(wanted.shape) == sorted(wanted.shape)
    regular = deep and all(side == 2 or side % 4 == 0 for side in wanted.shape)
    if wanted.grid not in shapes and not regular:
        raise UsageError(f"there is no slice {wanted.name}: {wanted.chip} comes as {', '.join(shapes)}")


def _examples(chip: str = "") -> str:
    if chip in TPUS:
        return f"known are {', '.join(f'{chip}:{shape}' for shape in TPUS[chip].shapes)}"
    tpus = "; ".join(f"{chip}: {', '.join(of.shapes)}" for chip, of in TPUS.items())
    return f"known are, of TPUs, as in v5e:16x16, {tpus}; of GPUs {', '.join(GPUS)}, or h200:8 for eight"


# What follows asks the compiler, in a process with ENVIRONMENT


def devices_of(wanted: Slice) -> Sequence[Any]:
    """The devices of a slice (jax.Device), to be compiled for.

    Raises:
      VidrecError: the compiler is not installed, with the way to it.
      UsageError: the compiler does not know the slice, with those that it knows.
    """
    from jax.experimental import topologies

    if not wanted.is_tpu:
        return _gpus(wanted)
    if importlib.util.find_spec("libtpu") is None:
        raise VidrecError(
            "the TPU's compiler, which runs on any Linux machine, is not installed: "
            "pip install libtpu, or make libtpu (200 MB)"
        )
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=wanted.name).devices
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"libtpu {version('libtpu')} does not know the topology {wanted.name!r} ({reason}); of {wanted.chip} it "
            f"knows, among others, {', '.join(known_shapes(wanted.chip)) or 'none'}"
        ) from None


def known_shapes(chip: str) -> list[str]:
    """The usual shapes that the installed libtpu compiles for."""
    from jax.experimental import topologies

    found = []
    for shape in TPUS[chip].shapes:
        try:
            topologies.get_topology_desc(platform="tpu", topology_name=f"{chip}:{shape}")
        except Exception:  # what is not known is left out
            continue
        found.append(shape)
    return found


def usable_memory(device: Any) -> int | None:
    """Bytes of a TPU's memory that programs may use, as its compiler says when one needs more; None if it does not.

    The rest, a few per cent of the chip's, is the system's.
    """
    import jax
    import jax.numpy as jnp

    too_much = jax.ShapeDtypeStruct((1 << 38,), jnp.float32, sharding=jax.sharding.SingleDeviceSharding(device))
    try:
        jax.jit(lambda x: x + 1).lower(too_much).compile()
    except jax.errors.JaxRuntimeError as error:
        found = re.search(r"available HBM \(([\d.]+)([KMGT])\)", str(error))
        return round(float(found[1]) * 1024 ** ("KMGT".index(found[2]) + 1)) if found else None
    return None


def _gpus(wanted: Slice) -> Sequence[Any]:
    from jax.experimental import topologies

    if not any(importlib.util.find_spec(name) for name in ("jax_cuda13_plugin", "jax_cuda12_plugin")):
        raise VidrecError(
            f"to compile for {wanted.name} without one, JAX's CUDA plugin must be installed (jax-cuda13-plugin and "
            "jax-cuda13-pjrt of JAX's version), and ptxas of the CUDA toolkit be on PATH"
        )
    if shutil.which("ptxas") is None:
        raise VidrecError(f"to compile for {wanted.name}, ptxas of the CUDA toolkit (13.0 or newer) must be on PATH")
    return topologies.get_topology_desc(
        platform="cuda",
        topology_name=wanted.chip,
        target_config=target_config(wanted.chip),
        topology=f"1x1x{wanted.chips}",
    ).devices


def target_config(chip: str) -> str:
    """What the CUDA compiler must know of a Hopper GPU, as the text of its GpuTargetConfigProto."""
    kind, cores, bandwidth, memory, _ = GPUS[chip]
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  core_count: {cores}
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  device_memory_size: {memory}
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  cuda_compute_capability {{ major: 9 minor: 0 }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 12 }}
runtime_version {{ major: 13 }}
device_description_str: "{kind}"
"""
