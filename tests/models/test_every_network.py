"""What holds for every network: both precisions, recomputation, weights out and in again, and its name."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.models.families import FAMILIES, IMAGE_SIZE, clips_for, make, marked_slow
from tests.parity.goldens import assert_near
from tests.quick import jit
from vidrec.errors import UsageError, VidrecError
from vidrec.interop.torch import convert, to_torch
from vidrec.models.registry import list_models

STILL = re.compile("^ett/(h_0|lam|pe)|temporal_(attn|norm1)")  # in front of a layer that starts at zero
RNGS = {"dropout": jax.random.key(2), "tss": jax.random.key(3)}


def test_every_kind_of_network_is_here():
    kinds = {name.partition("_")[0] for name in list_models()}
    assert kinds == {name.partition("_")[0] for name, _ in FAMILIES.values()}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def variables(family):
    model = make(family)
    return jit(lambda: dict(model.init(jax.random.key(0), clips_for(model), train=False)))()


def step(model, variables):
    """Loss, its gradient and new statistics on two clips, with all heads in the loss."""
    clips = clips_for(model)

    def loss(params):
        output, updated = model.apply(
            {**variables, "params": params}, clips, train=True, rngs=RNGS, mutable=["batch_stats"]
        )
        scores = [output.logits] if output.order_logits is None else [output.logits, output.order_logits]
        return sum(jnp.square(score.astype(jnp.float32) - 1).mean() for score in scores), updated

    (value, updated), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    return value, gradient, updated


def run_step(model, variables):
    return jit(lambda v: step(model, v))(variables)


@pytest.mark.parametrize("family", marked_slow(FAMILIES, quick="stm"), indirect=True)
def test_trains_in_both_precisions(family, variables):
    value, gradient, _ = run_step(make(family), variables)
    low_value, low_gradient, _ = run_step(make(family, dtype="bfloat16"), variables)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(low_gradient))
    for tree in (gradient, low_gradient):
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))
        paths = flatten_dict(tree, sep="/")
        assert {path for path, leaf in paths.items() if not leaf.any()} == set(filter(STILL.search, paths))
    assert low_value == pytest.approx(float(value), rel=0.1)


@pytest.mark.parametrize("family", marked_slow(FAMILIES, quick="tsn"), indirect=True)
def test_recomputing_changes_nothing(family, variables):
    plain, again = (run_step(make(family, remat=remat), variables) for remat in ("none", "block"))
    # Recomputed sums are taken in another order. What a norm cancels (its own bias and scale, behind another norm) is
    # nothing but the rounding of the large terms.
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(plain))
    jax.tree.map(lambda a, b: assert_near(a, b, 1e-4, absolute=1e-6 * max(largest, 1.0)), plain, again)


def test_logits_after_export_and_import(family, variables):
    model = make(family)
    given = jax.tree.map(np.asarray, variables)
    rng = np.random.default_rng(0)  # other values than the initial ones, which might hide a swap
    drawn = jax.tree.map(lambda leaf: (leaf + 0.01 * rng.random(leaf.shape)).astype(np.float32), given)
    back, report = convert(model, to_torch(model, drawn), image_size=IMAGE_SIZE, num_frames=model.num_frames)
    assert not report.missing
    assert not report.unexpected
    jax.tree.map(np.testing.assert_array_equal, back, drawn)
    run = jit(lambda v: model.apply(v, clips_for(model), train=False).logits)
    logits = run(drawn)
    assert jnp.abs(logits - run(given)).max() > 1e-6  # so that they are of the weights
    np.testing.assert_array_equal(run(back), logits)


def test_wrong_clips_are_refused(family, variables):
    model = make(family)
    clips = jnp.zeros((1, model.clip_length + 1, IMAGE_SIZE, IMAGE_SIZE, 3))
    with pytest.raises(VidrecError, match="num_frames"):
        jax.eval_shape(lambda: model.apply(variables, clips, train=False))


def test_unknown_field_is_refused(family):
    with pytest.raises(UsageError, match="has no field 'drop_out'"):
        make(family, drop_out=0.5)
