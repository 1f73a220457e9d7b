#!/usr/bin/env bash
# On a machine with a Hopper GPU, in less than ten minutes: the tests of the correlation's kernels on the GPU, and a
# little of every benchmark that uses it. What fails or takes too long does not stop the rest, but tells at the end.
#
#   PYTHON=python TORCH_PYTHON= OUT=experiments/benchmarks/results bash experiments/benchmarks/gpu.sh
#
# PYTHON has JAX's CUDA version and vidrec's dependencies; TORCH_PYTHON, if given, has PyTorch's.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

PYTHON="${PYTHON:-python}"
OUT="${OUT:-experiments/benchmarks/results}"
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
