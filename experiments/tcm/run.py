"""TCM-Net: the paper's ablations, and its curves of accuracy against tempo (Figure 4)."""

import sys
from pathlib import Path

import numpy as np

from experiments.figures import TO_THE_RIGHT, Look
from experiments.grid import EIGHTH, Claim, Row, Study
from experiments.paper import main
from experiments.results import Measures
from vidrec.inspect.prepared import open_run
from vidrec.inspect.tempo_results import tempo_run

RECIPE = ("configs/tcm.py", "ssv1")
LENGTH = ("--config.train.steps=300",)
STRIDES, TRAINED = tuple(range(2, 9)), 4
POSITIONS = {"2": 42.9, "3": 45.9, "4": 43.8, "5": 43.6, "2-3": 45.8, "2-3-4": 45.8, "2-3-4-5": 45.6}


def tempo(folder: Path) -> Measures:
    """Accuracy at each stride, and its mean change from the trained one to the others that stay within a video."""
    run = open_run(folder)
    length, frames = float(np.median(run.source.num_frames)), run.recognizer.spec.num_frames
    within = [stride for stride in STRIDES if stride != TRAINED and (frames - 1) * stride < length]
    result, _ = tempo_run([folder], STRIDES)
    curve = dict(zip(STRIDES, next(iter(result["runs"].values()))["top1"], strict=True))
    change = float(np.mean([curve[stride] for stride in within])) - curve[TRAINED]
    return {f"stride {stride}": top1 for stride, top1 in curve.items()} | {"change": change}


STUDIES = {
    "parts": Study(
        "Table VIII: parts",
        *RECIPE,
        {
            "TSM": Row("depth=18,parts=none", 42.6, "parts=none"),
            "MTDM alone": Row("depth=18,parts=mtdm", 43.8, "parts=mtdm"),
            "TAM alone": Row("depth=18,parts=tam", 43.2, "parts=tam"),
            "TCM": Row("depth=18", 45.9, ""),
        },
        (Claim("TCM", "TSM"), Claim("TCM", "MTDM alone"), Claim("TCM", "TAM alone")),
        overrides=LENGTH,
    ),
    "longer": Study(
        "The same, three times as long",
        *RECIPE,
        {"TSM": Row("depth=18,parts=none", 42.6, "parts=none"), "TCM": Row("depth=18", 45.9, "")},
        (Claim("TCM", "TSM"),),
        overrides=LENGTH,
        longer=3,
        ours=True,
    ),
    "eighth": Study(
        "The same from an eighth of the videos",
        *RECIPE,
        {
            "TSM": Row("parts=none", only="toys"),
            "MTDM alone": Row("parts=mtdm", only="toys"),
            "TAM alone": Row("parts=tam", only="toys"),
            "TCM": Row("", only="toys"),
        },
        tuple(Claim("TCM", other) for other in ("TSM", "MTDM alone", "TAM alone")),
        overrides=LENGTH,
        videos=EIGHTH,
        ours=True,
    ),
    "backbones": Study(
        "Table III: other networks with and without it",
        *RECIPE,
        {
            "TSM": Row("depth=18,parts=none", 42.8, "parts=none"),
            "TSM + TCM": Row("depth=18", 45.8, ""),
            "TEA": Row("host=tea,parts=none"),
            "TEA + TCM": Row("host=tea", 50.6),
            "3D ResNeXt": Row("host=resnext3d,frames=16,parts=none", None, "host=resnext3d,parts=none"),
            "3D ResNeXt + TCM": Row("host=resnext3d,frames=16", 26.1, "host=resnext3d"),
            "TSM-50": Row("parts=none", 45.6, only="paper"),
            "TSM-50 + TCM": Row("", 52.0, only="paper"),
            "TSM-101": Row("depth=101,parts=none", only="paper"),
            "TSM-101 + TCM": Row("depth=101", 52.6, only="paper"),
        },
        tuple(Claim(f"{network} + TCM", network) for network in ("TSM", "TEA", "3D ResNeXt", "TSM-50", "TSM-101")),
        overrides=LENGTH,
    ),
    "position": Study(
        "Table VII: position",
        *RECIPE,
        {
            "none": Row("depth=18,parts=none", 42.8, "parts=none"),
            **{
                f"stage {n}": Row(f"depth=18,stages={n}", top1, "" if n == "3" else f"stages={n}")
                for n, top1 in POSITIONS.items()
            },
        },
        tuple(Claim("stage 3", name) for name in ("stage 2", "stage 4", "stage 5", "stage 2-3-4-5")),
        overrides=LENGTH,
    ),
    "tempos": Study(
        "Tempos",
        *RECIPE,
        {
            "fast": Row("depth=18,tempos=fast", None, "tempos=fast"),
            "slow": Row("depth=18,tempos=slow", None, "tempos=slow"),
            "both": Row("depth=18", None, ""),
        },
        (Claim("both", "fast"), Claim("both", "slow")),
        overrides=LENGTH,
        ours=True,
    ),
    "tempo": Study(
        "Figure 4: tempo, trained on 4 frames at stride 4",
        *RECIPE,
        {
            "TSM": Row("depth=18,frames=4,stride=4,parts=none", None, "parts=none"),
            "TCM": Row("depth=18,frames=4,stride=4", None, ""),
        },
        (Claim("TCM", "TSM"),),
        measure="change",
        ask=tempo,
        overrides=(
            *LENGTH,
            "--config.model.num_frames=4",
            "--config.data.sampling=strided",
            f"--config.data.stride={TRAINED}",
        ),
        curve="stride",
        along="stride in frames",
    ),
}

LOOKS = (
    Look("displacement.png", "position", ("stage 2",), "motion", TO_THE_RIGHT),
    Look("cam.png", "parts", ("TSM", "TCM"), "cam", TO_THE_RIGHT),
)

if __name__ == "__main__":
    sys.exit(main(STUDIES, Path(__file__).parent, LOOKS, drawn=("tcm*", "fc")))
