"""An evaluation is the same on one device, on three and on eight: every view of every video once, and no other."""

import os
import subprocess
import sys
from pathlib import Path

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
from tests.eval.recognizers import drawn
from vidrec.eval.evaluate import each_batch, evaluate
from vidrec.eval.reordered import evaluate_reordered
from vidrec.models.registry import create_model
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

model = create_model(
    "stm_resnet18", num_classes=2, num_frames=4, stem="small", stem_width=8, widths=(8,), stage_sizes=(1,),
    strides=(2,), reduction=4,
)
variables = drawn(model, 16)
c.eval.update(clips=1, crops=3)


def evaluated(devices, clips_each):
    c.mesh.data, c.eval.batch_size = devices, devices * clips_each
    config, mesh = FrozenConfigDict(c), make_mesh(c.mesh)
    with jax.set_mesh(mesh):
        return evaluate(model, variables, source, config, mesh)


one = evaluated(1, 3)
assert np.ptp(one.logits, axis=0).max() > 0.1
for devices in (3, 8):
    np.testing.assert_array_equal(evaluated(devices, 3).logits, one.logits)
other = evaluated(1, 24)  # the same batch as on eight devices: sums in another order
np.testing.assert_allclose(other.logits, one.logits, atol=1e-5)
assert other.metrics() == one.metrics()
print("a real network, too")
"""


def test_any_number_of_devices_gives_the_same(records):
    """Pixels always; a real network's scores to the last bit where each device gets as many clips at once."""
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu", "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", CHILD, records], env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "the same\na real network, too\n", done.stderr
