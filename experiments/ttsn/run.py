"""TTSN: the paper's ablations, on a plain ResNet in TDN's place."""

import sys
from pathlib import Path

from experiments.figures import TO_THE_RIGHT, Look
from experiments.grid import Claim, Row, Study
from experiments.paper import main

RECIPE = ("configs/ttsn.py", "hmdb51")
LENGTH = ("--config.train.steps=300",)

STUDIES = {
    "modules": Study(
        "Table VI: modules",
        *RECIPE,
        {
            "backbone": Row("frames=16,ett=off,tss=none", 79.1, "ett=off,tss=none"),
            "TSS": Row("frames=16,ett=off", 79.3, "ett=off"),
            "ETT": Row("frames=16,tss=none", 79.3, "tss=none"),
            "both": Row("frames=16", 80.2, ""),
        },
        (
            Claim("TSS", "backbone", "top1"),  # the toy's have a half of all pairs right whatever they learn
            Claim("ETT", "backbone"),
            Claim("both", "TSS"),
            Claim("both", "ETT"),
        ),
        overrides=LENGTH,
    ),
    "algorithms": Study(
        "Table VII: what TSS draws",
        *RECIPE,
        {
            name.upper(): Row(f"frames=16,tss={name}", top1, "" if name == "rr" else f"tss={name}")
            for name, top1 in (("aa", 79.1), ("ra", 79.4), ("ar", 79.5), ("rr", 80.2))
        },
        (Claim("RR", "AA"), Claim("RR", "RA"), Claim("RR", "AR")),
        overrides=LENGTH,
    ),
    "size": Study(
        "Figure 3: size of ETT's tokens",
        *RECIPE,
        {
            **{f"C / {u}": Row(f"frames=16,u={u}", only="paper") for u in (2048, 512, 128)},
            **{f"C / {u}": Row(f"frames=16,u={u}", None, "" if u == 8 else f"u={u}") for u in (64, 16, 8, 4)},
            "2 C": Row("frames=16,u=-2", None, "u=-2"),
        },
        (Claim("C / 8", "C / 64"), Claim("C / 8", "2 C")),
        overrides=LENGTH,
    ),
}

LOOKS = (
    Look("confusion.png", "modules", ("both",), "confusion"),
    Look("attention.png", "modules", ("both",), "attention", TO_THE_RIGHT),
)

if __name__ == "__main__":
    sys.exit(main(STUDIES, Path(__file__).parent, LOOKS, drawn=("ett", "order", "fc")))
