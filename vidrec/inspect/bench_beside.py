"""What benchmarks beside PyTorch have in common: which networks it has, the turns of both sides, and what counts.

`torch_networks` is what PyTorch's side runs, by an interpreter of its own.
"""

import importlib.util
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import FrozenConfigDict

from vidrec.errors import UsageError, VidrecError
from vidrec.inspect.peaks import peak_of

Tell = Callable[[str], None]

PEERS = re.compile(r"(tsn|tsm|stm)_resnet(50|101)")
TORCH_NETWORKS = str(Path(__file__).with_name("torch_networks.py"))  # not imported: it needs PyTorch
WARM_UP = 2  # steps before those that count


def without_network(config: FrozenConfigDict) -> str:
    """Why PyTorch's side has no such network, in a clause; "" if it has."""
    if PEERS.fullmatch(config.model.name):
        return ""
    return f"there is no {config.model.name} in PyTorch here, only tsn, tsm and stm on resnet50 and resnet101"


def with_torch(named: str) -> str:
    """The interpreter that is named, or else this one if it has PyTorch, or else ""."""
    return named or (sys.executable if importlib.util.find_spec("torch") else "")


def find_peer(lacking: str, named: str) -> tuple[str, str]:
    """The interpreter of PyTorch's side, or why there is none; the other is "".

    Args:
      lacking: why PyTorch's side cannot run what is measured; "" if it can.
      named: the interpreter that was asked for, "" for this one if it has PyTorch.

    Raises:
      UsageError: an interpreter is named, and there is nothing to run.
    """
    if lacking and named:
        raise UsageError(f"--torch-python has nothing to run: {lacking}")
    if lacking:
        return "", lacking
    python = with_torch(named)
    return python, "" if python else "this Python has no PyTorch; name one by --torch-python"


def network_task(config: FrozenConfigDict, batch_size: int, size: tuple[int, int]) -> dict[str, Any]:
    """What PyTorch's side is told of a network and its clips, whose pictures have a size (height, width)."""
    model = config.model
    return {
        "network": model.name, "classes": model.num_classes, "frames": model.num_frames, "dropout": model.dropout,
        "dtype": str(model.dtype), "size": size, "batch_size": batch_size,
    }  # fmt: skip


def in_turns(
    own: Callable[[], float], steps: int, rounds: int, python: str, task: Mapping[str, Any], tell: Tell
) -> tuple[list[float], list[dict[str, Any]]]:
    """Seconds of all steps of vidrec, and in each round what PyTorch's side said.

    Args:
      own: takes a step; returns its seconds.
      steps: of each side in a round.
      python: interpreter of PyTorch's side; with "" it has no turns.
      task: what it is told (`torch_networks.run`), but for the steps.
    """
    ours: list[float] = []
    theirs: list[dict[str, Any]] = []
    told = json.dumps({**task, "warmup": WARM_UP, "steps": steps})
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        ours += [own() for _ in range(steps)]
        if python:
            theirs.append(json.loads(said_by(python, TORCH_NETWORKS, told=told)))
    return ours, theirs


def peer_row(own: int, found: Sequence[dict[str, Any]], clips: int, flops: int, most: float | None) -> dict[str, Any]:
    """The row of PyTorch's side, as `row` makes it.

    Args:
      own: number of trained values of vidrec's network.
      found: what PyTorch's side said in each round.

    Raises:
      VidrecError: the networks have not as many parameters.
    """
    other = found[0]["parameters"]
    if own != other:
        raise VidrecError(
            f"the network in PyTorch has {other:,} parameters, and this one {own:,}: the recipe sets fields that "
            "it does not have, so that they cannot be compared"
        )
    seconds = [one for said in found for one in said["seconds"]]
    return row(f"PyTorch {found[0]['torch']}", seconds, clips, flops, most)


def row(name: str, seconds: Sequence[float], clips: int, flops: int, most: float | None) -> dict[str, Any]:
    """One side's result, by the median.

    Args:
      seconds: of each step.
      clips, flops: of one step.
      most: operations per second that the devices can do; None where that is not known.
    """
    median = statistics.median(seconds)
    mfu = flops / (median * most) if most else None
    return {"name": name, "clips_per_second": clips / median, "ms": median * 1000, "mfu": mfu}


def limit(devices: Sequence[Any]) -> float | None:
    """Operations per second that devices of one kind can do together; None where that is not known."""
    peak = peak_of(devices[0])
    return peak.flops * len(devices) if peak else None


def said_by(python: str, *arguments: str, told: str = "", environment: Mapping[str, str] | None = None) -> str:
    """What a program of Python prints; `told` is its standard input.

    Args:
      environment: its variables; None takes those of this process.

    Raises:
      VidrecError: there is no such interpreter, or the program fails.
    """
    try:
        done = subprocess.run(
            [python, *arguments], input=told, capture_output=True, text=True, check=False, env=environment
        )
    except OSError as error:
        raise VidrecError(f"{python} cannot be run ({error.strerror}); name a Python interpreter") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise VidrecError(f"the measurement by {python} failed: {reason}")
    return done.stdout
