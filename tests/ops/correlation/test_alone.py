"""The folder can be used where there is jax and nothing else of the stack."""

import subprocess
import sys

CHILD = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("jaxtyping", "flax", "optax", "orbax", "grain", "ml_collections", "absl"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import jax.numpy as jnp
from vidrec.ops.correlation import bench, gpu, match, static, tpu

f = jnp.ones((1, 4, 4, 2))
print(match(f, f, patch=3)[1].shape)
loaded = {name for name in sys.modules if name.startswith("vidrec")}
print(sorted(name for name in loaded if not name.startswith("vidrec.ops.correlation")))
"""


def test_jax_and_numpy_are_enough():
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == ["(1, 4, 4)", "['vidrec', 'vidrec.ops']"]
