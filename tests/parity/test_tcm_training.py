"""Two training steps of TCM-Net through the optimizer of a recipe, against the same steps spelled out in numpy.

They are those of the authors' loop: gradients of the mean cross-entropy with batch statistics, clipped over all
parameters, decayed by group, Nesterov momentum, learning rate by group.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from tests.configs.recipes import read
from tests.parity.goldens import as_clips, assert_near, load, weights
from tests.quick import jit
from vidrec.interop.torch import convert
from vidrec.models.registry import create_model
from vidrec.train.optim import make_optimizer

LR, CLIP = 0.01, 1.0


class Steps(NamedTuple):
    """What a few steps give: variables after the last, and of each step its loss and the gradient's norm."""

    variables: dict[str, Any]
    losses: list[float]
    norms: list[float]


def make_gradient(model: Any) -> Any:
    """Function of (variables, clips, labels) -> ((loss, new statistics), gradient), without dropout."""

    def loss(params, statistics, clips, labels):
        output, updated = model.apply(
            {"params": params, "batch_stats": statistics}, clips, train=True, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(output.logits, labels).mean(), updated["batch_stats"]

    differentiate = jit(jax.value_and_grad(loss, has_aux=True))
    return lambda variables, *batch: differentiate(variables["params"], variables["batch_stats"], *batch)


def take_steps(gradient: Any, variables: dict[str, Any], batches: Any, optim: Any) -> Steps:
    """Trains on the batches with the optimizer of `optim`."""
    optimizer = make_optimizer(optim, lambda step: optim.lr)
    state = optimizer.init(variables["params"])
    steps = Steps(dict(variables), [], [])
    for batch in batches:
        (value, statistics), grads = gradient(steps.variables, *batch)
        updates, state = jit(optimizer.update)(grads, state, steps.variables["params"])
        params = optax.apply_updates(steps.variables["params"], updates)
        steps.variables.update(params=params, batch_stats=statistics)
        steps.losses.append(float(value))
        steps.norms.append(float(optax.tree.norm(grads)))
    return steps


def spelled_out(gradient: Any, variables: dict[str, Any], batches: Any) -> Steps:
    """The same, by the formulas of torch's SGD and of the authors' parameter groups."""
    momentum: dict[Any, Any] = {}
    steps = Steps(dict(variables), [], [])
    for batch in batches:
        (value, statistics), grads = gradient(steps.variables, *batch)
        grads = {path: np.asarray(g, np.float64) for path, g in flatten_dict(grads).items()}
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        params = {path: np.asarray(p, np.float64) for path, p in flatten_dict(steps.variables["params"]).items()}
        for path, grad in grads.items():
            is_norm = (*path[:-1], "mean") in flatten_dict(variables["batch_stats"])
            is_bias = path[-1] == "bias" and not is_norm
            rate, decay = (2.0 if is_bias else 1.0), (0.0 if is_norm or is_bias else 5e-4)
            direction = grad * min(1.0, CLIP / (norm + 1e-6)) + decay * params[path]
            momentum[path] = 0.9 * momentum[path] + direction if path in momentum else direction
            params[path] -= LR * rate * (direction + 0.9 * momentum[path])
        params = {path: p.astype(np.float32) for path, p in params.items()}
        steps.variables.update(params=unflatten_dict(params), batch_stats=statistics)
        steps.losses.append(float(value))
        steps.norms.append(float(norm))
    return steps


def batches_of(golden: dict[str, np.ndarray], frames: int) -> list[tuple[jax.Array, jax.Array]]:
    """The clips and labels of both steps; where there is one batch, both steps take it."""
    clips = [array for key, array in sorted(golden.items()) if key.startswith("x")]
    labels = [
        array.astype(np.int32)
        for key, array in sorted(golden.items())
        if array.dtype.kind in "iu" and array.ndim and ":" not in key and key != "T"
    ]
    clips = list(clips[0]) if clips[0].ndim == 5 else 2 * clips if len(clips) == 1 else clips
    labels = list(labels[0]) if labels[0].ndim == 2 else 2 * labels if len(labels) == 1 else labels
    side = clips[0].shape[-1]
    shaped = [as_clips(x.astype(np.float32).reshape(-1, 3, side, side), frames) for x in clips]
    return list(zip(shaped, map(jnp.asarray, labels), strict=True))


@pytest.mark.parametrize("name", ["train2steps_tcm_resnet18_w8"])
def test_two_steps_of_the_authors(name):
    golden = load(name)
    frames = int(golden.get("T", 8))
    classes = len(golden["w0:new_fc.weight"])
    model = create_model(
        "tcm_resnet18", num_classes=classes, num_frames=frames, widths=(8, 16, 32, 64), stem_width=8, dropout=0.0
    )
    batches = batches_of(golden, frames)
    side = batches[0][0].shape[3]
    before, _ = convert(model, weights(golden, "w0:"), image_size=side, num_frames=frames)
    after, report = convert(model, weights(golden, "w2:"), image_size=side, num_frames=frames)
    assert not report.missing
    optim = ConfigDict(read("configs/tcm.py", "ssv1").optim)
    optim.update(lr=LR, clip_norm=CLIP)
    found = take_steps(make_gradient(model), before, batches, optim)
    losses, norms = (
        np.ravel([array for key, array in sorted(golden.items()) if kind in key and ":" not in key])
        for kind in ("loss", "norm")
    )
    np.testing.assert_allclose(found.losses, losses, rtol=1e-3)
    np.testing.assert_allclose(found.norms, norms, rtol=1e-3)
    jax.tree.map(lambda a, b: assert_near(np.asarray(a), b, 1e-3, absolute=1e-6), found.variables, after)


@pytest.mark.slow
def test_two_steps():
    model = create_model(
        "tcm_resnet18",
        num_classes=5,
        num_frames=4,
        stem="half",
        stem_width=8,
        widths=(8, 16),
        stage_sizes=(1, 1),
        strides=(1, 2),
        tcm_patch=5,
        dropout=0.0,
    )
    clips = jax.random.normal(jax.random.key(0), (2, 2, 4, 16, 16, 3))
    batches = [(clips[i], jnp.asarray([i, 3])) for i in range(2)]
    variables = jit(lambda: dict(model.init(jax.random.key(1), clips[0], train=False)))()
    optim = ConfigDict(read("configs/tcm.py", "ssv1").optim)
    optim.update(lr=LR, clip_norm=CLIP)
    gradient = make_gradient(model)
    found, expected = take_steps(gradient, variables, batches, optim), spelled_out(gradient, variables, batches)
    assert min(expected.norms) > CLIP  # so that clipping matters
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-4)
    np.testing.assert_allclose(found.norms, expected.norms, rtol=1e-3)
    before = flatten_dict(variables["params"])
    after = flatten_dict(expected.variables["params"])
    for path, value in flatten_dict(found.variables["params"]).items():
        assert_near(value - before[path], np.asarray(after[path] - before[path]), 2e-3, absolute=1e-6)
    jax.tree.map(
        lambda a, b: assert_near(a, np.asarray(b), 1e-4),
        found.variables["batch_stats"],
        expected.variables["batch_stats"],
    )
