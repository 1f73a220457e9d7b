"""Decoding, encoding and resizing of single frames, by both image libraries."""

import io

import numpy as np
import pytest
from PIL import Image

from vidrec.data import images
from vidrec.data.images import BadFrame

LIBRARIES = [images.OpenCV(), images.Pillow()]


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.name)
def library(request) -> images.Backend:
    return request.param


def smooth(height: int = 24, width: int = 40) -> np.ndarray:
    """A picture whose three colours differ, which JPEG keeps well."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 5, y * 9, 255 - x * 3 - y * 2], -1).astype(np.uint8)


def encoded(frame: np.ndarray, kind: str, **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, kind, **options)
    return out.getvalue()


def test_the_faster_library_is_chosen():
    assert images.BACKEND == "opencv"


def test_png_is_exact_and_rgb(library):
    np.testing.assert_array_equal(library.decode(encoded(smooth(), "png")), smooth())


def test_jpeg_keeps_colours_in_their_places(library):
    decoded = library.decode(library.encode_jpeg(smooth(), 95))
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - smooth()).mean() < 3


def test_libraries_agree_on_a_jpeg():
    data = images.encode_jpeg(smooth(), 90)
    first, second = (library.decode(data).astype(int) for library in LIBRARIES)
    assert np.abs(first - second).max() <= 4


def test_encoding_is_deterministic(library):
    assert library.encode_jpeg(smooth(), 95) == library.encode_jpeg(smooth().copy(), 95)


def test_gray_pictures_become_rgb(library):
    gray = encoded(smooth()[..., 0], "jpeg", quality=95)
    decoded = library.decode(gray)
    assert decoded.shape == (24, 40, 3)
    np.testing.assert_array_equal(decoded[..., 0], decoded[..., 2])


def test_orientation_tags_are_ignored(library):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert library.decode(encoded(smooth(), "jpeg", exif=exif)).shape == (24, 40, 3)


JPEG = images.encode_jpeg(smooth(120, 160), 95)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"<html>not found</html>", JPEG[: len(JPEG) // 2], JPEG[:20], JPEG[2:]],
    ids=["empty", "zero", "page", "half", "header", "headless"],
)
def test_anything_but_a_whole_image_is_a_bad_frame(library, data: bytes):
    with pytest.raises(BadFrame, match="cannot decode a frame"):
        library.decode(data)


@pytest.mark.parametrize("shape", [(12, 20), (48, 80), (7, 61)])
def test_resize_keeps_content(library, shape: tuple[int, int]):
    resized = library.resize(smooth(), *shape)
    assert resized.shape == (*shape, 3)
    assert resized.dtype == np.uint8
    assert np.abs(resized.mean((0, 1)) - smooth().mean((0, 1))).max() < 6


def test_shrink_averages_areas(library):
    checks = np.zeros((8, 8, 3), np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = 255
    shrunk = library.shrink(checks, 4, 4)
    assert shrunk.shape == (4, 4, 3)
    assert np.all(np.abs(shrunk.astype(int) - 127) <= 1)
