import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from vidrec.errors import UsageError
from vidrec.inspect.render import animation, confusion_csv, confusion_png


def decode(data: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "PNG"
    return np.asarray(picture.convert("RGB")).astype(int)


def cells(data: bytes, k: int) -> np.ndarray:
    """The pixels inside each cell `[K, K, side, side, 3]`, without the hairlines around it."""
    pixels = decode(data)
    side = min(44, max(2, 560 // k)) * 2
    row = (pixels[20 + side // 5] == pixels[0, 0]).all(-1)
    # Letters leave paper between them; the first run without paper that is nearly as long as a cell is the first cell.
    left = next(x for x in range(len(row)) if not row[x : x + side - 2].any()) - 1
    block = pixels[20 : 20 + k * side, left : left + k * side].reshape(k, side, k, side, 3)
    return block.transpose(0, 2, 1, 3, 4)[:, :, 2:-2, 2:-2]


def cell_colours(data: bytes, k: int) -> np.ndarray:
    """The colour of each cell `[K, K, 3]`, read near its corner, where no count is printed."""
    return cells(data, k)[:, :, 1, 1]


def names(k: int) -> list[str]:
    return [f"class {i}" for i in range(k)]


@pytest.mark.parametrize("k", [2, 3, 8, 20])
def test_cells_darken_with_their_share_of_the_row(k):
    matrix = np.zeros((k, k), int)
    np.fill_diagonal(matrix, 70)
    matrix[:, 0] += 30
    light = cell_colours(confusion_png(matrix, names(k)), k).sum(-1)
    assert light[0, 0] < light[1, 1] < light[1, 0]  # 100 %, 70 %, 30 %
    if k > 2:
        assert light[1, 0] < light[1, 2]  # 0 %
    dark = cell_colours(confusion_png(matrix, names(k), theme="dark"), k).sum(-1)
    assert dark[0, 0] > dark[1, 1] > dark[1, 0]


def test_rows_are_normalised_one_by_one_and_a_single_error_shows():
    matrix = np.array([[999, 1, 0], [0, 4, 0], [0, 0, 0]])
    colours = cell_colours(confusion_png(matrix, names(3)), 3)
    assert abs(colours[0, 0] - colours[1, 1]).max() <= 4  # 99.9 % of many clips and 100 % of few
    assert colours[0, 1].sum() < colours[0, 2].sum() - 20
    assert (colours[2] == 255).all()  # no clips of this class: paper, not "0 %"


def test_counts_are_printed_where_they_fit_and_zeros_are_not():
    fits = cells(confusion_png(np.diag([64] * 8), names(8)), 8)
    assert fits[3, 3].std(axis=(0, 1)).max() > 10
    assert fits[3, 4].std(axis=(0, 1)).max() == 0
    too_long = cells(confusion_png(np.diag([10**15] * 8), names(8)), 8)
    assert too_long[3, 3].std(axis=(0, 1)).max() == 0


@pytest.mark.parametrize("k", [1, 2, 12, 13, 56, 57, 101, 174, 400])
def test_any_number_of_classes_makes_a_picture_of_reasonable_size(k):
    matrix = np.random.default_rng(k).integers(0, 50, (k, k))
    pixels = decode(confusion_png(matrix, [f"Pretending to put something number {i} into something" for i in range(k)]))
    assert max(pixels.shape[:2]) <= 1900
    assert min(pixels.shape[:2]) >= 160
    assert k * 2 <= pixels.shape[1]


def test_long_foreign_and_odd_names_do_not_break_the_picture():
    pretty = ["Žluťoučký\nkůň", "x" * 500, "", "測試"]
    width = decode(confusion_png(np.eye(4, dtype=int), pretty)).shape[1]
    assert width < 2 * (150 + 4 * 44 + 110)  # clipped to NAME_POINTS
    plain = confusion_png(np.eye(4, dtype=int), ["Zlutoucky kun", *pretty[1:]])
    assert decode(plain).shape[1] == width


@pytest.mark.parametrize(
    "matrix", [np.ones((2, 3), int), np.ones((3, 3), int), np.ones((2, 2)), -np.ones((2, 2), int)], ids=str
)
def test_a_matrix_that_does_not_fit_is_refused(matrix):
    for draw in (confusion_png, confusion_csv):
        with pytest.raises(UsageError, match="confusion matrix"):
            draw(matrix, ["a", "b"])
    with pytest.raises(UsageError, match="of 0 classes"):
        confusion_png(np.zeros((0, 0), int), [])


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=5), st.data())
def test_csv_returns_what_was_written(classes, data):
    k = len(classes)
    matrix = data.draw(hnp.arrays(np.int64, (k, k), elements=st.integers(0, 2**40)))
    header, *rows = csv.reader(io.StringIO(confusion_csv(matrix, classes), newline=""))
    assert header[1:] == list(classes)
    assert [row[0] for row in rows] == list(classes)
    np.testing.assert_array_equal(np.array([row[1:] for row in rows]).astype(int), matrix)


def test_csv_quotes_names_and_not_counts():
    text = confusion_csv(np.array([[1, 2], [3, 4]]), ['say "é", twice', "b"])
    assert text == '"true class","say ""é"", twice","b"\n"say ""é"", twice",1,2\n"b",3,4\n'


def played(data: bytes) -> tuple[np.ndarray, list[int], Image.Image]:
    """Frames `[N, H, W, 3]` as a player shows them, the time of each in milliseconds, and the open picture."""
    picture = Image.open(io.BytesIO(data))
    frames, times = [], []
    for i in range(getattr(picture, "n_frames", 1)):
        picture.seek(i)
        frames.append(np.asarray(picture.convert("RGB")))
        times.append(round(picture.info.get("duration", 0)))
    return np.array(frames), times, picture


@pytest.mark.parametrize("format", ["webp", "png"])
@given(frames=hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_lossless_formats_keep_every_pixel(format, frames):
    shown, times, _ = played(animation(frames, fps=10, scale=1, format=format))
    if len(shown) == 1:  # all frames were equal, and a still picture has no time
        np.testing.assert_array_equal(frames, shown.repeat(len(frames), axis=0))
    else:
        assert sum(times) == 100 * len(frames)
        np.testing.assert_array_equal(frames, shown.repeat(np.array(times) // 100, axis=0))


@pytest.mark.parametrize("format", ["webp", "gif", "png"])
def test_distinct_frames_are_counted_timed_and_repeated_without_end(format):
    frames = np.zeros((7, 6, 5, 3), np.uint8)
    frames[np.arange(7), 2, np.arange(7) % 5] = [250, 40, 10]
    frames[5:, 0, 0] = 255
    shown, times, picture = played(animation(frames, fps=12, format=format, scale=2))
    assert len(shown) == 7
    assert abs(sum(times) - 7000 / 12) <= (5 if format == "gif" else 0.5)  # roundings do not add up
    assert picture.info["loop"] == 0
    np.testing.assert_array_equal(shown[:, ::2, ::2], frames)
    np.testing.assert_array_equal(shown[:, 1::2, 1::2], frames)


def test_webp_of_a_quality_is_smaller_and_close():
    ramp = np.linspace(0, 255, 64)
    noise = np.random.default_rng(0).normal(0, 6, (3, 64, 64, 3))
    frames = np.clip(ramp[None, None, :, None] + noise, 0, 255).astype(np.uint8)
    data = animation(frames, fps=8, scale=1, quality=80)
    assert len(data) < len(animation(frames, fps=8, scale=1)) / 3
    assert abs(played(data)[0].astype(int) - frames).mean() < 8


def test_gif_stays_close_with_one_palette_for_all_frames():
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    frames = np.stack(
        [np.stack([np.roll(a, t) for a in np.meshgrid(ramp, ramp)] + [np.full((32, 32), 90)], -1) for t in range(4)]
    )
    shown, _, picture = played(animation(frames.astype(np.uint8), fps=8, format="gif", scale=1))
    assert abs(shown.astype(int) - frames).mean() < 8
    assert picture.format == "GIF"


@pytest.mark.parametrize(("size", "factor"), [((32, 20), 4), ((100, 64), 2), ((128, 3), 1), ((300, 500), 1)])
def test_small_videos_are_enlarged_by_a_whole_factor(size, factor):
    frames = np.random.default_rng(0).integers(0, 255, (2, *size, 3), dtype=np.uint8)
    shown, _, _ = played(animation(frames, fps=5))
    assert shown.shape[1:3] == (size[0] * factor, size[1] * factor)


def test_caption_adds_a_strip_with_the_place_in_the_clip_and_leaves_the_picture_alone():
    frames = np.random.default_rng(1).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)
    shown, _, _ = played(animation(frames, fps=5, scale=2, caption="move left 98 % and much more than fits in here"))
    np.testing.assert_array_equal(shown[:, :128:2, ::2], frames)
    strip = shown[:, 128:].astype(int)
    assert strip.shape[1] > 10
    assert strip.max() > 200  # letters
    bar = strip[:, 0, :, 2] > 150
    assert bar.sum(1).tolist() == [32, 64, 96, 128]


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (np.zeros((0, 4, 4, 3), np.uint8), {}, "uint8 frames"),
        (np.zeros((2, 4, 4), np.uint8), {}, "uint8 frames"),
        (np.zeros((2, 4, 4, 3)), {}, "float64"),
        (np.zeros((2, 4, 4, 3), np.uint8), {"fps": 0}, "fps=0"),
        (np.zeros((2, 4, 4, 3), np.uint8), {"fps": float("nan")}, "fps=nan"),
        (np.zeros((2, 4, 4, 3), np.uint8), {"fps": 60, "format": "gif"}, "at most 50"),
        (np.zeros((2, 4, 4, 3), np.uint8), {"scale": 0}, "scale=0"),
        (np.zeros((2, 4, 4, 3), np.uint8), {"quality": 80, "format": "gif"}, "quality=80"),
    ],
)
def test_what_cannot_be_animated_is_refused(frames, options, message):
    with pytest.raises(UsageError, match=message):
        animation(frames, **{"fps": 10, **options})
