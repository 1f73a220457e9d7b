"""Runs on machines with GPUs: by Slurm, or by Docker alone."""

import shlex

from vidrec.launch.run import FINISHED, PORT, RECORDS, RESTARTS, SAVING, Run, head, train_command


def slurm(run: Run) -> str:
    """A script for sbatch: one process on each node; the job is queued again until the run is finished.

    After a failure, only where it was queued again fewer than `RESTARTS` times.
    """
    workdir = shlex.quote(run.workdir)
    flags, coordinator = [], ""
    if run.nodes > 1:
        flags = ['--coordinator "$COORDINATOR" --processes "$SLURM_NNODES" --process "$SLURM_PROCID"']
        first = 'read -r FIRST < <(scontrol show hostnames "$SLURM_JOB_NODELIST")'
        coordinator = f'{first}\nexport COORDINATOR="$FIRST:{PORT}"\n'
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
    return f"""{head(run, run.nodes, lines)}
# Needs: an environment with vidrec and jax[cuda13] that is active where this is submitted; a shared file system.
WORKDIR={workdir}
mkdir -p "$WORKDIR"
ulimit -n 65536 2>/dev/null || true
export WORKDIR JAX_COMPILATION_CACHE_DIR="$WORKDIR/cache"
{coordinator}
failed=0
srun --kill-on-bad-exit=1 --cpu-bind=none bash -c {shlex.quote(train)} >"$WORKDIR/outcome.json" || failed=$?
# Told to stop before its time is over, the run saves itself and says that it is not finished.
if grep -q {shlex.quote(FINISHED)} "$WORKDIR/outcome.json"; then exit 0; fi
if [ "$failed" -ne 0 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -ge {RESTARTS} ]; then exit "$failed"; fi
scontrol requeue "$SLURM_JOB_ID"
"""


def gpu(run: Run) -> str:
    """A script for machines with GPUs and Docker, without a scheduler; on several, it is started on each."""
    several = run.nodes > 1
    flags = ['--coordinator "$COORDINATOR"', f"--processes {run.nodes}", '--process "$PROCESS"'] if several else []
    who = ""
    if several:
        who = (
            f'PROCESS="${{1:?say which of the {run.nodes} machines this is: 0 to {run.nodes - 1}}}"\n'
            f'COORDINATOR="${{COORDINATOR:?set COORDINATOR to HOST:{PORT} of machine 0, on every machine}}"\n'
        )
    return f"""{head(run, run.nodes)}
# Needs: Docker with the NVIDIA container toolkit; the folders WORKDIR and RECORDS, on several machines shared by all.
WORKDIR={shlex.quote(run.workdir)}
RECORDS="${{RECORDS:-$PWD/records}}"
{who}mkdir -p "$WORKDIR"

# A container of an earlier start saves itself first. A failure starts the container again.
{{ docker stop {run.name} && docker rm {run.name}; }} >/dev/null 2>&1 || true
docker run --detach --name {run.name} --gpus all --network=host --ipc=host --ulimit nofile=65536:65536 \\
  --restart=on-failure:{RESTARTS} --stop-timeout={SAVING} \\
  --volume "$WORKDIR:$WORKDIR" --volume "$RECORDS:{RECORDS}:ro" --env JAX_COMPILATION_CACHE_DIR="$WORKDIR/cache" \\
  {shlex.quote(run.image)} {train_command(run, '"$WORKDIR"', *flags)}
docker logs --follow {run.name}
"""
