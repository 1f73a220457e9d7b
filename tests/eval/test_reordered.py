"""A network that is asked about clips in another order: what it is shown, and what is counted."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrec.config import base
from vidrec.data.clips import ClipSpec, EvalReader
from vidrec.data.feed import normalize
from vidrec.data.records import open_records
from vidrec.errors import UsageError
from vidrec.eval.order import RULES, video_order
from vidrec.eval.reordered import WAYS, evaluate_reordered, frames_shown
from vidrec.inspect.order_results import order_counts, order_text
from vidrec.losses.order import order_signs
from vidrec.train.sharding import make_mesh
from vidrec.types import ModelOutput

MEAN, STD = base().data.mean, base().data.std


class Place(nn.Module):
    """Knows the frames of the test videos: a bright square that moves right or left, by its middle in each frame.

    It says right or left by the first and the last frame; its attention tells the true order of the frames.
    """

    num_frames: int = 4
    clip_length: int = 4
    attentive: bool = True

    @nn.compact
    def __call__(self, clips, *, train):
        pixels = clips * jnp.array(STD) + jnp.array(MEAN)
        bright = jnp.maximum(pixels.mean(-1) - 0.35, 0).sum(2)  # [B, T, W]
        place = (bright * jnp.arange(bright.shape[-1])).sum(-1) / jnp.maximum(bright.sum(-1), 1e-6)
        moved = 5 * (place[:, -1] - place[:, 0])
        if self.attentive:
            self.sow("intermediates", "time_attention", place[:, None, None, None, :] - place[:, None, None, :, None])
        return ModelOutput(jnp.stack([-moved, moved], 1))  # left, right


@pytest.fixture
def found(tiny_config):
    """Function of the network -> what it says of the test videos, and the clips they are made of."""

    def run(network):
        config = tiny_config()
        source = open_records(config.data.records, "test")
        result = evaluate_reordered(network, {}, source, config, make_mesh(base().mesh))
        reader = EvalReader(source, ClipSpec.from_config(config, 4, 4), 1, 1)
        return result, np.stack([reader(position).clips for position in range(len(source))]), source

    return run


def test_clips_are_shown_in_the_order_of_their_video(found):
    result, clips, source = found(Place())
    assert source.classes[:2] == ("left", "right")
    orders = np.stack([video_order(source.video_id(record), 4) for record in range(len(source))])
    np.testing.assert_array_equal(result.orders, orders)
    shown = {"normal": clips, "shuffled": np.stack([c[o] for c, o in zip(clips, orders, strict=True)])}
    shown |= {"reversed": clips[:, ::-1], "frozen": clips[:, [2, 2, 2, 2]]}
    for way in WAYS:
        logits = Place().apply({}, normalize(shown[way], MEAN, STD), train=False).logits
        np.testing.assert_allclose(result.evaluations[way].logits[:, 0], logits, atol=1e-4)


def test_a_network_that_sees_order_loses_it(found):
    counts = order_counts(found(Place())[0])
    assert counts["top1"]["normal"] == 1
    assert counts["top1"]["reversed"] == 0
    assert counts["uses_order"]
    assert counts["p"]["reversed"] == pytest.approx(2 / 2**12)
    text = order_text(counts)
    assert "this network uses the order of frames" in text
    assert "OrderAcc in percent (chance" in text


def test_the_attention_s_order_is_told_by_clip(found):
    """Rightwards, later frames are further right: signs are right. Leftwards they are all wrong."""
    result, _, source = found(Place())
    rightwards = np.asarray(source.labels) == 1
    accuracies = result.order_accuracies()
    assert list(accuracies) == list(RULES)
    for rule in ("sign", "antisym", "borda"):
        assert (accuracies[rule][rightwards] == 100).all()
        assert (accuracies[rule][~rightwards] == 25).all()  # backwards: one frame in common
    assert result.signs_right() == 0.5
    forwards = order_signs(jnp.asarray(result.orders[rightwards]))
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_array_equal(np.sign(result.attention[rightwards])[:, off], np.asarray(forwards)[:, off])


def test_a_network_without_attention_is_told_and_still_measured(found):
    result, *_ = found(Place(attentive=False))
    counts = order_counts(result)
    assert result.attention is None
    assert "order_accuracy" not in counts
    assert counts["uses_order"]
    assert order_text(counts, "Net has no attention in time").endswith("Net has no attention in time.")


def test_a_network_that_averages_frames_uses_no_order(found):
    class Mean(nn.Module):
        """Blind to order."""

        num_frames: int = 4
        clip_length: int = 4

        def __call__(self, clips, *, train):
            return ModelOutput(clips.mean((1, 2, 3))[:, :2])

    counts = order_counts(found(Mean())[0])
    assert counts["top1"]["normal"] == counts["top1"]["shuffled"] == counts["top1"]["reversed"]
    assert not counts["uses_order"]
    assert "no sign that this network uses the order" in order_text(counts)


@given(st.integers(1, 4), st.integers(2, 6), st.integers(1, 3))
def test_frames_shown_are_those_of_the_clip(videos, segments, each):
    orders = np.stack([np.random.default_rng(video).permutation(segments) for video in range(videos)])
    shown = frames_shown(orders, segments * each)
    whole = np.arange(segments * each)
    for way in ("normal", "shuffled", "reversed"):
        np.testing.assert_array_equal(np.sort(shown[way], 1), np.tile(whole, (videos, 1)))
    parts = shown["shuffled"].reshape(videos, segments, each)
    assert (np.diff(parts, axis=2) == 1).all()  # segments stay whole
    np.testing.assert_array_equal(parts[:, :, 0], orders * each)
    assert (shown["frozen"] == len(whole) // 2).all()


def test_one_frame_has_no_order():
    with pytest.raises(UsageError, match="no order in it"):
        frames_shown(np.zeros((2, 1), int), 1)
