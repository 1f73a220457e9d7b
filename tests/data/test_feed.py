"""Pixels on the device: normalisation, colour jitter, sharded batches."""

import jax
import numpy as np

from vidrec.data.feed import DeviceFeed, jitter, normalize
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
    feed = DeviceFeed(iter(batches), make_mesh(1), depth=2)
    for i, batch in enumerate(feed):
        np.testing.assert_array_equal(batch.label, batches[i].label)
        np.testing.assert_array_equal(batch.clips, CLIPS)
    assert i == 4
    assert feed.waited >= 0
