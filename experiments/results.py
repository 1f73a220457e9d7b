"""What trainings came to: results.jsonl, which several processes may write to."""

import json
import platform
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax

from vidrec.data.pool import usable_cores
from vidrec.errors import VidrecError
from vidrec.files import alone, atomic_write

Measures = dict[str, float]


of_result = itemgetter("measures", "machine", "jax", "seconds")  # what every line has beside its point


class Results:
    """The points of results.jsonl, in the order they were run.

    Raises:
      VidrecError: a line of it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._points = self._read()

    def measures(self, key: str) -> Measures | None:
        """Of a point, or None where it was not run."""
        return self._points[key]["measures"] if key in self._points else None

    def is_of_here(self, key: str) -> bool:
        """Whether a point was run, and on this kind of machine with this JAX, where numbers are the same again."""
        return key in self._points and self._points[key].items() >= of_here().items()

    def lacks(self, key: str, measure: str, made_of: Mapping[str, str]) -> bool:
        """Whether a point has no result for a measure yet; what other processes wrote counts.

        Raises:
          VidrecError: it has one, made of other records or weights of the same name.
        """
        self._points = self._read()
        if key not in self._points:
            return True
        line = self._points[key]
        if other := [what for what, digest in made_of.items() if line.get(what) != digest]:
            raise VidrecError(
                f"{self._path} has {key} already, made of other {' and '.join(other)} of the same name: "
                "give them another name, or move that file away"
            )
        return measure not in line["measures"]

    def add(self, key: str, measures: Measures, seconds: float, **facts: Any) -> None:
        """Writes one more, or more measures of one: beside those that others wrote, in place of those from elsewhere.

        Args:
          key: the point's.
          measures: its own, shares of 1.
          seconds: that these took; of a training that was stopped, since it went on.
          facts: what else is to stand beside them.
        """
        with alone(self._path.parent, wait=True):
            self._points = self._read()
            before = self._points[key] if self.is_of_here(key) else {"measures": {}, "seconds": 0}
            self._points[key] = {
                "point": key, **facts, **of_here(),
                "seconds": round(before["seconds"] + seconds), "measures": before["measures"] | rounded(measures),
            }  # fmt: skip
            with atomic_write(self._path) as file:
                file.write("".join(json.dumps(row) + "\n" for row in self._points.values()).encode())

    def cost(self, keys: Iterable[str]) -> str:
        """How many of these points were run, for how long, on what; "" of none."""
        of: dict[str, list[int]] = defaultdict(list)
        for line in (self._points[key] for key in dict.fromkeys(keys) if key in self._points):
            of[f"{line['machine']}, JAX {line['jax']}"].append(line["seconds"])
        return "".join(
            f"{len(seconds)} training{'s' * (len(seconds) != 1)} in {sum(seconds) / 60:.0f} minutes ({where}).\n"
            for where, seconds in of.items()
        )

    def _read(self) -> dict[str, dict[str, Any]]:
        points = {}
        for number, line in enumerate(self._path.read_bytes().splitlines() if self._path.exists() else [], 1):
            try:
                one = json.loads(line)
                of_result(one)
                points[one["point"]] = one
            except (ValueError, TypeError, KeyError) as error:
                raise VidrecError(
                    f"{self._path}, line {number} is no result: take it out, and its point is run again"
                ) from error
        return points


def of_here() -> dict[str, str]:
    """What numbers depend on beside the recipe."""
    return {"machine": machine(), "jax": jax.__version__}


def machine() -> str:
    """The kind of machine: JAX's name of the device, of a CPU its own."""
    if jax.default_backend() != "cpu":
        return jax.local_devices()[0].device_kind
    info = Path("/proc/cpuinfo")
    told = dict(re.findall(r"^(vendor_id|cpu family|model)\s*: (.*)$", info.read_text() if info.exists() else "", re.M))
    return " ".join([platform.machine(), *told.values(), f"{usable_cores()} cores"])


def rounded(measures: Measures) -> Measures:
    """As they are kept."""
    return {name: round(value, 5) for name, value in measures.items()}
