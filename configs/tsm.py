"""TSM: temporal shift in a 2D network, by the recipes of its authors' code; network=tsn: the same without the shift.

    vidrec convert --dataset ssv1 --root 20bn-something-something-v1 --annotations labels --out records/ssv1
    vidrec import --model tsm_resnet50 --weights resnet50.pth --out weights/tsm --allow-missing fc
    vidrec train --config configs/tsm.py:ssv1 --workdir runs/tsm --config.train.init=weights/tsm
    vidrec eval --workdir runs/tsm
    vidrec eval --workdir runs/tsm --clips 2 --sampling twice --crops 3 --full-resolution

Argument, comma-separated: dataset (ssv1 ssv2 kinetics400 ucf101 hmdb51; or toy, the demo's small network), frames=8|16,
depth=18|34|50|101, network=tsm|tsn, dense (Kinetics: clips are 64 frames long and training twice as long) and stride=
(frames that many apart, for tests of tempo). `sweep` lists the rows of the tables. ucf101 and hmdb51 start from a
Kinetics run (--config.train.init=runs/...), train the first norm only, and report the mean of the three splits.

Top-1 as TCM's and STM's papers quote it for ResNet-50, 8 frames: Something-Something V1 45.6 with one clip, 47.3 with
two of full resolution (TSN 19.7); Kinetics-400 74.1 with 30 views (TSN 70.6). ResNet-18 on V1: 42.8.

Cost: 32.7 GMAC a clip of 8 frames (14.5 with ResNet-18, 62.4 with 101), three times that in training. 50 epochs of
Something-Something V1 (86,017 training videos) are 4.3 M clips, 4.2e17 multiply-adds: an hour and a half on eight
chips that sustain 10 TMAC/s each.

The authors' code for ResNet-101 shifts every second block (--config.model.shift_every=2, which its weights want). The
steps of dense training (40 and 80 of 100 epochs) are ours; no script gives them.
"""

from ml_collections import ConfigDict

from vidrec.config import TSM_GROUPS, base, parse_arg
from vidrec.errors import UsageError

CLASSES = {"ssv1": 174, "ssv2": 174, "kinetics400": 400, "ucf101": 101, "hmdb51": 51}


def sweep() -> dict[str, list[str]]:
    """The arguments of every row that the papers compare with."""
    return {
        "datasets": [f"{data},frames={frames}" for data in CLASSES for frames in (8, 16)],
        "dense sampling": [f"kinetics400,frames={frames},dense" for frames in (8, 16)],
        "depth": [f"ssv1,depth={depth}" for depth in (18, 34, 50, 101)],
        "without the shift": [f"{data},network={name}" for data in ("ssv1", "kinetics400") for name in ("tsn", "tsm")],
        "tempo, trained at stride 4": ["ssv1,depth=18,frames=4,stride=4"],
    }


def get_config(arg: str | None = None, networks: tuple[str, ...] = ("tsm", "tsn")) -> ConfigDict:
    """The recipe of one data set, for one of the networks."""
    arguments = parse_arg(arg, dataset=(*CLASSES, "toy"), frames=8, depth=50, network=networks, dense=False, stride=0)
    if arguments.dataset == "toy":
        return toy(arguments)
    c = base()
    c.model.name = f"{arguments.network}_resnet{arguments.depth}"
    c.model.num_classes = CLASSES[arguments.dataset]
    c.model.num_frames = arguments.frames
    c.model.dtype = "bfloat16"
    c.model.bn = "group:8"  # the authors' statistics are of one GPU's clips
    c.model.dropout = 0.5
    c.data.records = f"records/{arguments.dataset}"
    c.data.resize = (256,)
    c.data.crop = "multiscale"
    c.data.workers = 8
    c.optim.name = "sgd"
    c.optim.momentum = 0.9
    c.optim.clip_norm = 20.0
    c.optim.groups = TSM_GROUPS
    c.eval.average = "logits"  # as the authors' tests
    if arguments.dense and (arguments.dataset != "kinetics400" or arguments.stride):
        raise UsageError("config argument dense is for kinetics400, whose videos are long; it does not go with stride")
    {"kinetics400": kinetics, "ucf101": fine_tuning, "hmdb51": fine_tuning}.get(arguments.dataset, something)(c)
    if arguments.dense:
        c.data.sampling = "dense"
        c.optim.boundaries = (40.0, 80.0)
        c.train.epochs = 100.0
    if arguments.stride:
        c.data.sampling = "strided"
        c.data.stride = arguments.stride
        c.eval.sampling = "test"
    return c


def something(c: ConfigDict) -> None:
    """Something-Something: left and right mean something, so nothing is flipped."""
    c.data.eval_split = "val"
    c.data.flip = "never"
    c.optim.update(lr=0.01, weight_decay=5e-4, boundaries=(20.0, 40.0))
    c.train.update(batch_size=64, epochs=50.0)


def kinetics(c: ConfigDict) -> None:
    """Kinetics-400."""
    c.data.eval_split = "val"
    c.data.flip = "swap"
    c.optim.update(lr=0.02, weight_decay=1e-4, boundaries=(20.0, 40.0))
    c.train.update(batch_size=128, epochs=50.0)
    c.eval.update(clips=10, crops=3)


def fine_tuning(c: ConfigDict) -> None:
    """UCF101 and HMDB51, from Kinetics weights."""
    c.model.bn = "partial"
    c.model.dropout = 0.8
    c.data.eval_split = "test"
    c.data.flip = "swap"
    c.optim.update(lr=0.001, weight_decay=5e-4, boundaries=(10.0, 20.0))
    c.train.update(batch_size=64, epochs=25.0)
    c.eval.update(clips=2, sampling="twice")


def toy(arguments: ConfigDict) -> ConfigDict:
    """The demo's recipe, to which no other argument applies."""
    from vidrec import demo

    if arguments.frames != 8 or arguments.depth != 50 or arguments.dense or arguments.stride:
        raise UsageError("config argument toy has a network of its own; frames, depth, dense and stride do not apply")
    return demo.get_config(arguments.network)
