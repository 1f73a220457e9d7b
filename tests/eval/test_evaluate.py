"""What is counted, from scores whose right answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrec.eval.evaluate import Evaluation

CLASSES = ("a", "b", "c", "d")


def make(scores, labels, read=None):
    labels = np.asarray(labels)
    read = np.ones(len(labels), bool) if read is None else np.asarray(read)
    return Evaluation(np.asarray(scores, float), labels, read, [f"v{i}" for i in range(len(labels))], CLASSES)


def test_accuracies_by_hand():
    scores = [[0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.6, 0.1], [0.3, 0.3, 0.3, 0.1], [0.0, 0.1, 0.2, 0.7]]
    evaluation = make(scores, [0, 1, 2, 3])
    assert evaluation.top(1) == 0.5  # the tie goes to the first of the equal classes
    assert evaluation.top(2) == 0.75
    assert evaluation.top(3) == 1.0
    assert evaluation.confusion().tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    assert evaluation.per_class() == [("a", 1, 1.0), ("b", 1, 0.0), ("c", 1, 0.0), ("d", 1, 1.0)]


def test_mean_class_accuracy_weighs_classes_not_videos():
    metrics = make(np.eye(4)[[0, 0, 0, 1]], [0, 0, 0, 3]).metrics()
    assert metrics["top1"] == 0.75
    assert metrics["mean_class"] == 0.5
    assert metrics["videos"] == 4


def test_unreadable_videos_are_not_counted_but_told():
    evaluation = make(np.eye(4)[[0, 1, 2]], [0, 1, 0], [True, True, False])
    assert evaluation.top(1) == 1.0
    assert evaluation.unreadable == ["v2"]
    assert evaluation.confusion().sum() == 2
    assert evaluation.metrics()["unreadable"] == 1


def test_nothing_readable_is_not_a_number():
    evaluation = make(np.zeros((2, 4)), [0, 1], [False, False])
    assert np.isnan(evaluation.top(1))
    assert np.isnan(evaluation.pair_accuracy([("a", "b")]))


@given(seed=st.integers(0, 10**6))
def test_pair_accuracy_looks_at_the_two_classes_only(seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.random((20, 4)), rng.integers(4, size=20)
    partner = np.array([2, 3, 0, 1])  # a-c and b-d
    expected = [scores[i, y] > scores[i, partner[y]] for i, y in enumerate(labels)]
    assert make(scores, labels).pair_accuracy([("a", "c"), ("d", "b")]) == np.mean(expected)


def test_a_constant_score_is_chance_within_pairs():
    assert make(np.full((6, 4), 0.25), [0, 1, 2, 3, 0, 1]).pair_accuracy([("a", "b"), ("c", "d")]) == 0.5


@given(seed=st.integers(0, 10**6), k=st.integers(1, 4))
def test_top_k_is_membership_in_the_k_best(seed, k):
    rng = np.random.default_rng(seed)
    scores, labels = rng.random((12, 4)), rng.integers(4, size=12)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    among = [y in row for y, row in zip(labels, best, strict=True)]
    assert make(scores, labels).top(k) == pytest.approx(np.mean(among))
