"""The command `vidrec`: one sub-command per verb. Exit status 0 done, 1 failed, 2 wrong usage, 130 interrupted."""

import argparse
import logging
import sys
from collections.abc import Sequence

from vidrec.cli import evaluation, looks, machine, networks, pods, records, runs, using
from vidrec.cli.shared import as_json, tells_errors
from vidrec.errors import UsageError, did_you_mean


@tells_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns its exit status."""
    parser = make_parser()
    args, rest = parser.parse_known_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("absl", "jax", "orbax", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    if unknown := [arg for arg in rest if not (hasattr(args, "config") and arg.startswith("--config."))]:
        flags = [flag for action in args.parser._actions for flag in action.option_strings]
        raise UsageError(f"unknown argument {unknown[0]!r}{did_you_mean(unknown[0], flags)}")
    args.overrides = rest
    result, text = args.run(args)
    if getattr(args, "lead", True):
        print(as_json(result) if args.json else text, flush=True)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(prog="vidrec", description="Video action recognition in JAX/Flax.")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        runs.add_demo, records.add_toy, records.add_convert, records.add_verify, runs.add_train, evaluation.add_eval,
        using.add_predict, looks.add_inspect, networks.add_summary, networks.add_import, using.add_export,
        runs.add_report, pods.add_compile, pods.add_launch, pods.add_sweep, machine.add_bench, machine.add_doctor,
    ):  # fmt: skip
        add(verbs)
    return parser
