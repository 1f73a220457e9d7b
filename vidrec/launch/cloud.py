"""Runs on slices of Cloud TPUs: by machines of one's own, made now or queued for, or by Kubernetes."""

import shlex
from typing import Any

from vidrec.errors import UsageError
from vidrec.launch.run import FINISHED, LIBTPU, PORT, RECORDS, RESTARTS, SAVING, Run, comment, head, train_command
from vidrec.launch.topology import Slice

PORTS = {"tpu": 8471, "coordinator": PORT, "metrics": 8431}
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


def split_bucket(workdir: str) -> tuple[str, str]:
    """Bucket and folder of gs://bucket/folder."""
    bucket, _, folder = workdir.removeprefix("gs://").partition("/")
    return bucket, folder.strip("/")


def tpu_vm(run: Run) -> str:
    """A script that makes a slice of TPU VMs and trains on it."""
    create = f"{tpu_type(run.slice)} --version={RUNTIMES[run.slice.chip]}"
    return _on_cloud(run, "tpu-vm", create, "", state="state", ready="READY", gone="PREEMPTED|TERMINATED")


def queued(run: Run) -> str:
    """The same by a queued resource: asks for a slice, waits until there is one, trains on it."""
    create = f'--node-id="$NAME" {tpu_type(run.slice)} --runtime-version={RUNTIMES[run.slice.chip]}'
    return _on_cloud(run, "queued-resources", create, " --force", state="state.state", ready="ACTIVE", gone="SUSPENDED")


def _on_cloud(run: Run, of: str, create: str, force: str, *, state: str, ready: str, gone: str) -> str:
    """The script: `of` is what gcloud makes, `state` where it says how that is, `ready` and `gone` what it says."""
    bucket, folder = split_bucket(run.workdir)
    workdir = f'"$HOME/bucket/{folder}"'
    spot = " --spot" if run.spot else ""
    compiled = f"env JAX_COMPILATION_CACHE_DIR=$HOME/bucket/{folder}/cache"
    train = f"cd vidrec; ulimit -n 65536; {compiled} .venv/bin/{train_command(run, workdir, '--json')}"
    return f"""{head(run, run.slice.hosts)}
# Needs: gcloud, logged in; a quota for the slice; the bucket (experiments/launch/README.md says how to make it).
# The code is what is committed in this folder's repository; the bucket holds the records of the recipe in records/.
# This script follows the run and starts it again, so let it stand where it can stay: in tmux, on a machine that is on.
NAME={run.name}
BUCKET={bucket}
ZONE="${{ZONE:?set ZONE to a zone that has the slice, such as us-west4-a}}"
PROJECT="${{PROJECT:-$(gcloud config get-value project)}}"
WHERE=(--project="$PROJECT" --zone="$ZONE")

slice() {{ gcloud compute tpus {of} "$1" "$NAME" "${{WHERE[@]}}" "${{@:2}}"; }}
everywhere() {{ gcloud compute tpus tpu-vm ssh "$NAME" "${{WHERE[@]}}" --worker=all --command="$1"; }}

# Makes the slice, or waits for it; one that was taken away is given back first.
obtain() {{
  local state
  while state="$(slice describe --format='value({state})' 2>/dev/null || true)"; [ "$state" != {ready} ]; do
    case "$state" in
      '') slice create {create}{spot} || return 1 ;;
      {gone}) slice delete --quiet{force} || return 1 ;;
      FAILED) slice delete --quiet{force}; return 1 ;;
      *) sleep 60 ;;
    esac
  done
}}

# What an earlier start left running saves itself and ends. Then on all hosts at once; they find each other.
train() {{
  obtain &&
    everywhere {shlex.quote(_STOP)} &&
    git archive --format=tar.gz --prefix=vidrec/ --output=vidrec.tar.gz HEAD &&
    gcloud compute tpus tpu-vm scp vidrec.tar.gz "$NAME:" "${{WHERE[@]}}" --worker=all &&
    everywhere {shlex.quote(_INSTALL)} &&
    everywhere "mkdir -p bucket; mountpoint -q bucket || gcsfuse --implicit-dirs $BUCKET bucket" &&
    everywhere 'ln -sfn ../bucket/records vidrec/' &&
    everywhere {shlex.quote(train)}
}}

for ((try = 1; try <= {RESTARTS}; try++)); do
  train | tee "$NAME.out" || true
  if grep -q {shlex.quote(FINISHED)} "$NAME.out"; then
    echo "Finished. The machines cost money until they are deleted:"
    echo "  gcloud compute tpus {of} delete $NAME ${{WHERE[*]}}{force}"
    exit 0
  fi
  sleep 60
done
echo "Not finished after {RESTARTS} tries; the machines cost money until they are deleted." >&2
exit 1
"""


# The brackets keep the pattern from finding the shell that looks for it.
_STOP = 'p="bin/[v]idrec train"; pkill -TERM -f "$p"; while pgrep -f "$p" >/dev/null; do sleep 1; done'
# uv brings the Python that the machines' image lacks.
_INSTALL = (
    "set -e; tar xzf vidrec.tar.gz; cd vidrec; python3 -m pip install --user --quiet uv; "
    'PATH="$HOME/.local/bin:$PATH"; uv venv --clear --python 3.12 .venv; '
    "uv pip install --require-hashes -r requirements.lock; "
    f"uv pip install --no-deps --no-build-isolation .; uv pip install libtpu=={LIBTPU} gcsfs"
)


def jobset(run: Run) -> str:
    """A JobSet for Google Kubernetes Engine, as YAML."""
    if run.slice.chip not in GKE:
        raise UsageError(f"Kubernetes has no nodes of {run.slice.chip}; it has {', '.join(GKE)}")
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes scripts line by line."""

    def block(dumper: Any, value: str) -> Any:
        """Text of several lines as a block, as one writes it by hand."""
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, block)
    manifest = yaml.dump(jobset_manifest(run), Dumper=Dumper, sort_keys=False, width=120)
    return comment(run, run.slice.hosts) + manifest


def jobset_manifest(run: Run) -> dict[str, Any]:
    """The JobSet as plain values: one pod on each host, all started again together when one of them fails."""
    count = run.slice.hosts
    job = {
        "parallelism": count,
        "completions": count,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # a host alone is of no use: the whole set starts again
        "template": {
            "metadata": {"annotations": _BUCKET},
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


# The container that mounts the bucket takes what it needs (0: no limit): checkpoints pass through its memory and disk.
_BUCKET = {"gke-gcsfuse/volumes": "true"} | {
    f"gke-gcsfuse/{of}-limit": "0" for of in ("cpu", "memory", "ephemeral-storage")
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
