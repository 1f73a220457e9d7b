#!/usr/bin/env bash
# Trains configs/tcm.py:ssv1 on h200:8: 8 GPUs, machines: 1. Written by `vidrec launch`.
# shellcheck disable=SC2016  # what stands in single quotes is for another shell to expand
set -euo pipefail

# Needs: Docker with the NVIDIA container toolkit; the folders WORKDIR and RECORDS, on several machines shared by all.
WORKDIR=/data/runs/tcm
RECORDS="${RECORDS:-$PWD/records}"
mkdir -p "$WORKDIR"

# A container of an earlier start saves itself first. A failure starts the container again.
{ docker stop vidrec-tcm-ssv1 && docker rm vidrec-tcm-ssv1; } >/dev/null 2>&1 || true
docker run --detach --name vidrec-tcm-ssv1 --gpus all --network=host --ipc=host --ulimit nofile=65536:65536 \
  --restart=on-failure:10 --stop-timeout=300 \
  --volume "$WORKDIR:$WORKDIR" --volume "$RECORDS:/vidrec/records:ro" --env JAX_COMPILATION_CACHE_DIR="$WORKDIR/cache" \
  vidrec:1 vidrec train --config configs/tcm.py:ssv1 --workdir "$WORKDIR"
docker logs --follow vidrec-tcm-ssv1
