"""STM: spatiotemporal and motion features in a unified 2D network.

    vidrec convert --dataset ... --out records/ssv1
    vidrec import --model stm_resnet50 --weights resnet50.pth --out weights/stm
        --allow-missing '*/cstm' --allow-missing '*/cmm' --allow-missing fc
    vidrec train --config configs/stm.py:ssv1 --workdir runs/stm --config.train.init=weights/stm
    vidrec eval --workdir runs/stm --clips 10 --crops 3

Argument, comma-separated: dataset (ssv1 ssv2 kinetics400 ucf101 hmdb51), frames=8|16, depth=18|34|50, and the
ablations modules=, fusion=, placement=, cstm_conv=, cmm_conv= (Tables 6 to 9 of the paper), degenerate.

The paper's top-1 with 30 views, 8 / 16 frames (with Twins Training, which adds about one point): Something-Something V1
50.4 / 53.3, V2 62.8 / 64.9, Kinetics-400 75.5 / 76.9; UCF101 97.1 and HMDB51 75.2 with 16 frames from Kinetics weights.
Cost: 33.1 GMAC a clip of 8 frames, three times that in training; Something-Something V1 has 86,017 training videos,
so 70 epochs are 6.0 M clips, 6.0e17 multiply-adds: about one day on eight chips that sustain 10 TMAC/s each.
"""

from ml_collections import ConfigDict

from vidrec.config import base, parse_arg

CLASSES = {"ssv1": 174, "ssv2": 174, "kinetics400": 400, "ucf101": 101, "hmdb51": 51}


def get_config(arg: str | None = None) -> ConfigDict:
    """The paper's recipe for one data set."""
    arguments = parse_arg(
        arg,
        dataset=tuple(CLASSES),
        frames=8,
        depth=50,
        modules=("both", "cstm", "cmm", "none"),
        fusion=("sum", "concat"),
        placement="all",
        cstm_conv=("channelwise", "channelwise_2d", "ordinary"),
        cmm_conv=("channelwise", "ordinary"),
        degenerate=False,
    )
    small = arguments.dataset in ("ucf101", "hmdb51")  # fine-tuned from Kinetics weights
    clips_per_gpu = 8 if arguments.frames == 8 else 4

    c = base()
    c.model.name = f"stm_resnet{arguments.depth}"
    c.model.num_classes = CLASSES[arguments.dataset]
    c.model.num_frames = arguments.frames
    for field in ("modules", "fusion", "placement", "cstm_conv", "cmm_conv", "degenerate"):
        c.model[field] = arguments[field]
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
    return c
