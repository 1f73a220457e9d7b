"""`vidrec predict`: trained networks at work."""

import argparse
from typing import Any

from vidrec.cli.shared import add_verb, as_json
from vidrec.errors import VidrecError


def add_predict(verbs: Any) -> None:
    """Adds `vidrec predict`."""
    parser = add_verb(verbs, "predict", _predict, "classes and scores of video files", "--workdir runs/stm clip.mp4")
    parser.add_argument("videos", nargs="+", help="video files, or folders of them")
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument("--top", type=int, default=5, help="classes shown (default: %(default)s)")


def _predict(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.eval.predict import list_videos, load

    files = list_videos(args.videos)
    recognizer = load(args.workdir)
    rows, lines, bad = [], [], 0
    for file in files:
        try:
            best = recognizer.predict(file).top(args.top)
        except VidrecError as error:  # one bad file of many; the others are still told
            rows.append({"video": str(file), "error": str(error)})
            lines += [str(file), f"  {error}"]
            bad += 1
            continue
        rows.append({"video": str(file), "top": best})
        lines += [str(file), *(f"  {score:6.1%}  {name}" for name, score in best)]
    if bad:
        print(as_json(rows) if args.json else "\n".join(lines), flush=True)
        raise VidrecError(f"{bad} of {len(files)} videos could not be read")
    return rows, "\n".join(lines)
