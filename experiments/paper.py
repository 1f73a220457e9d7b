"""The command of a paper's folder: its tables and figures on toy videos.

Stopped and started again, it goes on where it was.

    python -m experiments.stm.run [--scale cpu|gpu] [--study modules ...] [--seeds 3] [--out runs/papers]
    python -m experiments.stm.run --scale paper [--records records/ssv1]    # the paper's own recipes and data
    python -m experiments.stm.run --table           # what stands in results.jsonl, as README.md has it
    python -m experiments.stm.run --figures         # the pictures of README.md; those of runs, of the first seed's
    python -m experiments.stm.run --again           # do the points come to the numbers that stand there once more?
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.figures import Look, draw
from experiments.grid import SCALES, Results, Study, T, differing, run, text
from vidrec.errors import VidrecError


def main(studies: dict[str, Study], folder: Path, looks: Sequence[Look] = (), argv: Sequence[str] | None = None) -> int:
    """The command of a paper's folder."""
    parser = argparse.ArgumentParser(description="The paper's tables on toy videos; goes on where it was.")
    parser.add_argument("--scale", choices=SCALES, default="cpu", help="paper: its own recipe and data")
    parser.add_argument("--records", default="", help="of --scale paper: folder or address (default: as in the recipe)")
    parser.add_argument("--study", choices=studies, action="append", help="one of them; may be given several times")
    parser.add_argument("--seeds", type=int, choices=range(1, max(T) + 1), help="how many (default: of the scale)")
    parser.add_argument("--out", type=Path, default=Path("runs/papers"), help="folder of videos and runs")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--table", action="store_true", help="run nothing, print what there is")
    instead.add_argument("--figures", action="store_true", help="draw what there is, into the paper's folder")
    instead.add_argument("--again", action="store_true", help="run what there is again; status 1 if numbers differ")
    args = parser.parse_args(argv)
    if args.records and args.scale != "paper":
        parser.error("--records has an effect with --scale paper only: toy videos are drawn")
    scale = SCALES[args.scale]._replace(records=args.records)
    seeds = range(args.seeds or scale.seeds)
    results = Results(folder / ("results.jsonl" if args.scale == "cpu" else f"results_{args.scale}.jsonl"))
    chosen = {name: studies[name] for name in args.study or studies}
    try:
        if args.figures:
            draw(chosen, looks, scale, results, args.out, folder)
            return 0
        if args.again:
            other = [line for study in chosen.values() for line in differing(study, scale, seeds, results, args.out)]
            print("\n".join(other) or "The same numbers.")
            return int(bool(other))
        for study in chosen.values():
            if not args.table:
                run(study, scale, seeds, results, args.out)
            print(text(study, scale, results), flush=True)
    except VidrecError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0
