"""The command `vidrec`: one sub-command per verb. Exit status 0 done, 1 failed, 2 wrong usage, 130 interrupted."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vidrec.errors import UsageError, VidrecError, did_you_mean


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns its exit status."""
    parser = make_parser()
    args, rest = parser.parse_known_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("absl", "jax", "orbax", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        if unknown := [arg for arg in rest if not (hasattr(args, "config") and arg.startswith("--config."))]:
            flags = [flag for action in args.parser._actions for flag in action.option_strings]
            raise UsageError(f"unknown argument {unknown[0]!r}{did_you_mean(unknown[0], flags)}")
        args.overrides = rest
        result, text = args.run(args)
        if getattr(args, "lead", True):
            print(_json(result) if args.json else text, flush=True)
        return 0
    except VidrecError as error:
        print(f"vidrec: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"vidrec: {error.filename or 'file system'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vidrec: interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(prog="vidrec", description="Video action recognition in JAX/Flax.")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        _add_demo, _add_toy, _add_convert, _add_verify, _add_train, _add_eval, _add_predict, _add_summary, _add_import,
        _add_bench, _add_doctor,
    ):  # fmt: skip
        add(verbs)
    return parser


def _verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], tuple[Any, str]], about: str, example: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name, help=about, description=about, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.epilog = f"example:\n  {parser.prog} {example}"
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run, parser=parser)
    return parser


def _add_config(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument("--config", required=required, help="FILE[:arg]; single fields by --config.section.field=value")


def _add_hosts(parser: argparse.ArgumentParser) -> None:
    hosts = parser.add_argument_group("several processes (not needed on Cloud TPU)")
    hosts.add_argument("--coordinator", help="HOST:PORT of process 0")
    hosts.add_argument("--processes", type=int, help="how many")
    hosts.add_argument("--process", type=int, help="number of this one")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _add_demo(verbs: Any) -> None:
    parser = _verb(verbs, "demo", _demo, "from videos to trained networks, in minutes", "--workdir runs/demo")
    parser.add_argument("--workdir", default="runs/demo", help="folder for everything it makes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of videos and training (default: %(default)s)")
    parser.add_argument(
        "--all", action="store_true", help="beside TSN, a network of each of the five papers, not STM alone"
    )


def _demo(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.demo import ALL, PAIR, demo

    result = demo(Path(args.workdir), seed=args.seed, networks=ALL if args.all else PAIR)
    return result, _json(result)


def _add_toy(verbs: Any) -> None:
    parser = _verb(verbs, "toy", _toy, "draw labelled action videos as .mp4 files", "--out toy --level demo")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--level", choices=("demo", "benchmark"), default="demo", help="4 or 7 families of actions")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: %(default)s)")


def _toy(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.data.toy import make_toy
    from vidrec.progress import Progress

    with Progress("drawing", 0) as progress:
        made = make_toy(Path(args.out), level=args.level, seed=args.seed, progress=progress)
    return made, f"{made['videos']} videos of {made['classes']} classes in {args.out}; list: {made['annotations']}"


def _add_convert(verbs: Any) -> None:
    parser = _verb(
        verbs, "convert", _convert, "videos to sharded TFRecords",
        "--dataset ucf101 --root UCF-101 --annotations ucfTrainTestlist --out records/ucf101",
    )  # fmt: skip
    parser.add_argument(
        "--dataset", required=True,
        help="annotation format: list (CSV of path,label,split) | jsonl | tsm (folder num_frames label) | ucf101 | "
        "hmdb51 | ssv1 | ssv2 | jester | kinetics400; or tfds:NAME, prepared by tensorflow-datasets",
    )  # fmt: skip
    parser.add_argument(
        "--root", required=True, help="folder that the annotated paths start from (of tfds: its data folder)"
    )
    parser.add_argument(
        "--annotations", help="annotation file (list, jsonl, tsm) or folder of the official files (tfds: none)"
    )
    parser.add_argument("--out", required=True, help="folder of records to write")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    parser.add_argument("--short-side", type=int, default=256, help="pixels; 0 keeps the size (default: %(default)s)")
    parser.add_argument("--quality", type=int, default=95, help="of jpeg and mp4, 1 to 100 (default: %(default)s)")
    parser.add_argument(
        "--codec", choices=("jpeg", "mp4", "raw"), default="jpeg",
        help="how frames are stored: jpeg, fastest to read; mp4, a third to a seventh of the size; raw, exact pixels "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--videos-per-shard", type=int, default=64, help="at most (default: %(default)s)")
    parser.add_argument("--split-number", type=int, choices=(1, 2, 3), help="of ucf101 and hmdb51 (default: 1)")
    parser.add_argument(
        "--label-order", choices=("file", "sorted"),
        help="of the classes of list, jsonl, ssv1, jester and kinetics400 (default: sorted, as TSM has it; "
        "file: as they are listed, as MMAction2 has it)",
    )  # fmt: skip
    parser.add_argument(
        "--classes", help="file with one class name per line, in label order (instead of --label-order; for tsm, too)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order of records (default: %(default)s)")


def _convert(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.data.convert import convert
    from vidrec.progress import Progress

    with Progress("converting", 0) as progress:
        report = convert(
            args.dataset, args.root, args.annotations, args.out,
            workers=args.workers, short_side=args.short_side, quality=args.quality, codec=args.codec,
            videos_per_shard=args.videos_per_shard, split_number=args.split_number,
            label_order=args.label_order, classes=args.classes, seed=args.seed, progress=progress,
        )  # fmt: skip
    return report.as_dict(), report.text()


def _add_verify(verbs: Any) -> None:
    parser = _verb(verbs, "verify", _verify, "check a folder of records", "records/ucf101 --deep")
    parser.add_argument("records", help="folder written by vidrec convert")
    parser.add_argument("--deep", action="store_true", help="also decode every frame")
    parser.add_argument(
        "--repair", action="store_true", help="write wrong indexes again; set aside the records that cannot be read"
    )
    parser.add_argument(
        "--resume", nargs="?", const="train", metavar="SPLIT",
        help="instead, prove that training on SPLIT (train) goes on exactly where it is stopped",
    )  # fmt: skip


def _verify(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.data.verify import verify
    from vidrec.data.verify_resume import verify_resume
    from vidrec.progress import Progress

    if args.resume and (args.deep or args.repair):
        raise UsageError("--resume is a check of its own: give it without --deep and --repair")
    if args.resume:
        report = verify_resume(args.records, args.resume)
    else:
        with Progress("verifying", 0) as progress:
            report = verify(args.records, deep=args.deep, repair=args.repair, progress=progress)
    if report.problems:
        print(_json(report.as_dict()) if args.json else report.text(), flush=True)
        raise VidrecError(f"{args.records}: {len(report.problems)} problems")
    return report.as_dict(), report.text()


def _add_train(verbs: Any) -> None:
    parser = _verb(
        verbs, "train", _train, "train a network; goes on by itself when the workdir holds a checkpoint",
        "--config configs/stm.py:ssv1 --workdir runs/stm --config.data.records=records/ssv1",
    )  # fmt: skip
    _add_config(parser)
    parser.add_argument("--workdir", required=True, help="folder of the run")
    _add_hosts(parser)


def _train(args: argparse.Namespace) -> tuple[Any, str]:
    _start_hosts(args)
    from vidrec.eval.evaluate import make_evaluator
    from vidrec.train.loop import train

    outcome = train(_load_config(args), args.workdir, make_evaluator)
    result = {"workdir": args.workdir, **outcome._asdict()}
    if not outcome.finished:
        return result, f"Stopped at step {outcome.step}, saved; run the same command again to go on."
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in outcome.metrics.items())
    return result, f"Finished at step {outcome.step}: {metrics}"


def _add_eval(verbs: Any) -> None:
    parser = _verb(verbs, "eval", _eval, "evaluate a network exactly", "--workdir runs/stm --split val")
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
    _add_hosts(parser)


def _eval(args: argparse.Namespace) -> tuple[Any, str]:
    _start_hosts(args)
    from vidrec.inspect.results import evaluate_run

    names = ("records", "split", "clips", "crops", "sampling", "full_resolution", "batch_size", "step", "out")
    options = {name: getattr(args, name) for name in names}
    return evaluate_run(args.workdir, **options)


def _add_predict(verbs: Any) -> None:
    parser = _verb(verbs, "predict", _predict, "classes and scores of video files", "--workdir runs/stm clip.mp4")
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
        print(_json(rows) if args.json else "\n".join(lines), flush=True)
        raise VidrecError(f"{bad} of {len(files)} videos could not be read")
    return rows, "\n".join(lines)


def _add_summary(verbs: Any) -> None:
    parser = _verb(
        verbs, "summary", _summary, "parameters, multiply-adds and shapes per stage", "--config configs/stm.py:ssv1"
    )
    _add_config(parser, required=False)
    parser.add_argument("--all", action="store_true", help="every network of the papers' tables, beside their figures")


def _summary(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.inspect.summary import summarize
    from vidrec.models.registry import create_model

    if args.all == bool(args.config):
        raise UsageError("give either --config FILE[:arg] or --all")
    if args.all:
        from vidrec.inspect.published import ROWS, compare, table_text
        from vidrec.progress import Progress

        with Progress("networks", len(ROWS)) as progress:
            table = compare(ROWS, progress)
        return table, table_text(table)
    config = _load_config(args)
    fields = {key: value for key, value in config.model.items() if key != "name"}
    if not fields["num_classes"]:
        raise UsageError("model.num_classes is 0 (as many as the records have); set --config.model.num_classes=N")
    summary = summarize(create_model(config.model.name, **fields), image_size=config.data.image_size)
    return {"model": config.model.name, **summary.as_dict()}, summary.text()


def _add_import(verbs: Any) -> None:
    parser = _verb(
        verbs, "import", _import, "PyTorch weights to a vidrec checkpoint",
        "--model tsn_resnet50 --weights resnet50.pth --out weights/resnet50",
    )  # fmt: skip
    parser.add_argument("--model", help="network (vidrec.list_models())")
    _add_config(parser, required=False)
    parser.add_argument("--weights", required=True, help=".pth, .pt, .pth.tar, .safetensors or .npz")
    parser.add_argument("--out", required=True, help="folder of the checkpoint to write")
    parser.add_argument("--num-classes", type=int, help="(default: the size of the file's classifier)")
    parser.add_argument("--num-frames", type=int, help="of --model (default: 8)")
    parser.add_argument("--image-size", type=int, help="of --model (default: 224)")
    parser.add_argument("--classes", help="file with one class name per line, in label order")
    parser.add_argument(
        "--allow-missing", action="append", default=[], metavar="PATTERN",
        help="parameters that the file need not have, such as fc or '*/cmm'; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--bgr", action="store_true",
        help="transformers: the weights expect blue, green, red (TimeSformer's on Something-Something V2)",
    )  # fmt: skip


def _import(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.interop.weights import import_weights, plain_config

    sizes = {name: size for name in ("num_frames", "image_size") if (size := getattr(args, name)) is not None}
    if bool(args.model) == bool(args.config) or (args.config and sizes):
        raise UsageError("give either --model, with --num-frames and --image-size, or --config FILE[:arg]")
    report = import_weights(
        _load_config(args) if args.config else plain_config(args.model, **sizes), args.weights, args.out,
        num_classes=args.num_classes, classes=args.classes, allow_missing=tuple(args.allow_missing), bgr=args.bgr,
    )  # fmt: skip
    return report.as_dict(), f"{report.text()}\nWrote {args.out}."


def _load_config(args: argparse.Namespace) -> Any:
    from vidrec import config
    from vidrec.models.registry import model_fields
    from vidrec.train.tasks import task_fields

    return config.load(args.config, args.overrides, model_fields=model_fields, task_fields=task_fields)


def _add_bench(verbs: Any) -> None:
    about = "speed and memory of vidrec and its alternatives, measured in one run"
    whats = verbs.add_parser("bench", help=about, description=about).add_subparsers(metavar="WHAT", required=True)
    _add_bench_correlation(whats)
    _add_bench_input(whats)


def _add_bench_correlation(whats: Any) -> None:
    parser = _verb(whats, "correlation", _bench_correlation, "every way to compute the correlation", "--static")
    parser.add_argument("--static", action="store_true", help="what the TPU compiler says of each chip; needs no TPU")
    parser.add_argument("--chip", action="append", help="of --static: v4, v5e, v5p, v6e or tpu7x (default: all)")
    parser.add_argument("--pairs", type=int, help="pairs of maps (default: 896, or 14 on a CPU; 56 with --static)")
    parser.add_argument("--size", type=int, default=28, help="side of the maps (default: %(default)s)")
    parser.add_argument("--channels", type=int, default=64, help="of the maps (default: %(default)s)")
    parser.add_argument("--patch", type=int, default=15, help="side of the window, odd (default: %(default)s)")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="(default: bfloat16, or float32 when running on a CPU)"
    )
    parser.add_argument("--rounds", type=int, help="times that each is measured (default: 20)")


def _bench_correlation(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.ops.correlation import bench, static

    if args.static and args.rounds is not None:
        raise UsageError("--rounds has no effect with --static, which measures nothing")
    if args.chip and not args.static:
        raise UsageError("--chip has no effect without --static")
    given = {"pairs": args.pairs, "size": args.size, "channels": args.channels, "patch": args.patch}
    given |= {"dtype": args.dtype, "chips": args.chip, "rounds": args.rounds}
    given = {name: value for name, value in given.items() if value is not None}
    measure, text = (static.account, static.text) if args.static else (bench.measure, bench.text)
    try:
        report = measure(**given, progress=lambda line: print(line, file=sys.stderr, flush=True))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return report, text(report)


def _add_bench_input(whats: Any) -> None:
    parser = _verb(
        whats, "input", _bench_input, "the input pipeline, beside Pillow's and PyTorch's",
        "--config configs/stm.py:ssv1 --config.data.records=records/ssv1",
    )  # fmt: skip
    _add_config(parser, required=False)
    parser.add_argument("--frames", type=int, action="append", help="of a clip; repeatable (default: 8 and 16)")
    parser.add_argument("--batch-size", type=int, help="clips (default: 8)")
    parser.add_argument("--workers", type=int, help="loader processes, 0 for none (default: 2)")
    parser.add_argument("--threads", type=int, help="of each loader process (default: 2)")
    parser.add_argument("--clips", type=int, help="timed in each round (default: 64)")
    parser.add_argument("--rounds", type=int, help="in which all take their turns (default: 3)")
    parser.add_argument("--batches", type=int, help="read to see whether memory grows (default: 100)")
    parser.add_argument("--torch-python", help="interpreter with PyTorch and Pillow (default: this one)")


def _bench_input(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.inspect import bench_input

    setting = _input_of(_load_config(args)) if args.config else {}
    given = {name: getattr(args, name) for name in bench_input.Setting._fields if getattr(args, name, None) is not None}
    setting |= given | ({"frames": tuple(args.frames)} if args.frames else {})
    report = bench_input.measure(bench_input.Setting(**setting), lambda line: print(line, file=sys.stderr, flush=True))
    return report, bench_input.text(report)


def _input_of(config: Any) -> dict[str, Any]:
    """What `bench input` measures, as a configuration has it."""
    from vidrec.data.clips import ClipSpec
    from vidrec.models.registry import create_model

    fields = {key: value for key, value in config.model.items() if key not in ("name", "num_classes")}
    model = create_model(config.model.name, num_classes=1, **fields)
    return {
        "records": config.data.records,
        "split": config.data.train_split,
        "spec": ClipSpec.from_config(config, model.num_frames, model.clip_length),
        "frames": (model.num_frames,),
        "batch_size": config.train.batch_size,
        "workers": config.data.workers,
        "threads": config.data.threads,
    }


def _add_doctor(verbs: Any) -> None:
    _verb(verbs, "doctor", _doctor, "what this machine has, and which implementations run on it", "--json")


def _doctor(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.inspect import doctor

    report = doctor.examine()
    return report, doctor.text(report)


def _start_hosts(args: argparse.Namespace) -> None:
    """Joins the other processes, and lets only the first of them print the result."""
    given = [value is not None for value in (args.coordinator, args.processes, args.process)]
    if any(given) and not all(given):
        raise UsageError("--coordinator, --processes and --process go together")
    from vidrec.train.sharding import start_hosts

    if args.coordinator:  # Gloo, by which processes on CPUs talk, writes on standard output, which is for the result
        sys.stdout = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), 1)
    args.lead = start_hosts(args.coordinator, args.processes, args.process) == 0
