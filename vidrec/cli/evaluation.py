"""`vidrec eval`: how good a trained network is, and at what."""

import argparse
from typing import Any

from vidrec.cli.shared import add_hosts, add_verb, add_workdirs, join_hosts
from vidrec.errors import UsageError
from vidrec.eval.protocols import PROTOCOLS

_DATA = ("records", "split", "batch_size", "step", "out")
_VIEWS = ("protocol", "clips", "crops", "sampling", "full_resolution", "average", "top")
_HOSTS = ("coordinator", "processes", "process")
_TAKEN = {  # by each way to evaluate, the options that have an effect
    "": (*_DATA, *_VIEWS, *_HOSTS),
    "saved": ("combine", "average", "top", "out"),
    "order": (*_DATA, *_HOSTS),
    "tempo": (*_DATA, *_HOSTS),
    "online": ("records", "split", "step", "every", "out"),
}


def add_eval(verbs: Any) -> None:
    """Adds `vidrec eval`."""
    parser = add_verb(verbs, "eval", _eval, "evaluate a network exactly", "--workdir runs/stm --protocol stm30")
    add_workdirs(parser, required=False)
    _add_data(parser.add_argument_group("what is evaluated, and where it goes"))
    _add_views(parser.add_argument_group("how the clips of a video are cut and averaged"))
    _add_ways(parser.add_argument_group("other ways to evaluate").add_mutually_exclusive_group())
    parser.add_argument(
        "--combine", choices=("ensemble", "splits"),
        help="several --from: the mean scores of networks on the same videos, or the mean accuracy on several splits",
    )  # fmt: skip
    parser.add_argument("--every", type=int, metavar="N", help="with --online: take one frame of N")
    add_hosts(parser)
    rows = (f"  {name:20}{one.clips:2} x {one.crops}  {one.source}" for name, one in PROTOCOLS.items())
    parser.epilog = "\n".join((parser.epilog or "", "protocols (clips x crops):", *rows))


def _add_data(group: Any) -> None:
    group.add_argument("--records", help="folder of records (default: the one of the run)")
    group.add_argument("--split", help="split to evaluate (default: the one of the run)")
    group.add_argument("--batch-size", type=int, help="clips of a global batch")
    group.add_argument("--step", type=int, help="checkpoint (default: the newest)")
    group.add_argument("--out", help="folder to write (default: WORKDIR/eval, or WORKDIR/eval/PROTOCOL)")


def _add_views(group: Any) -> None:
    group.add_argument("--protocol", metavar="NAME", help="as a paper does; the names stand below")
    group.add_argument("--clips", type=int, help="clips per video (default: the run's eval.clips)")
    group.add_argument(
        "--crops", type=int, choices=(1, 3, 5, 10), help="crops per clip (default: the run's eval.crops)"
    )
    group.add_argument(
        "--sampling", choices=("test", "val", "twice", "random"), help="frames of the clips (default: the run's)"
    )
    group.add_argument(
        "--full-res", "--full-resolution", dest="full_resolution", action="store_const", const=True,
        help="crops as large as data.resize says",
    )  # fmt: skip
    group.add_argument("--average", choices=("softmax", "logits"), help="of the views (default: the run's)")
    group.add_argument(
        "--top", type=int, nargs="+", metavar="K", help="count videos whose class is among the K best (default: 1 5)"
    )


def _add_ways(group: Any) -> None:
    group.add_argument(
        "--from", dest="saved", nargs="+", metavar="FOLDER",
        help="count the scores that earlier evaluations saved, without a network",
    )  # fmt: skip
    group.add_argument(
        "--order", action="store_true",
        help="one clip of each video in order, shuffled, reversed and frozen; OrderAcc of networks with time attention",
    )  # fmt: skip
    group.add_argument("--tempo", metavar="STRIDES", help="accuracy against stride, such as 1..8, with a figure")
    group.add_argument("--online", action="store_true", help="frame by frame, as from a camera")


def _eval(args: argparse.Namespace) -> tuple[Any, str]:
    way = next((way for way in _TAKEN if way and getattr(args, way) not in (None, False)), "")
    options = {name: value for name, value in _options(args, way).items() if name not in _HOSTS}
    if way == "saved":
        from vidrec.inspect.rescore import rescore

        return rescore(args.saved, **options)
    join_hosts(args)
    if way == "tempo":
        from vidrec.eval.tempo import parse_strides
        from vidrec.inspect.tempo_results import tempo_run

        return tempo_run(args.workdir, parse_strides(args.tempo), **options)
    if way == "order":
        from vidrec.inspect.order_results import order_run as run
    elif way == "online":
        from vidrec.inspect.online_results import online_run as run
    else:
        from vidrec.inspect.results import evaluate_run as run
    return run(args.workdir[0], **options)


def _options(args: argparse.Namespace, way: str) -> dict[str, Any]:
    """The options that were given, all of which this way to evaluate takes."""
    called = f"--{'from' if way == 'saved' else way}" if way else "a plain evaluation"
    if (args.workdir is None) != (way == "saved"):
        raise UsageError("give the folder of a run by --workdir, or saved evaluations by --from")
    if args.workdir and len(args.workdir) > 1 and way != "tempo":
        raise UsageError(f"--workdir is given {len(args.workdir)} times, but several runs are for --tempo: name one")
    every = dict.fromkeys(name for names in _TAKEN.values() for name in names)
    options = {name: value for name in every if (value := getattr(args, name)) is not None}
    if extra := [name for name in options if name not in _TAKEN[way]]:
        raise UsageError(f"--{extra[0].replace('_', '-')} has no effect with {called}: leave it out")
    return options
