"""Every paper's training step on a TPU slice, by the compiler alone: the tables of experiments/README.md.

    python -m experiments.pod_check                    # the recipes on v5e:2x4
    python -m experiments.pod_check --scaling          # TCM-Net on 8 to 256 chips
    python -m experiments.pod_check --only direcformer # some of the rows

Needs libtpu, no TPU. Each row takes a minute; --full compiles as a run does, in several times the time.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.benchmarks import tables
from vidrec.cli.shared import tell
from vidrec.errors import VidrecError
from vidrec.launch.compile import compile_for
from vidrec.launch.topology import parse
from vidrec.train.recipe import load_recipe

Point = tuple[str, str, tuple[str, ...], str]  # name, recipe, overrides, topology

RECIPES = (
    ("TSN", "configs/tsn.py:ssv1", (), "v5e:2x4"),
    ("TSM", "configs/tsm.py:ssv1", (), "v5e:2x4"),
    ("STM", "configs/stm.py:ssv1", (), "v5e:2x4"),
    ("TCM-Net", "configs/tcm.py:ssv1", (), "v5e:2x4"),
    ("TEFE", "configs/tefe.py:ssv1", (), "v5e:2x4"),
    ("TTSN", "configs/ttsn.py:ssv1", (), "v5e:2x4"),
    ("DirecFormer", "configs/direcformer.py:ssv2", (), "v5e:2x4"),
    ("DirecFormer, fsdp 8", "configs/direcformer.py:ssv2", ("--config.mesh.fsdp=8",), "v5e:2x4"),
)
SCALING = tuple(
    (topology, "configs/tcm.py:ssv1", (), topology) for topology in ("v5e:2x4", "v5e:4x4", "v5e:8x8", "v5e:16x16")
)
CLIPS = 8  # on each chip, so that all rows compare
COLUMNS = {  # name in the CSV file -> in the printed table
    "clips_per_chip": "clips a chip",
    "fits": "fits",
    "gb_per_chip": "GB a chip",
    "gb_state": "of it state",
    "tflop": "TFLOP",
    "all_reduce": "all-reduce",
    "reduce_scatter": "reduce-scatter",
    "all_gather": "all-gather",
    "others": "others",
    "mb_sent_per_chip": "MB sent a chip",
    "mb_f32_gradients": "f32 gradients",
    "at_least_ms": "at least ms",
    "bound_by": "bound by",
    "compile_s": "s",
}
HEAD = f"| | {' | '.join(COLUMNS.values())} |\n" + "| --- " * (1 + len(COLUMNS)) + "|"


def figures(recipe: str, overrides: tuple[str, ...], topology: str, full: bool) -> list[str]:
    """The cells of one line; of a step that does not fit, why."""
    try:
        read = load_recipe(recipe, overrides)
        report = compile_for(
            read, topology, batch=CLIPS * parse(topology).chips, full=full, train_only=True,
            tell=tell,
        )  # fmt: skip
    except VidrecError as error:
        return [str(CLIPS), f"no: {error}"]
    return cells(report)


def cells(report: dict[str, Any]) -> list[str]:
    """The figures of one step."""
    step, state = report["train"], report["state_bytes"]
    memory, found = step["memory"], step["collectives"]
    kinds = {kind: f"{of['count']} ({of['bytes'] / 1e6:.1f} MB)" for kind, of in found["kinds"].items()}
    main = ("all-reduce", "reduce-scatter", "all-gather")
    parts = report["topology"]["devices"]
    gradients = 2 * state["all_params"] * (parts - 1) / parts  # what an all-reduce of them alone would send
    held = sum(size for name, size in state.items() if name != "all_params")
    return [
        str(report["batch"]["per_device"]),
        f"yes, {memory['total'] / report['topology']['memory_bytes']:.0%}",
        f"{memory['total'] / 1e9:.2f}",
        f"{held / 1e9:.3f}",
        f"{step['flops']['matrix'] / 1e12:.2f}",
        *(kinds.get(kind, "0") for kind in main),
        ", ".join(f"{of} {kind}" for kind, of in kinds.items() if kind not in main) or "0",
        f"{found['wire_bytes'] / 1e6:.1f}",
        f"{gradients / 1e6:.1f}",
        f"{step['roofline']['seconds']['step'] * 1e3:.1f}",
        str(step["roofline"]["bound"]),
        f"{step['seconds']['compile']:.0f}",
    ]


def table(points: Iterable[Point], full: bool) -> list[dict[str, Any]]:
    """Prints a table, line by line; returns its rows as a CSV file has them."""
    print(HEAD, flush=True)
    rows = []
    for name, recipe, overrides, topology in points:
        found = figures(recipe, overrides, topology, full)
        print(f"| {' | '.join([name, *found])} |", flush=True)
        about = {"recipe": recipe, "topology": topology, "chips": parse(topology).chips}
        rows.append({**about, **dict(zip(COLUMNS, found, strict=False))})
    return rows


def write_scaling(results: Path) -> None:
    """Prints the table of weak scaling, and writes it as a CSV file of the slices' chip.

    Raises:
      VidrecError: a step could not be compiled; then nothing is written.
    """
    rows = table(SCALING, full=False)
    if refused := [row["fits"] for row in rows if "at_least_ms" not in row]:
        raise VidrecError(f"the table of weak scaling is not written: {refused[0].removeprefix('no: ')}")
    tables.write(results, "scaling", tables.stamp(f"tpu-{parse(rows[0]['topology']).chip}-static"), rows)


def main() -> None:
    """Prints a table, row by row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scaling", action="store_true", help="TCM-Net on 8, 16, 64 and 256 chips")
    parser.add_argument("--only", help="rows whose name holds this")
    parser.add_argument("--full", action="store_true", help="compile as a run does")
    args = parser.parse_args()
    points = SCALING if args.scaling else RECIPES
    table([point for point in points if not args.only or args.only.lower() in point[0].lower()], args.full)


if __name__ == "__main__":
    main()
