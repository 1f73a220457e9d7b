"""Single frames: decoding, JPEG encoding and resizing, by OpenCV where it is installed and by Pillow elsewhere.

Resizing interpolates (bilinear), after averaging areas where a side becomes much smaller (`MILD`). Both libraries give
the same pixels to within one level of 255 (two where one side shrinks much and the other grows), so that a network may
be trained with one and used with the other.
"""

import functools
import io
import logging
import multiprocessing
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from vidrec.errors import VidrecError

if TYPE_CHECKING:
    import cv2
else:
    try:
        import cv2
    except ImportError:
        cv2 = None

Frame = UInt8[np.ndarray, "h w 3"]

MILD = 1.25
"""Down to such a part of its size, interpolating a picture loses nothing to see, and takes a quarter of the time."""


class BadFrame(VidrecError):
    """The bytes of a frame are not a whole image."""


class OpenCV:
    """OpenCV: about twice as fast as Pillow at decoding."""

    name = "opencv"

    def decode(self, data: bytes) -> Frame:
        """Decodes an image to RGB."""
        # Orientation tags are ignored, as Pillow does: pixels must not depend on the library.
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            frame = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:  # empty input
            frame = None
        if frame is None:
            raise BadFrame(f"cannot decode a frame of {len(data)} bytes: not a whole JPEG or PNG image")
        return frame

    def encode_jpeg(self, frame: Frame, quality: int) -> bytes:
        """Encodes an RGB frame."""
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not done:
            raise BadFrame(f"cannot encode a frame of shape {frame.shape} as JPEG")
        return data.tobytes()

    def average(self, frame: Frame, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """Averages areas; no side may become larger."""
        return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)

    def interpolate(self, frame: Frame, out: Frame) -> None:
        """Interpolates between the nearest pixels."""
        cv2.resize(frame, (out.shape[1], out.shape[0]), dst=out, interpolation=cv2.INTER_LINEAR)

    def mirror(self, frame: Frame, out: Frame) -> None:
        """Swaps left and right."""
        cv2.flip(frame, 1, dst=out)


class Pillow:
    """Pillow: always installed."""

    name = "pillow"

    def decode(self, data: bytes) -> Frame:
        """Decodes an image to RGB."""
        try:
            with Image.open(io.BytesIO(data)) as image:
                if image.mode.startswith("I"):  # gray of 16 bits, which Pillow would cut off at 255
                    return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=-1)
                return np.array(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise BadFrame(f"cannot decode a frame of {len(data)} bytes: {error}") from None

    def encode_jpeg(self, frame: Frame, quality: int) -> bytes:
        """Encodes an RGB frame."""
        out = io.BytesIO()
        Image.fromarray(frame).save(out, "jpeg", quality=quality)
        return out.getvalue()

    def average(self, frame: Frame, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """Averages areas; no side may become larger.

        Not by Pillow's box filter, which takes whole pixels only: at 256 to 224 it is off by up to 60 levels.
        """
        return _weighed(frame, _shares(len(frame), height), _shares(frame.shape[1], width))

    def interpolate(self, frame: Frame, out: Frame) -> None:
        """Interpolates between the nearest pixels; Pillow itself takes more of them where a side becomes smaller."""
        height, width = out.shape[:2]
        if height < len(frame) or width < frame.shape[1]:
            out[:] = _weighed(frame, _nearest_two(len(frame), height), _nearest_two(frame.shape[1], width))
        else:
            out[:] = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))

    def mirror(self, frame: Frame, out: Frame) -> None:
        """Swaps left and right."""
        out[:] = frame[:, ::-1]


def _weighed(
    frame: Frame, rows: Float32[np.ndarray, "{new_h} {h}"], columns: Float32[np.ndarray, "{new_w} {w}"]
) -> UInt8[np.ndarray, "new_h new_w 3"]:
    """The picture whose pixels are sums of the frame's, by the weights of its rows and its columns."""
    by_rows = (rows @ frame.reshape(len(frame), -1).astype(np.float32)).reshape(len(rows), -1, 3)
    turned = columns @ by_rows.swapaxes(0, 1).reshape(frame.shape[1], -1)
    return np.rint(turned).astype(np.uint8).reshape(len(columns), len(rows), 3).swapaxes(0, 1)


@functools.lru_cache(maxsize=64)
def _shares(old: int, new: int) -> Float32[np.ndarray, "{new} {old}"]:
    """The share of each of `old` pixels in the mean that is each of `new` ones."""
    scale = old / new
    start, pixel = np.arange(new)[:, None] * scale, np.arange(old)
    overlap = np.minimum(pixel + 1, start + scale) - np.maximum(pixel, start)
    return (overlap.clip(0) / scale).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _nearest_two(old: int, new: int) -> Float32[np.ndarray, "{new} {old}"]:
    """The weights of bilinear interpolation along one side."""
    centre = ((np.arange(new)[:, None] + 0.5) * (old / new) - 0.5).clip(0, old - 1)
    return (1 - np.abs(centre - np.arange(old))).clip(0).astype(np.float32)


Backend = OpenCV | Pillow


def _choose() -> Backend:
    if cv2 is None:
        if multiprocessing.parent_process() is None:  # once per run, not once per worker
            logging.getLogger(__name__).warning(
                "OpenCV is not installed, so Pillow decodes frames, about half as fast; pip install 'vidrec[video]'"
            )
        return Pillow()
    cv2.setNumThreads(0)  # frames are decoded in parallel by workers; threads below them only get in the way
    return OpenCV()


_backend: Backend = _choose()
BACKEND: str = _backend.name


def decode(data: bytes) -> Frame:
    """Decodes one JPEG, PNG or WebP image to uint8 RGB `[H, W, 3]`; orientation tags are ignored.

    Raises:
      BadFrame: the bytes are empty, cut short or no image.
    """
    return _backend.decode(data)


def encode_jpeg(frame: Frame, quality: int) -> bytes:
    """Encodes a uint8 RGB frame `[H, W, 3]` as JPEG of the given quality (1 to 100)."""
    return _backend.encode_jpeg(frame, quality)


def resize(frame: Frame, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Resizes a uint8 frame `[H, W, 3]` to `[height, width, 3]`; one of that size is returned as it is."""
    frame = _shrunk(frame, height, width)
    if frame.shape[:2] == (height, width):
        return frame
    out = np.empty((height, width, 3), np.uint8)
    _backend.interpolate(frame, out)
    return out


def resize_into(out: Frame, frame: Frame, *, mirrored: bool = False) -> None:
    """Writes a frame, as large as `out` and, if asked, left for right, into that contiguous uint8 array."""
    if mirrored:
        _backend.mirror(resize(frame, *out.shape[:2]), out)
        return
    frame = _shrunk(frame, *out.shape[:2])
    if frame.shape == out.shape:
        out[:] = frame
    else:
        _backend.interpolate(frame, out)


def resizing(
    shape: tuple[int, int], to: tuple[int, int]
) -> list[tuple[Float32[np.ndarray, "h2 h"], Float32[np.ndarray, "w2 w"]]]:
    """What `resize` does to a frame of a shape (height, width), as the weights of rows and of columns of each step.

    A step's picture is the sum of the one before by these weights, rounded to whole levels. There is none where the
    shapes are equal.
    """
    steps = []
    (height, width), (new_height, new_width) = shape, to
    if max(height / new_height, width / new_width) > MILD:
        smaller = min(height, new_height), min(width, new_width)
        steps.append((_shares(height, smaller[0]), _shares(width, smaller[1])))
        height, width = smaller
    if (height, width) != to:
        steps.append((_nearest_two(height, new_height), _nearest_two(width, new_width)))
    return steps


def _shrunk(frame: Frame, height: int, width: int) -> Frame:
    """The frame with sides averaged to at most that height and width, if one is much larger."""
    old_height, old_width = frame.shape[:2]
    if max(old_height / height, old_width / width) > MILD:
        return _backend.average(frame, min(old_height, height), min(old_width, width))
    return frame
