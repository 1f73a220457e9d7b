#!/usr/bin/env bash
#SBATCH --job-name=vidrec-tcm-ssv1
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=vidrec-tcm-ssv1-%j.log
# Trains configs/tcm.py:ssv1 on h200:8: 16 GPUs, machines: 2. Written by `vidrec launch`.
# shellcheck disable=SC2016  # what stands in single quotes is for another shell to expand
set -euo pipefail

# Needs: an environment with vidrec and jax[cuda13] that is active where this is submitted; a shared file system.
WORKDIR=runs/tcm
mkdir -p "$WORKDIR"
ulimit -n 65536 2>/dev/null || true
export WORKDIR JAX_COMPILATION_CACHE_DIR="$WORKDIR/cache"
read -r FIRST < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export COORDINATOR="$FIRST:8476"

failed=0
srun --kill-on-bad-exit=1 --cpu-bind=none bash -c 'vidrec train --config configs/tcm.py:ssv1 --workdir "$WORKDIR" --json --coordinator "$COORDINATOR" --processes "$SLURM_NNODES" --process "$SLURM_PROCID"' >"$WORKDIR/outcome.json" || failed=$?
# Told to stop before its time is over, the run saves itself and says that it is not finished.
if grep -q '"finished": true' "$WORKDIR/outcome.json"; then exit 0; fi
if [ "$failed" -ne 0 ] && [ "${SLURM_RESTART_COUNT:-0}" -ge 10 ]; then exit "$failed"; fi
scontrol requeue "$SLURM_JOB_ID"
