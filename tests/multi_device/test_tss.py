"""TSS draws for each video of the whole global batch, on any number of devices."""

import json
import os
import subprocess
import sys

CHILD = """
import json
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from vidrec.models.ttsn import draw, sequences

def step(x, key):
    selected, channel = draw(key, "rr", len(x), x.shape[-1])
    return sequences(x, selected, channel), selected, channel

results = []
for devices in (1, 4):
    split = NamedSharding(Mesh(jax.devices()[:devices], ("data",)), PartitionSpec("data"))
    x = jax.device_put(jax.random.normal(jax.random.key(0), (16, 4, 6)), split)
    out = jax.jit(step)(x, jax.random.key(1))
    results.append([len(out[0].devices()), *(array.tolist() for array in out)])
print(json.dumps(results))
"""


def test_draws_do_not_depend_on_the_number_of_devices():
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CHILD], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (one, *results), (many, *same) = json.loads(done.stdout)
    assert (one, many) == (1, 4)
    assert results == same
    assert 2 < sum(results[1]) < 14
    assert len(set(results[2])) > 1
