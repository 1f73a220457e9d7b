"""Pictures of the benchmarks' tables: what bounds the correlation, how training scales, how fast clips are read."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from experiments.benchmarks import tables
from experiments.figures import write
from vidrec.inspect.charts import Point, curves_svg

Rows = Sequence[dict[str, str]]


def draw(results: Path) -> list[Path]:
    """Draws every table that has a picture, beside it; returns the pictures."""
    return [
        path
        for part, pictures in PICTURES.items()
        for table in sorted(results.glob(f"*/{part}.csv"))
        for path in _beside(table, pictures)
    ]


def _beside(table: Path, pictures: dict[str, Callable[[Rows], str]]) -> Iterator[Path]:
    for name, picture in pictures.items():
        if svg := picture(tables.read(table)):
            path = table.with_name(f"{name}.svg")
            write(path, svg)
            yield path


def roofline(rows: Rows, operation: str) -> str:
    """Products per second of one operation against those for each byte, below its ceilings, in the first setting.

    Work and bytes are the least that any implementation needs, so that marks of one pass stand above each other.
    "" where the operation has no row.
    """
    setting = {name: rows[0][name] for name in ("pairs", "size", "channels", "patch", "dtype")}
    shown = [row for row in rows if row["operation"] == operation and setting.items() <= row.items()]
    if not shown:
        return ""
    flops, bandwidth = (float(rows[0][f"ceiling_{name}_per_second"]) for name in ("flops", "bytes"))
    marks: dict[str, list[Point]] = {}
    for row in shown:
        work = float(row["flops_per_pair"])
        point = work / float(row["bytes_per_pair"]), work / float(row["us_per_pair"]) / 1e3
        marks[f"{row['implementation']}, {row['pass']}"] = [point]
    intensities = [x for ((x, _),) in marks.values()]
    ridge = flops / bandwidth
    left, right = min(ridge, *intensities) / 3, max(ridge, *intensities) * 3
    ceilings: dict[str, list[Point]] = {
        f"memory, {bandwidth / 1e9:,.0f} GB/s": [(left, left * bandwidth / 1e9), (ridge, flops / 1e9)],
        f"products, {flops / 1e12:,.2f} TFLOP/s": [(ridge, flops / 1e9), (right, flops / 1e9)],
    }
    for row in shown:
        if scores := float(row["floor_scores_us"]):  # elementwise work, which is as much for whatever bytes
            height = float(row["flops_per_pair"]) / scores / 1e3
            ceilings[f"scores, {row['pass']}"] = [(left, height), (right, height)]
    return curves_svg(
        {**ceilings, **marks},
        title="{}, {size} x {size} x {channels}, patch {patch}, {dtype}".format(operation, **setting),
        x_label=f"FLOP per byte, on {rows[0]['machine']}",
        y_label="GFLOP/s",
        log=True,
    )


def scaling(rows: Rows) -> str:
    """The least time of a step and what a chip sends in it, by the compiler's account, against the number of chips.

    Both are shares of what they are on the first slice, the smallest, as their units have nothing in common.
    """

    def line(column: str) -> list[Point]:
        """A column in parts of its first row, by chips."""
        return [(float(row["chips"]), float(row[column]) / float(rows[0][column])) for row in rows]

    return curves_svg(
        {"least time of a step": line("at_least_ms"), "bytes that a chip sends": line("mb_sent_per_chip")},
        title=f"{rows[0]['recipe']}, {rows[0]['clips_per_chip']} clips on each chip",
        x_label=f"chips, {rows[0]['machine']}",
        y_label=f"times that of {rows[0]['chips']} chips",
        y_range=(0, 1),
    )


def reading(rows: Rows) -> str:
    """Clips per second against loader processes, of each pipeline."""
    lines: dict[str, list[Point]] = {}
    for row in rows:
        processes = int(row["processes"])
        name = row["pipeline"].partition(",")[0] if processes else row["pipeline"]
        lines.setdefault(name, []).append((processes, float(row["clips_per_second"])))
    return curves_svg(
        lines,
        title=f"Clips of {rows[0]['frames']} frames, {rows[0]['cores']} cores",
        x_label=f"loader processes, on {rows[0]['machine']}",
        y_label="clips per second",
        y_range=(0, 1),
    )


PICTURES: dict[str, dict[str, Callable[[Rows], str]]] = {
    "correlation": {
        "roofline": lambda rows: roofline(rows, "match"),
        "roofline_volume": lambda rows: roofline(rows, "correlate"),
    },
    "scaling": {"scaling": scaling},
    "input": {"input": reading},
}
