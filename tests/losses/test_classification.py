"""Cross-entropy against its definition."""

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vidrec.losses.classification import cross_entropy


@given(seed=st.integers(0, 1000), smoothing=st.sampled_from([0.0, 0.1, 1.0]))
def test_definition(seed, smoothing):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(6, 4)).astype(np.float32)
    labels = rng.integers(4, size=6)
    weights = tuple(rng.uniform(0.5, 2, size=4))
    targets = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    rows = -(targets * np.asarray(jax.nn.log_softmax(logits))).sum(1)
    np.testing.assert_allclose(cross_entropy(logits, labels, label_smoothing=smoothing), rows.mean(), rtol=1e-5)
    w = np.array(weights)[labels]
    weighted = cross_entropy(logits, labels, label_smoothing=smoothing, class_weights=weights)
    np.testing.assert_allclose(weighted, (w * rows).sum() / w.sum(), rtol=1e-5)


def test_gradient_is_softmax_minus_target():
    logits = np.array([[1.0, 2.0, -1.0]], np.float32)
    gradient = jax.grad(lambda x: cross_entropy(x, np.array([2])))(logits)
    expected = np.asarray(jax.nn.softmax(logits))
    expected = expected - np.eye(3)[2]
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_soft_targets():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(6, 4)).astype(np.float32), rng.dirichlet(np.ones(4), 6).astype(np.float32)
    weights = (0.5, 2.0, 1.0, 3.0)
    rows = -((0.8 * targets + 0.05) * np.asarray(jax.nn.log_softmax(logits))).sum(1)
    np.testing.assert_allclose(cross_entropy(logits, targets, label_smoothing=0.2), rows.mean(), rtol=1e-5)
    w = targets @ np.array(weights)
    found = cross_entropy(logits, targets, label_smoothing=0.2, class_weights=weights)
    np.testing.assert_allclose(found, (w * rows).sum() / w.sum(), rtol=1e-5)
    labels = rng.integers(4, size=6)
    same = cross_entropy(logits, np.eye(4, dtype=np.float32)[labels], class_weights=weights)
    np.testing.assert_allclose(same, cross_entropy(logits, labels, class_weights=weights), rtol=1e-6)
