#!/usr/bin/env bash
# On a machine with a Hopper GPU, in less than ten minutes: the tests of the correlation's kernels on the GPU, and a
# little of every benchmark that uses it. What fails or takes too long does not stop the rest, but tells at the end.
#
#   PYTHON=python TORCH_PYTHON= OUT= bash experiments/benchmarks/gpu.sh
#
# PYTHON has vidrec's dependencies with the extras `cuda` (JAX for NVIDIA's GPUs) and `video`, and for the tests pytest
# and hypothesis, of which pyproject.toml names a profile. TORCH_PYTHON, if given, has PyTorch, Pillow and numpy.
# OUT is the folder of the tables, without it `results` beside this script.
set -uo pipefail

# Paths are from where this is started. Links are not followed: by its link an interpreter knows its environment.
PYTHON="${PYTHON:-python}" TORCH_PYTHON="${TORCH_PYTHON:-}" OUT="${OUT:-}"
[[ "$PYTHON" == [!/]*/* ]] && PYTHON="$PWD/$PYTHON" # without "/" it is a command
[[ "$TORCH_PYTHON" == [!/]*/* ]] && TORCH_PYTHON="$PWD/$TORCH_PYTHON"
[[ "$OUT" == [!/]* ]] && OUT="$PWD/$OUT"
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
OUT="${OUT:-$PWD/experiments/benchmarks/results}"
export JAX_PLATFORMS=cuda XLA_PYTHON_CLIENT_PREALLOCATE=false
mkdir -p "$OUT"
failed=()

# bounded NAME SECONDS COMMAND...: runs a command for so long at most.
bounded() {
  local name="$1" seconds="$2"
  shift 2
  echo "== $name" >&2
  timeout --kill-after=5 "$seconds" "$@" || failed+=("$name ($?)")
}

# part NAME SECONDS: a part of the benchmarks.
part() {
  bounded "$1" "$2" "$PYTHON" -m experiments.benchmarks.run --quick --only "$1" --out "$OUT" \
    ${TORCH_PYTHON:+--torch-python "$TORCH_PYTHON"}
}

bounded tests 130 "$PYTHON" -m pytest --noconftest -p no:cacheprovider -m "" -q tests/ops/correlation/test_gpu.py
part correlation 90
part step 150
part predict 90
part compile 90
bounded pictures 20 "$PYTHON" -m experiments.benchmarks.run --pictures --out "$OUT"

if ((${#failed[@]})); then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
