"""STM and Twins Training: the paper's ablations."""

import sys
from pathlib import Path

from experiments.grid import Claim, Row, Study, main

RECIPE = ("configs/stm.py", "ssv1")
LENGTH = ("--config.train.steps=300",)

STUDIES = {
    "modules": Study(
        "CSTM and CMM",
        *RECIPE,
        {
            "TSN": Row("network=tsn", 19.7),
            "CMM alone": Row("modules=cmm", 44.1),
            "CSTM alone": Row("modules=cstm", 47.7),
            "STM": Row("", 49.2),
        },
        (Claim("CMM alone", "TSN"), Claim("CSTM alone", "TSN"), Claim("STM", "CMM alone"), Claim("STM", "CSTM alone")),
        overrides=LENGTH,
    ),
    "fusion": Study(
        "How the two are put together",
        *RECIPE,
        {"concatenated": Row("fusion=concat", 41.8), "summed": Row("", 49.2)},
        (Claim("summed", "concatenated"),),
        overrides=LENGTH,
    ),
    "placement": Study(
        "The stages that have them",
        *RECIPE,
        {
            **{f"stage {n}": Row(f"placement={n}", top1) for n, top1 in ((2, 38.7), (3, 40.6), (4, 41.5), (5, 41.5))},
            "every block": Row("", 49.2),
        },
        tuple(Claim("every block", f"stage {n}") for n in (2, 3, 4, 5)),
        overrides=LENGTH,
    ),
    "twins": Study(
        "Twins Training",
        *RECIPE,
        {
            "TSN": Row("network=tsn", 19.7),
            "TSN, Twins": Row("network=tsn,twins", 20.9),
            "TSM": Row("network=tsm", 47.3),
            "TSM, Twins": Row("network=tsm,twins", 48.2),
            "STM": Row("", 49.2),
            "STM, Twins": Row("twins", 50.4),
        },
        tuple(Claim(f"{network}, Twins", network) for network in ("TSN", "TSM", "STM")),
        overrides=LENGTH,
    ),
}

if __name__ == "__main__":
    sys.exit(main(STUDIES, Path(__file__).parent))
