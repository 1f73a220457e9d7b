"""TEFE: temporal extraction and feature enhancement.

    vidrec convert --dataset ssv1 --root 20bn-something-something-v1 --annotations labels --out records/ssv1
    vidrec import --model tefe_resnet50 --weights resnet50.pth --out weights/tefe \
        --allow-missing '*/te/*' --allow-missing fc
    vidrec train --config configs/tefe.py:ssv1 --workdir runs/tefe --config.train.init=weights/tefe
    vidrec eval --workdir runs/tefe

Argument, comma-separated: dataset (ssv1 ssv2 jester; or toy: the demo's small network), frames=8|16, and the
blocks of stages 2 to 5 that have each module, te=1-1-1-1, fe=0-3-5-2 (of toy te=1-1-0-0, fe=0-0-1-1; Tables 4 and 5;
`sweep` lists their rows).

The paper's top-1 / top-5, one clip of whole 224 x 256 frames:

                           8 frames     16 frames    both, scores averaged
    Something-Something V1 46.7 / 75.3  50.4 / 78.9  51.4 / 79.6
    Something-Something V2 59.6 / 85.7  61.8 / 87.4  63.5 / 88.7
    Jester                 96.7 / 99.9

Table 4 (V1, 16 frames): TSN 19.9, TE alone 43.8, FE alone 46.1, both 50.4. Table 5, by blocks: TE 3-4-6-3 46.7;
FE 0-4-6-3 46.3; TE 3-3-3-3 with FE 0-1-3-0 47.8; TE 2-2-2-2 with FE 0-2-4-1 48.7; TE 1-1-1-1 with FE 0-3-5-2 50.4.
(TE alone and FE alone differ between the two: we read Table 4 as the chosen placement less one module, Table 5 as
every block.)

Cost: 90 GMAC a clip of 8 frames at 224 x 256; training is three times the 79 at 224 x 224. Something-Something V1 has
86,017 training videos, so 50 epochs are 4.3 M clips, 1.0e18 multiply-adds: three and a half hours on eight chips that
sustain 10 TMAC/s each.

Where the paper is silent: no flip (left and right mean something in all three data sets), dropout 0.5, gradients
clipped at 20 as in TSM's code, statistics of the norms over the whole batch. It draws the frames of a test clip at
random; here they are the middles of the segments.
"""

from ml_collections import ConfigDict

from vidrec.config import base, parse_arg
from vidrec.errors import UsageError

CLASSES = {"ssv1": 174, "ssv2": 174, "jester": 27}
TE, FE = "1-1-1-1", "0-3-5-2"
NONE = "0-0-0-0"


def sweep() -> dict[str, list[str]]:
    """The arguments of every row of the paper's tables."""
    rows = ["ssv1,frames=8", "ssv1,frames=16", "ssv2,frames=8", "ssv2,frames=16", "jester,frames=8"]
    modules = [(NONE, NONE), (TE, NONE), (NONE, FE), (TE, FE)]
    places = [("3-4-6-3", NONE), (NONE, "0-4-6-3"), ("3-3-3-3", "0-1-3-0"), ("2-2-2-2", "0-2-4-1"), (TE, FE)]
    return {
        "datasets": rows,
        "Table 4: modules": [f"ssv1,frames=16,te={te},fe={fe}" for te, fe in modules],
        "Table 5: number of blocks per stage": [f"ssv1,frames=16,te={te},fe={fe}" for te, fe in places],
    }


def get_config(arg: str | None = None) -> ConfigDict:
    """The paper's recipe for one data set."""
    arguments = parse_arg(arg, dataset=(*CLASSES, "toy"), frames=8, te="", fe="")
    if arguments.dataset == "toy":
        return toy(arguments)

    c = base()
    c.model.name = "tefe_resnet50"
    c.model.num_classes = CLASSES[arguments.dataset]
    c.model.num_frames = arguments.frames
    c.model.te = counts("te", arguments.te or TE)
    c.model.fe = counts("fe", arguments.fe or FE)
    c.model.dropout = 0.5
    c.model.dtype = "bfloat16"
    c.model.bn = "global"

    c.data.records = f"records/{arguments.dataset}"
    c.data.eval_split = "val"
    c.data.sampling = "segment"
    c.data.resize_range = (256, 320)
    c.data.crop = "random"
    c.data.image_size = 224
    c.data.flip = "never"
    c.data.workers = 8
    c.data.resize = c.eval.image_size = (224, 256)  # tests see whole frames

    c.optim.name = "sgd"
    c.optim.lr = 0.001
    c.optim.momentum = 0.9
    c.optim.weight_decay = 5e-4
    c.optim.boundaries = (30.0, 40.0, 45.0)
    c.optim.clip_norm = 20.0

    c.train.batch_size = 20 if arguments.frames == 8 else 10
    c.train.epochs = 50.0
    return c


def toy(arguments: ConfigDict) -> ConfigDict:
    """The demo's recipe; its network has one block to a stage, of either kind."""
    from vidrec import demo

    if arguments.frames != 8:
        raise UsageError("config argument toy has a network of its own; frames does not apply")
    c = demo.get_config("tefe")
    for name in ("te", "fe"):
        if arguments[name]:
            c.model[name] = counts(name, arguments[name])
    if not any(c.model.fe):
        del c.model.fe_init
    return c


def counts(name: str, text: str) -> tuple[int, ...]:
    """The numbers of "1-1-1-1"."""
    parts = text.split("-")
    if len(parts) != 4 or not all(part.isdecimal() for part in parts):
        raise UsageError(f"config argument {name}={text}: give the blocks of stages 2 to 5, as in {name}={TE}")
    return tuple(map(int, parts))
