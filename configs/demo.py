"""Small networks for the toy videos: minutes on two CPU cores.

    vidrec toy --out toy
    vidrec convert --dataset list --root toy --annotations toy/annotations.csv --out records/toy --short-side 0
    vidrec train --config configs/demo.py:stm --workdir runs/stm --config.data.records=records/toy

Argument: the network, tsn | tsm | stm. tsn averages frames and stays at 0.50 within mirrored pairs of classes; the
others reach 0.9 and more.
"""

from ml_collections import ConfigDict

from vidrec.config import base, parse_arg

STEPS = {"tsn": 100, "tsm": 80, "stm": 80}


def get_config(arg: str | None = None) -> ConfigDict:
    """A ResNet of four thin blocks on 8 frames of 32 x 32 pixels."""
    network = parse_arg(arg, network=tuple(STEPS)).network

    c = base()
    c.model.name = f"{network}_resnet18"
    c.model.stem = "small"
    c.model.stem_width = 8
    c.model.widths = (8, 16, 32, 64)
    c.model.stage_sizes = (1, 1, 1, 1)
    c.model.strides = (1, 2, 2, 1)
    c.model.dropout = 0.0
    c.model.dtype = "float32"
    c.model.bn = "global"
    c.model.bn_momentum = 0.8  # short runs
    if network == "stm":
        c.model.reduction = 4  # a sixteenth of eight channels would be none

    c.data.records = "records/toy"
    c.data.eval_split = "test"
    c.data.image_size = 32
    c.data.resize = (32,)
    c.data.crop = "center"
    c.data.flip = "never"  # a flipped move to the left is a move to the right

    c.optim.name = "nadamw"
    c.optim.lr = 0.02
    c.optim.b2 = 0.99
    c.optim.weight_decay = 0.01
    c.optim.decay = "kernels"
    c.optim.schedule = "cosine"
    c.optim.warmup_steps = 20
    c.optim.clip_norm = 0.0

    c.train.batch_size = 32
    c.train.steps = STEPS[network]
    c.train.eval_every = STEPS[network]
    c.train.log_every = 10
    c.train.checkpoint_every = STEPS[network]
    c.eval.batch_size = 64
    return c
