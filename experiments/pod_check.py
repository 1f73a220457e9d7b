"""Every paper's training step on a TPU slice, by the compiler alone: the tables of experiments/README.md.

    python -m experiments.pod_check                    # the recipes on v5e:2x4
    python -m experiments.pod_check --scaling          # TCM-Net on 8 to 256 chips
    python -m experiments.pod_check --only direcformer # some of the rows

Needs libtpu, no TPU. Each row takes a minute; --full compiles as a run does, in several times the time.
"""

import argparse
import sys
from typing import Any

from vidrec import config
from vidrec.errors import VidrecError
from vidrec.launch.compile import compile_for
from vidrec.launch.topology import parse
from vidrec.models.registry import model_fields
from vidrec.train.tasks import task_fields

# (name, recipe, overrides, topology)
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
HEAD = (
    "| | clips a chip | fits | GB a chip | of it state | TFLOP | all-reduce | reduce-scatter | all-gather | others "
    "| MB sent a chip | f32 gradients | at least ms | bound by | s |\n" + "| --- " * 15 + "|"
)


def row(name: str, recipe: str, overrides: tuple[str, ...], topology: str, full: bool) -> str:
    """One line of the table; of a step that does not fit, why."""
    try:
        read = config.load(recipe, overrides, model_fields=model_fields, task_fields=task_fields)
        report = compile_for(
            read, topology, batch=CLIPS * parse(topology).chips, full=full, train_only=True,
            tell=lambda line: print(line, file=sys.stderr, flush=True),
        )  # fmt: skip
    except VidrecError as error:
        return f"| {name} | {CLIPS} | no: {error} |"
    return "| " + " | ".join([name, *cells(report)]) + " |"


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


def main() -> None:
    """Prints a table, row by row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scaling", action="store_true", help="TCM-Net on 8, 16, 64 and 256 chips")
    parser.add_argument("--only", help="rows whose name holds this")
    parser.add_argument("--full", action="store_true", help="compile as a run does")
    args = parser.parse_args()
    print(HEAD, flush=True)
    for name, recipe, overrides, topology in SCALING if args.scaling else RECIPES:
        if not args.only or args.only.lower() in name.lower():
            print(row(name, recipe, overrides, topology, args.full), flush=True)


if __name__ == "__main__":
    main()
