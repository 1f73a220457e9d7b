"""What `vidrec launch` starts, and the parts that its scripts and manifests share."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vidrec.errors import UsageError
from vidrec.launch.topology import Slice

RESTARTS = 10
SAVING = 300  # seconds between the notice that a host must stop and its end: enough to write a checkpoint
PORT = 8476  # of the coordinator
FINISHED = '"finished": true'  # in what a run says by --json at its end; not, where it was stopped and saved itself
LIBTPU = "0.0.51"  # the TPU's compiler that goes with the JAX of requirements.lock
RECORDS = "/vidrec/records"  # where the image has those of the recipes: its code lies in /vidrec


class Run(NamedTuple):
    """What is started, and on what.

    Attributes:
      name: of the run and of the machines, as Kubernetes wants it: lower case, digits and hyphens.
      config: recipe, as FILE[:arg].
      overrides: --config.section.field=value.
      slice: chips of a TPU slice, or of one machine with GPUs.
      workdir: folder of the run: gs://bucket/folder for TPUs, a folder that all machines share for GPUs.
      nodes: machines with GPUs.
      image: container image (jobset, gpu).
      spot: machines that can be taken away at any time, at a lower price (TPUs).
    """

    name: str
    config: str
    overrides: tuple[str, ...]
    slice: Slice
    workdir: str
    nodes: int = 1
    image: str = ""
    spot: bool = False


def check(run: Run, config: Any) -> None:
    """Raises UsageError if the recipe's batches do not split over the devices that `run` starts."""
    inner = config.mesh.fsdp * config.mesh.model
    devices = run.slice.devices * run.nodes
    data = devices // inner if config.mesh.data == -1 else config.mesh.data
    if data * inner != devices:
        raise UsageError(
            f"mesh.data={config.mesh.data}, fsdp={config.mesh.fsdp} and model={config.mesh.model} do not make the "
            f"{devices} devices of {run.slice.name}: set --config.mesh.data=-1"
        )
    parts = data * config.mesh.fsdp
    for section in ("train", "eval"):
        if config[section].batch_size % parts:
            raise UsageError(
                f"{section}.batch_size is {config[section].batch_size}, which the {parts} parts of a batch on "
                f"{run.slice.name} do not divide; set --config.{section}.batch_size to a multiple, and optim.lr with it"
            )


def default_name(config: str) -> str:
    """A name made of a recipe's, such as vidrec-tcm-ssv1 of configs/tcm.py:ssv1."""
    path, _, argument = config.partition(":")
    words = re.findall(r"[a-z0-9]+", f"{Path(path).stem} {argument}".lower())
    return "-".join(["vidrec", *words])[:40].rstrip("-")


def launch_command(kind: str, run: Run) -> str:
    """The `vidrec launch` that prints how to start a run."""
    options = ["--topology", run.slice.name, "--name", run.name, "--workdir", run.workdir]
    options += ["--nodes", str(run.nodes)] if run.nodes != 1 else []
    options += ["--image", run.image] if run.image else []
    options += ["--spot"] if run.spot else []
    return shlex.join(["vidrec", "launch", kind, "--config", run.config, *run.overrides, *options])


def train_command(run: Run, workdir: str, *more: str) -> str:
    """The command line of the training itself; `workdir` and `more` are text for a shell, not quoted."""
    fixed = shlex.join(["vidrec", "train", "--config", run.config, *run.overrides])
    return " ".join([fixed, f"--workdir {workdir}", *more])


def head(run: Run, machines: int, directives: Sequence[str] = ()) -> str:
    """The first lines of a script; a scheduler's directives must come before any command."""
    lint = "# shellcheck disable=SC2016  # what stands in single quotes is for another shell to expand"
    lines = ["#!/usr/bin/env bash", *directives, comment(run, machines).rstrip(), lint, "set -euo pipefail", ""]
    return "\n".join(lines)


def comment(run: Run, machines: int) -> str:
    """A line that says what a text starts."""
    what = f"{run.slice.chips} chips" if run.slice.is_tpu else f"{run.slice.chips * machines} GPUs"
    return f"# Trains {run.config} on {run.slice.name}: {what}, machines: {machines}. Written by `vidrec launch`.\n"
