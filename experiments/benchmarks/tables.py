"""The benchmarks' results as CSV files, `results/MACHINE/PART.csv`: each line says what it was measured on and by."""

import csv
import io
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import vidrec
from vidrec.data.pool import usable_cores
from vidrec.errors import VidrecError
from vidrec.files import atomic_write
from vidrec.launch.sweep import slug
from vidrec.train.card import version_of

RESULTS = Path(__file__).with_name("results")
# What a processor's name has beside its name: trade marks, who made it, that it is one, how many cores and how fast.
_NO_NAME = re.compile(r"\((r|tm)\)|\b(intel|amd|cpu|processor|\d+-core)\b|@.*", re.IGNORECASE)

Row = Mapping[str, Any]


def stamp(machine: str) -> dict[str, str]:
    """The first columns of every line; `torch` is filled by rows that took turns with PyTorch.

    Args:
      machine: as from `name_of`.
    """
    return {
        "machine": machine,
        "python": platform.python_version(),
        "jax": version_of("jax") or "",
        "vidrec": vidrec.__version__,
        "torch": "",
    }


def name_of(backend: str, kind: str, count: int) -> str:
    """A machine's name, such as nvidia-h200, tpu-v5-lite-x8 or xeon-2-cores.

    Args:
      backend: JAX's name of the platform.
      kind: JAX's name of its devices.
      count: how many they are.
    """
    if backend == "cpu":
        return slug(f"{processor()} {usable_cores()} cores")
    return slug(kind) + (f"-x{count}" if count > 1 else "")


def processor(info: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name by /proc/cpuinfo; the kind of machine where that does not tell."""
    text = info.read_text() if info.is_file() else ""
    found = re.search(r"^model name\s*:(.*)", text, re.MULTILINE)
    return (slug(_NO_NAME.sub(" ", found[1])) if found else "") or platform.machine()


def write(results: Path, part: str, stamped: Row, rows: Sequence[Row]) -> Path:
    """Writes the table of a part, by rename; columns stand in the order in which rows first have them.

    Args:
      results: folder of all machines.
      part: name of the table.
      stamped: as from `stamp`; the machine's folder is made.
      rows: what they have of the stamp's columns counts; numbers are written to six digits, None as nothing.
    """
    folder = results / stamped["machine"]
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{**stamped, **row} for row in rows]
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys(key for line in lines for key in line)), lineterminator="\n")
    table.writeheader()
    table.writerows({key: _cell(value) for key, value in line.items()} for line in lines)
    path = folder / f"{part}.csv"
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
    return path


def read(path: Path) -> list[dict[str, str]]:
    """The lines of a table.

    Raises:
      VidrecError: it has none.
    """
    with open(path, newline="") as file:
        lines = list(csv.DictReader(file))
    if not lines:
        raise VidrecError(f"{path} has no lines: measure that part again, or take the table away")
    return lines


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
