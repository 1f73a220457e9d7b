"""`vidrec eval`: how good a trained network is."""

import argparse
from typing import Any

from vidrec.cli.shared import add_hosts, add_verb, join_hosts


def add_eval(verbs: Any) -> None:
    """Adds `vidrec eval`."""
    parser = add_verb(verbs, "eval", _eval, "evaluate a network exactly", "--workdir runs/stm --split val")
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument("--records", help="folder of records (default: the one of the run)")
    parser.add_argument("--split", help="split to evaluate (default: the one of the run)")
    parser.add_argument("--clips", type=int, help="clips per video (default: the run's eval.clips)")
    parser.add_argument(
        "--crops", type=int, choices=(1, 3, 5, 10), help="crops per clip (default: the run's eval.crops)"
    )
    parser.add_argument(
        "--sampling", choices=("test", "val", "twice", "random"), help="frames of the clips (default: the run's)"
    )
    parser.add_argument("--full-resolution", action="store_true", help="crops as large as data.resize says")
    parser.add_argument("--batch-size", type=int, help="clips of a global batch")
    parser.add_argument("--step", type=int, help="checkpoint (default: the newest)")
    parser.add_argument("--out", help="folder to write (default: WORKDIR/eval)")
    add_hosts(parser)


def _eval(args: argparse.Namespace) -> tuple[Any, str]:
    join_hosts(args)
    from vidrec.inspect.results import evaluate_run

    names = ("records", "split", "clips", "crops", "sampling", "full_resolution", "batch_size", "step", "out")
    options = {name: getattr(args, name) for name in names}
    return evaluate_run(args.workdir, **options)
