"""Single frames: decoding, JPEG encoding and resizing, by OpenCV where it is installed and by Pillow elsewhere.

Resizing averages areas where a side becomes smaller and interpolates (bilinear) where it becomes larger. Both libraries
give the same pixels to within one level of 255 (two where one side shrinks and the other grows), so that a network may
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

    def shrink(self, frame: Frame, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """Averages areas; no side may become larger."""
        return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)

    def enlarge(self, frame: Frame, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """Interpolates; no side may become smaller."""
        return cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)


class Pillow:
    """Pillow: always installed."""

    name = "pillow"

    def decode(self, data: bytes) -> Frame:
        """Decodes an image to RGB."""
        try:
            with Image.open(io.BytesIO(data)) as image:
                return np.array(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise BadFrame(f"cannot decode a frame of {len(data)} bytes: {error}") from None

    def encode_jpeg(self, frame: Frame, quality: int) -> bytes:
        """Encodes an RGB frame."""
        out = io.BytesIO()
        Image.fromarray(frame).save(out, "jpeg", quality=quality)
        return out.getvalue()

    def shrink(self, frame: Frame, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """Averages areas; no side may become larger.

        Not by Pillow's box filter, which takes whole pixels only: at 256 to 224 it is off by up to 60 levels.
        """
        rows = _shares(len(frame), height) @ frame.reshape(len(frame), -1).astype(np.float32)
        columns = rows.reshape(height, -1, 3).swapaxes(0, 1).reshape(frame.shape[1], -1)
        shrunk = _shares(frame.shape[1], width) @ columns
        return np.rint(shrunk).astype(np.uint8).reshape(width, height, 3).swapaxes(0, 1)

    def enlarge(self, frame: Frame, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """Interpolates; no side may become smaller."""
        return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))


@functools.lru_cache(maxsize=64)
def _shares(old: int, new: int) -> Float32[np.ndarray, "{new} {old}"]:
    """The share of each of `old` pixels in the mean that is each of `new` ones."""
    scale = old / new
    start, pixel = np.arange(new)[:, None] * scale, np.arange(old)
    overlap = np.minimum(pixel + 1, start + scale) - np.maximum(pixel, start)
    return (overlap.clip(0) / scale).astype(np.float32)


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
    least = min(frame.shape[0], height), min(frame.shape[1], width)
    if frame.shape[:2] != least:
        frame = _backend.shrink(frame, *least)
    return frame if least == (height, width) else _backend.enlarge(frame, height, width)
