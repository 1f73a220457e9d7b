"""TSN: a 2D network on every frame, scores averaged; what the temporal networks are measured against.

    vidrec convert --dataset ssv1 --root 20bn-something-something-v1 --annotations labels --out records/ssv1
    vidrec import --model tsn_resnet50 --weights resnet50.pth --out weights/tsn --allow-missing fc
    vidrec train --config configs/tsn.py:ssv1 --workdir runs/tsn --config.train.init=weights/tsn
    vidrec eval --workdir runs/tsn

Argument: as of configs/tsm.py, whose recipes these are, without network=. Top-1 with 8 frames as STM's paper has it:
Something-Something V1 19.7, Kinetics-400 70.6. Cost: as TSM's, 32.7 GMAC a clip of 8 frames, since a shift costs none.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

TSM = runpy.run_path(str(Path(__file__).with_name("tsm.py")))


def sweep() -> dict[str, list[str]]:
    """The rows of TSM's tables that do not compare the two."""
    return {title: rows for title, rows in TSM["sweep"]().items() if title != "without the shift"}


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of one data set."""
    return TSM["get_config"](arg, ("tsn",))
