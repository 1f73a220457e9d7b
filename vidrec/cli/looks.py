"""`vidrec inspect`: what trained networks see in a video."""

import argparse
from typing import Any

from vidrec.cli.shared import add_verb
from vidrec.errors import UsageError


def add_inspect(verbs: Any) -> None:
    """Adds `vidrec inspect`."""
    from vidrec.inspect import LOOKS

    parser = add_verb(
        verbs, "inspect", _inspect, "what networks see in a video: maps as arrays and as pictures",
        "clip.mp4 --workdir runs/tsn --workdir runs/stm --what cam --out looks",
    )  # fmt: skip
    parser.add_argument("video", help="video file, or folder of numbered pictures")
    parser.add_argument("--workdir", action="append", required=True, help="folder of a run; repeat it to compare runs")
    kinds = " | ".join(f"{name} ({look.about})" for name, look in LOOKS.items())
    parser.add_argument("--what", choices=LOOKS, required=True, help=kinds)
    parser.add_argument("--out", required=True, help="folder to write: WHAT-RUN.npz, WHAT.png, WHAT.gif, WHAT.mp4")
    parser.add_argument("--stage", help="of cam: whose features, such as stage4 or blocks_3 (default: the last useful)")
    parser.add_argument("--class", dest="target", help="of cam: name or number (default: each network's best)")
    parser.add_argument("--head", type=int, help="of attention: draw one head, from 0 (default: all beside each other)")
    parser.add_argument(
        "--patch", metavar="ROW,COLUMN", help="of attention: draw one patch, from 0,0 (default: the mean)"
    )


def _inspect(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.inspect.looking import inspect_video

    chosen = {"stage": args.stage, "target": args.target, "head": args.head, "patch": _place(args.patch)}
    return inspect_video(args.workdir, args.video, args.what, args.out, **chosen)


def _place(text: str | None) -> tuple[int, int] | None:
    """(row, column) of "ROW,COLUMN"."""
    if text is None:
        return None
    row, comma, column = text.partition(",")
    if not (comma and row.strip().isdecimal() and column.strip().isdecimal()):
        raise UsageError(f"--patch is {text!r}, but must be ROW,COLUMN, such as 0,3")
    return int(row), int(column)
