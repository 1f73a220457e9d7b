"""TDN: temporal difference networks, the backbone of TTSN, as its own code trains it.

    vidrec convert --dataset ssv1 --root 20bn-something-something-v1 --annotations labels --out records/ssv1
    vidrec import --model tdn_resnet50 --weights resnet50.pth --out weights/tdn --allow-missing '*/mse' \
        --allow-missing '*/shift_conv' --allow-missing '*conv*/bias' --allow-missing short_term/bn1
    vidrec train --config configs/tdn.py:ssv1 --workdir runs/tdn --config.train.init=weights/tdn
    vidrec eval --workdir runs/tdn

Argument, comma-separated: dataset (ssv1 kinetics400; or toy, the demo's small network) and frames=8|16, the segments
of five frames each. HMDB51 and UCF101: configs/ttsn.py with ett=off,tss=none.

The authors' top-1 / top-5 on Something-Something V1, one centre crop: 52.3 / 80.6 with 8 segments, 53.9 / 82.1 with 16.
Tests on Kinetics see ten clips, drawn as in training, of three crops.

Cost: 35.6 GMAC a clip of 8 segments, three times that in training. Something-Something V1 has 86,017 training videos,
so 60 epochs are 5.2 M clips, 5.5e17 multiply-adds: two hours on eight chips that sustain 10 TMAC/s each, if the input
keeps up with 40 frames a clip.
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from vidrec.config import TCM_GROUPS, base, parse_arg
from vidrec.errors import UsageError


class Recipe(NamedTuple):
    """What differs between the data sets; clips are those of one of their eight GPUs."""

    classes: int
    lr: float
    clips: int
    epochs: float
    boundaries: tuple[float, ...]
    weight_decay: float


RECIPES = {
    "ssv1": Recipe(174, 0.01, 8, 60.0, (30.0, 45.0, 55.0), 5e-4),
    "kinetics400": Recipe(400, 0.02, 16, 100.0, (50.0, 75.0, 90.0), 1e-4),
}


def sweep() -> dict[str, list[str]]:
    """The arguments of every row of the authors' tables."""
    return {"datasets": [f"{data},frames={frames}" for data in RECIPES for frames in (8, 16)]}


def get_config(arg: str | None = None) -> ConfigDict:
    """The authors' recipe for one data set."""
    arguments = parse_arg(arg, dataset=(*RECIPES, "toy"), frames=8)
    if arguments.dataset == "toy":
        if arguments.frames != 8:
            raise UsageError("config argument toy has a network of its own; frames does not apply")
        from vidrec import demo

        return demo.get_config("tdn")
    recipe = RECIPES[arguments.dataset]

    c = base()
    c.model.name = "tdn_resnet50"
    c.model.num_classes = recipe.classes
    c.model.num_frames = arguments.frames
    c.model.dropout = 0.5
    c.model.dtype = "bfloat16"
    c.model.bn = f"group:{recipe.clips}"

    c.data.records = f"records/{arguments.dataset}"
    c.data.eval_split = "val"
    c.data.resize = (256,)
    c.data.crop = "multiscale"
    c.data.flip = "swap"  # "left to right" becomes "right to left"; other classes keep their label
    c.data.workers = 8

    c.optim.name = "sgd"
    c.optim.lr = recipe.lr
    c.optim.momentum = 0.9
    c.optim.weight_decay = recipe.weight_decay
    c.optim.boundaries = recipe.boundaries
    c.optim.clip_norm = 20.0
    c.optim.groups = TCM_GROUPS

    c.train.batch_size = 8 * recipe.clips
    c.train.epochs = recipe.epochs
    if arguments.dataset == "kinetics400":
        c.eval.update(clips=10, crops=3)
    return c
