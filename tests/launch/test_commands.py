"""What `vidrec launch` prints: shell that parses, and does what it says; a manifest with what a JobSet must have."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from vidrec import cli
from vidrec.errors import UsageError
from vidrec.launch import cloud, commands, run
from vidrec.launch.topology import check_offered, parse

TPU = {"slice": parse("v5e:16x16"), "workdir": "gs://my-bucket/runs/tcm"}
GPU = {"slice": parse("h200:8"), "workdir": "/scratch/runs/tcm"}
OPTIONS = {
    "tpu-vm": TPU,
    "queued": TPU | {"spot": True},
    "jobset": TPU | {"image": "registry/vidrec:1"},
    "slurm": GPU | {"nodes": 4},
    "gpu": GPU | {"nodes": 2, "image": "registry/vidrec:1"},
}


def run_of(kind: str, **changes) -> run.Run:
    fields = {
        "name": "tcm",
        "config": "configs/tcm.py:ssv1,frames=8",
        "overrides": ("--config.data.records=my records",),
    }
    return run.Run(**fields | OPTIONS[kind] | changes)


@pytest.mark.parametrize("kind", [kind for kind in commands.KINDS if kind != "jobset"])
def test_scripts_are_shell(kind, tmp_path):
    for changes in ({}, {"nodes": 1}):
        script = tmp_path / "launch.sh"
        script.write_text(commands.render(kind, run_of(kind, **changes)))
        subprocess.run(["bash", "-n", script], check=True)
        if shutil.which("shellcheck"):
            subprocess.run(["shellcheck", script], check=True)


def fake(folder: Path, *programs: str) -> dict[str, str]:
    """An environment whose programs write down how they were called, and say what SAYS_ and their name has."""
    for name in programs:
        path = folder / name
        path.write_text(
            f"#!/bin/bash\nprintf '%s\\x1f' {name} \"$@\" >>{folder}/calls\necho >>{folder}/calls\n"
            f'echo "$SAYS_{name.upper()}"\n'
        )
        path.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "PROJECT": "p", "ZONE": "z"}


def called(folder: Path) -> list[list[str]]:
    """The calls of those programs, in order."""
    return [line.split("\x1f")[:-1] for line in (folder / "calls").read_text().splitlines()]


GCLOUD = r"""#!/bin/bash
# What a cloud does: makes and deletes a slice, and lets the training on it say one line of `says` after the other.
cd {folder}
printf '%s\x1f' gcloud "$@" >>calls; echo >>calls
case "$*" in
  *" create "*) echo {ready} >state ;;
  *" delete "*) rm -f state ;;
  *" describe "*) cat state 2>/dev/null ;;
  *"vidrec train --config"*) head -n 1 says; sed -i 1d says; if [ -s away ]; then cat away >state; rm away; fi ;;
esac
"""
READY = {"tpu-vm": ("READY", "PREEMPTED"), "queued": ("ACTIVE", "SUSPENDED")}


def on_cloud(kind: str, folder: Path, says: list[str], away: str = "") -> tuple[int, list[list[str]]]:
    """Exit status and the calls of gcloud of a script, whose slice is in state `away` after the first training."""
    environment = fake(folder, "git", "sleep")
    (folder / "gcloud").write_text(GCLOUD.format(folder=folder, ready=READY[kind][0]))
    (folder / "gcloud").chmod(0o755)
    (folder / "says").write_text("\n".join(says) + "\n")
    (folder / "away").write_text(away)
    text = commands.render(kind, run_of(kind))
    done = subprocess.run(["bash", "-c", text], env=environment, cwd=folder, check=False, capture_output=True)
    return done.returncode, [call for call in called(folder) if call[0] == "gcloud"]


@pytest.mark.parametrize("kind", ["tpu-vm", "queued"])
def test_a_slice_is_made_prepared_and_trained_on(kind, tmp_path):
    status, calls = on_cloud(kind, tmp_path, ['{"finished": true}'])
    assert status == 0
    (create,) = [call for call in calls if "create" in call]
    assert {"--accelerator-type=v5litepod-256", "--project=p", "--zone=z"} <= set(create)
    assert ("--spot" in create) == (kind == "queued")
    remote = [next(a for a in call if a.startswith("--command=")) for call in calls if "ssh" in call]
    assert "gcsfuse --implicit-dirs my-bucket bucket" in remote[2]
    assert all("--worker=all" in call for call in calls if "ssh" in call or "scp" in call)
    train = remote[-1].removeprefix("--command=")
    words = trained(train.replace("cd vidrec;", "").replace(".venv/bin/", ""), tmp_path)
    assert words == [
        "vidrec", "train", "--config", "configs/tcm.py:ssv1,frames=8", "--config.data.records=my records",
        "--workdir", f"{tmp_path}/bucket/runs/tcm", "--json",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["tpu-vm", "queued"])
def test_a_slice_that_was_taken_away_is_made_again_until_the_run_is_finished(kind, tmp_path):
    status, calls = on_cloud(kind, tmp_path, ['{"finished": false}', "", '{"finished": true}'], READY[kind][1])
    assert status == 0
    verbs = [word for call in calls for word in call if word in ("create", "delete")]
    assert verbs == ["create", "delete", "create"]
    assert sum("train --config" in " ".join(call) for call in calls) == 3


def test_a_run_that_never_finishes_is_given_up(tmp_path):
    status, calls = on_cloud("tpu-vm", tmp_path, ['{"finished": false}'])
    assert status == 1
    assert sum("train --config" in " ".join(call) for call in calls) == run.RESTARTS
    assert sum("create" in call for call in calls) == 1


def test_what_is_left_of_an_earlier_start_is_stopped_first(tmp_path):
    """By a pattern that does not find the shell it stands in."""
    program = tmp_path / "bin" / "vidrec"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/bash\ntrap 'echo saved; exit 0' TERM\necho ready\nwhile :; do read -rt 0.05 <> <(:); done\n"
    )
    program.chmod(0o755)
    with subprocess.Popen([program, "train"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        subprocess.run(["bash", "-c", cloud._STOP.replace("bin/", f"{program.parent}/")], timeout=60, check=False)
        assert process.stdout.readline() == "saved\n"
        assert process.wait(20) == 0


def trained(script: str, folder: Path, **environment: str) -> list[str]:
    """How a script calls vidrec, last."""
    bin_ = folder / "bin"
    bin_.mkdir()
    subprocess.run(["bash", "-c", script], env=fake(bin_, "vidrec") | {"HOME": str(folder)} | environment, check=True)
    return called(bin_)[-1]


def test_a_pod_that_is_told_to_stop_has_not_succeeded(tmp_path):
    """Though what runs in it ends well; when it ends by itself, its own status counts."""
    saves = "trap 'kill %1; echo saved; exit 0' TERM; sleep 60 >/dev/null 2>&1 & echo ready; wait"
    process = subprocess.Popen(
        ["bash", "-c", cloud.stoppable(f"bash -c {cloud.shlex.quote(saves)}")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.readline() == "saved\n"
        assert process.wait(20) == 143
    for status in (0, 3):
        script = cloud.stoppable(f"bash -c 'exit {status}'")
        assert subprocess.run(["bash", "-c", script], check=False).returncode == status


# Of each object of a JobSet manifest, as its schema (v1alpha2) and Kubernetes' own have them: the fields that must be
# there, those that may besides, as far as they concern a training, and what lies below them (a list where it says so).
SCHEMA = {
    "JobSet": ("apiVersion kind metadata spec", "", {"spec": "JobSetSpec", "metadata": "Meta"}),
    "Meta": ("", "name namespace labels annotations", {}),
    "JobSetSpec": (
        "replicatedJobs",
        "network successPolicy failurePolicy startupPolicy suspend coordinator managedBy ttlSecondsAfterFinished",
        {"replicatedJobs": ["ReplicatedJob"], "failurePolicy": "FailurePolicy"},
    ),
    "FailurePolicy": ("", "maxRestarts restartStrategy rules", {}),
    "ReplicatedJob": ("name template", "replicas groupName dependsOn", {"template": "JobTemplate"}),
    "JobTemplate": ("spec", "metadata", {"spec": "JobSpec", "metadata": "Meta"}),
    "JobSpec": (
        "template",
        "parallelism completions completionMode backoffLimit activeDeadlineSeconds podFailurePolicy",
        {"template": "PodTemplate"},
    ),
    "PodTemplate": ("spec", "metadata", {"spec": "PodSpec", "metadata": "Meta"}),
    "PodSpec": (
        "containers restartPolicy",
        "volumes nodeSelector tolerations serviceAccountName terminationGracePeriodSeconds hostNetwork dnsPolicy",
        {"containers": ["Container"], "volumes": ["Volume"]},
    ),
    "Container": (
        "name image",
        "command args ports env resources volumeMounts workingDir securityContext",
        {"ports": ["Port"], "env": ["Variable"], "volumeMounts": ["Mount"], "resources": "Resources"},
    ),
    "Port": ("containerPort", "name protocol hostPort", {}),
    "Variable": ("name", "value valueFrom", {}),
    "Mount": ("name mountPath", "subPath readOnly", {}),
    "Resources": ("", "requests limits", {}),
    "Volume": ("name", "csi emptyDir hostPath persistentVolumeClaim", {"csi": "Driver"}),
    "Driver": ("driver", "readOnly volumeAttributes", {}),
}


def check_schema(kind: str, value: dict) -> None:
    """Asserts that an object has the fields it must have, and no others."""
    required, optional, below = SCHEMA[kind]
    assert set(required.split()) <= set(value) <= {*required.split(), *optional.split()}, kind
    for field, of in below.items():
        if field in value:
            assert isinstance(value[field], list if isinstance(of, list) else dict), field
            for inner in value[field] if isinstance(of, list) else [value[field]]:
                check_schema(of[0] if isinstance(of, list) else of, inner)


def test_jobset_has_what_its_schema_requires():
    text = commands.render("jobset", run_of("jobset"))
    manifest = yaml.safe_load(text)
    check_schema("JobSet", manifest)
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert manifest["metadata"]["name"] == "tcm"
    (replicated,) = manifest["spec"]["replicatedJobs"]
    assert {"name", "replicas", "template"} <= set(replicated)  # of ReplicatedJob
    job = replicated["template"]["spec"]
    assert (job["parallelism"], job["completions"], job["completionMode"], job["backoffLimit"]) == (
        64,
        64,
        "Indexed",
        0,
    )
    assert manifest["spec"]["failurePolicy"]["maxRestarts"] > 0
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] in ("Never", "OnFailure")  # a job's pods may have no other
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice", "cloud.google.com/gke-tpu-topology": "16x16",
    }  # fmt: skip
    (container,) = pod["containers"]
    assert container["image"] == "registry/vidrec:1"
    assert container["resources"]["limits"] == container["resources"]["requests"] == {"google.com/tpu": 4}
    assert all({"containerPort", "name"} == set(port) and len(port["name"]) <= 15 for port in container["ports"])
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    subprocess.run(["bash", "-n", "-c", container["command"][2]], check=True)
    assert "--workdir /bucket/runs/tcm" in container["command"][2]


def test_slurm_joins_the_nodes_and_queues_again_what_is_not_finished(tmp_path):
    text = commands.render("slurm", run_of("slurm", workdir=str(tmp_path / "run")))
    directives = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert {"--nodes=4", "--gpus-per-node=8", "--ntasks-per-node=1", "--requeue"} <= set(directives)
    assert text.index("#SBATCH") < text.index("set -euo")  # behind a command, they would not be read
    environment = {"SLURM_JOB_NODELIST": "n[1-4]", "SLURM_NNODES": "4", "SLURM_PROCID": "2", "SLURM_JOB_ID": "77"}
    environment |= fake(tmp_path, "scontrol", "vidrec") | {"SAYS_SCONTROL": "n1\nn2"}
    (tmp_path / "srun").touch(0o755)
    cases = [("false", "", 0, True), ("true", "", 0, False), ("", "9", 3, True), ("", "10", 3, False)]
    cases += [("false", "10", 0, True)]  # a time that is over is no failure
    for finished, restarts, fails, again in cases:
        (tmp_path / "srun").write_text(f'#!/bin/sh\nshift 2\n"$@"\nexit {fails}\n')
        (tmp_path / "calls").unlink(missing_ok=True)
        told = {"SLURM_RESTART_COUNT": restarts, "SAYS_VIDREC": f'{{"finished": {finished}}}'}
        done = subprocess.run(["bash", "-c", text], env=environment | told, check=False)
        assert done.returncode == (0 if again else fails)
        train = next(call for call in called(tmp_path) if call[0] == "vidrec")
        assert train[-6:] == ["--coordinator", "n1:8476", "--processes", "4", "--process", "2"]
        assert (["scontrol", "requeue", "77"] in called(tmp_path)) == again


def test_docker_on_several_machines(tmp_path):
    environment = fake(tmp_path, "docker") | {"COORDINATOR": "n1:8476"}
    text = commands.render("gpu", run_of("gpu", workdir=str(tmp_path / "run")))
    subprocess.run(["bash", "-c", text, "gpu.sh", "1"], env=environment, check=True, cwd=tmp_path, capture_output=True)
    stop, remove, docker, _ = called(tmp_path)
    assert (stop[1:], remove[1:]) == (["stop", "tcm"], ["rm", "tcm"])  # of an earlier start
    assert docker[-4:] == ["--processes", "2", "--process", "1"]
    assert {"--restart=on-failure:10", "--gpus", "registry/vidrec:1"} <= set(docker)
    command = ["bash", "-c", text, "gpu.sh"]
    without = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert without.returncode
    assert "0 to 1" in without.stderr


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("tpu-vm", {"slice": parse("h200:8")}, "on TPUs"),
        ("slurm", {"slice": parse("v5e:2x4")}, "on GPUs"),
        ("queued", {"workdir": "/scratch"}, "gs://BUCKET"),
        ("slurm", {"workdir": "gs://b/c"}, "share"),
        ("gpu", {"workdir": "runs/tcm"}, "whole path"),
        ("jobset", {"image": ""}, "needs --image"),
        ("slurm", {"image": "x"}, "--image has no effect"),
        ("slurm", {"nodes": 0}, "--nodes is 0"),
        ("queued", {"slice": parse("v5e:3x5")}, "no slice v5e:3x5: v5e comes as 1x1, 2x2"),
        ("jobset", {"slice": parse("v5p:3x3x3")}, "no slice"),
        ("jobset", {"workdir": "gs://b/../c"}, "gs://BUCKET"),
        ("tpu-vm", {"nodes": 2}, "--nodes"),
        ("gpu", {"spot": True}, "--spot"),
        ("tpu-vm", {"name": "My_Run"}, "--name"),
        ("tpu-vm", {"slice": parse("tpu7x:2x2x1")}, "jobset"),
        ("jobset", {"slice": parse("v3:4x4")}, "no nodes"),
    ],
)
def test_options_that_do_not_go_together(kind, changes, message):
    with pytest.raises(UsageError, match=message):
        commands.render(kind, run_of(kind, **changes))


def test_hosts_and_types_of_slices():
    counts = {"v5e:2x4": 1, "v5e:4x4": 4, "v6e:1x1": 1, "v5p:2x2x2": 2, "v4:2x2x1": 1}
    assert {name: parse(name).hosts for name in counts} == counts
    assert cloud.tpu_type(parse("v6e:4x4")) == "--accelerator-type=v6e-16"
    assert cloud.tpu_type(parse("v5p:2x2x4")) == "--type=v5p --topology=2x2x4"


def test_slices_of_three_sides_come_in_many_shapes():
    for name in ("v5p:4x4x12", "v4:2x2x1", "v5p:8x16x20"):
        check_offered(parse(name))
    for name in ("v5p:4x2x2", "v5p:2x3x4", "v4:1x2x2"):
        with pytest.raises(UsageError, match="no slice"):
            check_offered(parse(name))


def test_one_version_of_the_compiler():
    root = Path(__file__).parents[2]
    for file in ("Makefile", "experiments/launch/Dockerfile"):
        assert set(re.findall(r"libtpu==([\d.]+)", (root / file).read_text())) == {run.LIBTPU}


def test_from_the_command_line(capsys):
    words = ["launch", "queued", "--config", "configs/tcm.py:ssv1", "--workdir", "gs://b/runs", "--topology"]
    assert cli.main([*words, "v5e:4x4"]) == 0
    assert "NAME=vidrec-tcm-ssv1\n" in capsys.readouterr().out
    assert cli.main([*words, "v5e:16x16"]) == 2  # a batch of 32 clips on 256 chips
    assert "set --config.train.batch_size" in capsys.readouterr().err
    assert cli.main([*words, "v5e:16x16", "--config.train.batch_size=2048", "--config.eval.batch_size=2048"]) == 0
    assert cli.main([*words, "v5e:4x4", "--config.mesh.fsdp=3"]) == 2


def test_the_files_of_experiments_are_what_their_commands_print(capsys, monkeypatch):
    """Each row of the README's table names a file and the command that printed it."""
    folder = Path(__file__).parents[2] / "experiments/launch"
    monkeypatch.chdir(folder.parents[1])
    table = re.findall(r"^\|[^|]+\| `([^`]+)` \| `([^`]+)` \|$", (folder / "README.md").read_text(), flags=re.MULTILINE)
    assert len(table) == len(commands.KINDS)
    for file, command in table:
        assert cli.main(["launch", *command.split()]) == 0
        assert (folder / file).read_text() == capsys.readouterr().out, f"print {file} again: vidrec launch {command}"
