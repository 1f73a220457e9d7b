"""The command of a paper's folder: its tables and figures on toy videos.

What stands in results.jsonl is not run. Stopped and started again, it goes on where it was; the same command in two
processes at a time divides the work. Only --again starts each training anew, in one process at a time.

    python -m experiments.stm.run [--scale cpu|gpu] [--study modules ...] [--seeds 3] [--out runs/papers]
    python -m experiments.stm.run --scale paper --init 'weights/{model}' [--records records/ssv1] [--config.a.b=value]
    python -m experiments.stm.run --table           # what stands in results.jsonl, as README.md has it
    python -m experiments.stm.run --figures         # the pictures of README.md; trains the networks that they look at
    python -m experiments.stm.run --results runs/mine.jsonl       # everything from nothing, the tables of that
    python -m experiments.stm.run --again           # do the points come to the numbers that stand there once more?
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.claims import MOST_SEEDS, text
from experiments.figures import Look, draw
from experiments.grid import SCALES, Scale, Study, again, check_weights, run
from experiments.results import Results
from vidrec.cli.shared import tell, tells_errors
from vidrec.errors import VidrecError

# Fields of recipes, and what says them here.
SAID_BY = {
    "seed": "--seeds",
    "data.records": "--records",
    "train.init": "--init",
    "train.steps": "--config.train.epochs",
}


@tells_errors
def main(
    studies: dict[str, Study],
    folder: Path,
    looks: Sequence[Look] = (),
    drawn: tuple[str, ...] = (),
    argv: Sequence[str] | None = None,
) -> int:
    """The command of a paper's folder.

    Args:
      studies: by name.
      folder: of its results, pictures and README.
      looks: pictures of what its networks do.
      drawn: patterns of the parameters that the files lack which the paper's networks start from.
      argv: arguments, without the command.

    Returns:
      the exit status.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}.{folder.name}.run",
        description=f"The paper's tables on toy videos. What stands in {folder.name}/results.jsonl is not run; what is "
        "run is added there. Stopped and started again, it goes on where it was.",
        epilog="--config.section.field=value changes fields of all recipes of --scale paper, such as train.batch_size.",
    )
    parser.add_argument("--scale", choices=SCALES, default="cpu", help="paper: its own recipe and data")
    parser.add_argument("--records", default="", help="of --scale paper: folder or address (default: as in the recipe)")
    parser.add_argument(
        "--init", default="",
        help="of --scale paper: weights to start from, as `vidrec import` takes (each row gets what its network has of "
        "them) or writes; {model} stands for the name of a row's network",
    )  # fmt: skip
    parser.add_argument("--study", choices=studies, action="append", help="one of them; may be given several times")
    parser.add_argument("--seeds", type=int, choices=range(1, MOST_SEEDS + 1), help="how many (default: of the scale)")
    parser.add_argument(
        "--out", type=Path, help="folder of videos and runs (default: runs/papers; of --results: beside it)"
    )
    parser.add_argument(
        "--results", type=Path, metavar="FILE",
        help="results to go on with (default: those that are here); one that is not there starts from nothing",
    )  # fmt: skip
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--table", action="store_true", help="run nothing, print what there is")
    instead.add_argument("--figures", action="store_true", help="draw what there is, beside the results")
    instead.add_argument("--again", action="store_true", help="run what there is again; status 1 if numbers differ")
    args, overrides = parser.parse_known_args(argv)
    if unknown := [given for given in overrides if not given.startswith("--config.")]:
        parser.error(f"unknown argument {unknown[0]}")
    if (args.records or args.init or overrides) and args.scale != "paper":
        parser.error(
            "--records, --init and --config. are of --scale paper: toys are as in run.py, and start from nothing"
        )
    for field, option in SAID_BY.items():
        if any(given.startswith(f"--config.{field}=") for given in overrides):
            parser.error(f"--config.{field} is said by {option} here: use that")
    if args.results and args.results.suffix != ".jsonl":
        parser.error(f"--results {args.results} must end in .jsonl: its runs lie in a folder named so without that")
    if args.figures and args.scale == "paper":
        parser.error("--figures draws what toys came to: take --scale cpu or gpu")
    if args.figures and (args.study or args.seeds):
        parser.error("--figures draws all studies and seeds: leave --study and --seeds out")
    if args.table and (args.seeds or args.out):
        parser.error("--table prints all seeds, and reads the results alone: leave --seeds and --out out")
    scale = SCALES[args.scale]
    if args.scale == "paper":
        scale = scale._replace(overrides=tuple(overrides), records=args.records, init=args.init, drawn=drawn)
    path = args.results or folder / ("results.jsonl" if args.scale == "cpu" else f"results_{args.scale}.jsonl")
    if args.figures and args.scale != "cpu" and path.parent.resolve() == folder.resolve():
        parser.error("pictures go beside the results, where those of --scale cpu are: give --results FILE elsewhere")
    out = args.out or (path.with_suffix("") if args.results else Path("runs/papers"))
    seeds = range(args.seeds or (MOST_SEEDS if args.again else scale.seeds))
    results = Results(path)
    there = {name: study for name, study in studies.items() if study.rows_at(scale)}
    if of_toys := [name for name in args.study or () if name not in there]:
        parser.error(f"--study {of_toys[0]} is of toys alone: take --scale cpu or gpu")
    chosen = {name: there[name] for name in args.study or there}
    if not args.table:
        check_weights(chosen.values(), scale)
    if args.figures:
        draw(studies, looks, scale, results, out, path.parent)
        return 0
    if args.again:
        return repeat(chosen.values(), scale, seeds, results, out)
    if args.scale == "paper" and not (args.init or args.table):
        tell("without --init networks start as drawn; the papers' start from weights of ImageNet or Kinetics")
    begun = 0
    for study in chosen.values():
        if not args.table:
            begun += run(study, scale, seeds, results, out)
        print(text(study, scale, results), flush=True)
    if not (begun or args.table):
        tell(f"nothing to run, all stands in {path}: --again runs it once more, --results FILE starts from nothing")
    return 0


def repeat(studies: Iterable[Study], scale: Scale, seeds: Sequence[int], results: Results, out: Path) -> int:
    """Runs points again and tells what differs; the exit status."""
    count, differ, elsewhere = 0, 0, 0
    for key, other in again(studies, scale, seeds, results, out):
        if other is None:
            elsewhere += 1
            continue
        count, differ = count + 1, differ + bool(other)
        print(f"{key}: {'; '.join(other) or 'the same numbers'}", flush=True)
    if not (count or elsewhere):
        raise VidrecError("there are no results to run again: leave --again out")
    left = f"; {elsewhere} are of another kind of machine or JAX and were left" if elsewhere else ""
    print(f"points run again: {count}, of which {differ} came to other numbers{left}.")
    return int(differ > 0 or not count)
