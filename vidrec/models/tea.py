"""TEA blocks: temporal excitation and aggregation in a Res2Net (Li et al., CVPR 2020), one of TCM's hosts.

A block excites the channels that changed between neighbouring frames (ME), then splits them into four parts that pass
their results on, each with a temporal and a spatial convolution (MTA): 3x1x1 and 1x3x3 once, twice, three times.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vidrec.models.layers import KAIMING, DepthwiseConv, Layers, TemporalConv
from vidrec.models.resnet import Block, Features
from vidrec.ops.shift import shift_taps

PARTS = 4  # of a block's channels (Res2Net's scale)
BASE_WIDTH = 26  # channels of a part where a plain block has 64


def keep_init(key: jax.Array, shape: tuple[int, int, int], dtype: Any = jnp.float32) -> Float[Array, "3 1 c"]:
    """A temporal kernel that returns its input."""
    return jnp.zeros(shape, dtype).at[1].set(1)


def shift_init(key: jax.Array, shape: tuple[int, int, int], dtype: Any = jnp.float32) -> Float[Array, "3 1 c"]:
    """A temporal kernel that takes half of the channels from frame t+1, the other half from frame t-1."""
    channels = shape[-1]
    half = channels // 2
    return shift_taps(channels, after=slice(half), before=slice(half, 2 * half), dtype=dtype)


class MotionExcitation(nn.Module):
    """ME (section 3.1, Eq. 1 to 6): x + x * (sigmoid(...) - 1/2) of what changed, averaged over the picture.

    On 1/reduction of the channels: conv3x3(F[t+1]) - F[t], zero for the last frame. `[B, T, H, W, C]` in and out.
    """

    layers: Layers
    reduction: int = 16

    @nn.compact
    def __call__(self, x: Features) -> Features:
        conv, norm = self.layers
        channels = x.shape[-1]
        reduced = norm(name="bn1")(conv(max(1, channels // self.reduction), name="conv1")(x))
        moved = DepthwiseConv(KAIMING, reduced.dtype, name="conv2")(reduced)
        change = jnp.mean((moved[:, 1:] - reduced[:, :-1]).astype(jnp.float32), (2, 3), keepdims=True)
        change = jnp.pad(change, ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0)))
        excitation = norm(name="bn3")(conv(channels, name="conv3")(change.astype(x.dtype)))
        return x + x * (nn.sigmoid(excitation) - 0.5)


def part_width(width: int) -> int:
    """Channels of each of a block's parts."""
    return width * BASE_WIDTH // 64


class TEABlock(Block):
    """conv1, ME, MTA, conv3 around the shortcut of a bottleneck (section 3.3).

    Attributes:
      first: the first block of a stage: its parts do not pass on results, and the last one is averaged over 3x3.
    """

    expansion = 4
    first: bool = False

    @nn.compact
    def __call__(self, x: Features) -> Features:
        conv, norm = self.layers
        y = nn.relu(norm(name="bn1")(conv(PARTS * part_width(self.width), 1, name="conv1")(x)))
        y = self.aggregate(MotionExcitation(self.layers, name="me")(y))
        y = norm(name="bn3")(conv(4 * self.width, 1, name="conv3")(y))
        return nn.relu(y + self.shortcut(x, 4 * self.width))

    def aggregate(self, y: Features) -> Features:
        """MTA (section 3.2, Eq. 7): a part is convolved in time and space after the result before it is added."""
        conv, norm = self.layers
        *parts, last = jnp.split(y, PARTS, axis=-1)
        done: list[Features] = []
        for i, part in enumerate(parts):
            part = part + done[-1] if done and not self.first else part
            part = TemporalConv(keep_init, dtype=y.dtype, name=f"shifts_{i}")(part)
            part = conv(part.shape[-1], 3, self.stride, name=f"convs_{i}")(part)
            done.append(nn.relu(norm(name=f"convs_{i}_bn")(part)))
        last = TemporalConv(shift_init, dtype=y.dtype, name=f"shifts_{len(parts)}")(last)
        return jnp.concatenate([*done, average_3x3(last, self.stride) if self.first else last], axis=-1)


def average_3x3(x: Features, stride: int) -> Features:
    """The mean over 3x3 positions, those outside the picture counting as zero."""
    frames = x.reshape(-1, *x.shape[2:])
    around: Any = ((1, 1), (1, 1))  # flax accepts pairs, its annotation says str
    averaged = nn.avg_pool(frames, (3, 3), (stride, stride), around)
    return averaged.reshape(*x.shape[:2], *averaged.shape[1:])
