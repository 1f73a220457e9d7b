"""3D ResNeXt: grouped convolutions in time and space (Hara et al., CVPR 2018), one of TCM's hosts.

A clip of 16 frames has 8 behind the stem, then 8, 4, 2 and 1 in stages 2 to 5; pictures are usually 112 x 112.
"""

import math
from typing import Any

import flax.linen as nn

from vidrec.models.layers import Layers
from vidrec.models.resnet import Block, Features

# Groups of the 3x3x3 convolution: 4 channels each where a plain block has 64 ("32x4d"). Thin networks have fewer.
CARDINALITY = 32


def stem(clips: Features, width: int, layers: Layers) -> Features:
    """conv1 7x7x7 with stride 2 in space, bn1, ReLU, 3x3x3 max pooling with stride 2 in time and space."""
    x = layers.conv(width, (7, 7, 7), (1, 2, 2), name="conv1")(clips)
    x = nn.relu(layers.norm(name="bn1", first=True)(x))
    around: Any = ((1, 1), (1, 1), (1, 1))  # flax accepts pairs, its annotation says str
    return nn.max_pool(x, (3, 3, 3), (2, 2, 2), around)


class ResNeXt3DBlock(Block):
    """1x1x1, grouped 3x3x3 (which carries the stride, in time too) and 1x1x1 convolutions around a shortcut."""

    expansion = 4

    @nn.compact
    def __call__(self, x: Features) -> Features:
        conv, norm = self.layers
        inside = 2 * self.width
        y = nn.relu(norm(name="bn1")(conv(inside, (1, 1, 1), name="conv1")(x)))
        y = conv(inside, (3, 3, 3), self.stride, groups=math.gcd(CARDINALITY, inside), name="conv2")(y)
        y = norm(name="bn3")(conv(4 * self.width, (1, 1, 1), name="conv3")(nn.relu(norm(name="bn2")(y))))
        return nn.relu(y + self.shortcut(x, 4 * self.width))

    def shortcut(self, x: Features, channels: int) -> Features:
        """The identity, or a strided 1x1x1 convolution and norm where the shape changes."""
        if self.stride == 1 and x.shape[-1] == channels:
            return x
        x = self.layers.conv(channels, (1, 1, 1), self.stride, name="downsample_conv")(x)
        return self.layers.norm(name="downsample_bn")(x)


def frames_at(stage: int, frames: int, strides: tuple[int, ...]) -> int:
    """Frames that are left behind `stage` (2..5)."""
    for stride in (2, *strides[: stage - 1]):
        frames = -(-frames // stride)
    return frames
