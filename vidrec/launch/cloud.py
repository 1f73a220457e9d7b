"""Runs on slices of Cloud TPUs: by machines of one's own, made now or queued for, or by Kubernetes."""

import shlex
from typing import Any

from vidrec.errors import UsageError
from vidrec.launch.run import PORT, RECORDS, RESTARTS, SAVING, Run, comment, head, train_command
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


def hosts(wanted: Slice) -> int:
    """Machines of a slice: four chips on each, but up to eight v5e or v6e in one."""
    if wanted.chip in ("v5e", "v6e") and wanted.chips <= 8:
        return 1
    return -(-wanted.chips // 4)


def split_bucket(workdir: str) -> tuple[str, str]:
    """Bucket and folder of gs://bucket/folder."""
    bucket, _, folder = workdir.removeprefix("gs://").partition("/")
    return bucket, folder.strip("/")


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
    return f"""{head(run, hosts(run.slice))}
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
    "set -e; tar xzf vidrec.tar.gz; cd vidrec; python3 -m pip install --user --quiet uv; "
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
    return comment(run, hosts(run.slice)) + manifest


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
