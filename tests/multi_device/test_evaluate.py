"""An evaluation is the same on one device, on three and on eight: every view of every video once, and no other."""

import os
import subprocess
import sys

CHILD = """
import sys
from collections import Counter

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec.config import base
from vidrec.data.clips import ClipSpec
from vidrec.data.records import open_records
from vidrec.eval.evaluate import each_batch, evaluate
from vidrec.eval.reordered import evaluate_reordered
from vidrec.train.sharding import make_mesh
from vidrec.types import ModelOutput


class Colours(nn.Module):
    num_frames: int = 4
    clip_length: int = 4

    def __call__(self, clips, *, train):
        self.sow("intermediates", "time_attention", clips[:, None, None, :, :4, 7, 0])
        # Single pixels, not means, whose sums devices may take in another order.
        return ModelOutput(clips[:, 2, 7, 6, :2] - clips[:, 0, 5, 9, 1:])


c = base()
c.data.update(records=sys.argv[1], eval_split="test", image_size=16, resize=(22,))
c.eval.update(batch_size=48, clips=2, crops=10)
source = open_records(sys.argv[1], "test")
assert len(source) == 12  # 120 views to cut: no whole number of batches, nor of devices

found = []
for devices in (1, 3, 8):
    c.mesh.data = devices
    config, mesh = FrozenConfigDict(c), make_mesh(c.mesh)
    assert mesh.size == devices
    with jax.set_mesh(mesh):
        seen = Counter()
        for batch, view in each_batch(source, ClipSpec.from_config(config, 4, 4), config, mesh, crops=5):
            assert len(batch.clips.sharding.device_set) == devices
            valid = np.asarray(batch.valid)
            seen.update(zip(np.asarray(batch.record)[valid].tolist(), view[valid].tolist(), strict=True))
        assert seen == Counter((record, view) for record in range(12) for view in range(10))
        whole = evaluate(Colours(), {}, source, config, mesh)
        reordered = evaluate_reordered(Colours(), {}, source, config, mesh)
    assert whole.logits.shape == (12, 20, 2)
    assert len({row.tobytes() for row in whole.logits.reshape(-1, 2)}) > 200  # views that differ
    found.append([whole.logits, whole.scores, reordered.attention, reordered.orders])
    found[-1] += [evaluation.scores for evaluation in reordered.evaluations.values()]
for others in found[1:]:
    for one, other in zip(found[0], others, strict=True):
        np.testing.assert_array_equal(one, other)
print("the same")
"""


def test_any_number_of_devices_gives_the_same(records):
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CHILD, records], env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "the same\n", done.stderr
