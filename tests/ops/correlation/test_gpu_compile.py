"""Machine code of the GPU kernels, made without a GPU: that it can be, and what it takes of a multiprocessor."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest


def found(module):
    """Whether a module can be imported; without importing it, which would look for a GPU."""
    return all(importlib.util.find_spec(module.rsplit(".", n)[0]) for n in range(module.count("."), -1, -1))


PLUGIN = found("jax_plugins.xla_cuda13") and found("jax_cuda13_plugin")
pytestmark = [
    pytest.mark.skipif(not PLUGIN, reason="needs the wheels jax-cuda13-plugin and jax-cuda13-pjrt"),
    pytest.mark.skipif(not shutil.which("ptxas"), reason="needs ptxas, the CUDA toolkit's assembler"),
]
REPOSITORY = Path(__file__).parents[3]
MATCH = ["vidrec_match_forward", "vidrec_match_backward_by_f1", "vidrec_match_backward_by_f2"]
VOLUME = ["vidrec_volume_forward", "vidrec_volume_backward", "vidrec_volume_backward"]
REGISTERS = {"vidrec_match_forward": 65536 // (3 * 128)}  # of a thread, for three blocks on a multiprocessor
OF_TWO_BLOCKS = 208  # what the backward pass needs, and a little more


class Code(NamedTuple):
    """One kernel's machine code: registers per thread, bytes spilled to memory (stores and loads)."""

    kernel: str
    registers: int
    spilled: int


def compiled(*arguments):
    """What the assembler says of each kernel of an operation's forward and backward pass."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.ops.correlation.gpu_compile", *map(str, arguments)],
        check=False,
        cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "MOSAIC_GPU_DUMP_PTXAS": "1", "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    report = re.findall(
        r"entry function '(\w+)_mosaic_gpu_kernel' for 'sm_90a'.*?"
        r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers",
        done.stdout,
        re.DOTALL,
    )
    return [Code(name, int(registers), int(stores) + int(loads)) for name, stores, loads, registers in report]


@pytest.mark.parametrize(
    ("size", "patch", "channels"), [(28, 15, 64), (28, 29, 64), (56, 15, 64), (14, 15, 64), (7, 3, 256)]
)
def test_match_keeps_its_scores_in_registers(size, patch, channels):
    codes = compiled(size, size, patch, channels, "bfloat16", "match")
    assert sorted(code.kernel for code in codes) == sorted(MATCH), codes
    assert not any(code.spilled for code in codes), codes
    if channels == 64:
        assert all(code.registers <= REGISTERS.get(code.kernel, OF_TWO_BLOCKS) for code in codes), codes


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_volume_s_kernels_spill_nothing(dtype):
    codes = compiled(28, 28, 15, 64, dtype, "correlate")
    assert sorted(code.kernel for code in codes) == sorted(VOLUME), codes
    assert not any(code.spilled for code in codes), codes
