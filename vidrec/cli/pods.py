"""`vidrec compile` and `launch`: a run on a pod, before there is one and when there is."""

import argparse
import sys
from typing import Any

from vidrec.cli.shared import add_config, add_verb, load_config


def add_compile(verbs: Any) -> None:
    """Adds `vidrec compile`."""
    parser = add_verb(
        verbs, "compile", _compile, "compile a run's steps for a slice without having it: memory, collectives, time",
        "--config configs/tcm.py:ssv1 --topology v5e:16x16",
    )  # fmt: skip
    add_config(parser)
    parser.add_argument("--topology", required=True, help="such as v5e:16x16, v5p:4x4x8, v6e:8x8, h200 or h200:8")
    parser.add_argument(
        "--batch",
        type=int,
        help="clips of the global batch (default: the recipe's, or 8 a device if it does not split)",
    )
    parser.add_argument("--find-batch", action="store_true", help="look for the largest batch that fits, too")
    parser.add_argument(
        "--full", action="store_true",
        help="with all optimisation, as a run has: several times as long, memory a few per cent less",
    )  # fmt: skip


def _compile(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.launch.compile import compile_for
    from vidrec.launch.report import text

    report = compile_for(
        load_config(args), args.topology, batch=args.batch, full=args.full,
        find_batch=args.find_batch, tell=lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip
    return {"config": args.config, **report}, text(report)


def add_launch(verbs: Any) -> None:
    """Adds `vidrec launch`."""
    parser = add_verb(
        verbs, "launch", _launch, "print the commands or the manifest that start a run on a pod or on GPU machines",
        "queued --config configs/tcm.py:ssv1 --topology v5e:4x4 --workdir gs://my-bucket/runs/tcm > launch.sh",
    )  # fmt: skip
    parser.add_argument(
        "kind", choices=("tpu-vm", "queued", "jobset", "slurm", "gpu"),
        help="tpu-vm: TPUs made now; queued: when there are some; jobset: Kubernetes; slurm: sbatch; gpu: Docker",
    )  # fmt: skip
    add_config(parser)
    parser.add_argument("--topology", required=True, help="such as v5e:16x16; of GPUs those of one machine, as h200:8")
    parser.add_argument("--workdir", required=True, help="folder of the run: gs://BUCKET/FOLDER, or a shared folder")
    parser.add_argument("--name", help="of run and machines (default: from the recipe)")
    parser.add_argument("--nodes", type=int, default=1, help="machines, of slurm and gpu (default: %(default)s)")
    parser.add_argument("--image", default="", help="container image, of jobset and gpu")
    parser.add_argument("--spot", action="store_true", help="TPUs that can be taken away at any time, for less")


def _launch(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.launch.commands import render
    from vidrec.launch.run import Run, check, default_name
    from vidrec.launch.topology import parse

    run = Run(
        name=args.name or default_name(args.config),
        config=args.config,
        overrides=tuple(args.overrides),
        slice=parse(args.topology),
        workdir=args.workdir,
        nodes=args.nodes,
        image=args.image,
        spot=args.spot,
    )
    text = render(args.kind, run)
    check(run, load_config(args))
    return {"kind": args.kind, "name": run.name, "text": text}, text.rstrip("\n")
