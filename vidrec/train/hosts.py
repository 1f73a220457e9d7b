"""Several processes of one run agree on what they do before they do it."""

import json
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vidrec.config import differences
from vidrec.errors import UsageError, VidrecError

_SIZE = 1 << 16  # bytes that each process hands round
# Where a host reads from, and with how many hands, is its own affair: the digest says whether the data is the same.
_OWN = ("config.data.records", "config.data.workers", "config.data.threads")


def name() -> str:
    """This process, as messages name it."""
    return f"process {jax.process_index()} of {jax.process_count()} (on {socket.gethostname()})"


def from_lead(value: Any) -> Any:
    """The JSON value that process 0 has; the others' is not looked at."""
    return value if jax.process_count() == 1 else gather(value)[0]


@contextmanager
def failing_together() -> Iterator[None]:
    """Before `agree`: what goes wrong inside on one process ends the others too, with its sentence, at `agree`."""
    try:
        yield
    except VidrecError as error:
        if jax.process_count() > 1:
            gather({"host": socket.gethostname(), "error": str(error)})
        raise


def agree(entry: dict[str, Any]) -> list[str]:
    """Compares what the processes of a run are about to do; all of them must call it.

    Args:
      entry: of this process, as from vidrec.train.card.describe.

    Returns:
      The names of the machines, by number of the process.

    Raises:
      UsageError: on every process alike, if configuration, data, labels, versions or devices are not the same on all,
        or one of them failed before.
    """
    entries = [entry] if jax.process_count() == 1 else gather(entry)
    for number, other in enumerate(entries):
        if "error" in other:
            raise UsageError(f"process {number} (on {other['host']}) could not start: {other['error']}")
    if found := disagreement(entries):
        raise UsageError(found)
    return [each["host"] for each in entries]


def disagreement(entries: list[dict[str, Any]]) -> str:
    """A sentence that says which processes differ from process 0 and in what, or ""."""
    told: dict[str, list[int]] = {}
    for number, other in enumerate(entries):
        lines = differences(_common(entries[0]), _common(other))
        if lines:
            told.setdefault("; ".join(lines), []).append(number)
    if not told:
        return ""
    parts = [
        f"{'processes' if len(numbers) > 1 else 'process'} {', '.join(map(str, numbers))} "
        f"(on {', '.join(dict.fromkeys(entries[number]['host'] for number in numbers))}): {lines}"
        for lines, numbers in told.items()
    ]
    return (
        f"the processes of this run do not agree; process 0 (on {entries[0]['host']}) -> {' | '.join(parts)}; "
        "start all of them with the same command, records, versions and number of devices"
    )


def _common(entry: dict[str, Any]) -> dict[str, Any]:
    """What must be the same on all processes."""
    names = ("data", "labels", "versions", "devices")
    config = {
        section: {key: value for key, value in fields.items() if f"config.{section}.{key}" not in _OWN}
        if isinstance(fields, dict)
        else fields
        for section, fields in entry["config"].items()
    }
    return {**config, **{f"({name})": entry[name] for name in names}}


def gather(value: Any) -> list[Any]:
    """The JSON values of all processes, by their number; it takes one device of each, however many it has.

    Raises:
      UsageError: the value is larger than 64 KiB, compressed.
    """
    content = zlib.compress(json.dumps(value).encode())
    if len(content) > _SIZE:
        raise UsageError(f"the configuration takes {len(content)} bytes, compressed; at most {_SIZE} are compared")
    first = {device.process_index: device for device in reversed(jax.devices())}
    mesh = Mesh(np.array([first[number] for number in sorted(first)]), ("host",))
    own = np.frombuffer(content.ljust(_SIZE, b"\0"), np.uint8)[None]
    blocks = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("host")), own)
    with jax.set_mesh(mesh):  # the run's own may be set, of all devices
        everywhere = jax.jit(lambda blocks: blocks, out_shardings=NamedSharding(mesh, PartitionSpec()))(blocks)
    return [json.loads(zlib.decompressobj().decompress(row.tobytes())) for row in np.asarray(everywhere)]
