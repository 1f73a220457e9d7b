"""What is counted, from scores whose right answer is known."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec.config import base
from vidrec.data.clips import ClipSpec, EvalReader
from vidrec.data.feed import normalize
from vidrec.data.records import open_records
from vidrec.errors import UsageError
from vidrec.eval.evaluate import Evaluation, evaluate, make_evaluator, mirror_order, softmax
from vidrec.train.sharding import make_mesh
from vidrec.train.step import make_predict_step
from vidrec.types import ModelOutput

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


class Colours(nn.Module):
    """A network without weights, whose scores differ widely from view to view."""

    num_frames: int = 4
    clip_length: int = 4

    def __call__(self, clips, *, train):
        colours = 5 * clips[:, :, 5:8].mean((1, 2, 3))
        return ModelOutput(colours[:, :2] - colours[:, 1:])


@pytest.fixture
def views(tiny_config):
    """Function of the average -> a configuration of six views."""

    def make(average):
        config = ConfigDict(tiny_config())
        config.eval.update(clips=2, crops=3, average=average)
        return FrozenConfigDict(config)

    return make


@pytest.mark.parametrize("average", ["softmax", "logits"])
def test_views_are_averaged_as_told(views, average):
    config = views(average)
    source, network = open_records(config.data.records, "test"), Colours()
    found = evaluate(network, {}, source, config, make_mesh(base().mesh)).scores
    reader = EvalReader(source, ClipSpec.from_config(config, 4, 4), 2, 3)
    clips = np.stack([reader(position).clips for position in range(6 * len(source))])
    logits = network.apply({}, normalize(clips, config.data.mean, config.data.std), train=False).logits
    seen = np.asarray(logits, float).reshape(-1, 6, 2)
    both = {"softmax": softmax(seen).mean(1), "logits": softmax(seen.mean(1))}
    np.testing.assert_allclose(found, both[average], atol=1e-5)
    assert np.abs(both["softmax"] - both["logits"]).max() > 1e-3


@pytest.mark.parametrize("average", ["softmax", "logits"])
def test_mirrored_views_vote_with_left_and_right_exchanged(views, average):
    config = ConfigDict(views(average))
    config.eval.crops = 10
    source, network = open_records(config.data.records, "test"), Colours()
    found = evaluate(network, {}, source, FrozenConfigDict(config), make_mesh(base().mesh)).scores
    reader = EvalReader(source, ClipSpec.from_config(config, 4, 4), 2, 5)
    clips = np.stack([reader(position).clips for position in range(10 * len(source))])
    apply = jax.jit(lambda x: network.apply({}, normalize(x, config.data.mean, config.data.std), train=False).logits)
    own, theirs = (np.asarray(apply(x), float).reshape(-1, 10, 2) for x in (clips, clips[:, :, :, ::-1]))
    seen = np.concatenate([own, theirs[..., ::-1]], axis=1)  # the classes are left and right
    both = {"softmax": softmax(seen).mean(1), "logits": softmax(seen.mean(1))}
    np.testing.assert_allclose(found, both[average], atol=1e-5)


def test_which_class_a_mirrored_score_is_of():
    assert mirror_order(["turn left", "jump", "turn right"]).tolist() == [2, 1, 0]
    with pytest.raises(UsageError, match=r"'push left' names a side .* eval\.crops=5"):
        mirror_order(["jump", "push left"])


def test_training_evaluates_one_view(views):
    config = ConfigDict(views("softmax"))
    network, mesh = Colours(), make_mesh(base().mesh)
    predict = make_predict_step(network, mesh, config.data.mean, config.data.std)
    evaluator = make_evaluator(network, FrozenConfigDict(config), mesh, predict)
    config.eval.update(clips=1, crops=1)
    source = open_records(config.data.records, "test")
    assert evaluator({}) == evaluate(Colours(), {}, source, FrozenConfigDict(config), make_mesh(base().mesh)).metrics()
    config.eval.update(clips=2, crops=3)  # or it would tell nothing
    assert evaluator({}) != evaluate(Colours(), {}, source, FrozenConfigDict(config), make_mesh(base().mesh)).metrics()
    config.eval.update(sampling="twice", full_resolution=True)
    assert make_evaluator(network, FrozenConfigDict(config), mesh, predict)({}) == evaluator({})


def test_softmax_of_large_logits_is_that_of_jax():
    logits = np.array([[1000.0, 999.0, -1000.0], [0.0, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(softmax(logits), jax.nn.softmax(logits), rtol=1e-6)
    assert np.isnan(softmax(np.array([[np.inf, 0.0]]))).any()
