"""DirecFormer: directed attention in a transformer, and TimeSformer, which it changes.

    vidrec convert --dataset jester --root 20bn-jester-v1 --annotations labels --out records/jester
    vidrec import --model direcformer_base --weights vit_base_patch16_224.pth --out weights/vit \
        --allow-missing order
    vidrec train --config configs/direcformer.py:jester --workdir runs/direcformer --config.train.init=weights/vit
    vidrec eval --workdir runs/direcformer

Argument, comma-separated: dataset (jester ssv2 kinetics400; or toy: the demo's small network), network (direcformer
timesformer), time=cosine|softmax, space=softmax|cosine, cos_scale=1|1/keys, losses=none|ord|ord+self (of orders, and of
orders and maps; without it, what the paper trains such a network with) and orders=1000 (of toy 100). `sweep` lists the
rows of the paper's tables.

The paper's top-1 / top-5, one clip of three crops, by attention in time and space (S softmax, C cosine):

                          TimeSformer  S-C          C-S          C-C
    Jester                94.14/99.19  94.52/99.26  95.52/99.20  96.15/99.38   losses=none
                                       94.65/99.25  96.28/99.45  97.48/99.48   losses=ord
                                                    97.55        98.15/99.57   losses=ord+self
    Something-Something V2 59.10/85.60 61.70/85.20  63.85/85.92  64.94/87.90
    Kinetics-400          77.90/93.20  80.16/94.55  81.69/94.62  82.75/94.86

The losses' marks in its table could not be read: the rows of Jester are given to them as in the next one.

Order correction on Jester (OrderAcc; chance is 47.1): TimeSformer 52.84, ord 72.57; C-S 75.04, ord 87.16, ord+self
90.02; C-C 76.16, ord 88.96, ord+self 90.19.

Cost: 196 GMAC a clip; with its shuffled twin and blocks computed again in the backward pass, eight times that in
training. Jester has 118,562 training videos, so 30 epochs are 3.6 M clips, 5.6e18 multiply-adds: twenty hours on eight
chips that sustain 10 TMAC/s each.

Where text and code differ: the authors' code has cosine in time only, 30 orders for the two larger data sets, and a
matrix of signs that does not tell a direction (here it is Eq. 13's). The weights of the three losses are not told;
they are 1. Cosines over the 197 keys of a frame sum to more than a softmax does: space=cosine from ImageNet's weights
may want cos_scale=1/keys. ImageNet-21K's weights are the paper's start for Kinetics, ImageNet-1K's for the others.
"""

from ml_collections import ConfigDict

from vidrec.config import base, parse_arg
from vidrec.errors import UsageError, did_you_mean

CLASSES = {"jester": 27, "ssv2": 174, "kinetics400": 400}
LOSSES = ("none", "ord", "ord+self")
SC, CS, CC = "time=softmax,space=cosine", "time=cosine,space=softmax", "time=cosine,space=cosine"


def sweep() -> dict[str, list[str]]:
    """The arguments of every row of the paper's tables."""

    def rows(*attentions: tuple[str, tuple[str, ...]]) -> list[str]:
        """Of attentions, each with several losses."""
        return [f"jester,{attention},losses={losses}" for attention, several in attentions for losses in several]

    def attentions(dataset: str) -> list[str]:
        """Of a data set, all of them."""
        return [f"{dataset},timesformer", *(f"{dataset},{attention}" for attention in (SC, CS, CC))]

    return {
        "datasets": [f"{dataset},{CC}" for dataset in CLASSES],
        "Table 1: attention and losses on Jester": [
            "jester,timesformer",
            *rows((SC, LOSSES[:2]), (CS, LOSSES), (CC, LOSSES)),
        ],
        "Table 2: order correction on Jester": rows(("timesformer", LOSSES[:2]), (CS, LOSSES), (CC, LOSSES)),
        "Something-Something V2: attention": attentions("ssv2"),
        "Kinetics-400: attention": attentions("kinetics400"),
    }


def get_config(arg: str | None = None) -> ConfigDict:
    """The paper's recipe for one data set."""
    arguments = parse_arg(
        arg,
        dataset=(*CLASSES, "toy"),
        network=("direcformer", "timesformer"),
        time=("", "cosine", "softmax"),
        space=("", "softmax", "cosine"),
        cos_scale=("1", "1/keys"),
        losses="",
        orders="",
        guided=("both", "shuffled"),
    )
    time, space = attention(arguments)
    losses = arguments.losses or usual_losses(arguments.network, time)
    if losses not in LOSSES:
        raise UsageError(f"config argument losses={losses}: no such choice{did_you_mean(losses, LOSSES)}")
    if arguments.orders and not (arguments.orders.isdecimal() and int(arguments.orders)):
        raise UsageError(f"config argument orders={arguments.orders}: give 1 or more, or losses=none")
    if losses == "none" and arguments.orders:
        raise UsageError("config argument orders is of the order losses; it has no effect with losses=none")
    if losses == "ord+self" and time == "softmax":
        raise UsageError("config argument losses=ord+self: the loss of maps needs their signs, which softmax has not")
    if losses != "ord+self" and arguments.guided != "both":
        raise UsageError(f"config argument guided is of the loss of maps; it has no effect with losses={losses}")

    c = toy(losses) if arguments.dataset == "toy" else recipe(arguments, losses)
    c.model.name = f"{arguments.network}_base"
    c.model.update(time_attn=time, space_attn=space, cos_scale=arguments.cos_scale)
    if arguments.orders:
        c.model.num_orders = int(arguments.orders)
    if losses == "ord+self":
        c.task.guided_clips = arguments.guided
    return c


def toy(losses: str) -> ConfigDict:
    """The demo's recipe for DirecFormer, with other losses."""
    from vidrec.demo import get_config

    c = get_config("direcformer")
    if losses == "none":
        c.model.num_orders = 0
        c.task = ConfigDict({"name": "supervised"})
    elif losses == "ord":
        c.task.guided_weight = 0.0
    return c


def recipe(arguments: ConfigDict, losses: str) -> ConfigDict:
    """The recipe of the paper's networks, less their attention."""
    c = base()
    c.model.num_classes = CLASSES[arguments.dataset]
    c.model.num_frames = 8
    c.model.image_size = 224
    c.model.num_orders = 0 if losses == "none" else 1000
    c.model.dtype = "bfloat16"
    c.model.remat = "block"
    if losses != "none":
        c.task.update(name="order", guided_weight=1.0 if losses == "ord+self" else 0.0)

    c.data.records = f"records/{arguments.dataset}"
    c.data.sampling = "strided" if arguments.dataset == "kinetics400" else "even"
    c.data.resize = (224,)
    c.data.resize_range = (256, 320)
    c.data.resize_draw = "inverse"
    c.data.crop = "random"
    c.data.flip = "swap" if arguments.dataset == "kinetics400" else "never"
    c.data.mean, c.data.std = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
    c.data.workers = 8

    c.optim.update(name="sgd", lr=0.005, momentum=0.9, nesterov=True, weight_decay=1e-4, clip_norm=0.0)
    c.optim.boundaries = (11, 14)

    c.train.batch_size = 64
    c.train.epochs = 30.0 if arguments.dataset == "jester" else 15.0
    c.eval.update(crops=3, average="logits")  # of one clip
    return c


def attention(arguments: ConfigDict) -> tuple[str, str]:
    """Attention in time and in space; TimeSformer's is softmax in both."""
    if arguments.network == "direcformer":
        return arguments.time or "cosine", arguments.space or "softmax"
    if "cosine" in (arguments.time, arguments.space):
        raise UsageError("config argument timesformer: its attention is softmax in time and space; say direcformer")
    return "softmax", "softmax"


def usual_losses(network: str, time: str) -> str:
    """What the paper trains a network with: the loss of maps needs cosines in time."""
    if network == "timesformer":
        return "none"
    return "ord+self" if time == "cosine" else "ord"
