"""Decoding, encoding and resizing of single frames, by both image libraries."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidrec.data import images
from vidrec.data.images import BadFrame

LIBRARIES = [images.OpenCV(), images.Pillow()]


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.name)
def library(request) -> images.Backend:
    return request.param


def resized(library: images.Backend, frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """`images.resize` by one of the libraries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_backend", library)
        return images.resize(frame, height, width)


def lifelike(height: int, width: int) -> np.ndarray:
    """A picture with the spectrum of photographs (amplitude falls with frequency) and some hard edges."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    frequency[0, 0] = np.inf
    planes = np.fft.ifft2(np.fft.fft2(rng.standard_normal((3, height, width))) / frequency).real
    picture = 128 + 50 * planes / planes.std((1, 2), keepdims=True)
    picture[:, height // 3 : height // 2, width // 4 : width // 2] = [[[250]], [[20]], [[90]]]
    return picture.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


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


@pytest.mark.parametrize(("process", "times"), [("main", 1), ("worker", 0)])
def test_pillow_in_its_place_is_told_once_with_the_way_out(process: str, times: int):
    """Both in a fresh interpreter without OpenCV: in a worker, the process that started it has told already."""
    load = "import sys; sys.modules['cv2'] = None; from vidrec.data import images; assert images.BACKEND == 'pillow'"
    start = (
        "import multiprocessing as m; w = m.get_context('fork').Process(target=exec, args=(code,)); w.start(); w.join()"
    )
    program = f"code = {load!r}\n" + ("exec(code)" if process == "main" else start + "; assert not w.exitcode")
    command, root = [sys.executable, "-c", program], Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert done.stderr.count("OpenCV is not installed, so Pillow decodes frames") == times
    assert done.stderr.count("pip install 'vidrec[video]'") == times


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


def test_a_header_that_promises_a_gigantic_picture_is_a_bad_frame(library):
    data = bytearray(encoded(smooth(), "jpeg"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65500, 65500)
    with pytest.raises(BadFrame, match="cannot decode a frame"):
        library.decode(bytes(data))


@pytest.mark.parametrize("shape", [(24, 40), (12, 20), (48, 80), (7, 61)])
def test_resize_keeps_content(library, shape: tuple[int, int]):
    result = resized(library, smooth(), *shape)
    assert result.shape == (*shape, 3)
    assert result.dtype == np.uint8
    assert np.abs(result.mean((0, 1)) - smooth().mean((0, 1))).max() < 6


# Less and more than half, one side alone, barely, a little, upwards, and one side up while the other goes down.
@pytest.mark.parametrize(
    "shape",
    [(112, 112), (47, 61), (120, 50), (190, 199), (170, 160), (224, 300), (160, 300), (150, 300), (240, 61), (1, 1)],
)
def test_libraries_agree_on_sizes_to_one_level(shape: tuple[int, int]):
    frame = lifelike(200, 200)[5:195, :199]  # a part of a frame, as clips cut it
    first, second = (resized(library, frame, *shape).astype(int) for library in LIBRARIES)
    assert first.shape == (*shape, 3)
    difference = np.abs(first - second)
    assert difference.max() <= 1 + (min(shape) < 190 < max(shape))  # twice rounded where one side goes down, one up
    assert difference.mean() < 0.3


def test_a_little_smaller_interpolates(library):
    """Pixel i of five out of six lies at 1.2 i + 0.1."""
    ramp = np.repeat(np.arange(0, 120, 20, dtype=np.uint8), 3).reshape(1, 6, 3)
    np.testing.assert_array_equal(resized(library, ramp, 1, 5)[0, :, 0], [2, 26, 50, 74, 98])


@pytest.mark.parametrize("shape", [(24, 40), (12, 40), (20, 36), (30, 50), (9, 11)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_picture_is_written_where_it_belongs(library, shape: tuple[int, int], mirrored: bool):
    clip = np.full((3, *shape, 3), 99, np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_backend", library)
        images.resize_into(clip[1], smooth(), mirrored=mirrored)
    expected = resized(library, smooth(), *shape)
    np.testing.assert_array_equal(clip[1], expected[:, ::-1] if mirrored else expected)
    assert (clip[[0, 2]] == 99).all()


@pytest.mark.parametrize("height", [4, 12, 30])
def test_much_smaller_means_the_average_of_areas(library, height: int):
    """Stripes finer than the new pixels become grey; interpolation would pick the bright ones."""
    stripes = np.zeros((12, 12, 3), np.uint8)
    stripes[:, 1::4] = stripes[:, 2::4] = 254
    assert np.all(np.abs(resized(library, stripes, height, 3).astype(int) - 127) <= 1)
