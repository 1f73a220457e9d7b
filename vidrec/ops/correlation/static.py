"""What TPUs would spend by their compiler's own account, on a machine without one.

The compiler counts the bytes that a program reads and writes; of a kernel it only knows what its author says, which is
the arrays that go in and come out. It also writes down its final schedules. A schedule's bundles are the cycles it
takes to issue it without stalls: bundles per tile of 128 queries, loops counted as often as they run, compare kernels
with each other. They are not a time: memory and stalls are not in them.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from vidrec.ops.correlation.bench import PASSES, Setting, aligned, check, differentiated, draw

CHIPS = {"v4": "v4:1x1x1", "v5e": "v5e:1x1", "v5p": "v5p:1x1x1", "v6e": "v6e:1x1", "tpu7x": "tpu7x:1x1x1"}
KERNELS = ("vidrec_match_forward", "vidrec_match_backward", "vidrec_volume_forward", "vidrec_volume_backward")
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",  # do not look for a TPU machine's description of itself
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_ENABLE_COMPILATION_CACHE": "0",  # a program from the cache writes no schedule
}


def account(
    pairs: int = 56,
    *,
    size: int = 28,
    channels: int = 64,
    patch: int = 15,
    dtype: str = "bfloat16",
    chips: Sequence[str] = tuple(CHIPS),
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compiles the kernels and the plain forms for each chip; a report of plain values.

    Args:
      pairs, size, channels, patch, dtype: see `bench.Setting`; the maps are taken as normalised already.
      chips: names of `CHIPS`.
      progress: is told what is compiled next.

    Raises:
      ValueError: an unknown chip, a setting that cannot be, or no TPU compiler is installed.
    """
    if unknown := [chip for chip in chips if chip not in CHIPS]:
        raise ValueError(f"{unknown[0]!r} is not one of {', '.join(CHIPS)}")
    setting = Setting(pairs, size, channels, patch, dtype)
    check(setting)
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError("the TPU compiler is not installed: pip install libtpu, or make libtpu (about 200 MB)")
    report = {"setting": setting._asdict(), "chips": {}}
    for chip in chips:
        progress(f"compiling for {chip}")
        with tempfile.TemporaryDirectory() as folder:  # some 200 MB
            programs = compile_elsewhere(chip, ("pallas_tpu",), setting, Path(folder))
            bundles = {name: per_tile(name, text, setting) for name, text in schedules(Path(folder)).items()}
        programs += compile_elsewhere(chip, ("dense", "gather"), setting, None)
        report["chips"][chip] = {"programs": compared(programs), "bundles_per_tile": bundles}
    return report


def compared(programs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Programs with their bytes in those of the kernels for the same operation and pass."""
    kernels = {(p["operation"], p["pass"]): p["bytes"] for p in programs if p["implementation"] == "pallas_tpu"}
    return [{**p, "bytes_to_kernel": p["bytes"] / kernels[p["operation"], p["pass"]]} for p in programs]


# Compiling, in a process of its own: the compiler reads its settings once


def compile_elsewhere(
    chip: str, implementations: Sequence[str], setting: Setting, dump: Path | None
) -> list[dict[str, Any]]:
    """`programs` in a process of its own; the schedules of everything it compiles are written to `dump`."""
    flags = f"--xla_jf_dump_to={dump} --xla_jf_dump_llo_text=true" if dump else ""
    done = subprocess.run(
        [sys.executable, "-m", "vidrec.ops.correlation.static", json.dumps([chip, implementations, setting])],
        env=os.environ | ENVIRONMENT | {"LIBTPU_INIT_ARGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{', '.join(implementations)} did not compile for {chip}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def programs(chip: str, implementations: Sequence[str], setting: Setting) -> list[dict[str, Any]]:
    """Compiles each operation, forward and with its gradients; bytes read and written, and temporary memory."""
    devices = topologies.get_topology_desc(platform="tpu", topology_name=CHIPS[chip]).devices
    mesh = jax.sharding.Mesh(devices[:1], ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    key = jax.random.key(0)
    found = []
    for operation in ("match", "correlate"):
        shapes = jax.eval_shape(partial(draw, setting, operation), key)
        whole = jax.NamedSharding(mesh, jax.P())
        arrays = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole) for x in shapes]
        for direction in PASSES:
            for name in implementations:
                run = partial(differentiated, operation, direction, setting.patch, name)
                with jax.set_mesh(mesh):
                    program = jax.jit(run).lower(*arrays).compile()
                cost: Any = program.cost_analysis()
                memory: Any = program.memory_analysis()
                found.append(
                    {
                        "operation": operation,
                        "pass": direction,
                        "implementation": name,
                        "bytes": int(cost["bytes accessed"]),
                        "flops": int(cost["flops"]),
                        "temp_bytes": memory.temp_size_in_bytes,
                    }
                )
    return found


# Reading schedules

# "0x1fa LB: >> { instructions }": address, a mark where control may come in, an angle bracket per loop around it
BUNDLE = re.compile(r"^ *(?:0x)?[0-9a-f]+ +(?:[A-Z]{2})? *: *(>*) *\{", re.MULTILINE)


def schedules(folder: Path) -> dict[str, str]:
    """The text of each kernel's final schedule."""
    paths = [path for path in sorted(folder.glob("*final_bundles.txt")) if "schedule-analysis" not in path.name]
    return {name: path.read_text() for name in KERNELS for path in paths if name in path.name}


def per_tile(kernel: str, schedule: str, setting: Setting) -> float:
    """Bundles per tile: the outer loop is over the steps of a pair, the inner one over a step's tiles.

    What a step does only at a pair's beginning and end counts in every step.
    """
    from vidrec.ops.correlation import tpu

    bundles = Counter(len(brackets) for brackets in BUNDLE.findall(schedule))  # by the number of loops around them
    call = tpu.CALLS[kernel]((setting.size, setting.size, setting.channels), setting.patch, setting.dtype)
    return bundles[2] + bundles[1] / call.per_step


def text(report: dict[str, Any]) -> str:
    """The report as aligned lines."""
    setting = Setting(**report["setting"])
    lines = [("", "", "", "", "MB", "x kernel's", "temp MB")]
    schedule = [("", "bundles of a tile")]
    for chip, found in report["chips"].items():
        for row in found["programs"]:
            lines.append(
                (
                    chip, row["operation"], row["pass"], row["implementation"], f"{row['bytes'] / 1e6:.1f}",
                    f"{row['bytes_to_kernel']:.1f}", f"{row['temp_bytes'] / 1e6:.1f}",
                )
            )  # fmt: skip
        shown = (f"{name.removeprefix('vidrec_')} {bundles:.0f}" for name, bundles in found["bundles_per_tile"].items())
        schedule.append((chip, ", ".join(shown)))
    head = (
        f"By the TPU compiler's account, none was run: {setting.pairs} pairs of {setting.size} x {setting.size} x "
        f"{setting.channels} {setting.dtype}, patch {setting.patch}; of a kernel, the arrays that go in and out."
    )
    return f"{head}\n{aligned(lines, left=4)}\n\n{aligned(schedule, left=2)}"


if __name__ == "__main__":
    given_chip, names, numbers = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(programs(given_chip, names, Setting(*numbers))) + "\n")
