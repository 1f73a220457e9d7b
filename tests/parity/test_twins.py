"""Twins Training's loss against Barlow Twins' public code (with centring) and the paper's formulas (without)."""

import jax
import jax.numpy as jnp
import pytest

from tests.parity.goldens import assert_near, load
from vidrec.losses.classification import cross_entropy
from vidrec.losses.twins import correlation, twins_loss


@pytest.fixture(scope="module")
def golden():
    return {name: jnp.asarray(array) for name, array in load("twins_loss").items()}


def total(a, b, labels):
    """Eq. 10."""
    return (cross_entropy(a, labels) + cross_entropy(b, labels)) / 2 + 0.01 * twins_loss(a, b)


def test_twins_loss_of_the_paper(golden):
    views = golden["yA"], golden["yB"]
    assert_near(correlation(*views), golden["eq8_C"], 1e-6)
    assert_near(twins_loss(*views, beta=0.0039), golden["eq9_loss_beta0039"], 1e-6)
    loss, gradients = jax.value_and_grad(total, (0, 1))(*views, golden["labels"])
    assert_near(loss, golden["eq10_total_lambda001"], 1e-6)
    for gradient, name in zip(gradients, ("eq10_grad_yA", "eq10_grad_yB"), strict=True):
        assert_near(gradient, golden[name], 1e-5)


def test_twins_loss_of_barlow_twins(golden):
    """Its code adds 1e-5 to each variance, so to the sum of squares 1e-5 times the clips."""
    views = golden["yA"], golden["yB"]
    c = correlation(*views, center=True, epsilon=1e-5 * len(views[0]))
    assert_near(c, golden["barlow_C_centered"], 1e-6)
    loss, gradients = jax.value_and_grad(lambda a, b: twins_loss(a, b, center=True), (0, 1))(*views)
    assert_near(loss, golden["barlow_loss_beta0039"], 1e-4)
    for gradient, name in zip(gradients, ("barlow_grad_yA", "barlow_grad_yB"), strict=True):
        assert_near(gradient, golden[name], 1e-3)
