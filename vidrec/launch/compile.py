"""`vidrec compile`: the training and evaluation steps of a configuration, compiled for a slice that is not there.

The work is done in a process of its own (vidrec.launch.worker): compilers look at the environment once, and JAX must
start on the CPU.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ml_collections import FrozenConfigDict

from vidrec import config as configuration
from vidrec.errors import UsageError, VidrecError
from vidrec.launch.topology import ENVIRONMENT, parse

Tell = Callable[[str], None]


def compile_for(
    config: FrozenConfigDict,
    topology: str,
    *,
    batch: int | None = None,
    full: bool = False,
    find_batch: bool = False,
    train_only: bool = False,
    tell: Tell = lambda line: None,
) -> dict[str, Any]:
    """Compiles the steps; a report of plain values (see `text` of vidrec.launch.report).

    Args:
      config: as from vidrec.config.load, with model.num_classes.
      topology: name of a slice, such as v5e:16x16.
      batch: clips of the global batch; None takes the recipe's, or 8 clips a device if that does not split evenly.
      full: compiles as a run does, which takes several times as long; otherwise with the least optimisation. Memory
        then is a few per cent more; what collectives carry is the same.
      find_batch: also looks for the largest batch that fits.
      train_only: leaves out the evaluation step.
      tell: is told what is compiled next.

    Raises:
      UsageError: a topology or a setting that cannot be.
      VidrecError: the compiler is not installed, or the step does not fit.
    """
    parse(topology)
    if batch is not None and batch < 1:
        raise UsageError(f"--batch is {batch}, but must be at least 1")
    task = {"config": configuration.to_dict(config), "topology": topology, "batch": batch}
    return _elsewhere({**task, "find_batch": find_batch, "train_only": train_only, "full": full}, tell)


def _elsewhere(task: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """A worker's report; its lines are told, its errors raised."""
    environment = os.environ | ENVIRONMENT
    if not task["full"]:
        environment["JAX_OPTIMIZATION_LEVEL"] = "O0"
    with tempfile.TemporaryFile("w+") as noise:  # libtpu writes warnings that mean nothing here
        process = subprocess.Popen(
            [sys.executable, "-m", "vidrec.launch.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise, env=environment, text=True,
        )  # fmt: skip
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(task))
            process.stdin.close()
            said: dict[str, Any] = {}
            try:
                with still_running(tell):
                    for line in process.stdout:
                        said = json.loads(line)
                        if "now" in said:
                            tell(said["now"])
            except BaseException:
                process.kill()  # a compiler that nobody waits for would go on for minutes
                raise
        if "report" in said:
            return said["report"]
        if "error" in said:
            raise (UsageError if said["usage"] else VidrecError)(said["error"])
        noise.seek(0)
        reason = (noise.read().strip().splitlines() or [f"exit status {process.returncode}"])[-1]
        raise VidrecError(f"compiling for {task['topology']} ended without a result: {reason}")


@contextmanager
def still_running(tell: Tell, period: float = 60.0) -> Iterator[None]:
    """Tells every `period` seconds that what is done inside goes on: a compiler says nothing for minutes."""
    done = threading.Event()

    def remind() -> None:
        """What the other thread does."""
        seconds = 0.0
        while not done.wait(period):
            seconds += period
            tell(f"... {seconds / 60:.0f} min")

    thread = threading.Thread(target=remind, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
