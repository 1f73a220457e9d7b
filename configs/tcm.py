"""TCM-Net: slow and fast visual tempo from correlations of frames.

    vidrec convert --dataset ssv1 --root 20bn-something-something-v1 --annotations labels --out records/ssv1
    vidrec import --model tcm_resnet50 --weights resnet50.pth --out weights/tcm \
        --allow-missing 'tcm*' --allow-missing fc
    vidrec train --config configs/tcm.py:ssv1 --workdir runs/tcm --config.train.init=weights/tcm
    vidrec eval --workdir runs/tcm

Argument, comma-separated: dataset (ssv1 ssv2 kinetics400 ucf101 hmdb51; or toy, the demo's small network), frames=8|16,
depth=18|34|50|101 (50, or 101 for resnext3d), host=tsm|tea|resnext3d, stride= (frames that many apart, for Figure 4),
and the ablations parts=both|mtdm|tam|none, stages=3 (behind which the module stands: 2-3-4), tempos=both|fast|slow,
patch=, sigma=, tau=, gaussian=code|paper and eta= (0: by stage, and by frames). `sweep` lists the rows of the paper's
tables. ucf101 and hmdb51 start from a Kinetics run of 16 frames (--config.train.init=runs/...) and report the mean of
the three splits.

The paper's top-1 / top-5 with ResNet-50:

                           8 frames     16 frames    both     both, 10 clips of 3 crops
    Something-Something V1 52.0 / 80.4  53.1 / 81.2  54.7     57.2 / 85.2
    Something-Something V2 63.5 / 88.7  65.1 / 89.6  66.7     67.8 / 92.2
    Kinetics-400, 30 views 76.1 / 92.3  77.4 / 93.1  78.5     (8 frames, 10 views: 75.6 / 92.5)
    UCF101, HMDB51 (2 clips)            97.1, 77.5

On V1, 8 frames: ResNet-18 45.8 / 74.8, ResNet-101 52.6 / 81.4; TEA 50.6 / 79.7; 3D ResNeXt-101 (112 x 112 x 16) 26.1.
Position (ResNet-18; TSM 42.8): res2 42.9, res3 45.9, res4 43.8, res5 43.6, 2-3 45.8, 2-3-4 45.8, all 45.6. Parts: MTDM
43.8, TAM 43.2, both 45.9. Differences of 0.2 are the paper's own noise.

Cost: 33.3 GMAC a clip of 8 frames (14.8 with ResNet-18, 63.0 with 101, 35.1 on TEA, 9.6 on 3D ResNeXt), three times
that in training. 50 epochs of Something-Something V1 (86,017 training videos) are 4.3 M clips, 4.3e17 multiply-adds: an
hour and a half on eight chips that sustain 10 TMAC/s each. The paper counts 35.3 for ResNet-50.

Something-Something as in the authors' code (Nesterov, frames of 240 x 320, gradients clipped at 200); for the other
data sets they have none and name TSM's, which configs/tsm.py has: dense clips for Kinetics. The ablations are of
ResNet-18 with its own schedule. Nothing tells how 3D ResNeXt was trained: here as the others, on 16 consecutive frames.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from vidrec.config import TCM_GROUPS, parse_arg
from vidrec.errors import UsageError

TSM = runpy.run_path(str(Path(__file__).with_name("tsm.py")))
POSITIONS = ("2", "3", "4", "5", "2-3", "2-3-4", "2-3-4-5")
HOSTS = {"tsm": 50, "tea": 50, "resnext3d": 101}  # and their usual depths
ABLATIONS = {
    "host": tuple(HOSTS),
    "parts": ("both", "mtdm", "tam", "none"),
    "stages": "3",
    "tempos": ("both", "fast", "slow"),
    "patch": 0,
    "sigma": 5.0,
    "tau": 0.01,
    "gaussian": ("code", "paper"),
    "eta": 0,
}


def sweep() -> dict[str, list[str]]:
    """The arguments of every row of the paper's tables, and of what it fixes."""
    small = "ssv1,depth=18"
    networks = [*(f"ssv1,depth={depth}" for depth in (18, 50, 101)), "ssv1,host=tea", "ssv1,host=resnext3d,frames=16"]
    return {
        "datasets": [f"{data},frames={frames}" for data in TSM["CLASSES"] for frames in (8, 16)],
        "Table III: networks with and without it": [
            f"{net}{parts}" for net in networks for parts in (",parts=none", "")
        ],
        "Table VII: position": [f"{small},parts=none", *(f"{small},stages={where}" for where in POSITIONS)],
        "Table VIII: parts": [f"{small},parts={parts}" for parts in ("none", "mtdm", "tam", "both")],
        "Figure 4: tempo, trained at stride 4": [f"{small},frames=4,stride=4{parts}" for parts in (",parts=none", "")],
        "tempos": [f"{small},tempos={tempos}" for tempos in ("fast", "slow", "both")],
        "window": [f"{small},patch={patch}" for patch in (7, 11, 15, 29)],
        "Gaussian": [*(f"{small},sigma={sigma}" for sigma in (2.5, 5.0, 10.0)), f"{small},gaussian=paper"],
        "temperature": [f"{small},tau={tau}" for tau in (0.01, 0.1, 1.0)],
        "size of the attention's kernel": [f"{small},eta={size}" for size in (1, 3, 5)],
    }


def get_config(arg: str | None = None) -> ConfigDict:
    """The paper's recipe for one data set."""
    arguments = parse_arg(arg, dataset=(*TSM["CLASSES"], "toy"), frames=8, depth=0, stride=0, **ABLATIONS)
    c = toy(arguments) if arguments.dataset == "toy" else recipe(arguments)
    c.model.parts = arguments.parts
    c.model.tcm_stages = positions(arguments.stages)
    c.model.tempos = ("fast", "slow") if arguments.tempos == "both" else (arguments.tempos,)
    c.model.update(sigma=arguments.sigma, tau=arguments.tau, gaussian=arguments.gaussian, eta_kernel=arguments.eta)
    if arguments.patch:
        c.model.tcm_patch = arguments.patch
    return c


def recipe(arguments: ConfigDict) -> ConfigDict:
    """The recipe of one data set, less the module's fields."""
    dense = ",dense" if arguments.dataset == "kinetics400" and not arguments.stride else ""
    c = TSM["get_config"](f"{arguments.dataset},frames={arguments.frames},stride={arguments.stride}{dense}")
    depth = arguments.depth or HOSTS[arguments.host]
    c.model.name = f"tcm_resnet{depth}"
    c.model.tcm_host = arguments.host
    if arguments.dataset in ("ssv1", "ssv2"):
        something(c, depth)
    if arguments.host == "resnext3d":
        c.data.image_size = 112
        c.data.resize = (120, 160)
        c.data.sampling = "strided"
        c.data.stride = arguments.stride or 1
        c.eval.sampling = "test"
    return c


def something(c: ConfigDict, depth: int) -> None:
    """Something-Something in the authors' own code; ResNet-18 as the paper trains its ablations."""
    c.data.resize = (240, 320)
    c.data.flip = "skip"  # classes that a flip would exchange are not flipped
    c.optim.update(nesterov=True, clip_norm=200.0, groups=TCM_GROUPS)
    if depth == 18:
        c.optim.update(lr=0.02, boundaries=(20.0, 30.0))
        c.train.update(batch_size=64, epochs=40.0)
    else:
        c.optim.update(lr=0.01, boundaries=(30.0, 40.0, 45.0))
        c.train.update(batch_size=32, epochs=50.0)


def positions(text: str) -> tuple[int, ...]:
    """The stages of "2-3-4"."""
    parts = text.split("-")
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"config argument stages={text}: give stages from 2 to 5, as in stages=2-3")
    return tuple(map(int, parts))


def toy(arguments: ConfigDict) -> ConfigDict:
    """The demo's recipe, on any host."""
    from vidrec import demo

    if (arguments.frames, arguments.depth, arguments.stride) != (8, 0, 0):
        raise UsageError("config argument toy has a network of its own; frames, depth and stride do not apply")
    c = demo.get_config("tcm")
    if arguments.host != "tsm":
        c.model.name = f"tcm_resnet{HOSTS[arguments.host]}"
        c.model.tcm_host = arguments.host
    if arguments.host == "resnext3d":
        del c.model.stem  # it has one of its own
    if arguments.parts in ("tam", "none"):
        del c.model.tcm_patch  # which those have no use for
    return c
