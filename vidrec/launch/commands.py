"""`vidrec launch`: the commands and manifests that start a run on machines with accelerators.

Each form starts the same `vidrec train` on every host, again after a failure; it goes on from its newest checkpoint by
itself. The folder of the run must be one that every host reaches: of a bucket, which the hosts mount, or of a file
system they share.
"""

import re
from collections.abc import Callable

from vidrec.errors import UsageError
from vidrec.launch.cloud import jobset, queued, tpu_vm
from vidrec.launch.gpus import gpu, slurm
from vidrec.launch.run import Run
from vidrec.launch.topology import check_offered

KINDS: dict[str, Callable[[Run], str]] = {
    "tpu-vm": tpu_vm,
    "queued": queued,
    "jobset": jobset,
    "slurm": slurm,
    "gpu": gpu,
}


def render(kind: str, run: Run) -> str:
    """The text of one of `KINDS`.

    Raises:
      UsageError: options that do not go together.
    """
    needs_tpu = kind in ("tpu-vm", "queued", "jobset")
    if run.slice.is_tpu != needs_tpu:
        wanted = "TPUs, such as v5e:16x16" if needs_tpu else "GPUs, such as h200:8"
        raise UsageError(f"launch {kind} starts runs on {wanted}, not on {run.slice.name}")
    if run.slice.is_tpu:
        check_offered(run.slice)
    if run.nodes < 1:
        raise UsageError(f"--nodes is {run.nodes}, but must be a number of machines")
    if needs_tpu and (not re.fullmatch(r"gs://[\w.-]+/[\w./-]+", run.workdir) or ".." in run.workdir.split("/")):
        raise UsageError(f"--workdir is {run.workdir!r}: hosts of a TPU slice share a bucket; give gs://BUCKET/FOLDER")
    if not needs_tpu and "://" in run.workdir:
        raise UsageError(f"--workdir is {run.workdir!r}: launch {kind} needs a folder that all machines share")
    if kind == "gpu" and not run.workdir.startswith("/"):
        raise UsageError(f"--workdir is {run.workdir!r}: a container is given a folder by its whole path, from / on")
    if bool(run.image) != (kind in ("jobset", "gpu")):
        raise UsageError(
            f"launch {kind} runs no container, so that --image has no effect"
            if run.image
            else f"launch {kind} needs --image: the name of the one that experiments/launch/Dockerfile makes"
        )
    if run.nodes != 1 and needs_tpu:
        raise UsageError("--nodes is of GPU machines; a TPU slice has as many hosts as its shape says")
    if run.spot and kind in ("slurm", "gpu"):
        raise UsageError(f"--spot has no effect with launch {kind}")
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", run.name):
        raise UsageError(f"--name is {run.name!r}, but must be of lower-case letters, digits and hyphens, at most 40")
    return KINDS[kind](run)
