"""The two baselines: TSN (frame average, the ResNet itself) and TSM (Lin et al., ICCV 2019)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vidrec.errors import UsageError
from vidrec.models.fields import check_at_least
from vidrec.models.layers import Layers
from vidrec.models.resnet import ResNet
from vidrec.ops.shift import temporal_shift

TSN = ResNet


class TSM(ResNet):
    """Shifts a part of the channels along time where a block's residual branch begins; no parameter is added.

    Attributes:
      shift_div: 1/shift_div of the channels come from frame t+1, as many from frame t-1.
      shift_every: shift in every n-th block of a stage, from its first on. The authors' code uses 1 for ResNet-50 and
        2 for ResNet-101 (18 of 33 blocks); later papers on ResNet-101 shift all 33, the default here.
    """

    shift_div: int = 8
    shift_every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(2, shift_div=self.shift_div)
        check_at_least(1, shift_every=self.shift_every)
        if max(self.stem_width, *self.widths) < self.shift_div:
            raise UsageError(
                f"shift_div={self.shift_div} moves no channel of widths={tuple(self.widths)}: take wider stages, or a "
                "shift_div that is no larger"
            )

    def block_fields(self, stage: int, index: int, layers: Layers) -> Mapping[str, Any]:
        """The shift in one block of `shift_every`."""
        if index % self.shift_every:
            return {}
        return {"shift": partial(temporal_shift, fold_div=self.shift_div)}
