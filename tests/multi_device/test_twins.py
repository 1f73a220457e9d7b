"""Twins Training's correlation is that of the whole global batch, on any number of devices."""

import json
import os
import subprocess
import sys

import pytest

CHILD = """
import json
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from vidrec.losses.twins import twins_loss

results = []
for devices in (1, 4):
    split = NamedSharding(Mesh(jax.devices()[:devices], ("data",)), PartitionSpec("data"))
    views = [jax.device_put(view, split) for view in jax.random.normal(jax.random.key(0), (2, 16, 6))]
    for center in (False, True):
        loss, gradient = jax.jit(jax.value_and_grad(lambda a, b: twins_loss(a, b, center=center)))(*views)
        results.append([len(gradient.devices()), float(loss), jax.device_get(gradient).tolist()])
print(json.dumps(results))
"""


def test_loss_and_gradient_do_not_depend_on_the_number_of_devices():
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CHILD], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *one, four, four_centred = json.loads(done.stdout)
    for (devices, loss, gradient), (many, same_loss, same_gradient) in zip(one, (four, four_centred), strict=True):
        assert (devices, many) == (1, 4)
        assert same_loss == pytest.approx(loss, rel=1e-5)
        for row, same_row in zip(gradient, same_gradient, strict=True):
            assert same_row == pytest.approx(row, abs=1e-5)
