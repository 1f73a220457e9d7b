"""From host batches to the device: global sharded arrays, a short prefetch, and what is done to pixels on the device.

Clips travel as uint8 (a quarter of the bytes) and become normalised floats inside the jitted step.
"""

import time
from collections import deque
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray, Shaped, UInt8

from vidrec.types import BATCH_AXES, Batch


class DeviceFeed:
    """Iterator of global batches on the devices, reading `depth` batches ahead.

    Attributes:
      waited: seconds spent waiting for the host pipeline since the start.
    """

    def __init__(self, batches: Iterator[Batch], mesh: jax.sharding.Mesh, depth: int = 2):
        self._batches = batches
        axes = tuple(axis for axis in BATCH_AXES if axis in mesh.axis_names)
        self._sharding = NamedSharding(mesh, PartitionSpec(axes))
        self._queue: deque[Batch] = deque()
        self._depth = depth
        self.waited = 0.0

    def __iter__(self) -> "DeviceFeed":
        return self

    def __next__(self) -> Batch:
        """Returns the next global batch on the devices."""
        while len(self._queue) < self._depth and self._pull():
            pass
        if not self._queue:
            raise StopIteration
        return self._queue.popleft()

    def _pull(self) -> bool:
        start = time.perf_counter()
        host = next(self._batches, None)
        self.waited += time.perf_counter() - start
        if host is not None:
            self._queue.append(to_devices(host, self._sharding))
        return host is not None


def to_devices(batch: Batch, sharding: NamedSharding) -> Batch:
    """Lays the hosts' blocks side by side as global arrays `[B, ...]`, sharded on the first axis."""
    return Batch(*(jax.make_array_from_process_local_data(sharding, array) for array in batch))


def normalize(
    clips: UInt8[Array, "b t h w 3"] | Float[Array, "b t h w 3"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "b t h w 3"]:
    """(clips / 255 - mean) / std per colour, float32."""
    return (clips.astype(jnp.float32) / 255.0 - jnp.asarray(mean)) / jnp.asarray(std)


def jitter(
    key: PRNGKeyArray,
    clips: UInt8[Array, "b t h w 3"],
    strengths: tuple[float, ...],
    probability: float,
    grayscale: float,
) -> Float[Array, "b t h w 3"]:
    """Random colour of each clip, the same for all its frames; the draws and strengths of Barlow Twins.

    Brightness, contrast and saturation are scaled by factors from [1 - s, 1 + s], hue is rotated by up to s of a turn,
    in this order (the published code draws the order; the effect of the order is small).

    Args:
      strengths: (brightness, contrast, saturation, hue), or () for none.
      probability: of the colour change, per clip.
      grayscale: probability of removing colour, per clip.

    Returns:
      float32 clips in [0, 255].
    """
    keys = jax.random.split(key, 6)
    shape = (clips.shape[0], 1, 1, 1, 1)
    original = clips.astype(jnp.float32)
    changed = original
    if strengths:
        brightness, contrast, saturation, hue = strengths

        def factor(key: PRNGKeyArray, strength: float) -> Float[Array, "b 1 1 1 1"]:
            """Of each clip, 1 - strength to 1 + strength."""
            return jax.random.uniform(key, shape, minval=1 - strength, maxval=1 + strength)

        changed = jnp.clip(changed * factor(keys[0], brightness), 0, 255)
        level = _gray(changed).mean((2, 3, 4), keepdims=True)
        changed = jnp.clip(level + (changed - level) * factor(keys[1], contrast), 0, 255)
        gray = _gray(changed)
        changed = jnp.clip(gray + (changed - gray) * factor(keys[2], saturation), 0, 255)
        turn = jax.random.uniform(keys[3], shape[:1], minval=-hue, maxval=hue)
        changed = jnp.clip(_rotate_hue(changed, turn), 0, 255)
        changed = jnp.where(jax.random.uniform(keys[4], shape) < probability, changed, original)
    return jnp.where(jax.random.uniform(keys[5], shape) < grayscale, _gray(changed), changed)


def neighbours(batch: Shaped[Array, "b *rest"]) -> Shaped[Array, "b *rest"]:
    """The rows of a batch in exchanged pairs, 1 0 3 2 ...; the last of an odd number stays in its place.

    Pairs of neighbours lie on one device, whatever the number of devices, where each has an even number of rows.
    """
    even = len(batch) // 2 * 2
    pairs = batch[:even].reshape(-1, 2, *batch.shape[1:])[:, ::-1].reshape(even, *batch.shape[1:])
    return pairs if even == len(batch) else jnp.concatenate([pairs, batch[even:]])


def mix(
    key: PRNGKeyArray, clips: Float[Array, "b t h w 3"], mixup: float, cutmix: float
) -> tuple[Float[Array, "b t h w 3"], Float[Array, ""]]:
    """Mixes each clip with its neighbour in the batch, all by the same draw.

    Mixup blends them by a share from Beta(alpha, alpha). CutMix puts a box of the neighbour into all frames, whose part
    of the area, before the frame's edge cuts it, is such a share.

    Args:
      mixup, cutmix: alphas; 0 is never, and with both above 0 either is drawn with probability 1/2.

    Returns:
      (clips, share of the clip itself in each of them); the rest is its neighbour's.
    """
    height, width = clips.shape[2:4]
    which, blend, cut, place = jax.random.split(key, 4)
    use_box = jax.random.bernoulli(which, 0.5 if mixup and cutmix else float(bool(cutmix)))
    own = jnp.broadcast_to(jax.random.beta(blend, mixup, mixup) if mixup else 1.0, (height, width))
    if cutmix:
        side = jnp.sqrt(1 - jax.random.beta(cut, cutmix, cutmix))
        middle = jax.random.uniform(place, (2,))
        rows, columns = (
            _inside(jnp.floor(at * size), jnp.floor(side * size), size)
            for at, size in zip(middle, (height, width), strict=True)
        )
        own = jnp.where(use_box, 1.0 - rows[:, None] * columns, own)
    weight = own[:, :, None]
    return weight * clips + (1 - weight) * neighbours(clips), own.mean()


def _inside(middle: Float[Array, ""], length: Float[Array, ""], size: int) -> Float[Array, " n"]:
    """1 for each of `size` pixels in an interval of whole pixels round `middle`, 0 elsewhere."""
    start = middle - length // 2
    pixel = jnp.arange(size)
    return ((pixel >= start) & (pixel < start + length)).astype(jnp.float32)


def _gray(clips: Float[Array, "b t h w 3"]) -> Float[Array, "b t h w 1"]:
    """Luma of ITU-R BT.601."""
    return (clips * jnp.array([0.299, 0.587, 0.114])).sum(-1, keepdims=True)


def _rotate_hue(clips: Float[Array, "b t h w 3"], turn: Float[Array, " b"]) -> Float[Array, "b t h w 3"]:
    """Rotates the colour plane of YIQ by `turn` turns, which keeps the luma."""
    to_yiq = jnp.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    cos, sin = jnp.cos(2 * jnp.pi * turn), jnp.sin(2 * jnp.pi * turn)
    one, zero = jnp.ones_like(cos), jnp.zeros_like(cos)
    rows = [[one, zero, zero], [zero, cos, -sin], [zero, sin, cos]]
    rotation = jnp.stack([jnp.stack(row, -1) for row in rows], -2)
    matrix = jnp.linalg.inv(to_yiq) @ rotation @ to_yiq
    return jnp.einsum("bij,bthwj->bthwi", matrix, clips, precision=jax.lax.Precision.HIGHEST)
