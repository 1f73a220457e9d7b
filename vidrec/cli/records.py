"""`vidrec toy`, `convert` and `verify`: videos and the records made of them."""

import argparse
from typing import Any

from vidrec.cli.shared import add_verb, as_json
from vidrec.errors import UsageError, VidrecError


def add_toy(verbs: Any) -> None:
    """Adds `vidrec toy`."""
    parser = add_verb(verbs, "toy", _toy, "draw labelled action videos as .mp4 files", "--out toy --level demo")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument(
        "--level",
        choices=("demo", "benchmark"),
        default="demo",
        help="4 families of actions, or 7 before a busier scene",
    )
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels (default: %(default)s)")
    parser.add_argument(
        "--train-per-family", type=int, default=512,
        help="training videos of each family, half of them in each order (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--eval-per-family", type=int, default=64,
        help="test videos of each family, each in both orders (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: %(default)s)")


def _toy(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.data.toy import make_toy
    from vidrec.progress import Progress

    with Progress("drawing", 0) as progress:
        made = make_toy(
            args.out, level=args.level, size=args.size, seed=args.seed, train_per_family=args.train_per_family,
            eval_per_family=args.eval_per_family, progress=progress,
        )  # fmt: skip
    return made, f"{made['videos']} videos of {made['classes']} classes in {args.out}; list: {made['annotations']}"


def add_convert(verbs: Any) -> None:
    """Adds `vidrec convert`."""
    parser = add_verb(
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
    parser.add_argument("--quality", type=int, help="of jpeg and mp4, 1 to 100 (default: 95)")
    parser.add_argument(
        "--codec", choices=("jpeg", "mp4", "raw"), default="jpeg",
        help="how frames are stored: jpeg, fastest to read; mp4, about a quarter of the size; raw, exact pixels "
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
    parser.add_argument(
        "--retry-skipped", action="store_true",
        help="in a finished folder, make the shards again that lack a video which is there now",
    )  # fmt: skip


def _convert(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.data.convert import convert
    from vidrec.progress import Progress

    with Progress("converting", 0) as progress:
        report = convert(
            args.dataset, args.root, args.annotations, args.out,
            workers=args.workers, short_side=args.short_side, quality=args.quality, codec=args.codec,
            videos_per_shard=args.videos_per_shard, split_number=args.split_number,
            label_order=args.label_order, classes=args.classes, seed=args.seed,
            retry_skipped=args.retry_skipped, progress=progress,
        )  # fmt: skip
    return report.as_dict(), report.text()


def add_verify(verbs: Any) -> None:
    """Adds `vidrec verify`."""
    parser = add_verb(verbs, "verify", _verify, "check a folder of records", "records/ucf101 --deep")
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
        print(as_json(report.as_dict()) if args.json else report.text(), flush=True)
        raise VidrecError(f"{args.records}: {len(report.problems)} problems")
    return report.as_dict(), report.text()
