"""The loss of reversed sequences against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidrec.losses.classification import cross_entropy
from vidrec.losses.order import reversal_loss


def test_every_frame_has_its_video_s_label():
    scores = jax.random.normal(jax.random.key(0), (3, 4, 2))
    labels = jnp.array([1, 0, 1])
    expected = np.mean([cross_entropy(scores[:, frame], labels) for frame in range(4)])
    assert reversal_loss(scores, labels) == pytest.approx(expected, rel=1e-6)
    of_clips = reversal_loss(scores[:, 0], labels)
    assert of_clips == pytest.approx(float(cross_entropy(scores[:, 0], labels)), rel=1e-6)


def test_certainty_costs_nothing_when_right():
    right = jnp.array([[[-20.0, 20.0]], [[20.0, -20.0]]])
    assert reversal_loss(right, jnp.array([1, 0])) < 1e-6
    assert reversal_loss(right, jnp.array([0, 1])) > 30
