"""What a compiled module's text tells: its collectives with their bytes, and the kernels it calls.

Bytes on the wire are those that each device sends when a collective over n devices runs as a ring, which is the least
that any schedule needs (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", 2009): an all-reduce of B bytes
sends 2 B (n - 1) / n, a reduce-scatter or an all-gather B (n - 1) / n of the whole array.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

KINDS = ("all-reduce", "reduce-scatter", "all-gather", "all-to-all", "collective-permute")

_HEADER = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_KIND = re.compile(rf" ({'|'.join(KINDS)})(-start)?\(")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]")
_CALLS = re.compile(
    r"\b(calls|body|to_apply|branch_computations|called_computations|true_computation|false_computation)="
)
_NAMES = re.compile(r"%([\w.\-]+)")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
# The custom calls that are kernels of a library, by target; others are the compiler's own bookkeeping.
_KERNELS = ("tpu_custom_call", "mosaic_gpu_v2", "mosaic_gpu", "__gpu$xla.gpu.triton")


class Collective(NamedTuple):
    """One collective operation.

    Attributes:
      kind: one of `KINDS`.
      bytes: of the whole array it works on: all that is reduced, or gathered.
      group: devices that take part together.
      times: how often it runs in one call of the program.
      name: where it comes from, as JAX names it ("" where the compiler made it).
    """

    kind: str
    bytes: int
    group: int
    times: int
    name: str

    @property
    def wire_bytes(self) -> float:
        """What each device sends, over all times."""
        share = {"all-reduce": 2 * (self.group - 1) / self.group, "collective-permute": 1.0}
        return self.times * self.bytes * share.get(self.kind, (self.group - 1) / self.group)


def collectives(text: str, devices: int) -> list[Collective]:
    """The collectives of a module, in the order of the text; those over a single device are none.

    Args:
      text: `compiled.as_text()`.
      devices: how many the program runs on.

    An operation that the compiler overlaps with others stands in several fusions, as itself with the same channel; it
    counts once. One in a loop counts as often as the loop runs, where its bound is a constant.
    """
    bodies = computations(text)
    times = _times(bodies)
    found, seen = [], set()
    for name, lines in bodies.items():
        for line in lines:
            kind = _KIND.search(line)
            if kind is None or not times[name]:
                continue
            channel = re.search(r"channel_id=(\d+)", line)
            if channel and name.startswith(("fused_", "async_")):
                if (kind[1], channel[1]) in seen:
                    continue
                seen.add((kind[1], channel[1]))
            one = _read(line, kind, name, devices, times[name])
            if one.group > 1:
                found.append(one)
    return found


def kernels(text: str) -> Counter[str]:
    """Name of a kernel -> how many calls of it the module holds."""
    found: Counter[str] = Counter()
    for line in text.splitlines():
        target = _TARGET.search(line)
        if target and target[1] in _KERNELS:
            name = re.match(r"\s*(?:ROOT )?%?([A-Za-z_]\w*)", line)
            found[name[1] if name else target[1]] += 1
    return found


def computations(text: str) -> dict[str, list[str]]:
    """Name of each computation of a module -> its instructions; the entry's name is "ENTRY"."""
    found: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            lines = found.setdefault("ENTRY" if line.startswith("ENTRY") else header[1], [])
        elif line.startswith("}"):
            lines = None
        elif lines is not None:
            lines.append(line)
    return found


def _read(line: str, kind: re.Match[str], computation: str, devices: int, times: int) -> Collective:
    result = line[: kind.start()].partition(" = ")[2]
    sizes = [size for dtype, size in _arrays(result) if not (kind[2] and dtype == "u32")]
    name, group = kind[1], group_size(line, devices)
    if kind[2] and name in ("all-gather", "collective-permute", "reduce-scatter", "all-to-all"):
        sizes = sizes[len(sizes) // 2 :]  # of a started one the operands stand before the results
    size = sum(sizes)
    if name == "reduce-scatter":
        size *= group
    if name == "all-reduce" and "all-reduce-scatter" in computation:
        name = "reduce-scatter"  # so the TPU's compiler writes it: a fusion that keeps a part of the sum
    origin = _OP_NAME.search(line)
    return Collective(name, size, group, times, origin[1] if origin else "")


def group_size(line: str, devices: int) -> int:
    """How many devices a collective's instruction names as taking part together.

    Written as {{0,1},{2,3}}, as [groups,devices]<=[...], or by axes of the mesh, of which one can be split:
    mesh['data'=2,'fsdp'=4] {'fsdp'} and mesh['data'=8] {'data':(2)4}.
    """
    if "source_target_pairs={{" in line:
        return 2
    if axes := re.search(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}", line):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", axes[1])}
        used = re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", axes[2])
        return math.prod(int(part) if part else sizes[name] for name, _, part in used) if used else devices
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return listed[1].count(",") + 1
    if tiled := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", line):
        return int(tiled[2])
    return devices


def _arrays(types: str) -> Iterator[tuple[str, int]]:
    """Type and bytes of each array in the text of a result's type."""
    for dtype, shape in _ARRAY.findall(types):
        bits = 8 if dtype == "pred" else int(re.sub(r"^[a-z]+(\d+).*", r"\1", dtype))
        yield dtype, math.prod(int(n) for n in shape.split(",") if n) * bits // 8


def _times(bodies: dict[str, list[str]]) -> Counter[str]:
    """How often each computation runs in one call of the module."""
    times: Counter[str] = Counter()

    def visit(name: str, count: int) -> None:
        """Counts a computation, and those that it calls as often as it does."""
        times[name] += count
        for line in bodies.get(name, ()):
            for called, factor in _called(line, bodies):
                visit(called, count * factor)

    visit("ENTRY", 1)
    return times


def _called(line: str, bodies: dict[str, list[str]]) -> Iterator[tuple[str, int]]:
    """The computations that an instruction calls, and how often."""
    for call in _CALLS.finditer(line):
        rest = line[call.end() :]
        listed = rest[: rest.find("}") + 1] if rest.startswith("{") else rest.partition(",")[0]
        for name in _NAMES.findall(listed):
            if name in bodies:
                yield name, _trips(line, bodies) if call[1] == "body" else 1


def _trips(line: str, bodies: dict[str, list[str]]) -> int:
    """How often a loop runs: the constant that its counter, from 0, is compared with; 1 if there is none."""
    known = re.search(r'known_trip_count[^\d]*"(\d+)"', line)
    if known:
        return int(known[1])
    condition = re.search(r"condition=%?([\w.\-]+)", line)
    text = "\n".join(bodies.get(condition[1], ())) if condition else ""
    bound = re.findall(r"= [su]32\[\][^ ]* constant\((\d+)\)", text)
    return int(bound[0]) if len(bound) == 1 and "direction=LT" in text else 1
