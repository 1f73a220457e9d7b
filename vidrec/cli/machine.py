"""`vidrec bench` and `doctor`: what runs on this machine, and how fast."""

import argparse
import os
from typing import Any

from vidrec.cli.shared import add_config, add_verb, load_config, tell
from vidrec.errors import UsageError


def add_bench(verbs: Any) -> None:
    """Adds `vidrec bench`."""
    about = "speed and memory of vidrec and its alternatives, measured in one run"
    parser = verbs.add_parser(
        "bench", help=about, description=about, epilog="example:\n  vidrec bench correlation --static",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    whats = parser.add_subparsers(metavar="WHAT", required=True)
    _add_bench_correlation(whats)
    _add_bench_input(whats)
    _add_bench_step(whats)
    _add_bench_predict(whats)
    _add_bench_compile(whats)


def _add_bench_correlation(whats: Any) -> None:
    parser = add_verb(whats, "correlation", _bench_correlation, "every way to compute the correlation", "--static")
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
        report = measure(**given, progress=tell)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return report, text(report)


def _add_bench_input(whats: Any) -> None:
    parser = add_verb(
        whats, "input", _bench_input, "the input pipeline, beside Pillow's and PyTorch's",
        "--config configs/stm.py:ssv1 --config.data.records=records/ssv1",
    )  # fmt: skip
    add_config(parser, required=False)
    parser.add_argument(
        "--frames", type=int, action="append", help="of a clip; repeatable (default: 8, 16 or the recipe's)"
    )
    parser.add_argument("--batch-size", type=int, help="clips (default: 8)")
    parser.add_argument("--workers", type=int, help="loader processes, 0: none (default: 2, or the recipe's)")
    parser.add_argument("--threads", type=int, help="of each loader process (default: 2, or the recipe's)")
    parser.add_argument("--clips", type=int, help="timed in each round, at least 8 batches (default: 64)")
    parser.add_argument("--rounds", type=int, help="in which all take their turns (default: 3)")
    parser.add_argument("--batches", type=int, help="read to see whether memory grows (default: 100)")
    parser.add_argument("--torch-python", help="interpreter with PyTorch and Pillow (default: this one)")


def _bench_input(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.inspect import bench_input

    setting = _input_of(load_config(args)) if args.config else {}
    given = {name: getattr(args, name) for name in bench_input.Setting._fields if getattr(args, name, None) is not None}
    setting |= given | ({"frames": tuple(args.frames)} if args.frames else {})
    report = bench_input.measure(bench_input.Setting(**setting), tell)
    return report, bench_input.text(report)


def _input_of(config: Any) -> dict[str, Any]:
    """What `bench input` measures, as a configuration has it."""
    from vidrec.data.clips import ClipSpec
    from vidrec.models.registry import create_model
    from vidrec.ranges import record_folders

    fields = {key: value for key, value in config.model.items() if key not in ("name", "num_classes")}
    model = create_model(config.model.name, num_classes=1, **fields)
    return {
        "records": record_folders(config),
        "split": config.data.train_split,
        "spec": ClipSpec.from_config(config, model.num_frames, model.clip_length),
        "frames": (model.num_frames,),
        "workers": config.data.workers,
        "threads": config.data.threads,
    }


def _add_bench_step(whats: Any) -> None:
    parser = add_verb(
        whats, "step", _bench_step, "the training step on the devices that are here, beside PyTorch's",
        "--config configs/stm.py:ssv1 --batch-size 8",
    )  # fmt: skip
    add_config(parser)
    parser.add_argument("--batch-size", type=int, help="clips of the global batch (default: the recipe's)")
    parser.add_argument("--steps", type=int, default=10, help="timed in each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="in which both take their turns (default: %(default)s)")
    _add_torch(parser)


def _add_torch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--torch-python", default="", help="interpreter with PyTorch (default: this one, if it has it)")


def _share_gpu() -> None:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory of the same GPU


def _bench_step(args: argparse.Namespace) -> tuple[Any, str]:
    _share_gpu()
    from vidrec.inspect import bench_step

    report = bench_step.measure(
        load_config(args), batch_size=args.batch_size, steps=args.steps, rounds=args.rounds,
        torch_python=args.torch_python, tell=tell,
    )  # fmt: skip
    return report, bench_step.text(report)


def _add_bench_predict(whats: Any) -> None:
    parser = add_verb(
        whats, "predict", _bench_predict, "clips, a video file and single frames to scores, beside PyTorch's",
        "--config configs/stm.py:ssv1 --batch-size 16",
    )  # fmt: skip
    add_config(parser)
    parser.add_argument("--batch-size", type=int, action="append", help="clips; repeatable (default: 1 and 8)")
    parser.add_argument("--rounds", type=int, default=3, help="in which all take their turns (default: %(default)s)")
    _add_torch(parser)


def _bench_predict(args: argparse.Namespace) -> tuple[Any, str]:
    _share_gpu()
    from vidrec.inspect import bench_predict

    report = bench_predict.measure(
        load_config(args), batch_sizes=args.batch_size or bench_predict.BATCHES, rounds=args.rounds,
        torch_python=args.torch_python, tell=tell,
    )  # fmt: skip
    return report, bench_predict.text(report)


def _add_bench_compile(whats: Any) -> None:
    parser = add_verb(
        whats, "compile", _bench_compile, "seconds until the steps run, without and with JAX's compilation cache",
        "--config configs/stm.py:ssv1",
    )  # fmt: skip
    add_config(parser)


def _bench_compile(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.inspect import bench_compile

    report = bench_compile.measure(load_config(args), tell)
    return report, bench_compile.text(report)


def add_doctor(verbs: Any) -> None:
    """Adds `vidrec doctor`."""
    about = "what this machine has and which implementations run on it; or how two runs differ"
    parser = add_verb(verbs, "doctor", _doctor, about, "runs/stm runs/stm-again")
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folders of two runs, to compare them")


def _doctor(args: argparse.Namespace) -> tuple[Any, str]:
    if args.runs:
        from vidrec.inspect import two_runs

        if len(args.runs) != 2:
            raise UsageError(f"doctor compares two runs, but got {len(args.runs)}; with none it looks at the machine")
        report = two_runs.compare(*args.runs)
        return report, two_runs.text(report)
    from vidrec.inspect import doctor

    report = doctor.examine()
    return report, doctor.text(report)
