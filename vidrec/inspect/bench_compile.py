"""How long a configuration's steps take to compile on the devices that are here, and again from a filled cache.

Both times in a process of its own: what one process has traced and compiled it would not do a second time.
"""

import json
import os
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
from ml_collections import FrozenConfigDict

from vidrec import config as configuration
from vidrec.errors import UsageError, VidrecError
from vidrec.inspect.bench_beside import Tell, said_by
from vidrec.inspect.steps import program_for, trace_eval, trace_train
from vidrec.text import aligned
from vidrec.train.start import mesh_for

STAGES = ("trace_s", "lower_s", "compile_s")


def measure(config: FrozenConfigDict, tell: Tell = lambda line: None) -> dict[str, Any]:
    """Times tracing, lowering and compiling.

    Args:
      config: as from vidrec.config.load, with model.num_classes.

    Returns:
      `model`, `dtype`, `device`, `devices` and `rows`: of the training step, and after it of the step of evaluations,
      which predicts: `step`, `batch_size`, seconds of each of `STAGES`, `cached_s` (compiling with the cache that the
      first process filled), `stablehlo_lines` of what JAX hands to the compiler and `instructions` of what that makes
      of it; `cache_bytes`, the size of that cache.

    Raises:
      UsageError: a configuration that cannot be.
      VidrecError: compiling fails.
    """
    with tempfile.TemporaryDirectory(prefix="vidrec-bench-") as cache:
        tell("compiling with an empty cache")
        report = elsewhere(config, cache)
        size = sum(path.stat().st_size for path in Path(cache).rglob("*") if path.is_file())
        tell("compiling with a filled cache")
        again = elsewhere(config, cache)
    for row, cached in zip(report["rows"], again["rows"], strict=True):
        row["cached_s"] = cached["compile_s"]
    return {**report, "cache_bytes": size}


def elsewhere(config: FrozenConfigDict, cache: str) -> dict[str, Any]:
    """`account` by a process of its own, which reads and fills the persistent compilation cache in a folder."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_ENABLE_COMPILATION_CACHE": "1",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # a GPU may be in use by the process that asks
    }
    task = json.dumps(configuration.to_dict(config))
    said = json.loads(said_by(sys.executable, "-m", __name__, told=task, environment=environment))
    if "error" in said:
        raise (UsageError if said["usage"] else VidrecError)(said["error"])
    return said


def account(config: FrozenConfigDict) -> dict[str, Any]:
    """What one process finds."""
    mesh = mesh_for(config)
    program = program_for(config, mesh)
    steps = {"train": (trace_train, config.train.batch_size), "eval": (trace_eval, config.eval.batch_size)}
    rows = []
    for name, (trace, clips) in steps.items():
        moments = [time.perf_counter()]
        traced = trace(program, clips)
        moments.append(time.perf_counter())
        with jax.set_mesh(mesh):
            lowered = traced.lower()
            moments.append(time.perf_counter())
            compiled = lowered.compile()
        moments.append(time.perf_counter())
        spent = [after - before for before, after in pairwise(moments)]
        sizes = {"stablehlo_lines": len(lowered.as_text().splitlines()), "instructions": instructions(compiled)}
        rows.append({"step": name, "batch_size": clips, **dict(zip(STAGES, spent, strict=True)), **sizes})
    return {
        "model": config.model.name,
        "dtype": str(config.model.get("dtype", "float32")),
        "device": mesh.devices.flat[0].device_kind,
        "devices": mesh.size,
        "rows": rows,
    }


def instructions(compiled: Any) -> int:
    """Number of instructions of a compiled program, those inside of fusions included."""
    return sum(" = " in line for line in compiled.as_text().splitlines())


def text(report: dict[str, Any]) -> str:
    """The report for people."""
    head = ("", "clips", "trace s", "lower s", "compile s", "from cache s", "StableHLO lines", "instructions")
    rows = [
        (
            row["step"], str(row["batch_size"]), *(f"{row[stage]:.2f}" for stage in (*STAGES, "cached_s")),
            f"{row['stablehlo_lines']:,}", f"{row['instructions']:,}",
        )
        for row in report["rows"]
    ]  # fmt: skip
    return "\n".join(
        (
            f"{report['model']}, {report['dtype']}, on {report['devices']} x {report['device']}; "
            f"cache: {report['cache_bytes'] / 1e6:.1f} MB",
            aligned([head, *rows], left=1),
        )
    )


def main() -> None:
    """Reads a configuration on standard input, and says what was found."""
    try:
        found = account(configuration.from_dict(json.load(sys.stdin)))
    except VidrecError as error:
        found = {"error": str(error), "usage": isinstance(error, UsageError)}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
