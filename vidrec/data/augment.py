"""Where to crop and whether to flip: one draw per clip, made on the host before any pixel is touched.

A `View` is all that is decided; the pipeline decodes a frame, cuts the box and resizes it in one go. Boxes are chosen
in a frame of the size that `resized_shape` gives, which is never made, and mapped back to the stored frame.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from vidrec.errors import UsageError


class Box(NamedTuple):
    """A rectangle of a frame in pixels: left, top, width, height."""

    x: int
    y: int
    width: int
    height: int


class View(NamedTuple):
    """How a clip's frames become pictures: the box cut from each frame, and whether it is mirrored."""

    box: Box
    flip: bool = False


def resized_shape(height: int, width: int, resize: tuple[int, ...]) -> tuple[int, int]:
    """Height and width after `resize`: () keeps them, (s,) makes the short side s, (h, w) is exact."""
    if not resize:
        return height, width
    if len(resize) == 2:
        return resize[0], resize[1]
    short = min(height, width)
    return round(height * resize[0] / short), round(width * resize[0] / short)


def to_stored(box: Box, shape: tuple[int, int], stored: tuple[int, int]) -> Box:
    """Maps a box of a frame of `shape` (height, width) to the same part of the frame as `stored`, at least 1x1."""
    scale_y, scale_x = stored[0] / shape[0], stored[1] / shape[1]
    left, top = round(box.x * scale_x), round(box.y * scale_y)
    right, bottom = round((box.x + box.width) * scale_x), round((box.y + box.height) * scale_y)
    left, top = min(left, stored[1] - 1), min(top, stored[0] - 1)
    return Box(left, top, max(right - left, 1), max(bottom - top, 1))


def multiscale_sizes(
    height: int, width: int, image_size: int, scales: tuple[float, ...], max_distortion: int = 1
) -> list[tuple[int, int]]:
    """Crop sizes (width, height) of TSN's multi-scale crop: scales of the short side, at most one step apart.

    A side within 3 pixels of `image_size` is taken as `image_size`, as published, where the frame is that large.
    """
    short = min(height, width)
    sides = [int(short * scale) for scale in scales]
    sides = [min(image_size, short) if abs(side - image_size) < 3 else side for side in sides]
    return [(w, h) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= max_distortion]


def fixed_offsets(height: int, width: int, crop_width: int, crop_height: int) -> list[tuple[int, int]]:
    """The 13 offsets (x, y) of TSN's fixed crops: corners, centre, edge middles, quarter points."""
    x, y = (width - crop_width) // 4, (height - crop_height) // 4
    steps = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3)]
    return [(i * x, j * y) for i, j in steps]


def center_box(height: int, width: int, size: tuple[int, int]) -> Box:
    """The centre of a frame, `size` (height, width) large where the frame is."""
    h, w = min(size[0], height), min(size[1], width)
    return Box((width - w) // 4 * 2, (height - h) // 4 * 2, w, h)


def three_crops(height: int, width: int, side: int) -> list[Box]:
    """Square test crops: left, right and centre, or top, bottom and centre of an upright frame."""
    side = min(side, height, width)
    x, y = (width - side) // 4, (height - side) // 4
    centre = Box(2 * x, 2 * y, side, side)
    if width >= height:
        return [centre._replace(x=0), centre._replace(x=4 * x), centre]
    return [centre._replace(y=0), centre._replace(y=4 * y), centre]


def five_crops(height: int, width: int, size: tuple[int, int]) -> list[Box]:
    """Test crops of `size` (height, width) at the four corners and in the centre."""
    h, w = min(size[0], height), min(size[1], width)
    return [Box(x, y, w, h) for x, y in fixed_offsets(height, width, w, h)[:5]]


def resized_box(
    height: int, width: int, area: tuple[float, ...], aspect: tuple[float, ...], rng: np.random.Generator
) -> Box:
    """The random-resized crop of image classification (torchvision, SlowFast), anywhere in the frame.

    Ten times a share of the frame's area and a ratio of width to height (its logarithm uniform) are drawn. If no such
    box fits, it is the largest one in the centre whose ratio is allowed.

    Args:
      area: least and greatest share of the area.
      aspect: least and greatest width / height.
    """
    for _ in range(10):
        pixels = height * width * rng.uniform(area[0], area[1])
        ratio = np.exp(rng.uniform(np.log(aspect[0]), np.log(aspect[1])))
        w, h = round(float(np.sqrt(pixels * ratio))), round(float(np.sqrt(pixels / ratio)))
        if 0 < w <= width and 0 < h <= height:
            return Box(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)
    ratio = min(max(width / height, aspect[0]), aspect[1])
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    return Box((width - w) // 2, (height - h) // 2, w, h)


def short_side(limits: tuple[int, ...], draw: str, rng: np.random.Generator) -> int:
    """A short side between the two limits, both included: "uniform", or "inverse" (1/side uniform, as SlowFast)."""
    low, high = limits
    if draw == "inverse":
        return round(1 / rng.uniform(1 / high, 1 / low))
    return int(rng.integers(low, high + 1))


def random_box(
    height: int, width: int, image_size: int, crop: str, scales: tuple[float, ...], rng: np.random.Generator
) -> Box:
    """One training box of fixed scales; `crop` is multiscale, random (a square of image_size) or center."""
    if crop == "multiscale":
        sizes = multiscale_sizes(height, width, image_size, scales)
        w, h = sizes[rng.integers(len(sizes))]
        offsets = fixed_offsets(height, width, w, h)
        return Box(*offsets[rng.integers(len(offsets))], w, h)
    side = min(image_size, height, width)
    if crop == "random":
        return Box(int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1)), side, side)
    if crop == "center":
        return center_box(height, width, (side, side))
    raise UsageError(f"data.crop is {crop!r}, but must be multiscale, random, center or resized")


def flip_label(
    label: int, policy: str, mirror: Mapping[int, int], rng: np.random.Generator, one_sided: Collection[int] = ()
) -> tuple[bool, int]:
    """Decides on a horizontal flip with probability 1/2 and what it does to the label.

    Args:
      policy: "swap" gives a flipped clip the label of its mirror class; "skip" never flips a class that has one;
        "never" flips nothing.
      mirror: class -> mirror class, for the classes that have one (vidrec.labels.mirror_pairs).
      one_sided: classes that name a side, but whose mirror class does not exist: never flipped.
    """
    if policy not in ("swap", "skip", "never"):
        raise UsageError(f"data.flip is {policy!r}, but must be swap, skip or never")
    flip = bool(rng.random() < 0.5)
    if policy == "never" or label in one_sided or (policy == "skip" and label in mirror):
        return False, label
    return flip, mirror.get(label, label) if flip else label
