"""Every view of every video is run once and averaged as told."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec.config import base
from vidrec.data.clips import ClipSpec, EvalReader
from vidrec.data.feed import normalize
from vidrec.data.records import open_records
from vidrec.errors import UsageError
from vidrec.eval.evaluate import evaluate, make_evaluator, mirror_order
from vidrec.eval.scores import softmax
from vidrec.train.sharding import make_mesh
from vidrec.train.step import make_predict_step
from vidrec.types import ModelOutput


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
