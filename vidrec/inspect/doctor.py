"""`vidrec doctor`: what this machine has, and which implementations run on it and why."""

import os
import resource
import shutil
from pathlib import Path
from typing import Any

import jax

from vidrec.errors import VidrecError
from vidrec.ops.correlation.select import select
from vidrec.train.card import devices, version_of, versions

TCM = (28, 28, 64, 15)  # height, width, channels, patch behind stage 3 of the full networks


def examine() -> dict[str, Any]:
    """Everything as plain values."""
    try:
        device = jax.local_devices()[0]
    except RuntimeError as error:
        raise VidrecError(f"JAX finds no device: {' '.join(str(error).split())[:300]}; see JAX_PLATFORMS") from error
    memory = device.memory_stats() or {}
    return {
        "versions": versions(),
        "libtpu": version_of("libtpu"),
        "devices": {**devices(), "memory_bytes": memory.get("bytes_limit")},
        "correlation": {
            dtype: select(device.platform, device.device_kind, dtype, *TCM)._asdict()
            for dtype in ("bfloat16", "float32")
        },
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "shared_memory_bytes": shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else None,
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }


def text(report: dict[str, Any]) -> str:
    """The report as lines."""
    devices = report["devices"]
    lines = [
        ", ".join(f"{name} {number}" for name, number in report["versions"].items()),
        f"{devices['everywhere']} x {devices['kind']} ({devices['platform']}), {devices['here']} of them here, "
        f"processes: {devices['processes']}" + gigabytes(devices["memory_bytes"], " each with {}"),
        f"{report['cores']} CPU cores"
        + gigabytes(report["memory_bytes"], ", {} of memory")
        + f", at most {report['open_files']} open files"
        + gigabytes(report["shared_memory_bytes"], ", {} of shared memory free"),
    ]
    size = "{} x {} x {}, patch {}".format(*TCM)
    for dtype, choice in report["correlation"].items():
        lines.append(f"correlation of {size}, {dtype}: {choice['name']}, because {choice['reason']}")
    compiler = f"libtpu {report['libtpu']}" if report["libtpu"] else "none (pip install libtpu, or make libtpu)"
    lines.append(f"compiler of TPUs, for `vidrec compile`: {compiler}")
    return "\n".join(lines)


def gigabytes(count: int | None, words: str) -> str:
    """`words` with a size in them, or nothing where the size is not known."""
    return "" if count is None else words.format(f"{count / 2**30:.1f} GiB")
