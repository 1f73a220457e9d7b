"""`vidrec predict` and `export`: trained networks at work, here and elsewhere."""

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vidrec.cli.shared import add_verb, as_json
from vidrec.errors import UsageError, VidrecError


def add_predict(verbs: Any) -> None:
    """Adds `vidrec predict`."""
    parser = add_verb(verbs, "predict", _predict, "classes and scores of video files", "--workdir runs/stm clip.mp4")
    parser.epilog = (
        f"{parser.epilog}\n"
        "  ffmpeg -i rtsp://camera -vf scale=320:240 -f rawvideo -pix_fmt rgb24 - |\n"
        "    vidrec predict --workdir runs/stm --online - --size 320x240"
    )
    parser.add_argument("videos", nargs="+", help="video files, or folders of them; - with --online: standard input")
    parser.add_argument("--workdir", help="folder of the run")
    parser.add_argument("--artifact", metavar="FILE", help="instead of --workdir: a network that `vidrec export` wrote")
    parser.add_argument("--top", type=int, default=5, help="classes shown (default: %(default)s)")
    parser.add_argument(
        "--overlay",
        metavar="FILE",
        help="of one video: .gif, .webp, .png or .mp4 of the clip, with what the network looks at",
    )
    online = parser.add_argument_group("frame by frame")
    online.add_argument("--online", action="store_true", help="a line for every frame of one video, as it comes")
    online.add_argument("--every", type=int, help="take one frame of so many (default: 1)")
    online.add_argument("--size", metavar="WxH", help="of the frames that come as raw rgb24 through a pipe")


def _predict(args: argparse.Namespace) -> tuple[Any, str]:
    if bool(args.workdir) == bool(args.artifact):
        raise UsageError("give either --workdir or --artifact")
    if args.top < 1:
        raise UsageError(f"--top {args.top} shows no class: take 1 or more")
    if args.overlay and (args.online or args.artifact):
        raise UsageError("--overlay draws a video that --workdir predicts: it goes without --online and --artifact")
    if args.online:
        return _predict_online(args)
    for flag in ("every", "size"):
        if getattr(args, flag) is not None:
            raise UsageError(f"--{flag} has no effect without --online")
    from vidrec.eval.predict import list_videos, load
    from vidrec.interop.export import load_artifact

    files = list_videos(args.videos)
    if args.overlay:
        _check_overlay(args.overlay, len(files))
    network = None if args.artifact else load(args.workdir)
    recognizer = network or load_artifact(args.artifact)
    rows, lines, bad = [], [], 0
    for file in files:
        try:
            best = recognizer.predict(file).top(args.top)
        except VidrecError as error:  # one bad file of many; the others are still told
            if len(files) == 1:
                raise
            rows.append({"video": str(file), "error": str(error)})
            lines += [str(file), f"  {error}"]
            bad += 1
            continue
        rows.append({"video": str(file), "top": best})
        lines += [str(file), *_top_lines(best)]
    if bad:
        print(as_json(rows) if args.json else "\n".join(lines), flush=True)
        raise VidrecError(f"{bad} of {len(files)} videos could not be read")
    if args.overlay and network:
        from vidrec.inspect.looking import overlay_of, write_film

        write_film(args.overlay, overlay_of(network, files[0]))
        lines.append(f"Drawn: {args.overlay}")
    return rows, "\n".join(lines)


def _check_overlay(path: str, videos: int) -> None:
    """Raises UsageError for what would be told after the work only."""
    from vidrec.inspect.looking import film_ending

    if videos > 1:
        raise UsageError(f"--overlay is of one video, but there are {videos}")
    film_ending(path)


def _predict_online(args: argparse.Namespace) -> tuple[Any, str]:
    """Prints a line for every frame; what it returns is of all of them."""
    if args.artifact:
        raise UsageError("--online needs the network itself: give --workdir, not --artifact")
    frames = _stream(args)
    from vidrec.eval.online import Latencies, Online
    from vidrec.eval.predict import load

    online = Online(load(args.workdir))
    kept = f"kept of a frame: {online.halves.kept}" if online.halves.depth else "every window is computed whole"
    print(f"{online.recognizer}: {kept}", file=sys.stderr, flush=True)
    latencies, count, last, failed = Latencies(), 0, None, None
    try:
        for moment in online.watch(frames, every=1 if args.every is None else args.every):
            latencies.add(moment.seconds)
            count, last = count + 1, moment
            print(_moment_json(moment, args.top) if args.json else _moment_line(moment), flush=True)
    except (VidrecError, KeyboardInterrupt) as error:
        failed = error
    if last is None:
        raise failed or VidrecError("there was no frame")
    best, delays = last.so_far.top(args.top), latencies.percentiles()
    result = {"frames": count, "top": best, "latency_ms": delays}
    text = "\n".join([f"{count} frames, {delays['p50']} ms each at the median; all together:", *_top_lines(best)])
    if failed:
        print(as_json(result) if args.json else text, flush=True)
        raise failed
    return result, text


def _stream(args: argparse.Namespace) -> Iterable[Any]:
    """The frames of the one video, or of standard input."""
    from vidrec.data.video import read_raw, read_video

    if len(args.videos) != 1:
        raise UsageError(f"--online looks at one video, but got {len(args.videos)}")
    if args.videos != ["-"]:
        if args.size is not None:
            raise UsageError("--size has no effect on a video file, which says how large its frames are")
        return read_video(args.videos[0])
    if args.size is None:
        raise UsageError("frames on standard input need --size WxH, such as --size 320x240")
    return read_raw(sys.stdin.buffer, *_size("--size", args.size))


def _size(flag: str, text: str) -> tuple[int, int]:
    """Width and height."""
    size = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not size:
        raise UsageError(f"{flag} {text} is no width and height in pixels: give WxH, such as {flag} 320x240")
    return int(size[1]), int(size[2])


def add_export(verbs: Any) -> None:
    """Adds `vidrec export`."""
    parser = add_verb(
        verbs, "export", _export, "a trained network as one file that gives what the network gives, and its cards",
        "--workdir runs/stm --format stablehlo --out stm.stablehlo",
    )  # fmt: skip
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument(
        "--format", required=True, choices=("stablehlo", "onnx", "safetensors"),
        help="stablehlo (jax.export, for CPU, CUDA and TPU) | onnx | safetensors (the weights alone, by torch's names)",
    )  # fmt: skip
    parser.add_argument(
        "--out", required=True, help="file to write; OUT.json says what to feed it, OUT.md is for people"
    )
    parser.add_argument("--step", type=int, help="checkpoint (default: the newest)")
    parser.add_argument(
        "--frame-size", metavar="WxH",
        help="take whole frames of this size, as decoded, and resize and cut them inside the file "
        "(default: take clips that are resized and cut already)",
    )  # fmt: skip


def _export(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.eval.predict import load
    from vidrec.interop.export import export
    from vidrec.interop.model_card import evaluations, write_model_card
    from vidrec.train.card import last

    size = None
    if args.frame_size is not None:
        width, height = _size("--frame-size", args.frame_size)
        size = height, width
    workdir = Path(args.workdir)
    told = last(workdir), evaluations(workdir)  # what is damaged is found before a file is written
    exported = export(load(workdir, step=args.step), args.out, args.format, frame_size=size)
    card = write_model_card(exported, *told)
    text = f"Wrote {exported.path}, {_checked(exported.card)}, {exported.path}.json and {card}."
    return {"out": args.out, **exported.card}, text


def _checked(card: dict[str, Any]) -> str:
    if "checked" not in card:
        return "which gives the weights back as they are"
    text = f"which gives what the network gives (to {card['checked']['difference']:.1e})"
    if pixels := card["checked"].get("pixels"):
        text += f" and resizes frames to {pixels['largest']:g} of 255 levels (mean {pixels['mean']:.2g})"
    return text


def _moment_json(moment: Any, top: int) -> str:
    scores = {"now": moment.now.top(top), "so_far": moment.so_far.top(top)}
    return as_json({"frame": moment.frame, **scores, "ms": round(1000 * moment.seconds, 3)})


def _moment_line(moment: Any) -> str:
    (now, score), (so_far, mean) = moment.now.top(1)[0], moment.so_far.top(1)[0]
    return f"{moment.frame:8d}  {1000 * moment.seconds:7.1f} ms  now {score:6.1%} {now}  so far {mean:6.1%} {so_far}"


def _top_lines(best: list[tuple[str, float]]) -> list[str]:
    return [f"  {score:6.1%}  {name}" for name, score in best]
