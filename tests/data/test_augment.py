"""Boxes inside frames, flips and labels; tests/parity compares crops with the published lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrec.data.augment import (
    center_box,
    flip_label,
    random_box,
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
