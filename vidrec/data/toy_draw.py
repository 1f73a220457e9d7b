"""Drawing of the toy actions: each family has two classes that show the same frames in another order.

All sizes are fractions of the picture. Clips are drawn many at once: arrays start with `[clips, frames]`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, UInt8

FRAMES = 8
"""Distinct frames of a clip."""

_RAMP = np.linspace(0, 1, FRAMES, dtype=np.float32)
_BACKGROUND_CELLS, _BACKGROUND_LEVEL = 4, 0.45
_JITTER, _NOISE, _FLICKER = 0.01, 0.03, 0.02
_FARTHEST = 2  # deviations that a shaken camera is off at most
_NOISE_CELLS = 32  # noise has this resolution, so that it is as strong at half the picture size

Image = Float32[np.ndarray, "n t h w"]
Values = Float32[np.ndarray, "n t"]


@dataclass(frozen=True)
class Family:
    """Two classes of one kind of action.

    Attributes:
      classes: names of the two.
      move: from where sprites stand at rest to where and how they are in each frame.
      shape: signed distance of each pixel from the sprite (negative inside), from pixels' coordinates about it.
      orders: draws for n clips the two orders of the frames that make the classes, int `[n, 2, FRAMES]`.
    """

    classes: tuple[str, str]
    move: Callable[["Sprites", np.random.Generator], "Sprites"]
    shape: Callable[[Image, Image, "Sprites", np.random.Generator], Image]
    orders: Callable[[int, np.random.Generator], Int[np.ndarray, "n 2 t"]]


class Scene(NamedTuple):
    """What is in the pictures beside the action.

    Attributes:
      clutter: small shapes that stand still behind it.
      distractors: shapes of its kind that cross the picture behind it, any way, at a speed of their own.
      shake: standard deviation of the camera's place in each frame, as a fraction of the picture.
    """

    clutter: int = 0
    distractors: int = 0
    shake: float = 0.0


PLAIN = Scene()


class Grid(NamedTuple):
    """Coordinates of the pixels' centres, `[h, w]`, from 0 to 1; x to the right, y downwards."""

    x: Float32[np.ndarray, "h w"]
    y: Float32[np.ndarray, "h w"]


class Sprites(NamedTuple):
    """Each clip's sprite in each frame, `[n, t]`: centre, radius, and what else moves (an angle, a gap)."""

    x: Values
    y: Values
    radius: Values
    pose: Values


def draw(
    family: Family, clips: int, size: int, rng: np.random.Generator, scene: Scene = PLAIN
) -> UInt8[np.ndarray, "n t h w 3"]:
    """Draws the distinct frames of some clips of a family, in the order of its first class.

    Args:
      family: one of FAMILIES.
      clips: how many.
      size: height and width in pixels.
      rng: all randomness comes from it.
      scene: what else is in the pictures.

    Returns:
      uint8 RGB `[clips, FRAMES, size, size, 3]`.
    """
    margin = int(np.ceil(_FARTHEST * scene.shake * size))
    whole = size + 2 * margin
    centres = (np.arange(-margin, size + margin, dtype=np.float32) + 0.5) / size
    grid = Grid(*np.meshgrid(centres, centres))
    picture = _background(clips, whole, rng)[:, None]
    picture = _draw_clutter(picture, grid, scene.clutter, rng)
    picture = _draw_distractors(picture, grid, scene.distractors, rng)
    sprites = family.move(_sprites(clips, rng), rng)
    x, y = _about(grid, sprites)
    picture = _paint(picture, family.shape(x, y, sprites, rng), _stripes(x, y, rng))
    picture = _shaken(picture, scene.shake * size, margin, rng)
    picture = picture * (1 + _normal(rng, _FLICKER, clips, FRAMES, 1, 1, 1)) + _noise(clips, size, rng)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _background(clips: int, size: int, rng: np.random.Generator) -> Float32[np.ndarray, "n h w 3"]:
    cells = _uniform(rng, 0, 1, clips, _BACKGROUND_CELLS, _BACKGROUND_CELLS, 3)
    blend = _interpolation(size, _BACKGROUND_CELLS)
    return _BACKGROUND_LEVEL * np.einsum("hi,wj,nijc->nhwc", blend, blend, cells, optimize=True)


def _interpolation(size: int, cells: int) -> Float32[np.ndarray, "size cells"]:
    at = np.linspace(0, cells - 1, size)[:, None]
    return np.clip(1 - np.abs(at - np.arange(cells)), 0, 1).astype(np.float32)


def _noise(clips: int, size: int, rng: np.random.Generator) -> Float32[np.ndarray, "n t h w 3"]:
    cells = min(size, _NOISE_CELLS)
    noise = _normal(rng, _NOISE, clips, FRAMES, cells, cells, 3)
    nearest = np.arange(size) * cells // size
    return noise[:, :, nearest][:, :, :, nearest]


def _sprites(clips: int, rng: np.random.Generator) -> Sprites:
    x, y = _uniform(rng, 0.3, 0.7, 2, clips, 1) + _normal(rng, _JITTER, 2, clips, FRAMES)
    return Sprites(x, y, _uniform(rng, 0.13, 0.19, clips, 1).repeat(FRAMES, 1), np.zeros_like(x))


def _stripes(x: Image, y: Image, rng: np.random.Generator) -> Float32[np.ndarray, "n t h w 3"]:
    """Two bright colours in stripes that are fixed to the sprite, so that its texture moves with it."""
    clips = len(x)
    angle, waves = _uniform(rng, 0, np.pi, clips, 1, 1, 1), _uniform(rng, 5, 9, clips, 1, 1, 1)
    phase = np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)))
    weight = np.clip(0.5 + 2 * phase, 0, 1)[..., None]
    first, second = _uniform(rng, 0.55, 1, 2, clips, 1, 1, 1, 3)
    return first * weight + second * (1 - weight)


def _draw_clutter(picture: np.ndarray, grid: Grid, shapes: int, rng: np.random.Generator) -> np.ndarray:
    clips = len(picture)
    for _ in range(shapes):
        x, y = _uniform(rng, 0, 1, 2, clips, 1)
        sprites = Sprites(x, y, _uniform(rng, 0.03, 0.08, clips, 1), np.zeros_like(x))
        distance = _disk_or_square(*_about(grid, sprites), sprites, rng)
        picture = _paint(picture, distance, _uniform(rng, 0.3, 1, clips, 1, 1, 1, 3))
    return picture


def _draw_distractors(picture: np.ndarray, grid: Grid, shapes: int, rng: np.random.Generator) -> np.ndarray:
    clips = len(picture)
    for _ in range(shapes):
        start, end = _uniform(rng, 0.1, 0.9, 2, 2, clips, 1)
        x, y = start + (end - start) * _RAMP
        sprites = Sprites(x, y, _uniform(rng, 0.08, 0.13, clips, 1).repeat(FRAMES, 1), np.zeros_like(x))
        about = _about(grid, sprites)
        picture = _paint(picture, _disk_or_square(*about, sprites, rng), _stripes(*about, rng))
    return picture


def _shaken(picture: np.ndarray, deviation: float, margin: int, rng: np.random.Generator) -> np.ndarray:
    """What a camera sees of the picture, in whole pixels, that is in another place in each frame."""
    if not margin:
        return picture
    size = picture.shape[2] - 2 * margin
    places = np.clip(np.rint(_normal(rng, deviation, *picture.shape[:2], 2)).astype(int), -margin, margin) + margin
    rows, columns = (places[..., axis, None] + np.arange(size) for axis in (0, 1))
    seen = np.take_along_axis(picture, rows[..., None, None], axis=2)
    return np.take_along_axis(seen, columns[:, :, None, :, None], axis=3)


def _paint(picture: np.ndarray, distance: Image, colour: np.ndarray) -> np.ndarray:
    """Covers the picture where the distance is negative; edges are one pixel wide."""
    cover = np.clip(0.5 - distance * distance.shape[-1], 0, 1)[..., None]
    return picture * (1 - cover) + colour * cover


# How sprites move, and what they look like.


def _along(axis: str) -> Callable[[Sprites, np.random.Generator], Sprites]:
    def move(sprites: Sprites, rng: np.random.Generator) -> Sprites:
        """Puts the sprites on straight paths, each with its own middle and span."""
        clips = len(sprites.x)
        middle, span = _uniform(rng, 0.45, 0.55, clips, 1), _uniform(rng, 0.5, 0.6, clips, 1)
        path = middle + span * (_RAMP - 0.5) + _normal(rng, _JITTER, clips, FRAMES)
        return sprites._replace(**{axis: path})

    return move


def _grow(sprites: Sprites, rng: np.random.Generator) -> Sprites:
    radius = 0.08 + (_uniform(rng, 0.26, 0.3, len(sprites.x), 1) - 0.08) * _RAMP
    return sprites._replace(radius=radius * (1 + _normal(rng, 0.02, *radius.shape)))


def _part(sprites: Sprites, rng: np.random.Generator) -> Sprites:
    gap = 0.02 + _uniform(rng, 0.18, 0.22, len(sprites.x), 1) * _RAMP
    return sprites._replace(pose=gap + _normal(rng, _JITTER, *gap.shape))


def _turn(sprites: Sprites, rng: np.random.Generator) -> Sprites:
    angle = _uniform(rng, 0, 2 * np.pi, len(sprites.x), 1) + np.float32(0.85 * np.pi) * _RAMP
    return sprites._replace(pose=angle + _normal(rng, 0.03, *angle.shape))


def _change(sprites: Sprites, rng: np.random.Generator) -> Sprites:
    return sprites._replace(pose=np.broadcast_to(_RAMP, sprites.x.shape))


def _swing(sprites: Sprites, rng: np.random.Generator) -> Sprites:
    clips = len(sprites.x)
    swing = _uniform(rng, 0.22, 0.28, clips, 1) * (2 * _RAMP - 1)
    upright = rng.random((clips, 1)) < 0.5
    return sprites._replace(x=sprites.x + swing * ~upright, y=sprites.y + swing * upright)


def _disk_or_square(x: Image, y: Image, sprites: Sprites, rng: np.random.Generator) -> Image:
    disk = np.hypot(x, y) - _wide(sprites.radius)
    square = np.maximum(np.abs(x), np.abs(y)) - np.float32(0.9) * _wide(sprites.radius)
    return np.where(rng.random((len(x), 1, 1, 1)) < 0.5, disk, square)


def _diamond(x: Image, y: Image, sprites: Sprites, rng: np.random.Generator) -> Image:
    return (np.abs(x) + np.abs(y) - _wide(sprites.radius)) * np.float32(np.sqrt(0.5))


def _two_bars(x: Image, y: Image, sprites: Sprites, rng: np.random.Generator) -> Image:
    half_width = np.float32(0.04)
    beside = np.abs(np.abs(x) - _wide(sprites.pose) - half_width) - half_width
    return np.maximum(beside, np.abs(y) - _wide(sprites.radius))


def _hand(x: Image, y: Image, sprites: Sprites, rng: np.random.Generator) -> Image:
    """A clock's hand: fixed at one end. y points down, so growing angles are clockwise."""
    cos, sin = np.cos(_wide(sprites.pose)), np.sin(_wide(sprites.pose))
    along, across, half_length = x * cos + y * sin, y * cos - x * sin, _wide(sprites.radius)
    return np.maximum(np.abs(along - half_length) - half_length, np.abs(across) - np.float32(0.05))


def _ring_or_triangle(x: Image, y: Image, sprites: Sprites, rng: np.random.Generator) -> Image:
    radius = _wide(sprites.radius)
    ring = np.abs(np.hypot(x, y) - 0.75 * radius) - 0.25 * radius
    triangle = np.maximum(np.abs(x) * np.float32(0.866) - y * np.float32(0.5), y) - 0.6 * radius
    return np.where(_wide(sprites.pose) < 0.5, ring, triangle)


def _cross(x: Image, y: Image, sprites: Sprites, rng: np.random.Generator) -> Image:
    near, far = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
    return np.maximum(near - np.float32(0.05), far - _wide(sprites.radius))


# In which orders.


def _both_ways(clips: int, rng: np.random.Generator) -> Int[np.ndarray, "n 2 t"]:
    forward = np.arange(FRAMES)
    return np.broadcast_to(np.stack([forward, forward[::-1]]), (clips, 2, FRAMES))


def _slow_and_fast(clips: int, rng: np.random.Generator) -> Int[np.ndarray, "n 2 t"]:
    """One swing over all states, and two swings over every other state; both begin anywhere in the swing."""
    swings = np.array([[0, 2, 4, 6, 7, 5, 3, 1], [0, 4, 6, 2, 1, 5, 7, 3]])
    start = rng.integers(0, FRAMES, (clips, 2, 1))
    return np.take_along_axis(np.broadcast_to(swings, (clips, 2, FRAMES)), (np.arange(FRAMES) + start) % FRAMES, 2)


FAMILIES: dict[str, Family] = {
    "horiz": Family(("move right", "move left"), _along("x"), _disk_or_square, _both_ways),
    "vert": Family(("move down", "move up"), _along("y"), _disk_or_square, _both_ways),
    "scale": Family(("approach", "recede"), _grow, _diamond, _both_ways),
    "open": Family(("open", "close"), _part, _two_bars, _both_ways),
    "rot": Family(("turn clockwise", "turn counterclockwise"), _turn, _hand, _both_ways),
    "order": Family(("ring then triangle", "triangle then ring"), _change, _ring_or_triangle, _both_ways),
    "tempo": Family(("wave slow", "wave fast"), _swing, _cross, _slow_and_fast),
}
"""Name of a family -> what it shows."""


def _about(grid: Grid, sprites: Sprites) -> tuple[Image, Image]:
    return grid.x - _wide(sprites.x), grid.y - _wide(sprites.y)


def _wide(values: Values) -> Float32[np.ndarray, "n t 1 1"]:
    return values[..., None, None]


def _uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> np.ndarray:
    return np.float32(low) + np.float32(high - low) * rng.random(shape, np.float32)


def _normal(rng: np.random.Generator, deviation: float, *shape: int) -> np.ndarray:
    return np.float32(deviation) * rng.standard_normal(shape, np.float32)
