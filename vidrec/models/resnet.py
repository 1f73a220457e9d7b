"""The 2D residual network that every convolutional paper here stands on (He et al., CVPR 2016; torchvision's names).

Features keep their clip axis, `[B, T, H, W, C]`; convolutions fold time into the batch by themselves, batch-major.
A paper plugs its operator into the blocks with `ResNet.block_fields`, and modules between stages with
`ResNet.after_stage`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vidrec.models.fields import (
    check_at_least,
    check_choice,
    check_clips,
    check_computation,
    check_per_stage,
    check_share,
    check_types,
)
from vidrec.models.layers import Layers, conv, max_pool
from vidrec.models.norm import BatchNorm, parse_bn
from vidrec.types import ModelOutput

Features = Float[Array, "b t _h _w _c"]  # clips and frames stay, the rest changes from layer to layer
Operator = Callable[[Features], Features]
# temporal(y, spatial) -> y: wraps the block's spatial convolution; a module it creates belongs to the block
Temporal = Callable[[Features, Operator], Features]

SHAPES: dict[int, dict[str, Any]] = {
    18: {"stage_sizes": (2, 2, 2, 2), "bottleneck": False},
    34: {"stage_sizes": (3, 4, 6, 3), "bottleneck": False},
    50: {"stage_sizes": (3, 4, 6, 3), "bottleneck": True},
    101: {"stage_sizes": (3, 4, 23, 3), "bottleneck": True},
}


STEMS = {"imagenet": (7, 2), "half": (3, 2), "small": (3, 1)}  # kernel size and stride of the first convolution
CLASSIFIER_INITS = {"normal": nn.initializers.normal(0.001), "xavier": nn.initializers.xavier_uniform()}


def plain(y: Features, spatial: Operator) -> Features:
    """The temporal operator of a network without one."""
    return spatial(y)


def same(x: Features) -> Features:
    """The shift of a network without one."""
    return x


class Block(nn.Module):
    """What both residual blocks share.

    Attributes:
      width: channels of the spatial convolution (torch: planes).
      stride: spatial stride of the block.
      layers: constructors of convolutions and norms.
      shift: applied to what enters the residual branch, not to the shortcut.
      temporal: called as `temporal(y, spatial)` around the last spatial convolution and its norm.
      spatial_conv: another constructor for that convolution, called as `layers.conv` is.
    """

    width: int
    stride: int
    layers: Layers
    shift: Operator = same
    temporal: Temporal = plain
    spatial_conv: Callable[..., nn.Module] | None = None

    def shortcut(self, x: Features, channels: int) -> Features:
        """The identity, or a strided 1x1 convolution and norm where the shape changes."""
        if self.stride == 1 and x.shape[-1] == channels:
            return x
        x = self.layers.conv(channels, 1, self.stride, name="downsample_conv")(x)
        return self.layers.norm(name="downsample_bn")(x)


class BasicBlock(Block):
    """Two 3x3 convolutions (ResNet-18 and 34); the first one carries the stride."""

    expansion = 1

    @nn.compact
    def __call__(self, x: Features) -> Features:
        conv, norm = self.layers
        y = nn.relu(norm(name="bn1")(conv(self.width, 3, self.stride, name="conv1")(self.shift(x))))
        conv2 = self.spatial_conv or conv

        def spatial(y: Features) -> Features:
            """The second convolution."""
            return norm(name="bn2")(conv2(self.width, 3, 1, name="conv2")(y))

        return nn.relu(self.temporal(y, spatial) + self.shortcut(x, self.width))


class Bottleneck(Block):
    """1x1, 3x3, 1x1 convolutions, the last to four times the width (ResNet-50 and 101); the 3x3 carries the stride."""

    expansion = 4

    @nn.compact
    def __call__(self, x: Features) -> Features:
        conv, norm = self.layers
        y = nn.relu(norm(name="bn1")(conv(self.width, 1, name="conv1")(self.shift(x))))
        conv2 = self.spatial_conv or conv

        def spatial(y: Features) -> Features:
            """The convolution in the middle."""
            return nn.relu(norm(name="bn2")(conv2(self.width, 3, self.stride, name="conv2")(y)))

        y = self.temporal(y, spatial)
        y = norm(name="bn3")(conv(4 * self.width, 1, name="conv3")(y))
        return nn.relu(y + self.shortcut(x, 4 * self.width))


class ResNet(nn.Module):
    """A ResNet on every frame, its frame scores averaged: TSN, and the ground the other papers build on.

    Called with normalised clips `[B, T, H, W, 3]`; returns ModelOutput with float32 logits `[B, num_classes]`. Training
    needs the random stream "dropout" and a mutable "batch_stats". Intermediates: "stem" and "stage2".."stage5"
    `[B, T, H, W, C]`, "frame_logits" `[B, T, num_classes]`.

    Attributes:
      num_classes: size of the classifier.
      num_frames: T, frames (segments) per clip.
      stage_sizes: blocks of each stage.
      widths: width of each stage's blocks.
      strides: spatial stride of each stage.
      bottleneck: three-convolution blocks instead of two-convolution ones.
      stem: "imagenet" (7x7 stride 2, then 3x3 max pooling stride 2), or for small pictures "half" (3x3 stride 2) or
        "small" (3x3 stride 1).
      stem_width: channels of the stem.
      dropout: probability, before the classifier.
      bn: statistics of the norms: global, group:<clips>, frozen or partial (see `vidrec.models.norm`).
      bn_momentum: how much of the running statistics a training step keeps.
      dtype: type of the computation; parameters, norms' statistics and the head stay float32.
      remat: "none", or "block" to recompute each block in the backward pass instead of keeping its inside.
      classifier_init: what the classifier's weights are drawn from: "normal" with standard deviation 0.001, as in the
        public code of TSN and its descendants, or "xavier", larger, so that the features learn from the first step on.
    """

    num_classes: int
    num_frames: int = 8
    stage_sizes: Sequence[int] = (3, 4, 6, 3)
    widths: Sequence[int] = (64, 128, 256, 512)
    strides: Sequence[int] = (1, 2, 2, 2)
    bottleneck: bool = True
    stem: str = "imagenet"
    stem_width: int = 64
    dropout: float = 0.5
    bn: str = "global"
    bn_momentum: float = 0.9
    dtype: DTypeLike = "float32"
    remat: str = "none"
    classifier_init: str = "normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_types(self)
        check_per_stage(stage_sizes=len(self.stage_sizes), widths=len(self.widths), strides=len(self.strides))
        check_at_least(1, num_classes=self.num_classes, num_frames=self.num_frames, stem_width=self.stem_width)
        check_at_least(1, stage_sizes=self.stage_sizes, widths=self.widths, strides=self.strides)
        check_share(dropout=self.dropout, bn_momentum=self.bn_momentum)
        check_choice("stem", self.stem, STEMS)
        check_choice("classifier_init", self.classifier_init, CLASSIFIER_INITS)
        check_computation(self.dtype, self.remat)
        parse_bn(self.bn)

    @property
    def clip_length(self) -> int:
        """Frames of a clip on the T axis of the input."""
        return self.num_frames

    @nn.compact
    def __call__(self, clips: Float[Array, "b t h w _c"], *, train: bool = False) -> ModelOutput:
        check_clips(clips.shape, self.num_frames, self.clip_length)
        layers = self.layers(train)
        x = self.stem_features(clips, layers)
        for stage in range(2, 2 + len(self.stage_sizes)):
            x = self.after_stage(stage, self.stage_features(stage, x, layers), layers)
        return self.head(x, train)

    def block_fields(self, stage: int, index: int, layers: Layers) -> Mapping[str, Any]:
        """What a paper adds to block `index` of `stage` (2..5): fields of `Block`. Nothing here."""
        return {}

    def after_stage(self, stage: int, x: Features, layers: Layers) -> Features:
        """What a paper puts between `stage` (2..5) and the next one. Nothing here."""
        return x

    def layers(self, train: bool) -> Layers:
        """The layers of this network, in train or eval mode."""
        norm = partial(BatchNorm, policy=parse_bn(self.bn), train=train, momentum=self.bn_momentum)
        return Layers(partial(conv, dtype=jnp.dtype(self.dtype)), norm)

    def stem_features(self, clips: Float[Array, "b t h w _c"], layers: Layers) -> Features:
        """conv1, bn1, ReLU and, for pictures of ImageNet's size, max pooling."""
        size, stride = STEMS[self.stem]
        x = layers.conv(self.stem_width, size, stride, name="conv1")(clips)
        x = nn.relu(layers.norm(name="bn1", first=True)(x))
        x = max_pool(x, 3, 2, padding=1) if self.stem == "imagenet" else x
        self.sow("intermediates", "stem", x)
        return x

    def block_class(self) -> type[Block]:
        """The residual block of this network, recomputed in the backward pass if `remat` says so."""
        block = Bottleneck if self.bottleneck else BasicBlock
        return nn.remat(block) if self.remat == "block" else block

    def stage_features(self, stage: int, x: Features, layers: Layers) -> Features:
        """All blocks of one stage (2..5; torchvision's layer1..4)."""
        block = self.block_class()
        width, stride = self.widths[stage - 2], self.strides[stage - 2]
        for index in range(self.stage_sizes[stage - 2]):
            fields = self.block_fields(stage, index, layers)
            name = f"layer{stage - 1}_{index}"
            x = block(width, 1 if index else stride, layers, **fields, name=name)(x)
        self.sow("intermediates", f"stage{stage}", x)
        return x

    def head(self, x: Features, train: bool) -> ModelOutput:
        """Average pooling and scores per frame, then the mean over frames, in float32."""
        x = x.astype(jnp.float32).mean((2, 3))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        frame_logits = nn.Dense(self.num_classes, kernel_init=CLASSIFIER_INITS[self.classifier_init], name="fc")(x)
        self.sow("intermediates", "frame_logits", frame_logits)
        return ModelOutput(frame_logits.mean(1))
