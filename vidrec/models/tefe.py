"""TEFE: temporal extraction and feature enhancement (Jiang and Zhang, IEEE Access 2022).

Some blocks of each stage get TE, which weighs neighbouring frames by kernels made from the clip itself (Eq. 1-6: the
temporal adaptive module of TANet), others FE, which multiplies two 3D convolutions in place of the 3x3 one (Eq. 10).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vidrec.errors import UsageError
from vidrec.models.fields import check_choice, check_has_effect, check_per_stage
from vidrec.models.layers import KAIMING, TORCH_DEFAULT, Layers
from vidrec.models.resnet import Features, Operator, ResNet
from vidrec.ops.shift import temporal_taps

TE_POSITIONS = ("after_conv2", "before_conv2")
BLOCK_ORDERS = ("te_first", "fe_first")
FE_INITS = ("identity", "random")


class TE(nn.Module):
    """Temporal extraction, Eq. 1-6: `[B, T, H, W, C]` in and out.

    What both branches read is the mean of every frame, S (Eq. 1). The short-term branch looks at neighbouring frames
    of all channels and gives M in 0..1 for each frame and channel (Eq. 2-3), the long-term branch looks at all frames
    of one channel and gives its three temporal taps q (Eq. 5). The output is the sum of q[i] M[t+i] X[t+i] over i in
    -1, 0, 1, frames outside the clip being zero (Eq. 4 and 6). Norms, activations and sizes that the paper leaves
    open are TANet's. The weights belong to one T. At the start M is near 1/2 and q near 1/3: not the identity.

    Intermediates: "taps", q `[B, 3, C]`, which multiply frames t-1, t, t+1; "activation", M `[B, T, C]`.
    """

    layers: Layers
    reduction: int = 4

    @nn.compact
    def __call__(self, x: Features) -> Features:
        frames, channels = x.shape[1], x.shape[-1]
        norm, dense = self.layers.norm, partial(nn.Dense, use_bias=False, kernel_init=TORCH_DEFAULT)
        conv = partial(nn.Conv, use_bias=False, kernel_init=TORCH_DEFAULT, padding="SAME")
        pooled = x.astype(jnp.float32).mean((2, 3))  # [B, T, C]; all of the branches is float32

        hidden = conv(max(1, channels // self.reduction), (3,), name="short_in")(pooled)
        hidden = nn.relu(norm(name="short_bn")(hidden))
        activation = nn.sigmoid(conv(channels, (1,), name="short_out")(hidden))

        hidden = dense(2 * frames, name="long_in")(pooled.swapaxes(1, 2))  # [B, C, 2T]
        hidden = nn.relu(norm(name="long_bn")(hidden))
        taps = nn.softmax(dense(3, name="long_out")(hidden)).swapaxes(1, 2)  # [B, 3, C]

        self.sow("intermediates", "activation", activation)
        self.sow("intermediates", "taps", taps)
        return temporal_taps(x * activation[:, :, None, None].astype(x.dtype), taps)

    def multiply_adds(self, output: Features, *inputs: Features) -> int:
        """Of Eq. 6: three per value."""
        return 3 * output.size


class FE(nn.Module):
    """Feature enhancement, Eq. 10: the product of two 3x3x3 convolutions of the same features, in place of conv2.

    `[B, T, H, W, C]` to `[B, T, H/stride, W/stride, features]`, zeros around the clip in time and space. conv1 has no
    bias, like the convolution it replaces; conv2 has one. With `start` "identity" (Eq. 11) the middle frame of conv1 is
    a 3x3 kernel and the rest of it zero, conv2 gives 1 everywhere: the 2D convolution. With "random" all taps are
    drawn, so that a network that starts without ImageNet weights sees time at once.
    """

    features: int
    stride: int = 1
    start: str = "identity"

    @nn.compact
    def __call__(self, x: Features) -> Features:
        strides = (1, self.stride, self.stride)
        conv = partial(nn.Conv, self.features, (3, 3, 3), strides=strides, padding=1, dtype=x.dtype)
        identity = self.start == "identity"
        inits = (middle_frame, nn.initializers.zeros) if identity else (KAIMING, TORCH_DEFAULT)
        enhanced = conv(use_bias=False, kernel_init=inits[0], name="conv1")(x)
        return enhanced * conv(kernel_init=inits[1], bias_init=nn.initializers.ones, name="conv2")(x)


def middle_frame(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Float[Array, "3 3 3 i o"]:
    """A 3D kernel that is a 2D one, drawn as for conv2 of a ResNet, in its middle frame and zero in the others."""
    return jnp.zeros(shape, dtype).at[1].set(KAIMING(key, tuple(shape[1:]), dtype))


class TEFE(ResNet):
    """The ResNet with TE and FE blocks. Beside ResNet's fields:

    Attributes:
      te: how many blocks of each stage have TE.
      fe: how many blocks of each stage have FE; the rest stays plain.
      te_position: TE stands after_conv2 (and its norm and ReLU: the order of the paper's text), or before_conv2
        (TANet's, whose weights fit then).
      block_order: which of the two kinds comes first in a stage, te_first or fe_first; plain blocks come last.
      fe_init: start of FE: identity (the 2D convolution) or random.

    In blocks of two convolutions (bottleneck=False) conv2 is likewise the one that TE stands beside, and that FE
    replaces; there is no ReLU between its norm and TE.
    """

    te: Sequence[int] = (1, 1, 1, 1)
    fe: Sequence[int] = (0, 3, 5, 2)
    te_position: str = "after_conv2"
    block_order: str = "te_first"
    fe_init: str = "identity"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_per_stage(stage_sizes=len(self.stage_sizes), te=len(self.te), fe=len(self.fe))
        check_choice("te_position", self.te_position, TE_POSITIONS)
        check_choice("block_order", self.block_order, BLOCK_ORDERS)
        check_choice("fe_init", self.fe_init, FE_INITS)
        self.check_counts()
        check_has_effect("te_position", self.te_position == TE_POSITIONS[0] or any(self.te), "te has no blocks")
        check_has_effect("fe_init", self.fe_init == FE_INITS[0] or any(self.fe), "fe has no blocks")
        mixed = any(map(min, self.te, self.fe))
        check_has_effect("block_order", self.block_order == BLOCK_ORDERS[0] or mixed, "no stage has both kinds")

    def check_counts(self) -> None:
        """Refuses counts that are not those of a stage's blocks."""
        for stage, (te, fe, blocks) in enumerate(zip(self.te, self.fe, self.stage_sizes, strict=True), start=2):
            if min(te, fe) < 0 or te + fe > blocks:
                raise UsageError(
                    f"te={tuple(self.te)} and fe={tuple(self.fe)} ask for {te} + {fe} blocks in stage {stage}, which "
                    f"has {blocks} (stage_sizes={tuple(self.stage_sizes)}): set te and fe so that they fit"
                )

    def kind(self, stage: int, index: int) -> str:
        """What block `index` of `stage` (2..5) is: te, fe or plain."""
        kinds = ["te"] * self.te[stage - 2], ["fe"] * self.fe[stage - 2]
        first, second = kinds if self.block_order == "te_first" else kinds[::-1]
        return dict(enumerate(first + second)).get(index, "plain")

    def block_fields(self, stage: int, index: int, layers: Layers) -> Mapping[str, Any]:
        """TE or FE, where `te` and `fe` have them."""
        kind = self.kind(stage, index)
        if kind == "te":
            return {"temporal": partial(te_operator, layers=layers, position=self.te_position)}
        return {"spatial_conv": partial(fe_conv, start=self.fe_init)} if kind == "fe" else {}


def te_operator(y: Features, spatial: Operator, *, layers: Layers, position: str) -> Features:
    """The middle of a TE block."""
    te = TE(layers, name="te")
    return te(spatial(y)) if position == "after_conv2" else spatial(te(y))


def fe_conv(features: int, size: int, stride: int, *, name: str, start: str) -> FE:
    """FE where a block calls for its 3x3 convolution: called as `layers.conv`, but the parameters are named "fe"."""
    return FE(features, stride, start, name="fe")
