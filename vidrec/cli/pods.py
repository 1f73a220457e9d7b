"""`vidrec compile`, `launch` and `sweep`: a run on a pod, before there is one and when there is; and many runs."""

import argparse
from pathlib import Path
from typing import Any

from vidrec.cli.shared import add_config, add_verb, check_local, load_config, tell
from vidrec.errors import UsageError, VidrecError
from vidrec.launch.commands import KINDS
from vidrec.launch.run import Run


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
        find_batch=args.find_batch, tell=tell,
    )  # fmt: skip
    return {"config": args.config, **report}, text(report)


def add_launch(verbs: Any) -> None:
    """Adds `vidrec launch`."""
    parser = add_verb(
        verbs, "launch", _launch, "print the commands or the manifest that start a run on a pod or on GPU machines",
        "queued --config configs/tcm.py:ssv1 --topology v5e:4x4 --workdir gs://my-bucket/runs/tcm > launch.sh",
    )  # fmt: skip
    parser.add_argument(
        "kind", choices=KINDS,
        help="tpu-vm: TPUs made now; queued: when there are some; jobset: Kubernetes; slurm: sbatch; gpu: Docker",
    )  # fmt: skip
    add_config(parser)
    parser.add_argument("--workdir", required=True, help="folder of the run: gs://BUCKET/FOLDER, or a shared folder")
    parser.add_argument("--name", help="of run and machines (default: from the recipe)")
    _add_machines(parser, required=True)


def _add_machines(parser: Any, *, required: bool) -> None:
    parser.add_argument(
        "--topology", required=required, help="such as v5e:16x16; of GPUs those of one machine, as h200:8"
    )
    parser.add_argument("--nodes", type=int, default=1, help="machines, of slurm and gpu (default: %(default)s)")
    parser.add_argument("--image", default="", help="container image, of jobset and gpu")
    parser.add_argument("--spot", action="store_true", help="TPUs that can be taken away at any time, for less")


def _run(args: argparse.Namespace, name: str) -> Run:
    """What is started, as the options of `_add_machines` and --workdir say."""
    from vidrec.launch.topology import parse

    return Run(
        name=name,
        config=args.config,
        overrides=tuple(args.overrides),
        slice=parse(args.topology),
        workdir=args.workdir,
        nodes=args.nodes,
        image=args.image,
        spot=args.spot,
    )


def _launch(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.launch.commands import render
    from vidrec.launch.run import check, default_name

    run = _run(args, args.name or default_name(args.config))
    text = render(args.kind, run)
    check(run, load_config(args))
    return {"kind": args.kind, "name": run.name, "text": text}, text.rstrip("\n")


def add_sweep(verbs: Any) -> None:
    """Adds `vidrec sweep`."""
    parser = add_verb(
        verbs, "sweep", _sweep, "train the rows of a recipe's tables, one on each device at a time",
        "--config configs/stm.py --table modules --seeds 3 --workdir runs/stm",
    )  # fmt: skip
    add_config(parser, what="FILE of a recipe that has tables: sweep()")
    parser.add_argument("--workdir", help="folder of the runs: one of each row and seed")
    parser.add_argument("--table", action="append", default=[], help="title, or its beginning (default: all); repeats")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each row (default: %(default)s)")
    parser.add_argument(
        "--list",
        action="store_true",
        help="train nothing, list the trainings: what stands in several tables once, under the first",
    )
    parser.add_argument("--launch", choices=KINDS, help="train nothing, print a launch command of each training")
    _add_machines(parser.add_argument_group("of --launch"), required=False)


def _sweep(args: argparse.Namespace) -> tuple[Any, str]:
    from vidrec.launch.sweep import is_finished, launch_commands, listing, points, read_outcomes, run_sweep, table

    if bool(args.launch) != bool(args.topology):
        raise UsageError("--launch and --topology go together: the one says how, the other on what")
    if not args.launch and (args.nodes != 1 or args.image or args.spot):
        raise UsageError("--nodes, --image and --spot say where --launch is to start the trainings: give it, too")
    if args.launch and args.list:
        raise UsageError("--list and --launch both train nothing: choose one")
    if not (args.list or args.workdir):
        raise UsageError("say by --workdir where the runs go")
    if not args.launch:
        check_local(args.workdir)
    todo = points(args.config, args.overrides, tables=args.table, seeds=args.seeds)
    if args.list:
        outcomes = read_outcomes(Path(args.workdir)) if args.workdir else {}
        listed = [(outcomes[point.name] if is_finished(point, outcomes) else {}) | point._asdict() for point in todo]
        return listed, listing(todo, outcomes)
    if args.launch:
        commands = launch_commands(todo, args.launch, _run(args, ""))
        return commands, "\n".join(commands)
    outcomes = run_sweep(todo, Path(args.workdir), tell)
    if failed := [name for name, outcome in outcomes.items() if "error" in outcome]:
        raise VidrecError(
            f"{len(failed)} of {len(outcomes)} trainings failed: {', '.join(failed)}; "
            f"see {Path(args.workdir) / failed[0]}.log"
        )
    return outcomes, table(outcomes)
