"""TDN: temporal difference networks (Wang et al., CVPR 2021), the backbone of TTSN.

A clip is T segments of five frames. A short-term branch sees the differences within a segment and joins the middle
frame's features before and after the first stage; in later blocks, differences between segments gate the channels.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vidrec.errors import UsageError, VidrecError
from vidrec.models.fields import check_clips
from vidrec.models.layers import KAIMING, DepthwiseConv, Layers, TemporalConv, max_pool
from vidrec.models.resnet import STEMS, Block, Features, Operator, ResNet
from vidrec.ops.resize import nearest_index
from vidrec.ops.shift import shift_taps
from vidrec.types import ModelOutput

SEGMENT = 5  # frames of a segment
MIDDLE = SEGMENT // 2  # the one whose appearance is seen


def shift_init(key: jax.Array, shape: tuple[int, int, int], dtype: Any = jnp.float32) -> Float[Array, "3 1 c"]:
    """The temporal convolution's start: an eighth of the channels copies frame t+1, an eighth t-1, the rest stays."""
    channels = shape[-1]
    eighth = channels // 8
    return shift_taps(channels, after=slice(eighth), before=slice(eighth, 2 * eighth), dtype=dtype)


def colours_init(key: jax.Array, shape: tuple[int, int, int, int], dtype: Any = jnp.float32) -> Array:
    """A kernel for three colours, averaged over them and repeated for every input channel."""
    size, _, inputs, _ = shape
    rgb = KAIMING(key, (size, size, 3, shape[-1]), dtype)
    return jnp.repeat(rgb.mean(2, keepdims=True), inputs, 2)


def resize_nearest(x: Features, like: Features) -> Features:
    """Enlarges maps to the height and width of `like` by torch's rule."""
    for axis in (2, 3):
        size, target = x.shape[axis], like.shape[axis]
        repeats = target % size == 0  # an index would have scattered sums in the backward pass
        x = jnp.repeat(x, target // size, axis) if repeats else jnp.take(x, nearest_index(size, target), axis)
    return x


def halve(x: Features) -> Features:
    """Average pooling over 2x2; an odd last row or column is dropped. Raises VidrecError where nothing is left."""
    b, t, height, width, c = x.shape
    h, w = height // 2, width // 2
    if not h or not w:
        raise VidrecError(f"TDN halves maps of {height}x{width}, which is too small: choose a larger image_size")
    return x[:, :, : 2 * h, : 2 * w].reshape(b, t, h, 2, w, 2, c).mean((3, 5))


class MSE(nn.Module):
    """Multi-scale motion excitation: channels are gated by what changes to the next and from the previous segment.

    With b the reduced features and c their 3x3 depthwise convolution, forward is c[t+1] - b[t] (zero at the end),
    backward c[t-1] - b[t] (zero at the start). Both go through the same layers, so that in training these BatchNorms
    move their statistics twice a step, forward first. `[B, T, H, W, C]` in and out.
    """

    layers: Layers
    reduction: int = 16

    @nn.compact
    def __call__(self, x: Features) -> Features:
        reduced = max(1, x.shape[-1] // self.reduction)
        conv, norm = partial(self.layers.conv, use_bias=False), self.layers.norm
        b = norm(name="reduce_bn")(conv(reduced, name="reduce")(x))
        c = DepthwiseConv(KAIMING, b.dtype, name="motion")(b)
        still = jnp.zeros_like(b[:, :1])
        forward = jnp.concatenate([c[:, 1:] - b[:, :-1], still], 1)
        backward = jnp.concatenate([still, c[:, :-1] - b[:, 1:]], 1)

        half, half_bn = conv(reduced, 3, name="half"), norm(name="half_bn")
        full, full_bn = conv(reduced, 3, name="full"), norm(name="full_bn")
        restore, restore_bn = conv(x.shape[-1], name="restore"), norm(name="restore_bn")

        def gate(change: Features) -> Features:
            """How much a change between segments raises each feature, -0.5 to 0.5."""
            coarse = resize_nearest(half_bn(half(halve(change))), like=change)
            y = restore_bn(restore((change + coarse + full_bn(full(change))) / 3))
            return 0.5 * jnp.tanh(y / 2)  # = sigmoid(y) - 0.5, exact around zero in bfloat16, too

        return x + x * (0.5 * gate(forward) + 0.5 * gate(backward))


def long_term(y: Features, spatial: Operator, *, layers: Layers, reduction: int) -> Features:
    """The middle of a block of stages 3 to 5: mSE, a trained convolution along time, the spatial convolution."""
    y = MSE(layers, reduction, name="mse")(y)
    return spatial(TemporalConv(shift_init, dtype=y.dtype, name="shift_conv")(y))


class ShortTerm(nn.Module):
    """The short-term branch: a second stem, at half the resolution, and a second copy of the first stage's blocks.

    Takes the four differences of a segment's frames, stacked as channels `[B, T, H, W, 12]`; returns what the second
    stem and the second blocks give.

    Attributes:
      layers: constructors of convolutions and norms.
      stem: as in `ResNet`.
      stem_width: as in `ResNet`.
      strides: stride of each block.
      block: constructor of a block, called as `block(stride, name=)`.
    """

    layers: Layers
    stem: str
    stem_width: int
    strides: tuple[int, ...]
    block: Callable[..., Block]

    @nn.compact
    def __call__(self, changes: Float[Array, "b t h w 12"]) -> tuple[Features, Features]:
        conv, norm = self.layers
        size, stride = STEMS[self.stem]
        x = conv(self.stem_width, size, stride, use_bias=False, kernel_init=colours_init, name="conv1")(halve(changes))
        x = nn.relu(norm(name="bn1")(x))
        first = max_pool(x, 3, 2, padding=1) if self.stem == "imagenet" else x
        second = first
        for index, stride in enumerate(self.strides):
            second = self.block(stride=stride, name=f"layer1_{index}")(second)
        return first, second


class TDN(ResNet):
    """The ResNet with TDN's short-term branch and long-term blocks; clips are `[B, 5 * num_frames, H, W, 3]`.

    Convolutions of the main path have a bias, which is of use where norms are frozen: elsewhere they take it out. It
    starts at zero, so that ImageNet weights, which have none, mean here what they meant there. Intermediates beside
    ResNet's: "fusion1" and "fusion2", what enters stages 2 and 3 once the short-term branch has joined.

    Attributes:
      reduction: mSE works on 1/reduction of the block's width (on one channel at least).
    """

    reduction: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduction < 1:
            raise UsageError(f"reduction={self.reduction} must be 1 or more")
        if odd := [width for width in self.widths[1:] if width % 8]:
            raise UsageError(
                f"widths has {odd[0]} from its second place on, but there TDN shifts an eighth of the channels either "
                "way in time: use multiples of 8"
            )

    @property
    def clip_length(self) -> int:
        """Frames of a clip: those of all segments."""
        return SEGMENT * self.num_frames

    @property
    def fusion_weights(self) -> tuple[float, float]:
        """alpha and beta: shares of the middle frame and of the short-term branch where they are joined."""
        return (0.5, 0.5) if self.num_frames == 8 else (0.75, 0.25)

    @nn.compact
    def __call__(self, clips: Float[Array, "b frames h w _c"], *, train: bool = False) -> ModelOutput:
        check_clips(clips.shape, self.num_frames, self.clip_length)
        layers = self.layers(train)
        segments = clips.reshape(clips.shape[0], self.num_frames, SEGMENT, *clips.shape[2:])
        motion = self.short_term(segments, layers)
        x = self.stem_features(segments[:, :, MIDDLE], layers)
        x = self.fuse(x, motion[0], "fusion1")
        for stage in range(2, 2 + len(self.stage_sizes)):
            x = self.stage_features(stage, x, layers)
            x = self.fuse(x, motion[1], "fusion2") if stage == 2 else x
            x = self.after_stage(stage, x, layers)
        return self.head(x, train)

    def layers(self, train: bool) -> Layers:
        """Those of every ResNet, with biases in the convolutions."""
        conv, norm = super().layers(train)
        return Layers(partial(conv, use_bias=True), norm)

    def block_fields(self, stage: int, index: int, layers: Layers) -> Mapping[str, Any]:
        """The long-term branch, in the blocks behind stage 2."""
        return {"temporal": partial(long_term, layers=layers, reduction=self.reduction)} if stage > 2 else {}

    def short_term(self, segments: Float[Array, "b t 5 h w 3"], layers: Layers) -> tuple[Features, Features]:
        """What the differences of a segment's neighbouring frames give after the second stem and blocks."""
        changes = segments[:, :, 1:] - segments[:, :, :-1]
        stacked = jnp.moveaxis(changes, 2, -2).reshape(*segments[:, :, 0].shape[:-1], -1)
        block = partial(self.block_class(), self.widths[0], layers=layers)
        strides = (self.strides[0], *[1] * (self.stage_sizes[0] - 1))
        return ShortTerm(layers, self.stem, self.stem_width, strides, block, name="short_term")(stacked)

    def fuse(self, x: Features, motion: Features, name: str) -> Features:
        """alpha x + beta motion, enlarged to x; sown under `name`."""
        alpha, beta = self.fusion_weights
        x = alpha * x + beta * resize_nearest(motion, like=x)
        self.sow("intermediates", name, x)
        return x
