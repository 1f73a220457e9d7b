"""`vidrec demo` and `train`: training networks."""

import argparse
from pathlib import Path
from typing import Any

from vidrec.cli.shared import add_config, add_hosts, add_verb, add_workdirs, check_local, join_hosts, load_config
from vidrec.errors import UsageError


def add_demo(verbs: Any) -> None:
    """Adds `vidrec demo`."""
    parser = add_verb(verbs, "demo", _demo, "from videos to trained networks, in minutes", "--workdir runs/demo")
    parser.add_argument("--workdir", default="runs/demo", help="folder for everything it makes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of videos and training (default: %(default)s)")
    parser.add_argument(
        "--all", action="store_true", help="beside TSN, a network of each of the five papers, not STM alone"
    )


def _demo(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.demo import ALL, PAIR, demo, table

    result = demo(Path(args.workdir), seed=args.seed, networks=ALL if args.all else PAIR)
    return result, table(result)


def add_train(verbs: Any) -> None:
    """Adds `vidrec train`."""
    parser = add_verb(
        verbs, "train", _train, "train a network; goes on by itself when the workdir holds a checkpoint",
        "--config configs/stm.py:ssv1 --workdir runs/stm --config.data.records=records/ssv1",
    )  # fmt: skip
    add_config(parser)
    parser.add_argument("--workdir", required=True, help="folder of the run")
    looks = parser.add_argument_group("to look at what happens")
    looks.add_argument("--profile", type=int, default=0, metavar="STEPS", help="trace that many steps, for xprof")
    looks.add_argument(
        "--debug", action="store_true", help="one device, a few clips, no workers; stops at the operation with a NaN"
    )
    looks.add_argument("--no-jit", action="store_true", help="the same, operation by operation: print and step through")
    add_hosts(parser)


def _train(args: argparse.Namespace) -> tuple[Any, str]:
    if args.profile < 0:
        raise UsageError(f"--profile is {args.profile}, but must be a number of steps")
    check_local(args.workdir)
    join_hosts(args)
    from vidrec.eval.evaluate import make_evaluator
    from vidrec.train.debug import small
    from vidrec.train.loop import How, train
    from vidrec.train.watchdog import leaving_together

    how = How(args.profile, args.debug or args.no_jit, not args.no_jit)
    with leaving_together():
        config = load_config(args)
        outcome = train(small(config) if how.debug else config, args.workdir, make_evaluator, how)
    result = {"workdir": args.workdir, **outcome._asdict()}
    if not outcome.finished:
        return result, f"Stopped at step {outcome.step}, saved; run the same command again to go on."
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in outcome.metrics.items())
    return result, f"Finished at step {outcome.step}: {metrics}"


def add_report(verbs: Any) -> None:
    """Adds `vidrec report`."""
    about = "one HTML file of a run, or of several beside each other: results, curves, confusions, clips, cards"
    parser = add_verb(verbs, "report", _report, about, "--workdir runs/tsn --workdir runs/stm --out report.html")
    add_workdirs(parser, required=True)
    parser.add_argument("--out", help="file to write (default: report.html in the first of them)")
    parser.add_argument("--clips", type=int, default=12, help="videos shown (default: %(default)s)")


def _report(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.inspect.run_report import report

    result = report(args.workdir, out=args.out, clips=args.clips)
    return result, "\n".join([*result["notes"], f"Report: {result['report']}"])
