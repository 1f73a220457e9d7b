"""TTSN: temporal transformer networks with self-supervision.

    vidrec convert --dataset hmdb51 --root hmdb51_org --annotations testTrainMulti_7030_splits --out records/hmdb51
    vidrec import --model tdn_resnet50 --weights TDN_Kinetics.pth.tar --out weights/tdn
    vidrec train --config configs/ttsn.py:hmdb51,frames=16 --workdir runs/ttsn --config.train.init=weights/tdn
    vidrec eval --workdir runs/ttsn

Every variant on TDN starts from imported TDN weights: Kinetics weights as above (the paper's "ImageNet+Kinetics"), or
ImageNet ones as in configs/tdn.py; ETT and the order head are drawn. The other backbones: --model tsm_resnet50.

Argument, comma-separated: dataset (hmdb51 ucf101 ssv1; or toy, the demo's small network), frames=8|16 (segments of five
frames), ett=on|off, u=8 (ETT works on 2048 / u channels; negative: times), embed=shared|separate, stage=0 (behind which
ETT stands; 0: the last), tss=rr|ra|ar|aa|none, head=frame|clip, theta2= (weight of the order loss; the data set's own
by default) and backbone=tdn|tsm|tsn. `sweep` lists the rows of the paper's tables.

The paper's top-1, in brackets that of TDN, retrained there:

                                      8 segments        16 segments
    Something-Something V1, ImageNet  52.4 (49.7)       53.5 (52.0); 53.3 in the text
    HMDB51, ImageNet / + Kinetics                       60.2 (56.4) / 80.2 (79.1)
    UCF101, ImageNet / + Kinetics                       86.4 (85.8) / 96.8 (96.4)

Table VI (HMDB51, 16 segments): ETT alone 79.3, TSS alone 79.3, both 80.2. Table VII: AA 79.1, RA 79.4, AR 79.5,
RR 80.2. Figure 3: u=8 is best of u = 2048 to 8 and above. The paper does not say which of the three splits of HMDB51
and UCF101 it uses: report each, and their mean.

Cost: 36.0 GMAC a clip of 8 segments, 72.1 of 16, three times that in training. HMDB51 has 3,570 training videos, so 50
epochs of 16 segments are 179 k clips, 3.9e16 multiply-adds: one hour on one chip that sustains 10 TMAC/s. UCF101
(9,537): three hours. Something-Something V1 (86,017; 65 epochs of 8 segments, 6.0e17): 17 hours.

The order head scores each frame on its own, as published, from a single pooled number: what it learns of order is what
the backbone mixed into the frame. In AA and AR its label never changes. head=clip is our own variant that reads all
frames of the clip together.
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from vidrec.config import TCM_GROUPS, base, parse_arg
from vidrec.errors import UsageError


class Recipe(NamedTuple):
    """What differs between the data sets; clips are those of one step, on one GPU."""

    classes: int
    lr: float
    clips: int
    epochs: float
    boundaries: tuple[float, ...]
    theta2: float


RECIPES = {
    "hmdb51": Recipe(51, 1.5e-4, 4, 50.0, (25.0, 35.0), 0.01),
    "ucf101": Recipe(101, 1.5e-4, 4, 50.0, (25.0, 35.0), 0.1),
    "ssv1": Recipe(174, 1.3e-3, 8, 65.0, (30.0, 45.0, 55.0), 0.1),
}
# As TDN's parameters; ETT's position codes and scale are neither kernels nor biases: usual rate, no decay.
GROUPS = ((r"(^|/)(pe|lam)$", 1.0, 0.0), *TCM_GROUPS)


def sweep() -> dict[str, list[str]]:
    """The arguments of every row of the paper's tables."""
    rows = [f"{data},frames={frames}" for data in RECIPES for frames in (8, 16)]
    hmdb51 = "hmdb51,frames=16"
    return {
        "datasets": rows,
        "TDN, the backbone alone": [f"{row},ett=off,tss=none" for row in rows],
        "Table VI: modules": [f"{hmdb51}{without}" for without in (",ett=off,tss=none", ",tss=none", ",ett=off", "")],
        "Table VII: algorithms": [f"{hmdb51},tss={algorithm}" for algorithm in ("aa", "ra", "ar", "rr")],
        "Figure 3: length of the tokens": [f"{hmdb51},u={u}" for u in (2048, 512, 128, 64, 32, 16, 8, 4, -2)],
        "embeddings": [f"{hmdb51},embed={embed}" for embed in ("shared", "separate")],
        "backbone": [f"{hmdb51},backbone={backbone}" for backbone in ("tdn", "tsm", "tsn")],
        "position": [f"{hmdb51},stage={stage}" for stage in (3, 4, 5)],
        "weight of the order loss": [f"{hmdb51},theta2={theta2}" for theta2 in (0.01, 0.03, 0.1)],
        "order head": [f"{hmdb51},head={head}" for head in ("frame", "clip")],
    }


def get_config(arg: str | None = None) -> ConfigDict:
    """The paper's recipe for one data set."""
    arguments = parse_arg(
        arg,
        dataset=(*RECIPES, "toy"),
        frames=8,
        backbone=("tdn", "tsm", "tsn"),
        ett=("on", "off"),
        u=8,
        embed=("shared", "separate"),
        stage=0,
        tss=("rr", "ra", "ar", "aa", "none"),
        head=("frame", "clip"),
        theta2=0.0,
    )
    c = toy(arguments) if arguments.dataset == "toy" else recipe(arguments)
    c.model.update(ett=arguments.ett == "on", ett_ratio=arguments.u, ett_embed=arguments.embed)
    c.model.update(ett_stage=arguments.stage, tss=arguments.tss, tss_head=arguments.head)
    if arguments.tss == "none":
        if arguments.theta2:
            raise UsageError("config argument theta2 weighs the order loss; it has no effect with tss=none")
        c.task = base().task
    elif arguments.theta2:
        c.task.weight = arguments.theta2
    return c


def toy(arguments: ConfigDict) -> ConfigDict:
    """The demo's recipe, for the arguments that do not change its backbone."""
    from vidrec import demo

    if arguments.frames != 8 or arguments.backbone != "tdn":
        raise UsageError("config argument toy has a network of its own; frames and backbone do not apply")
    c = demo.get_config("ttsn")
    if arguments.ett == "off":
        for field in ("ett_pe_std", "ett_inverse_std"):
            del c.model[field]
    return c


def recipe(arguments: ConfigDict) -> ConfigDict:
    """The recipe of one data set, less the fields of ETT and TSS."""
    recipe = RECIPES[arguments.dataset]

    c = base()
    c.model.name = "ttsn_resnet50"
    c.model.num_classes = recipe.classes
    c.model.num_frames = arguments.frames
    c.model.backbone = arguments.backbone
    c.model.dropout = 0.8  # of the same group's later code; the paper does not say
    c.model.dtype = "bfloat16"
    c.model.bn = f"group:{recipe.clips}"
    c.task.update(name="tss", weight=recipe.theta2)

    c.data.records = f"records/{arguments.dataset}"
    c.data.eval_split = "val" if arguments.dataset == "ssv1" else "test"
    c.data.resize = (256,)
    c.data.crop = "multiscale"  # as TDN; the paper's "centre crop" is read as that of the tests
    c.data.flip = "swap"  # "left to right" becomes "right to left"; other classes keep their label
    c.data.workers = 8

    c.optim.name = "sgd"
    c.optim.lr = recipe.lr
    c.optim.momentum = 0.9
    c.optim.weight_decay = 5e-4
    c.optim.boundaries = recipe.boundaries
    c.optim.clip_norm = 20.0
    c.optim.groups = GROUPS

    c.train.batch_size = recipe.clips
    c.train.epochs = recipe.epochs
    return c
