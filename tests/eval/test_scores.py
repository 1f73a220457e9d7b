"""What is counted, from scores whose right answer is known."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrec.errors import UsageError, VidrecError
from vidrec.eval.scores import Evaluation, ensemble, softmax

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


def test_softmax_of_large_logits_is_that_of_jax():
    logits = np.array([[1000.0, 999.0, -1000.0], [0.0, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(softmax(logits), jax.nn.softmax(logits), rtol=1e-6)
    assert np.isnan(softmax(np.array([[np.inf, 0.0]]))).any()


def of_views(seed, read=None):
    """An evaluation of six videos in three views."""
    logits = np.random.default_rng(seed).normal(size=(6, 3, 4)).astype(np.float32)
    plain = make(np.zeros((6, 4)), [0, 1, 2, 3, 0, 1], read)
    return replace(plain, logits=logits, views=("x", "y", "z")).averaged("softmax")


@pytest.mark.parametrize(
    ("how", "mean"), [("softmax", lambda x: softmax(x).mean(1)), ("logits", lambda x: softmax(x.mean(1)))]
)
def test_views_are_averaged_again_without_a_network(how, mean):
    evaluation = of_views(0, [True] * 5 + [False])
    again = evaluation.averaged(how)
    np.testing.assert_allclose(again.scores[:5], mean(evaluation.logits.astype(float))[:5], atol=1e-6)
    assert not again.scores[5].any()
    with pytest.raises(VidrecError, match="no scores of single views"):
        ensemble([evaluation, evaluation]).averaged(how)


def test_an_ensemble_matches_videos_by_id():
    one, other = of_views(0), of_views(1)
    order = np.array([3, 1, 5, 0, 2, 4])
    shuffled = Evaluation(
        other.scores[order], other.labels[order], other.read, [other.video_ids[i] for i in order], CLASSES
    )
    together = ensemble([one, shuffled])
    np.testing.assert_allclose(together.scores, (one.scores + other.scores) / 2)
    assert together.video_ids == one.video_ids
    assert together.labels.tolist() == one.labels.tolist()


def test_a_video_that_one_network_could_not_read_is_unreadable():
    together = ensemble([of_views(0), of_views(1, [True, False, True, True, True, True])])
    assert together.unreadable == ["v1"]
    assert not together.scores[1].any()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"classes": ("b", "a", "c", "d")}, "other classes"),
        ({"video_ids": ["v0", "v1", "v2", "v3", "v4", "v9"]}, "2 are in one of them only, such as 'v5'"),
        ({"video_ids": ["v0"] * 6}, "two videos of the same id"),
        ({"labels": np.array([0, 1, 2, 3, 0, 0])}, "video 'v5' has another label"),
    ],
)
def test_what_does_not_go_together(change, told):
    with pytest.raises(UsageError, match=told):
        ensemble([of_views(0), replace(of_views(1), **change)])
