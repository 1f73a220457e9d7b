"""Intervals, calibration and tests against their definitions."""

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrec.eval.statistics import BINS, Z95, calibration, mean_interval, most_confused, share_interval, sign_test


@given(st.integers(1, 400), st.data())
def test_an_interval_s_ends_are_the_shares_that_the_count_just_does_not_refute(count, data):
    """Wilson's interval solves |found - p| = z sqrt(p (1 - p) / n) for p."""
    true = data.draw(st.integers(0, count))
    low, high = share_interval(np.arange(count) < true)
    assert 0 <= low <= true / count <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            assert abs(true / count - end) == pytest.approx(Z95 * np.sqrt(end * (1 - end) / count), abs=1e-9)


def test_intervals_by_hand():
    assert share_interval(np.arange(10) < 8) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert share_interval(np.zeros(0, bool)) == (0, 1)
    assert mean_interval(np.array([1.0, 3.0])) == pytest.approx((2 - Z95, 2 + Z95))
    assert mean_interval(np.array([5.0])) == (-np.inf, np.inf)


def test_intervals_hold_the_truth_about_95_times_of_100():
    rng = np.random.default_rng(0)
    found = [share_interval(rng.random(80) < 0.9) for _ in range(2000)]
    assert np.mean([low <= 0.9 <= high for low, high in found]) == pytest.approx(0.95, abs=0.02)


@given(st.integers(0, 10**6))
def test_calibration_error_is_that_of_its_definition(seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.dirichlet(np.full(3, 0.5), 60), rng.integers(3, size=60)
    best, right = scores.max(1), scores.argmax(1) == labels
    error = 0
    for m in range(1, BINS + 1):
        inside = ((m - 1) / BINS < best) & (best <= m / BINS)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - best[inside].mean())
    found = calibration(scores, labels)
    assert found.error == pytest.approx(error)
    assert found.videos.sum() == 60


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not():
    assert calibration(np.eye(4), np.arange(4)).error == 0
    assert calibration(np.eye(4), (np.arange(4) + 1) % 4).error == 1
    honest = np.array([[0.75, 0.25]] * 4)
    assert calibration(honest, np.array([0, 0, 0, 1])).error == pytest.approx(0)
    assert np.isnan(calibration(np.zeros((0, 2)), np.zeros(0, int)).error)


def test_most_confused_classes_come_first_by_name():
    matrix = np.array([[5, 3, 0], [0, 0, 0], [4, 1, 5]])
    found = most_confused(matrix, ("a", "b", "c"), count=5)
    assert found == [("c", "a", 4, 0.4), ("a", "b", 3, 0.375), ("c", "b", 1, 0.1)]
    assert most_confused(matrix, ("a", "b", "c"), count=1) == found[:1]


@pytest.mark.parametrize(("first", "second"), [(7, 1), (3, 3), (0, 5), (0, 0)])
def test_sign_test_counts_the_outcomes_at_least_as_uneven(first, second):
    one = np.array([1] * first + [0] * second + [1, 0], bool)
    other = np.array([0] * first + [1] * second + [1, 0], bool)
    trials = first + second
    uneven = [k for k in range(trials + 1) if abs(k - trials / 2) >= abs(first - trials / 2)]
    assert sign_test(one, other) == pytest.approx(sum(comb(trials, k) for k in uneven) / 2**trials)
    assert sign_test(one, other) == sign_test(other, one)


def test_sign_test_holds_for_many_videos():
    one = np.ones(20000, bool)
    assert sign_test(one, ~one) < 1e-300
    assert sign_test(np.array([a for a, _ in product([True, False], [0] * 9000)]), one[:18000]) < 1e-300
