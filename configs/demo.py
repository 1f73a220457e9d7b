"""Small networks for the toy videos: a few minutes at most on two CPU cores.

    vidrec toy --out toy
    vidrec convert --dataset list --root toy --annotations toy/annotations.csv --out records/toy --short-side 0
    vidrec train --config configs/demo.py:stm --workdir runs/stm --config.data.records=records/toy

Argument: the network, tsn | tsm | tdn | stm | tcm | tefe | ttsn | timesformer | direcformer. tsn averages frames and
stays at 0.50 within mirrored pairs of classes; the others model time and can tell the two apart. The recipe stands in
the package, because `vidrec demo` runs without this folder, too.
"""

from vidrec.demo import get_config

__all__ = ["get_config"]
