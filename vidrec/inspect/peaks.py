"""What a device can do at most, by its maker's account: arithmetic, memory bandwidth and memory."""

import re
from typing import Any, NamedTuple

# JAX's name of a device -> the name of its chip in Pallas' table of TPUs.
TPUS = {
    "TPU v2": "v2",
    "TPU v3": "v3",
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "TPU7x": "7x",
}


class Peak(NamedTuple):
    """Limits of one device as JAX counts them: on some chips that is one of two cores.

    Attributes:
      flops: floating-point operations per second in bfloat16, dense.
      bandwidth: bytes per second of its memory.
      memory: bytes of it.
    """

    flops: float
    bandwidth: float
    memory: float


# By product name; NVIDIA's data sheets, without sparsity.
GPUS = (
    (r"H200", Peak(989.4e12, 4.8e12, 141e9)),
    (r"H100 PCIe", Peak(756e12, 2.0e12, 80e9)),
    (r"H100 NVL", Peak(835e12, 3.9e12, 94e9)),
    (r"H100", Peak(989.4e12, 3.35e12, 80e9)),
    (r"A100.*80GB", Peak(312e12, 2.0e12, 80e9)),
    (r"A100", Peak(312e12, 1.555e12, 40e9)),
    (r"B200", Peak(2250e12, 8.0e12, 180e9)),
)


def peak_of(device: Any) -> Peak | None:
    """The limits of a device (jax.Device, there or of a topology); None where they are not known, as of a CPU."""
    if device.platform == "tpu":
        return _of_tpu(device)
    found = (peak for pattern, peak in GPUS if re.search(pattern, device.device_kind))
    return next(found, None)


def _of_tpu(device: Any) -> Peak | None:
    from jax.experimental.pallas import tpu

    chip = TPUS.get(device.device_kind)
    if chip is None:
        return None
    core = tpu.get_tpu_info_for_chip(tpu.ChipVersion(chip), 1)
    cores = getattr(device, "num_cores", 1) or 1
    return Peak(core.bf16_ops_per_second * cores, core.mem_bw_bytes_per_second * cores, core.hbm_capacity_bytes * cores)
