"""`vidrec inspect`: what trained networks see in a video."""

import argparse
from typing import Any

from vidrec.cli.shared import add_verb

LOOKS = ("attention", "cam", "motion", "order", "features")


def add_inspect(verbs: Any) -> None:
    """Adds `vidrec inspect`."""
    parser = add_verb(
        verbs, "inspect", _inspect, "what networks see in a video: maps as arrays and as pictures",
        "clip.mp4 --workdir runs/tsn --workdir runs/stm --what cam --out looks",
    )  # fmt: skip
    parser.add_argument("video", help="video file, or folder of numbered pictures")
    parser.add_argument("--workdir", action="append", required=True, help="folder of a run; repeat it to compare runs")
    parser.add_argument(
        "--what", choices=LOOKS, required=True,
        help="attention (of TTSN, DirecFormer, TimeSformer) | cam (Grad-CAM) | motion (of TCM, STM) | order (of "
        "DirecFormer, TimeSformer: the clip shuffled, and put in order again) | features (strength of each stage)",
    )  # fmt: skip
    parser.add_argument("--out", required=True, help="folder to write: WHAT-RUN.npz, WHAT.png, WHAT.gif, WHAT.mp4")
    parser.add_argument("--stage", help="of cam: whose features, such as stage4 or blocks_3 (default: the last useful)")
    parser.add_argument("--class", dest="target", help="of cam: name or number (default: each network's best)")


def _inspect(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.inspect.looking import inspect_video

    return inspect_video(args.workdir, args.video, args.what, args.out, stage=args.stage, target=args.target)
