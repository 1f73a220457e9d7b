"""STM: spatio-temporal and motion features in a 2D network (Wang et al.; conference version ICCV 2019).

A block's 3x3 convolution is joined by two cheap modules on the same features F: CSTM sums neighbouring frames channel
by channel before it (Eq. 1), CMM runs beside it on the differences of neighbouring frames (Eq. 2), both are added.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vidrec.errors import VidrecError
from vidrec.models.fields import check_at_least, check_choice, check_has_effect
from vidrec.models.layers import TORCH_DEFAULT, DepthwiseConv, Layers, TemporalConv, max_pool
from vidrec.models.resnet import Features, Operator, ResNet
from vidrec.ops.shift import shift_taps, temporal_taps

MODULES = ("both", "cstm", "cmm", "none")
FUSIONS = ("sum", "concat")
CSTM_CONVS = ("channelwise", "channelwise_2d", "ordinary")
CMM_CONVS = ("channelwise", "ordinary")


def shift_init(key: jax.Array, shape: tuple[int, int, int], dtype: Any = jnp.float32) -> Float[Array, "3 i c"]:
    """CSTM's start: a quarter of the channels copies frame t-1, half keeps t, a quarter copies t+1.

    `[3, 1, C]` for the channel-wise convolution; for the ordinary one (`[3, C, C]`) the same on the diagonal.
    """
    _, inputs, channels = shape
    quarter = channels // 4
    taps = shift_taps(channels, before=slice(quarter), after=slice(channels - quarter, None), dtype=dtype)
    return taps if inputs == 1 else taps * jnp.eye(channels, dtype=dtype)


def cstm(y: Features, *, conv: str = "channelwise", degenerate: bool = False) -> Features:
    """Channel-wise spatio-temporal module, Eq. 1: the part of it that stands before the spatial convolution."""
    if degenerate:
        return temporal_taps(y, jnp.ones((3, y.shape[-1])).at[0].set(0))
    return TemporalConv(shift_init, conv != "ordinary", y.dtype, name="cstm")(y)


class CMM(nn.Module):
    """Channel-wise motion module, Eq. 2: what moved between neighbouring frames, on 1/reduction of the channels.

    H[t] = conv3x3(F[t+1]) - F[t] (the authors' sign; the last layer absorbs it), zero for the last frame.
    `[B, T, H, W, C]` in and out. `degenerate` fixes the 3x3 kernel to the delta, so H[t] = F[t+1] - F[t].
    Intermediate: "difference", H `[B, T, H, W, C / reduction]`.
    """

    layers: Layers
    reduction: int = 16
    conv: str = "channelwise"
    degenerate: bool = False

    @nn.compact
    def __call__(self, y: Features) -> Features:
        channels = y.shape[-1]
        reduced = max(1, channels // self.reduction)
        conv = partial(self.layers.conv, kernel_init=TORCH_DEFAULT)
        f = self.layers.norm(name="reduce_bn")(conv(reduced, name="reduce")(y))
        moved = f
        if not self.degenerate:
            depthwise = self.conv == "channelwise"
            motion = DepthwiseConv(dtype=f.dtype, name="motion") if depthwise else conv(reduced, 3, name="motion")
            moved = motion(f)
        h = jnp.pad(moved[:, 1:] - f[:, :-1], ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0)))
        self.sow("intermediates", "difference", h)
        return conv(channels, name="restore")(h)


class STM(ResNet):
    """The ResNet with STM blocks. Beside ResNet's fields, the paper's ablations:

    Attributes:
      modules: which of the two modules a block has: both, cstm, cmm or none (none = TSN).
      fusion: how they are joined: sum, or concat (channels side by side, then a 1x1 convolution back to the width).
      degenerate: fix CSTM to F[t] + F[t+1] and CMM's kernel to the delta: the bins of a two-frame DFT (Eq. 6-7).
      placement: STM blocks: all, the first of every stage (first), or the first of one stage (2, 3, 4 or 5).
      cstm_conv: channelwise (1D in time), channelwise_2d (the 3x3 convolution becomes channel-wise too) or ordinary.
      cmm_conv: CMM's 3x3 convolution: channelwise or ordinary.
      reduction: CMM works on 1/reduction of the block's width, at least one channel.
    """

    modules: str = "both"
    fusion: str = "sum"
    degenerate: bool = False
    placement: str | int = "all"
    cstm_conv: str = "channelwise"
    cmm_conv: str = "channelwise"
    reduction: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("modules", self.modules, MODULES)
        check_choice("fusion", self.fusion, FUSIONS)
        stages = [str(stage) for stage in range(2, 2 + len(self.stage_sizes))]
        check_choice("placement", str(self.placement), ("all", "first", *stages))
        check_choice("cstm_conv", self.cstm_conv, CSTM_CONVS)
        check_choice("cmm_conv", self.cmm_conv, CMM_CONVS)
        check_at_least(1, reduction=self.reduction)
        self.check_effects()

    @property
    def has_cstm(self) -> bool:
        """Whether the STM blocks contain CSTM."""
        return self.modules in ("both", "cstm")

    @property
    def has_cmm(self) -> bool:
        """Whether the STM blocks contain CMM."""
        return self.modules in ("both", "cmm")

    def check_effects(self) -> None:
        """Refuses fields that change nothing in the chosen variant."""
        here = f"modules={self.modules!r}"
        check_has_effect("fusion", self.fusion == "sum" or self.modules == "both", here)
        check_has_effect("cstm_conv", self.cstm_conv == "channelwise" or self.has_cstm, here)
        check_has_effect("cmm_conv", self.cmm_conv == "channelwise" or self.has_cmm, here)
        check_has_effect("reduction", self.reduction == 16 or self.has_cmm, here)
        check_has_effect("placement", self.placement == "all" or self.modules != "none", here)
        check_has_effect("degenerate", not self.degenerate or self.modules != "none", here)
        if self.degenerate:
            kernels = "degenerate=True fixes the kernel"
            check_has_effect("cstm_conv", self.cstm_conv != "ordinary", kernels)
            check_has_effect("cmm_conv", self.cmm_conv == "channelwise", kernels)

    def block_fields(self, stage: int, index: int, layers: Layers) -> Mapping[str, Any]:
        """CSTM and CMM in the blocks that `placement` names."""
        where = str(self.placement)
        if self.modules == "none" or (where != "all" and (index > 0 or where not in ("first", str(stage)))):
            return {}
        before = partial(cstm, conv=self.cstm_conv, degenerate=self.degenerate) if self.has_cstm else None
        beside = partial(CMM, layers, self.reduction, self.cmm_conv, self.degenerate) if self.has_cmm else None
        stride = self.strides[stage - 2] if index == 0 and self.bottleneck else 1  # of the convolution it surrounds
        operator = partial(stm_operator, layers=layers, cstm=before, cmm=beside, fusion=self.fusion, stride=stride)
        if self.cstm_conv == "channelwise_2d":
            return {"temporal": operator, "spatial_conv": partial(layers.conv, groups=self.widths[stage - 2])}
        return {"temporal": operator}


def stm_operator(
    y: Features,
    spatial: Operator,
    *,
    layers: Layers,
    cstm: Operator | None,
    cmm: Callable[..., CMM] | None,
    fusion: str,
    stride: int,
) -> Features:
    """The middle of an STM block: spatial(CSTM(y)) + CMM(y), with the modules the variant has."""
    appearance = spatial(cstm(y) if cstm else y)
    if cmm is None:
        return appearance
    motion = pool(cmm(name="cmm")(y), stride)
    if fusion == "sum":
        return appearance + motion
    both = jnp.concatenate([appearance, motion], axis=-1)
    return layers.conv(appearance.shape[-1], name="fuse")(both)


def pool(motion: Features, stride: int) -> Features:
    """Max pooling by the spatial convolution's stride; raises VidrecError where that does not divide the sizes."""
    height, width = motion.shape[2:4]
    if height % stride or width % stride:
        raise VidrecError(
            f"an STM block divides maps of {height}x{width} by {stride}: choose an image_size that stays divisible at "
            "every strided stage (a multiple of 32 with the usual strides)"
        )
    return motion if stride == 1 else max_pool(motion, stride, stride)
