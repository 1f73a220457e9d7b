"""Single frames: decoding, JPEG encoding and resizing, by OpenCV where it is installed and by Pillow elsewhere."""

import io
import logging
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
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

    def resize(self, frame: Frame, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """Interpolates."""
        return cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)

    def shrink(self, frame: Frame, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """Averages areas."""
        return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)


class Pillow:
    """Pillow: always installed."""

    name = "pillow"

    def decode(self, data: bytes) -> Frame:
        """Decodes an image to RGB."""
        try:
            with Image.open(io.BytesIO(data)) as image:
                return np.array(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise BadFrame(f"cannot decode a frame of {len(data)} bytes: {error}") from None

    def encode_jpeg(self, frame: Frame, quality: int) -> bytes:
        """Encodes an RGB frame."""
        out = io.BytesIO()
        Image.fromarray(frame).save(out, "jpeg", quality=quality)
        return out.getvalue()

    def resize(self, frame: Frame, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """Interpolates."""
        return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))

    def shrink(self, frame: Frame, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """Averages areas."""
        return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BOX))


Backend = OpenCV | Pillow


def _choose() -> Backend:
    if cv2 is None:
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
    """Resizes a uint8 frame `[H, W, 3]` to `[height, width, 3]`, bilinear."""
    return _backend.resize(frame, height, width)


def shrink(frame: Frame, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Makes a uint8 frame `[H, W, 3]` smaller by averaging areas, so that fine patterns do not flicker."""
    return _backend.shrink(frame, height, width)
