"""TEFE: the paper's ablations. The toy network has one block to a stage, of either kind."""

import sys
from pathlib import Path

from experiments.figures import TO_THE_RIGHT, Look
from experiments.grid import EIGHTH, Claim, Row, Study
from experiments.paper import main

RECIPE = ("configs/tefe.py", "ssv1")
NONE = "0-0-0-0"
STEPS, XAVIER = "--config.train.steps=300", "--config.model.classifier_init=xavier"
TOY = (STEPS, XAVIER)

STUDIES = {
    "modules": Study(
        "Table 4: modules",
        *RECIPE,
        {
            "TSN": Row(f"frames=16,te={NONE},fe={NONE}", 19.9, f"te={NONE},fe={NONE}"),
            "TE alone": Row(f"frames=16,fe={NONE}", 43.8, f"fe={NONE}"),
            "FE alone": Row(f"frames=16,te={NONE}", 46.1, f"te={NONE}"),
            "TEFE": Row("frames=16", 50.4, ""),
        },
        (Claim("TE alone", "TSN"), Claim("FE alone", "TSN"), Claim("TEFE", "TE alone"), Claim("TEFE", "FE alone")),
        overrides=TOY,
    ),
    "placement": Study(
        "Table 5: blocks that have them",
        *RECIPE,
        {
            "TE in all": Row("frames=16,te=3-4-6-3,fe=0-0-0-0", 46.7, f"te=1-1-1-1,fe={NONE}"),
            "FE in all but the first": Row("frames=16,te=0-0-0-0,fe=0-4-6-3", 46.3, f"te={NONE},fe=0-1-1-1"),
            "TE nearly in all": Row("frames=16,te=3-3-3-3,fe=0-1-3-0", 47.8, only="paper"),
            "half and half": Row("frames=16,te=2-2-2-2,fe=0-2-4-1", 48.7, only="paper"),
            "TE below, FE above": Row("frames=16", 50.4, ""),
        },
        tuple(
            Claim("TE below, FE above", other)
            for other in ("TE in all", "FE in all but the first", "TE nearly in all", "half and half")
        ),
        overrides=TOY,
    ),
    "longer": Study(
        "The same, three times as long",
        *RECIPE,
        {
            "FE alone": Row(f"te={NONE}"),
            "FE in all but the first": Row(f"te={NONE},fe=0-1-1-1"),
            "TE below, FE above": Row(""),
        },
        (Claim("TE below, FE above", "FE alone"), Claim("TE below, FE above", "FE in all but the first")),
        overrides=TOY,
        longer=3,
        ours=True,
    ),
    "start": Study(
        "What the classifier's weights are drawn from",
        *RECIPE,
        {
            f"{name}, {start}": Row(args, overrides=overrides, only="toys")
            for name, args in {
                "TE alone": f"fe={NONE}",
                "FE alone": f"te={NONE}",
                "TE in all": f"te=1-1-1-1,fe={NONE}",
                "FE in all but the first": f"te={NONE},fe=0-1-1-1",
                "TEFE": "",
            }.items()
            for start, overrides in (("normal", ()), ("xavier", (XAVIER,)))
        },
        (
            *(Claim(f"{name}, xavier", f"{name}, normal") for name in ("TE alone", "FE alone", "TEFE")),
            *(
                Claim("TEFE, normal", f"{name}, normal")
                for name in ("TE alone", "FE alone", "TE in all", "FE in all but the first")
            ),
        ),
        overrides=(STEPS,),
        ours=True,
    ),
    "eighth": Study(
        "The same from an eighth of the videos",
        *RECIPE,
        {
            "TE alone": Row(f"fe={NONE}", only="toys"),
            "FE alone": Row(f"te={NONE}", only="toys"),
            "FE in all but the first": Row(f"te={NONE},fe=0-1-1-1", only="toys"),
            "TEFE": Row("", only="toys"),
        },
        tuple(Claim("TEFE", other) for other in ("TE alone", "FE alone", "FE in all but the first")),
        overrides=TOY,
        videos=EIGHTH,
        ours=True,
    ),
}

LOOKS = (
    Look("confusion.png", "modules", ("TEFE",), "confusion"),
    Look("cam.png", "modules", ("TSN", "TE alone", "FE alone", "TEFE"), "cam", TO_THE_RIGHT),
)

if __name__ == "__main__":
    sys.exit(main(STUDIES, Path(__file__).parent, LOOKS, drawn=("*/te/*", "fc")))
