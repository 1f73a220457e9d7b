"""What the verbs have in common."""

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from vidrec.errors import UsageError, VidrecError


def add_verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], tuple[Any, str]], about: str, example: str
) -> argparse.ArgumentParser:
    """Adds a verb.

    Args:
      verbs: what `add_subparsers` returned.
      run: arguments -> result as JSON values, and as text for people.
      about: one line of help.
      example: arguments of a command that works.
    """
    parser = verbs.add_parser(
        name, help=about, description=about, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.epilog = f"example:\n  {parser.prog} {example}"
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_config(parser: argparse.ArgumentParser, *, required: bool = True, what: str = "FILE[:arg]") -> None:
    """Adds --config; its single fields are checked when it is loaded."""
    parser.add_argument("--config", required=required, help=f"{what}; single fields by --config.section.field=value")


def add_workdirs(parser: argparse.ArgumentParser, required: bool) -> None:
    """Adds --workdir, several of which compare runs."""
    parser.add_argument(
        "--workdir", action="extend", nargs="+", required=required, metavar="D",
        help="folder of a run; repeat it to compare runs",
    )  # fmt: skip


def add_hosts(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `join_hosts`."""
    hosts = parser.add_argument_group("several processes (not needed on Cloud TPU)")
    hosts.add_argument("--coordinator", help="HOST:PORT of process 0")
    hosts.add_argument("--processes", type=int, help="how many")
    hosts.add_argument("--process", type=int, help="number of this one")


def as_json(value: Any) -> str:
    """One JSON document."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def load_config(args: argparse.Namespace) -> Any:
    """The configuration of --config with its overrides."""
    from vidrec.train.recipe import load_recipe

    return load_recipe(args.config, args.overrides)


def check_local(workdir: str | None) -> None:
    """Raises UsageError if runs are to go to an address."""
    if workdir and "://" in workdir:
        raise UsageError(f"--workdir is {workdir!r}, but must be a folder: mount the bucket, as `vidrec launch` does")


def tells_errors[**P](command: Callable[P, int]) -> Callable[P, int]:
    """Makes of what a command raises one sentence and its exit status."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        """The command's own exit status, or that of its error."""
        try:
            return command(*args, **kwargs)
        except VidrecError as error:
            tell(f"vidrec: {error}")
            return error.exit_code
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            tell(f"vidrec: {error.filename or 'file system'}: {error.strerror or error}")
            return 1
        except KeyboardInterrupt:
            tell("vidrec: interrupted; run the same command again")
            return 130

    return run


def tell(line: str) -> None:
    """What is under way, beside the result."""
    print(line, file=sys.stderr, flush=True)


def join_hosts(args: argparse.Namespace) -> None:
    """Joins the other processes, and lets only the first of them print the result."""
    given = {"--" + name: getattr(args, name) for name in ("coordinator", "processes", "process")}
    missing = [flag for flag, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise UsageError(f"{', '.join(given)} go together; give {' and '.join(missing)} too")
    from vidrec.train.sharding import start_hosts

    if args.coordinator:  # Gloo, by which processes on CPUs talk, writes on standard output, which is for the result
        sys.stdout = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), 1)
    args.lead = start_hosts(args.coordinator, args.processes, args.process) == 0
