#!/usr/bin/env bash
# Trains configs/tcm.py:ssv1 on v5e:16x16: 256 chips, machines: 64. Written by `vidrec launch`.
# shellcheck disable=SC2016  # what stands in single quotes is for another shell to expand
set -euo pipefail

# Needs: gcloud, logged in; a quota for the slice; the bucket (experiments/launch/README.md says how to make it).
# The code is what is committed in this folder's repository; the bucket holds the records of the recipe in records/.
# This script follows the run and starts it again, so let it stand where it can stay: in tmux, on a machine that is on.
NAME=vidrec-tcm-ssv1
BUCKET=my-bucket
ZONE="${ZONE:?set ZONE to a zone that has the slice, such as us-west4-a}"
PROJECT="${PROJECT:-$(gcloud config get-value project)}"
WHERE=(--project="$PROJECT" --zone="$ZONE")

slice() { gcloud compute tpus queued-resources "$1" "$NAME" "${WHERE[@]}" "${@:2}"; }
everywhere() { gcloud compute tpus tpu-vm ssh "$NAME" "${WHERE[@]}" --worker=all --command="$1"; }

# Makes the slice, or waits for it; one that was taken away is given back first.
obtain() {
  local state
  while state="$(slice describe --format='value(state.state)' 2>/dev/null || true)"; [ "$state" != ACTIVE ]; do
    case "$state" in
      '') slice create --node-id="$NAME" --accelerator-type=v5litepod-256 --runtime-version=v2-alpha-tpuv5-lite --spot || return 1 ;;
      SUSPENDED) slice delete --quiet --force || return 1 ;;
      FAILED) slice delete --quiet --force; return 1 ;;
      *) sleep 60 ;;
    esac
  done
}

# What an earlier start left running saves itself and ends. Then on all hosts at once; they find each other.
train() {
  obtain &&
    everywhere 'p="bin/[v]idrec train"; pkill -TERM -f "$p"; while pgrep -f "$p" >/dev/null; do sleep 1; done' &&
    git archive --format=tar.gz --prefix=vidrec/ --output=vidrec.tar.gz HEAD &&
    gcloud compute tpus tpu-vm scp vidrec.tar.gz "$NAME:" "${WHERE[@]}" --worker=all &&
    everywhere 'set -e; tar xzf vidrec.tar.gz; cd vidrec; python3 -m pip install --user --quiet uv; PATH="$HOME/.local/bin:$PATH"; uv venv --clear --python 3.12 .venv; uv pip install --require-hashes -r requirements.lock; uv pip install --no-deps --no-build-isolation .; uv pip install libtpu==0.0.51 gcsfs' &&
    everywhere "mkdir -p bucket; mountpoint -q bucket || gcsfuse --implicit-dirs $BUCKET bucket" &&
    everywhere 'ln -sfn ../bucket/records vidrec/' &&
    everywhere 'cd vidrec; ulimit -n 65536; env JAX_COMPILATION_CACHE_DIR=$HOME/bucket/runs/tcm/cache .venv/bin/vidrec train --config configs/tcm.py:ssv1 --config.train.batch_size=2048 --config.eval.batch_size=2048 --workdir "$HOME/bucket/runs/tcm" --json'
}

for ((try = 1; try <= 10; try++)); do
  train | tee "$NAME.out" || true
  if grep -q '"finished": true' "$NAME.out"; then
    echo "Finished. The machines cost money until they are deleted:"
    echo "  gcloud compute tpus queued-resources delete $NAME ${WHERE[*]} --force"
    exit 0
  fi
  sleep 60
done
echo "Not finished after 10 tries; the machines cost money until they are deleted." >&2
exit 1
