"""`vidrec summary` and `import`: networks and weights."""

import argparse
from typing import Any

from vidrec.cli.shared import add_config, add_verb, load_config
from vidrec.errors import UsageError


def add_summary(verbs: Any) -> None:
    """Adds `vidrec summary`."""
    parser = add_verb(
        verbs, "summary", _summary, "parameters, multiply-adds and shapes per stage", "--config configs/stm.py:ssv1"
    )
    add_config(parser, required=False)
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
    config = load_config(args)
    fields = {key: value for key, value in config.model.items() if key != "name"}
    if not fields["num_classes"]:
        raise UsageError("model.num_classes is 0 (as many as the records have); set --config.model.num_classes=N")
    summary = summarize(create_model(config.model.name, **fields), image_size=config.data.image_size)
    return {"model": config.model.name, **summary.as_dict()}, summary.text()


def add_import(verbs: Any) -> None:
    """Adds `vidrec import`."""
    parser = add_verb(
        verbs, "import", _import, "PyTorch weights to a vidrec checkpoint",
        "--model tsn_resnet50 --weights resnet50.pth --out weights/resnet50",
    )  # fmt: skip
    parser.add_argument("--model", help="network (vidrec.list_models()); not needed for files of `vidrec export`")
    add_config(parser, required=False)
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
    from vidrec.interop.weights import import_weights, plain_config, stored_config

    sizes = {name: size for name in ("num_frames", "image_size") if (size := getattr(args, name)) is not None}
    if (args.model and args.config) or (sizes and not args.model):
        raise UsageError("give either --model, with --num-frames and --image-size, or --config FILE[:arg]")
    if args.model:
        config = plain_config(args.model, **sizes)
    else:
        config = load_config(args) if args.config else stored_config(args.weights)
    report = import_weights(
        config, args.weights, args.out,
        num_classes=args.num_classes, classes=args.classes, allow_missing=tuple(args.allow_missing), bgr=args.bgr,
    )  # fmt: skip
    return report.as_dict(), f"{report.text()}\nWrote {args.out}."
