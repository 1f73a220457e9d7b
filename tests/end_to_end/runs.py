"""Starts training in a process of its own, ends it at a chosen step, and compares what two runs left behind."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from vidrec import config as configuration
from vidrec.data.records import open_records
from vidrec.eval.evaluate import make_evaluator
from vidrec.eval.predict import load
from vidrec.train.loop import Outcome, train
from vidrec.train.report import read_metrics

# argv: statement, step, command line: `vidrec` in which the statement is executed when that step is dispatched. With
# the variable CLIPS_SEEN, a line "step row record digest" is added to that file for each clip this process trains on.
CHILD = """
import hashlib, os, sys
import numpy as np
from vidrec.train import program

statement, at, make = sys.argv[1], int(sys.argv[2]), program.make_train_step

def disturbed(*args, **options):
    train_step = make(*args, **options)
    def run(state, batch):
        if statement and int(state.step) == at:
            exec(statement)
        if "CLIPS_SEEN" in os.environ:
            tell(int(state.step), batch)
        return train_step(state, batch)
    run.lower = train_step.lower
    return run

def tell(step, batch):
    with open(os.environ["CLIPS_SEEN"], "a") as file:
        for clips, records in zip(batch.clips.addressable_shards, batch.record.addressable_shards, strict=True):
            rows = zip(np.asarray(records.data), np.asarray(clips.data), strict=True)
            for row, (record, clip) in enumerate(rows, start=clips.index[0].start or 0):
                file.write(f"{step} {row} {record} {hashlib.sha256(clip.tobytes()).hexdigest()}\\n")

program.make_train_step = disturbed
if __name__ == "__main__":
    from vidrec.cli import main
    sys.exit(main(sys.argv[3:]))
"""


def straight(config, workdir) -> Outcome:
    """Trains in this process."""
    return train(config, workdir, make_evaluator)


def signalled(number: int) -> str:
    """A statement: the process sends itself a signal."""
    return f"import os; os.kill(os.getpid(), {int(number)})"


def recipe(config, folder: Path) -> Path:
    """Writes a configuration as a file for `--config`."""
    path = folder / "recipe.py"
    path.write_text(
        "import json\nfrom ml_collections import ConfigDict\nfrom vidrec.config import from_dict\n"
        f"def get_config(arg=None):\n"
        f"    return ConfigDict(from_dict(json.loads({json.dumps(configuration.to_dict(config))!r})))\n"
    )
    return path


def start(config, workdir, **options) -> subprocess.Popen:
    """Trains in a process of its own; options as of `command`."""
    return command("train", "--config", recipe(config, Path(workdir).parent), "--workdir", workdir, **options)


def command(*arguments, do="", at=0, devices=1, hosts=(), clips_seen=None, folder=None) -> subprocess.Popen:
    """Starts a command line of vidrec.

    Args:
      do: a statement that is executed before step `at`.
      devices: of the process.
      hosts: (address, number of processes, number of this one).
      folder: where the process works; its modules can be imported.
      clips_seen: a file to which a line is added for each clip that the process trains on.
    """
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    env |= {} if clips_seen is None else {"CLIPS_SEEN": str(clips_seen)}
    flags = ("--coordinator", "--processes", "--process")[: len(hosts)]
    together = (f"{flag}={value}" for flag, value in zip(flags, hosts, strict=True))
    disturbed = do or clips_seen is not None
    program = ("-c", CHILD, do, str(at)) if disturbed else ("-m", "vidrec")
    line = [sys.executable, *program, *map(str, arguments), *together]
    return subprocess.Popen(line, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def free_address() -> str:
    """An address at which processes of this machine can meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def finish(process: subprocess.Popen) -> int:
    """Waits for the process; gives its exit status."""
    process.output, process.errors = process.communicate(timeout=300)
    return process.returncode


def damage(folder: Path, split: str, numbers) -> None:
    """Flips a byte in each frame of some records of a folder."""
    source = open_records(folder, split)
    for number in numbers:
        for frame in source.read_frames(number, range(source.num_frames[number])):
            for shard in folder.glob(f"*-{split}.tfrecord*"):
                content = bytearray(shard.read_bytes())
                if (place := content.find(frame)) >= 0:
                    content[place + len(frame) // 2] ^= 1
                    shard.write_bytes(content)


def rows(workdir) -> list[dict]:
    """Metrics that a repeated run repeats: all but speeds."""
    return [row for row in read_metrics(Path(workdir) / "metrics.jsonl") if row["kind"] != "speed"]


def parameters(workdir) -> dict:
    """Parameters and running statistics of the newest checkpoint."""
    return jax.tree.map(np.asarray, load(workdir).variables)


def assert_same_run(a, b) -> None:
    """Bit-identical parameters, statistics and metrics."""
    assert rows(a) == rows(b)
    jax.tree.map(np.testing.assert_array_equal, parameters(a), parameters(b))


def assert_close_run(a, b) -> None:
    """The same to float tolerance: the order of sums differs with the number of devices."""
    for one, other in zip(rows(a), rows(b), strict=True):
        assert {k: one[k] for k in ("kind", "step")} == {k: other[k] for k in ("kind", "step")}
        for name in ("loss", "grad_norm", "top1", "mean_class", "videos"):
            np.testing.assert_allclose(one.get(name, 0), other.get(name, 0), rtol=2e-3, atol=1e-4, err_msg=name)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-4), parameters(a), parameters(b))
