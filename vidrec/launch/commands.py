"""`vidrec launch`: the commands and manifests that start a run on machines with accelerators.

Each form starts the same `vidrec train` on every host, again after a failure; it goes on from its newest checkpoint by
itself. The folder of the run must be one that every host reaches: of a bucket, which the hosts mount, or of a file
system they share.
"""

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vidrec.errors import UsageError
from vidrec.launch.topology import TPUS, Slice

RESTARTS = 10
SAVING = 300  # seconds between the notice that a host must stop and its end: enough to write a checkpoint
PORTS = {"tpu": 8471, "coordinator": 8476, "metrics": 8431}
GPU_PORT = 8476
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


def render(kind: str, run: Run) -> str:
    """The text of one of `KINDS`.

    Raises:
      UsageError: options that do not go together.
    """
    needs_tpu = kind in ("tpu-vm", "queued", "jobset")
    if run.slice.is_tpu != needs_tpu:
        wanted = "TPUs, such as v5e:16x16" if needs_tpu else "GPUs, such as h200:8"
        raise UsageError(f"launch {kind} starts runs on {wanted}, not on {run.slice.name}")
    if needs_tpu and not re.fullmatch(r"gs://[\w.-]+/[\w./-]+", run.workdir):
        raise UsageError(f"--workdir is {run.workdir!r}: hosts of a TPU slice share a bucket; give gs://BUCKET/FOLDER")
    if not needs_tpu and "://" in run.workdir:
        raise UsageError(f"--workdir is {run.workdir!r}: launch {kind} needs a folder that all machines share")
    if kind == "gpu" and not run.workdir.startswith("/"):
        raise UsageError(f"--workdir is {run.workdir!r}: a container is given a folder by its whole path, from / on")
    if bool(run.image) != (kind in ("jobset", "gpu")):
        raise UsageError(f"launch {kind} needs no --image" if run.image else f"launch {kind} needs --image")
    if run.nodes != 1 and needs_tpu:
        raise UsageError("--nodes is of GPU machines; a TPU slice has as many hosts as its shape says")
    if run.spot and kind in ("slurm", "gpu"):
        raise UsageError(f"--spot has no effect with launch {kind}")
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", run.name):
        raise UsageError(f"--name is {run.name!r}, but must be of lower-case letters, digits and hyphens, at most 40")
    return KINDS[kind](run)


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


def train_command(run: Run, workdir: str, *more: str) -> str:
    """The command line of the training itself; `workdir` and `more` are text for a shell, not quoted."""
    fixed = shlex.join(["vidrec", "train", "--config", run.config, *run.overrides])
    return " ".join([fixed, f"--workdir {workdir}", *more])


def split_bucket(workdir: str) -> tuple[str, str]:
    """Bucket and folder of gs://bucket/folder."""
    bucket, _, folder = workdir.removeprefix("gs://").partition("/")
    return bucket, folder.strip("/")


# Cloud TPU

# Accelerator types count chips, or TensorCores (two a chip); others are named by version and shape.
RUNTIMES = {
    "v4": "tpu-ubuntu2204-base",
    "v5e": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
GKE = {
    "v4": "tpu-v4-podslice",
    "v5e": "tpu-v5-lite-podslice",
    "v5p": "tpu-v5p-slice",
    "v6e": "tpu-v6e-slice",
    "tpu7x": "tpu7x",
}


def tpu_type(wanted: Slice) -> str:
    """The flags by which gcloud takes the type of a slice.

    Raises:
      UsageError: Cloud TPU does not hand it out by itself.
    """
    if wanted.chip not in RUNTIMES:
        raise UsageError(f"Cloud TPU has {wanted.chip} only through Kubernetes, or not any more: see `launch jobset`")
    if wanted.chip in ("v5e", "v6e"):
        prefix = "v5litepod" if wanted.chip == "v5e" else "v6e"
        return f"--accelerator-type={prefix}-{wanted.chips}"
    return f"--type={wanted.chip} --topology={wanted.grid}"


def hosts(wanted: Slice) -> int:
    """Machines of a slice: four chips on each, but up to eight v5e or v6e in one."""
    if wanted.chip in ("v5e", "v6e") and wanted.chips <= 8:
        return 1
    return -(-wanted.chips // 4)


def tpu_vm(run: Run) -> str:
    """A script that makes a slice of TPU VMs and trains on it."""
    spot = " --spot" if run.spot else ""
    create = (
        'gcloud compute tpus tpu-vm create "$NAME" "${WHERE[@]}" \\\n'
        f"  {tpu_type(run.slice)} --version={RUNTIMES[run.slice.chip]}{spot}"
    )
    return _on_cloud(run, create, 'gcloud compute tpus tpu-vm delete "$NAME" "${WHERE[@]}"')


def queued(run: Run) -> str:
    """The same by a queued resource: asks for a slice, waits until there is one, trains on it."""
    spot = " --spot" if run.spot else ""
    state = 'gcloud compute tpus queued-resources describe "$NAME" "${WHERE[@]}" --format=\'value(state.state)\''
    create = (
        'gcloud compute tpus queued-resources create "$NAME" "${WHERE[@]}" --node-id="$NAME" \\\n'
        f"  {tpu_type(run.slice)} --runtime-version={RUNTIMES[run.slice.chip]}{spot}\n"
        f'until [ "$({state})" = ACTIVE ]; do\n'
        f'  case "$({state})" in FAILED|SUSPENDED) echo "the request for $NAME was not granted" >&2; exit 1;; esac\n'
        "  sleep 60\n"
        "done"
    )
    delete = 'gcloud compute tpus queued-resources delete "$NAME" "${WHERE[@]}" --force'
    return _on_cloud(run, create, delete)


def _on_cloud(run: Run, create: str, delete: str) -> str:
    bucket, folder = split_bucket(run.workdir)
    workdir = f'"$HOME/bucket/{folder}"'
    train = train_command(run, workdir)
    loop = again(f"env JAX_COMPILATION_CACHE_DIR=$HOME/bucket/{folder}/cache .venv/bin/{train}")
    return f"""{_head(run, hosts(run.slice))}
# Needs: gcloud, logged in; a quota for the slice; the bucket (README.md beside this file says how to make it).
# The code is what is committed in this folder's repository; the bucket holds the records of the recipe in records/.
NAME={run.name}
BUCKET={bucket}
ZONE="${{ZONE:?set ZONE to a zone that has the slice, such as us-west4-a}}"
PROJECT="${{PROJECT:-$(gcloud config get-value project)}}"
WHERE=(--project="$PROJECT" --zone="$ZONE")

{create}

everywhere() {{ gcloud compute tpus tpu-vm ssh "$NAME" "${{WHERE[@]}}" --worker=all --command="$1"; }}

git archive --format=tar.gz --prefix=vidrec/ --output=vidrec.tar.gz HEAD
gcloud compute tpus tpu-vm scp vidrec.tar.gz "$NAME:" "${{WHERE[@]}}" --worker=all
everywhere {shlex.quote(_INSTALL)}
everywhere "mkdir -p bucket; mountpoint -q bucket || gcsfuse --implicit-dirs $BUCKET bucket"
everywhere 'ln -sfn ../bucket/records vidrec/'

# On all hosts at once; they find each other by themselves.
everywhere {shlex.quote("cd vidrec; ulimit -n 65536; " + loop)}

echo 'Finished. The machines cost money until they are deleted:'
echo "  {delete.replace('"', chr(92) + '"')}"
"""


# uv brings the Python that the machines' image lacks.
_INSTALL = (
    "set -e; tar xzf vidrec.tar.gz; cd vidrec; curl -LsSf https://astral.sh/uv/install.sh | sh; "
    'PATH="$HOME/.local/bin:$PATH"; uv venv --clear --python 3.12 .venv; uv pip install ".[tpu,video,gcs]"'
)


def again(command: str) -> str:
    """Shell: a command, once more after a failure, at most so many times."""
    return f"for try in $(seq {RESTARTS}); do {command} && exit 0; sleep 10; done; exit 1"


def jobset(run: Run) -> str:
    """A JobSet for Google Kubernetes Engine, as YAML."""
    if run.slice.chip not in GKE:
        raise UsageError(f"Kubernetes has no nodes of {run.slice.chip}; it has {', '.join(GKE)}")
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes scripts line by line."""

    def block(dumper: Any, value: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, block)
    manifest = yaml.dump(jobset_manifest(run), Dumper=Dumper, sort_keys=False, width=120)
    return _comment(run, hosts(run.slice)) + manifest


def jobset_manifest(run: Run) -> dict[str, Any]:
    """The JobSet as plain values: one pod on each host, all started again together when one of them fails."""
    count = hosts(run.slice)
    job = {
        "parallelism": count,
        "completions": count,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # a host alone is of no use: the whole set starts again
        "template": {
            "metadata": {"annotations": {"gke-gcsfuse/volumes": "true"}},
            "spec": _pod(run, run.slice.chips // count),
        },
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": run.name,
            "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
        },
        "spec": {
            "failurePolicy": {"maxRestarts": RESTARTS},
            "replicatedJobs": [{"name": "slice", "replicas": 1, "template": {"spec": job}}],
        },
    }


def _pod(run: Run, chips: int) -> dict[str, Any]:
    bucket, folder = split_bucket(run.workdir)
    workdir = f"/bucket/{folder}"
    selector = {
        "cloud.google.com/gke-tpu-accelerator": GKE[run.slice.chip],
        "cloud.google.com/gke-tpu-topology": run.slice.grid,
    } | ({"cloud.google.com/gke-spot": "true"} if run.spot else {})
    tpus = {"google.com/tpu": chips}
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": SAVING,
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "serviceAccountName": "vidrec",
        "nodeSelector": selector,
        "containers": [
            {
                "name": "train",
                "image": run.image,
                "command": ["bash", "-c", stoppable(train_command(run, shlex.quote(workdir)))],
                "ports": [{"containerPort": port, "name": name} for name, port in PORTS.items()],
                "env": [{"name": "JAX_COMPILATION_CACHE_DIR", "value": f"{workdir}/cache"}],
                "resources": {"requests": dict(tpus), "limits": dict(tpus)},
                "volumeMounts": [
                    {"name": "bucket", "mountPath": "/bucket"},
                    {"name": "bucket", "mountPath": RECORDS, "subPath": "records", "readOnly": True},
                    {"name": "shared-memory", "mountPath": "/dev/shm"},
                ],
            }
        ],
        "volumes": [
            {
                "name": "bucket",
                "csi": {
                    "driver": "gcsfuse.csi.storage.gke.io",
                    "volumeAttributes": {"bucketName": bucket, "mountOptions": "implicit-dirs"},
                },
            },
            {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},  # the loader's processes hand clips over in it
        ],
    }


def stoppable(command: str) -> str:
    """Shell: a command that ends well when it is told to stop, having saved; here, that is no success."""
    return (
        "ulimit -n 65536 2>/dev/null || true\n"
        "stopped=no\n"
        "child=\n"
        'trap \'stopped=yes; [ -z "$child" ] || kill -TERM "$child"\' TERM\n'
        f"{command} &\n"
        "child=$!\n"
        'if [ "$stopped" = yes ]; then kill -TERM "$child"; fi\n'
        'wait "$child"; code=$?\n'
        'if [ "$stopped" = yes ]; then wait "$child"; exit 143; fi\n'
        'exit "$code"\n'
    )


# GPUs


def slurm(run: Run) -> str:
    """A script for sbatch: one process on each node; the job is queued again until the run is finished."""
    workdir = shlex.quote(run.workdir)
    flags, coordinator = [], ""
    if run.nodes > 1:
        flags = ['--coordinator "$COORDINATOR" --processes "$SLURM_NNODES" --process "$SLURM_PROCID"']
        first = 'read -r FIRST < <(scontrol show hostnames "$SLURM_JOB_NODELIST")'
        coordinator = f'{first}\nexport COORDINATOR="$FIRST:{GPU_PORT}"\n'
    train = train_command(run, '"$WORKDIR"', "--json", *flags)
    lines = [
        f"#SBATCH --job-name={run.name}",
        f"#SBATCH --nodes={run.nodes}",
        "#SBATCH --ntasks-per-node=1",
        f"#SBATCH --gpus-per-node={run.slice.chips}",
        "#SBATCH --exclusive",
        f"#SBATCH --signal=TERM@{SAVING}",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        f"#SBATCH --output={run.name}-%j.log",
    ]
    return f"""{_head(run, run.nodes, lines)}
# Needs: an environment with vidrec and jax[cuda13] that is active where this is submitted; a shared file system.
WORKDIR={workdir}
mkdir -p "$WORKDIR"
ulimit -n 65536 2>/dev/null || true
export WORKDIR JAX_COMPILATION_CACHE_DIR="$WORKDIR/cache"
{coordinator}
srun --kill-on-bad-exit=1 bash -c {shlex.quote(train)} >"$WORKDIR/outcome.json"
# Told to stop before its time is over, the run saves itself and says that it is not finished.
if ! grep -q '"finished": true' "$WORKDIR/outcome.json"; then
  scontrol requeue "$SLURM_JOB_ID"
fi
"""


def gpu(run: Run) -> str:
    """A script for machines with GPUs and Docker, without a scheduler; on several, it is started on each."""
    several = run.nodes > 1
    flags = ['--coordinator "$COORDINATOR"', f"--processes {run.nodes}", '--process "$PROCESS"'] if several else []
    who = ""
    if several:
        who = (
            f'PROCESS="${{1:?say which of the {run.nodes} machines this is: 0 to {run.nodes - 1}}}"\n'
            f'COORDINATOR="${{COORDINATOR:?set COORDINATOR to HOST:{GPU_PORT} of machine 0, on every machine}}"\n'
        )
    return f"""{_head(run, run.nodes)}
# Needs: Docker with the NVIDIA container toolkit; the folders WORKDIR and RECORDS, on several machines shared by all.
WORKDIR={shlex.quote(run.workdir)}
RECORDS="${{RECORDS:-$PWD/records}}"
{who}mkdir -p "$WORKDIR"

# A failure starts the container again; `docker stop` gives it time to save.
docker run --detach --name {run.name} --gpus all --network=host --ipc=host --ulimit nofile=65536:65536 \\
  --restart=on-failure:{RESTARTS} --stop-timeout={SAVING} \\
  --volume "$WORKDIR:$WORKDIR" --volume "$RECORDS:{RECORDS}:ro" --env JAX_COMPILATION_CACHE_DIR="$WORKDIR/cache" \\
  {shlex.quote(run.image)} {train_command(run, '"$WORKDIR"', *flags)}
docker logs --follow {run.name}
"""


def _head(run: Run, machines: int, directives: Sequence[str] = ()) -> str:
    """The first lines of a script; a scheduler's directives must come before any command."""
    return "\n".join(["#!/usr/bin/env bash", *directives, _comment(run, machines).rstrip(), "set -euo pipefail", ""])


def _comment(run: Run, machines: int) -> str:
    chips = run.slice.chips * (1 if run.slice.chip in TPUS else machines)
    noun = "machine" if machines == 1 else "machines"
    return f"# Trains {run.config} on {run.slice.name}: {chips} chips, {machines} {noun}. Written by `vidrec launch`.\n"


KINDS: dict[str, Callable[[Run], str]] = {
    "tpu-vm": tpu_vm,
    "queued": queued,
    "jobset": jobset,
    "slurm": slurm,
    "gpu": gpu,
}
