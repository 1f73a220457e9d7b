"""STM: spatiotemporal and motion features in a unified 2D network.

    vidrec convert --dataset ssv1 --root 20bn-something-something-v1 --annotations labels --out records/ssv1
    vidrec import --model stm_resnet50 --weights resnet50.pth --out weights/stm \
        --allow-missing '*/cstm' --allow-missing '*/cmm' --allow-missing fc
    vidrec train --config configs/stm.py:ssv1 --workdir runs/stm --config.train.init=weights/stm
    vidrec eval --workdir runs/stm

Argument, comma-separated: dataset (ssv1 ssv2 kinetics400 ucf101 hmdb51; or toy, the demo's small network),
frames=8|16, depth=18|34|50, twins (Twins Training), network=stm|tsm|tsn (the paper trains all three with Twins),
views=30|1 (tests see ten clips of three crops, or the centre of one), and of STM the ablations modules=, fusion=,
placement=, cstm_conv=, cmm_conv=, degenerate. `sweep` lists the rows of the paper's tables.

The paper's top-1 / top-5 with 30 views and Twins Training:

                           8 frames     16 frames
    Something-Something V1 50.4 / 80.6  53.3 / 81.9
    Something-Something V2 62.8 / 89.1  64.9 / 90.7
    Kinetics-400           75.5 / 92.0  76.9 / 92.7

UCF101 97.1 and HMDB51 75.2 with 16 frames, from Kinetics weights (--config.train.init). Its ablations, V1, 8 frames:
TSN 19.7, CSTM 47.7, CMM 44.1, both 49.2; concatenated 41.8; degenerate 45.2; in the first block of stage 2, 3, 4, 5:
38.7, 40.6, 41.5, 41.5, of every stage 47.9; CSTM 1D and 2D channel-wise 42.6, ordinary 46.9; CMM ordinary 43.5.
One centre crop: STM-18 40.5, STM-34 43.8, STM-50 48.5, with 16 frames 51.6.
Twins Training off and on: TSN 19.7 and 20.9, TSM 47.3 and 48.2, STM 49.2 and 50.4; Kinetics-400 TSN 70.6 and 72.5,
TSM 74.1 and 75.2, STM 73.7 and 75.5.

Cost: 33.1 GMAC a clip of 8 frames, three times that in training, and twice that with Twins, which sees two views of
every video. Something-Something V1 has 86,017 training videos, so 70 epochs are 6.0 M clips, 6.0e17 multiply-adds
without Twins: two hours on eight chips that sustain 10 TMAC/s each.

How strongly Twins changes colours is not in the paper; the values are those of Barlow Twins' code.
"""

from ml_collections import ConfigDict

from vidrec.config import base, parse_arg
from vidrec.errors import UsageError

CLASSES = {"ssv1": 174, "ssv2": 174, "kinetics400": 400, "ucf101": 101, "hmdb51": 51}
ABLATIONS = {
    "modules": ("both", "cstm", "cmm", "none"),
    "fusion": ("sum", "concat"),
    "placement": ("all", "first", "2", "3", "4", "5"),
    "cstm_conv": ("channelwise", "channelwise_2d", "ordinary"),
    "cmm_conv": ("channelwise", "ordinary"),
    "degenerate": False,
}


def sweep() -> dict[str, list[str]]:
    """The arguments of every row of the paper's tables."""
    large = [f"{data},frames={frames},twins" for data in ("ssv1", "ssv2", "kinetics400") for frames in (8, 16)]
    networks = [f"{data},network={name}" for data in ("kinetics400", "ssv1") for name in ("tsn", "tsm", "stm")]
    return {
        "datasets": [*large, "ucf101,frames=16", "hmdb51,frames=16"],
        "depth, one view": [*(f"ssv1,depth={n},views=1" for n in (18, 34, 50)), "ssv1,depth=50,frames=16,views=1"],
        "modules": [f"ssv1,modules={modules}" for modules in ("none", "cstm", "cmm", "both")],
        "fusion": ["ssv1,fusion=sum", "ssv1,fusion=concat"],
        "frequency": ["ssv1", "ssv1,degenerate"],
        "placement": [f"ssv1,placement={where}" for where in ("2", "3", "4", "5", "first", "all")],
        "convolutions": [
            *(f"ssv1,modules=cstm,cstm_conv={conv}" for conv in ABLATIONS["cstm_conv"]),
            *(f"ssv1,modules=cmm,cmm_conv={conv}" for conv in ABLATIONS["cmm_conv"]),
        ],
        "Twins Training": [f"{row}{twins}" for row in networks for twins in ("", ",twins")],
    }


def get_config(arg: str | None = None) -> ConfigDict:
    """The paper's recipe for one data set."""
    arguments = parse_arg(
        arg,
        dataset=(*CLASSES, "toy"),
        frames=8,
        depth=50,
        twins=False,
        views=("30", "1"),
        network=("stm", "tsm", "tsn"),
        **ABLATIONS,
    )
    c = toy(arguments) if arguments.dataset == "toy" else recipe(arguments)
    for field, choices in ABLATIONS.items():
        default = choices[0] if isinstance(choices, tuple) else choices
        if arguments.network == "stm":
            c.model[field] = arguments[field]
        elif arguments[field] != default:
            raise UsageError(f"config argument {field} is of STM; it has no effect with network={arguments.network}")
    if arguments.twins:
        c.task.name = "twins"
        c.task.update(weight=0.01, beta=0.0039, center=False)
        c.data.color_jitter = (0.4, 0.4, 0.2, 0.1)
        c.data.color_jitter_probability = 0.8
        c.data.grayscale_probability = 0.2
    return c


def toy(arguments: ConfigDict) -> ConfigDict:
    """The demo's recipe, for the arguments that do not change the size of the network."""
    from vidrec import demo

    if arguments.frames != 8 or arguments.depth != 50 or arguments.views != "30":
        raise UsageError("config argument toy has a recipe of its own; frames, depth and views do not apply")
    c = demo.get_config(arguments.network)
    if arguments.network == "stm" and arguments.modules in ("cstm", "none"):
        del c.model.reduction  # which is of CMM alone
    return c


def recipe(arguments: ConfigDict) -> ConfigDict:
    """The recipe of the paper's networks, less ablations and Twins Training."""
    small = arguments.dataset in ("ucf101", "hmdb51")  # fine-tuned from Kinetics weights
    clips_per_gpu = 8 if arguments.frames == 8 else 4

    c = base()
    c.model.name = f"{arguments.network}_resnet{arguments.depth}"
    c.model.num_classes = CLASSES[arguments.dataset]
    c.model.num_frames = arguments.frames
    c.model.dropout = 0.5
    c.model.dtype = "bfloat16"
    c.model.bn = f"group:{clips_per_gpu}"  # the paper's statistics are of one GPU's clips; all BN layers are trained

    c.data.records = f"records/{arguments.dataset}"
    c.data.eval_split = "test" if small else "val"
    c.data.resize = (256,)
    c.data.crop = "multiscale"
    # A flipped "left to right" is a "right to left"; classes without a mirror class keep their label.
    c.data.flip = "swap"
    c.data.workers = 8

    c.optim.name = "sgd"
    c.optim.lr = 0.001 if small else 0.01
    c.optim.momentum = 0.9
    c.optim.weight_decay = 5e-4
    c.optim.boundaries = (15, 30, 45) if small else (30, 40, 60)
    c.optim.clip_norm = 20.0

    c.train.batch_size = 8 * clips_per_gpu
    c.train.epochs = 50.0 if small else 70.0
    if arguments.views == "30":
        c.eval.update(clips=10, crops=3)
    return c
