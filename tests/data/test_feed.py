"""Pixels on the device: normalisation, colour jitter, sharded batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.quick import jit
from vidrec.config import base
from vidrec.data.clips import ClipSpec
from vidrec.data.feed import DeviceFeed, jitter, mix, neighbours, normalize
from vidrec.data.pipeline import Loader, StepIterator, train_plan
from vidrec.data.records import open_records
from vidrec.train.sharding import make_mesh
from vidrec.types import Batch

CLIPS = np.random.default_rng(0).integers(0, 256, (3, 2, 5, 6, 3), dtype=np.uint8)


def test_normalize():
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.1, 0.3)
    expected = (CLIPS / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(normalize(CLIPS, mean, std), expected, atol=1e-5)


def test_no_jitter_is_no_change():
    for strengths, probability in (((), 1.0), ((0.4, 0.4, 0.2, 0.1), 0.0), ((0.0, 0.0, 0.0, 0.0), 1.0)):
        out = jitter(jax.random.key(0), CLIPS, strengths, probability, 0.0)
        np.testing.assert_allclose(out, CLIPS, atol=1e-2)


def test_jitter_is_the_same_for_all_frames_and_stays_in_range():
    still = np.repeat(CLIPS[:, :1], 4, axis=1)
    out = np.asarray(jitter(jax.random.key(1), still, (0.4, 0.4, 0.2, 0.1), 1.0, 0.0))
    np.testing.assert_array_equal(out, np.repeat(out[:, :1], 4, axis=1))
    assert out.min() >= 0
    assert out.max() <= 255
    assert np.abs(out - still).max() > 1


def test_grayscale_keeps_the_luma():
    out = np.asarray(jitter(jax.random.key(1), CLIPS, (), 0.0, 1.0))
    luma = CLIPS @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(out, np.repeat(luma[..., None], 3, -1), rtol=1e-4)


def test_hue_keeps_the_luma_where_nothing_is_cut():
    middle = (CLIPS // 4 + 96).astype(np.uint8)
    out = np.asarray(jitter(jax.random.key(2), middle, (0.0, 0.0, 0.0, 0.5), 1.0, 0.0))
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(out @ weights, middle @ weights, atol=0.5)
    assert np.abs(out - middle).max() > 5


def test_feed_gives_global_batches_in_order():
    batches = [Batch(CLIPS, np.full(3, i), np.arange(3), np.ones(3, bool)) for i in range(5)]
    feed = DeviceFeed(iter(batches), make_mesh(base().mesh, jax.devices()[:1]), depth=2)
    for i, batch in enumerate(feed):
        np.testing.assert_array_equal(batch.label, batches[i].label)
        np.testing.assert_array_equal(batch.clips, CLIPS)
    assert i == 4
    assert feed.waited >= 0


@pytest.mark.parametrize(("count", "expected"), [(4, [1, 0, 3, 2]), (5, [1, 0, 3, 2, 4]), (1, [0])])
def test_neighbours_change_places(count, expected):
    assert neighbours(jnp.arange(count)).tolist() == expected


FLAT = np.random.default_rng(1).normal(size=(4, 3, 10, 14, 3)).astype(np.float32)


def mixtures(mixup, cutmix, count):
    """Shares of the clips themselves, and what they were mixed to, by several draws."""
    mixed = jit(jax.vmap(lambda key: mix(key, jnp.asarray(FLAT), mixup, cutmix)))
    clips, shares = mixed(jax.random.split(jax.random.key(0), count))
    return np.asarray(clips), np.asarray(shares)


def test_mixup_blends_neighbours_by_one_share():
    clips, shares = mixtures(0.8, 0.0, 20)
    other = FLAT[np.array([1, 0, 3, 2])]
    for found, own in zip(clips, shares, strict=True):
        np.testing.assert_allclose(found, own * FLAT + (1 - own) * other, atol=1e-5)
    assert 0 <= shares.min() < 0.3 < 0.7 < shares.max() <= 1


def test_cutmix_puts_one_box_of_the_neighbour_into_all_frames():
    clips, shares = mixtures(0.0, 1.0, 20)
    other = FLAT[np.array([1, 0, 3, 2])]
    for found, own in zip(clips, shares, strict=True):
        theirs = (found == other).all((0, 1, 4))
        np.testing.assert_array_equal((found == FLAT).all((0, 1, 4)), ~theirs)  # the same pixels in all frames
        rows, columns = theirs.any(1), theirs.any(0)
        np.testing.assert_array_equal(theirs, rows[:, None] & columns)
        assert max(np.abs(np.diff(side.astype(int))).sum() for side in (rows, columns)) <= 2  # of one piece
        assert own == pytest.approx(1 - theirs.mean(), abs=1e-6)
    assert len({round(float(own), 4) for own in shares}) > 10


@pytest.mark.slow
def test_boxes_are_as_large_as_drawn_before_the_edge_cuts_them():
    shares = jit(jax.vmap(lambda key: mix(key, jnp.zeros((1, 1, 64, 64, 3)), 0.0, 1.0)[1]))
    found = np.asarray(shares(jax.random.split(jax.random.key(3), 2000)))
    side = np.sqrt(np.linspace(0, 1, 500))  # a uniform area; along either axis the edge leaves side - side^2 / 4
    assert found.mean() == pytest.approx(1 - ((side - side**2 / 4) ** 2).mean(), abs=0.02)


@pytest.mark.slow
def test_with_both_either_is_drawn():
    clips, shares = mixtures(0.8, 1.0, 40)
    inside = (shares > 0.02) & (shares < 0.98)
    boxes = np.array([(found == FLAT).any() for found in clips])
    assert 8 < (boxes & inside).sum() < inside.sum() - 8


def test_batches_on_the_device_outlive_those_read_after_them(records):
    """A device of a CPU may use the host's memory itself, which must not be given to a later batch."""
    source = open_records(records, "train")
    spec = ClipSpec(num_frames=4, image_size=32, resize=(24,))
    plan = train_plan(source, spec, batch_size=4, seed=0)
    with StepIterator(plan.batches, Loader(0, 2), 4 * spec.nbytes) as batches:
        feed = DeviceFeed(batches, make_mesh(base().mesh, jax.devices()[:1]))
        kept = [next(feed) for _ in range(12)]
        del feed
    for step, batch in enumerate(kept):
        np.testing.assert_array_equal(batch.clips, plan.batches[step].clips)
