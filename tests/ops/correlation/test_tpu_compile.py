"""The TPU kernels compile for every chip they are made for. No chip is needed, only its compiler."""

import importlib.util
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from vidrec.ops.correlation.static import CHIPS, ENVIRONMENT, KERNELS

ROOT = Path(__file__).parents[3]
SHAPES = {"usual": ((2, 28, 28, 64), 15), "odd": ((2, 13, 17, 6), 7), "largest": ((1, 20, 128, 64), 15)}
OPERATIONS = ("match", "volume")
PROGRAMS = [
    *product(CHIPS, ("usual", "odd"), ("bfloat16", "float32"), OPERATIONS),
    *product(["v4"], ["largest"], ["float32"], OPERATIONS),  # no row more is supported, and v4 has the least memory
]


def compiled_kernels(chip, shape, patch, dtype, operation):
    """Names of our kernels in the program of an operation and its gradients."""
    import jax
    import jax.numpy as jnp
    from jax.experimental import topologies

    from vidrec.ops.correlation import tpu

    devices = topologies.get_topology_desc(platform="tpu", topology_name=CHIPS[chip]).devices
    mesh = jax.sharding.Mesh(devices[:1], ("pair",), axis_types=(jax.sharding.AxisType.Auto,))

    def run(f1, f2):
        if operation == "match":
            settings = {"sigma": 5.0, "tau": 0.01, "amplitude": 1.0, "relu": True}
            values, pullback = jax.vjp(lambda *f: tpu.match(*f, patch=patch, **settings), f1, f2)
        else:
            values, pullback = jax.vjp(lambda *f: tpu.correlate(*f, patch=patch), f1, f2)
        return values, pullback(jax.tree.map(jnp.sin, values))

    maps = jax.ShapeDtypeStruct(shape, dtype, sharding=jax.NamedSharding(mesh, jax.P()))
    with jax.set_mesh(mesh):
        text = jax.jit(run).lower(maps, maps).compile().as_text()
    return [name for name in KERNELS if name in text]


def compile_everything():
    """Writes a line of JSON for each program: what it is of, and the kernels in it."""
    for chip, size, dtype, operation in PROGRAMS:
        found = compiled_kernels(chip, *SHAPES[size], dtype, operation)
        sys.stdout.write(json.dumps([chip, size, dtype, operation, found]) + "\n")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu, the TPUs' compiler: vidrec[tpu]")
def test_the_kernels_compile_for_every_chip():
    """In a process of its own: the compiler reads the environment once, before jax starts."""
    command = f"from {__name__} import compile_everything as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", command],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    programs = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert [tuple(program[:4]) for program in programs] == PROGRAMS
    for *_, operation, found in programs:
        assert found == [f"vidrec_{operation}_forward", f"vidrec_{operation}_backward"]
