"""Boxes inside frames, flips and labels; tests/parity compares crops with the published lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrec.data.augment import (
    Box,
    center_box,
    five_crops,
    flip_label,
    random_box,
    resized_box,
    resized_shape,
    short_side,
    to_stored,
)
from vidrec.errors import UsageError

SCALES = (1.0, 0.875, 0.75, 0.66)


@given(
    stored=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    crop=st.sampled_from(["multiscale", "random", "center"]),
    resize=st.sampled_from([(), (64,), (48, 96)]),
    seed=st.integers(0, 2**32),
)
def test_boxes_lie_in_the_stored_frame(stored, crop, resize, seed):
    shape = resized_shape(*stored, resize)
    if min(shape) < 4:
        return
    box = to_stored(random_box(*shape, 32, crop, SCALES, np.random.default_rng(seed)), shape, stored)
    assert min(box) >= 0
    assert 1 <= box.width <= stored[1] - box.x
    assert 1 <= box.height <= stored[0] - box.y


def test_resize_makes_the_short_side():
    assert resized_shape(480, 640, (256,)) == (256, 341)
    assert resized_shape(640, 480, (256,)) == (341, 256)
    assert resized_shape(640, 480, (240, 320)) == (240, 320)
    assert resized_shape(7, 9, ()) == (7, 9)


@given(label=st.integers(0, 3), seed=st.integers(0, 2**32))
def test_flip_policies(label, seed):
    mirror = {0: 1, 1: 0}
    swapped = flip_label(label, "swap", mirror, np.random.default_rng(seed))
    skipped = flip_label(label, "skip", mirror, np.random.default_rng(seed))
    assert flip_label(label, "never", mirror, np.random.default_rng(seed)) == (False, label)
    assert swapped[1] == (mirror.get(label, label) if swapped[0] else label)
    assert skipped == ((False, label) if label in mirror else (swapped[0], label))


def test_a_class_that_names_a_side_without_a_mirror_class_is_never_flipped():
    draws = {flip_label(2, "swap", {0: 1, 1: 0}, np.random.default_rng(seed), {2}) for seed in range(30)}
    assert draws == {(False, 2)}


def test_both_flips_happen():
    rng = np.random.default_rng(0)
    assert {flip_label(0, "swap", {0: 1}, rng) for _ in range(50)} == {(True, 1), (False, 0)}


def test_wrong_names_are_told():
    with pytest.raises(UsageError, match=r"data\.flip"):
        flip_label(0, "mirror", {}, np.random.default_rng(0))
    with pytest.raises(UsageError, match=r"data\.crop"):
        random_box(10, 10, 8, "corner", SCALES, np.random.default_rng(0))


def test_the_centre_box_is_cut_where_the_frame_is_smaller():
    assert center_box(224, 256, (224, 256)) == (0, 0, 256, 224)
    assert center_box(100, 60, (40, 80)) == (0, 30, 60, 40)


@pytest.mark.parametrize("draw", ["uniform", "inverse"])
def test_short_sides_lie_in_their_range(draw):
    rng = np.random.default_rng(0)
    sides = [short_side((256, 320), draw, rng) for _ in range(2000)]
    assert (min(sides), max(sides)) == (256, 320)
    mean = 288 if draw == "uniform" else 64 / np.log(320 / 256)  # harmonic draws favour the shorter side
    assert np.mean(sides) == pytest.approx(mean, abs=1.5)


def test_five_crops_are_the_corners_and_the_centre():
    assert five_crops(256, 340, (224, 224)) == [
        (0, 0, 224, 224), (116, 0, 224, 224), (0, 32, 224, 224), (116, 32, 224, 224), (58, 16, 224, 224)
    ]  # fmt: skip
    assert five_crops(100, 60, (50, 80))[3] == (0, 48, 60, 50)  # as wide as the frame where that is narrower


class Drawn:
    """A generator that gives prepared numbers: shares of each range."""

    def __init__(self, *shares):
        self.shares = list(shares)

    def uniform(self, low, high):
        return low + (high - low) * self.shares.pop(0)

    def integers(self, high):
        return int(high * self.shares.pop(0))


def test_a_resized_box_has_the_drawn_area_and_aspect():
    # An area of a quarter and the ratio in the logarithmic middle (1): a square of 100, placed in 101 and 301 places.
    box = resized_box(200, 400, (0.0, 0.25), (0.5, 2.0), Drawn(0.5, 0.5, 0.5, 0.25))
    assert box == Box(150, 25, 100, 100)
    # Of ratio 2, the box would be 566 wide; the second draw, of ratio 1/2, is too high; the third fits, at the bottom.
    box = resized_box(200, 400, (0.0, 2.0), (0.5, 2.0), Drawn(1.0, 1.0, 0.5, 0.0, 0.0625, 0.5, 0.0, 0.999))
    assert box == Box(0, 100, 100, 100)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(100, 300, (83, 0, 133, 100)), (300, 100, (0, 83, 100, 133)), (100, 110, (0, 0, 110, 100))],
)
def test_where_no_resized_box_fits_it_is_the_largest_allowed_in_the_centre(height, width, expected):
    assert resized_box(height, width, (4.0, 4.0), (3 / 4, 4 / 3), np.random.default_rng(0)) == expected


@given(st.integers(20, 400), st.integers(20, 400), st.integers(0, 2**32))
def test_resized_boxes_keep_to_their_ranges(height, width, seed):
    box = resized_box(height, width, (0.08, 1.0), (3 / 4, 4 / 3), np.random.default_rng(seed))
    assert min(box) >= 0
    assert 1 <= box.width <= width - box.x
    assert 1 <= box.height <= height - box.y
    assert 0.6 < box.width / box.height < 1.6  # rounding, of a box of five pixels
    assert box.width * box.height > 0.05 * height * width or max(height, width) > 1.4 * min(height, width)
