#!/usr/bin/env bash
# Trains configs/tcm.py:ssv1 on v5e:4x4: 16 chips, 4 machines. Written by `vidrec launch`.
set -euo pipefail

# Needs: gcloud, logged in; a quota for the slice; the bucket (README.md beside this file says how to make it).
# The code is what is committed in this folder's repository; the bucket holds the records of the recipe in records/.
NAME=vidrec-tcm-ssv1
BUCKET=my-bucket
ZONE="${ZONE:?set ZONE to a zone that has the slice, such as us-west4-a}"
PROJECT="${PROJECT:-$(gcloud config get-value project)}"
WHERE=(--project="$PROJECT" --zone="$ZONE")

gcloud compute tpus tpu-vm create "$NAME" "${WHERE[@]}" \
  --accelerator-type=v5litepod-16 --version=v2-alpha-tpuv5-lite

everywhere() { gcloud compute tpus tpu-vm ssh "$NAME" "${WHERE[@]}" --worker=all --command="$1"; }

git archive --format=tar.gz --prefix=vidrec/ --output=vidrec.tar.gz HEAD
gcloud compute tpus tpu-vm scp vidrec.tar.gz "$NAME:" "${WHERE[@]}" --worker=all
everywhere 'set -e; tar xzf vidrec.tar.gz; cd vidrec; python3 -m pip install --user --quiet uv; PATH="$HOME/.local/bin:$PATH"; uv venv --clear --python 3.12 .venv; uv pip install ".[tpu,video,gcs]"'
everywhere "mkdir -p bucket; mountpoint -q bucket || gcsfuse --implicit-dirs $BUCKET bucket"
everywhere 'ln -sfn ../bucket/records vidrec/'

# On all hosts at once; they find each other by themselves.
everywhere 'cd vidrec; ulimit -n 65536; for try in $(seq 10); do env JAX_COMPILATION_CACHE_DIR=$HOME/bucket/runs/tcm/cache .venv/bin/vidrec train --config configs/tcm.py:ssv1 --workdir "$HOME/bucket/runs/tcm" && exit 0; sleep 10; done; exit 1'

echo 'Finished. The machines cost money until they are deleted:'
echo "  gcloud compute tpus tpu-vm delete \"$NAME\" \"${WHERE[@]}\""
