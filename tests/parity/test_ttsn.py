"""ETT against the paper's formulas, TSS against the same group's code, groups of parameters against TDN's."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.parity.goldens import as_clips, assert_near, find, load, weights
from tests.quick import jit
from vidrec.config import TCM_GROUPS, TSM_GROUPS
from vidrec.interop.torch import as_torch, fill, torch_name
from vidrec.losses.classification import cross_entropy
from vidrec.losses.order import reversal_loss
from vidrec.models.registry import create_model
from vidrec.models.ttsn import ETT, OrderHead, sequences
from vidrec.train.optim import multipliers

# Of the part that lies in the repository, A* and the gradient of x have every eighth channel.
CASES = [("ett_reference_part", "separate")]
CASES += [("ett_reference", variant) for variant in ("shared", "separate", "shared16")]


def assert_channels(value, golden, frames, relative):
    golden = as_clips(golden, frames)
    assert_near(value[..., :: value.shape[-1] // golden.shape[-1]], golden, relative)


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_ett(name, variant):
    golden = weights(load(name), f"{variant}_")
    frames, module = golden["Z"].shape[-1], ETT(8, variant.removesuffix("16"))
    x, cotangent = as_clips(golden["x"], frames), as_clips(golden["cot"], frames)
    initial = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    state_dict = weights(golden, "w:")
    variables, report = fill(initial, state_dict)
    assert sorted(report.matched) == sorted(state_dict)

    def loss(params, x):
        attended, attention = module.apply({"params": params}, x)
        return jnp.sum((attended + x) * cotangent), (attended, attention)

    (by_params, by_x), (attended, attention) = jit(jax.grad(loss, (0, 1), has_aux=True))(variables["params"], x)
    assert_near(attention, golden["S"], 1e-5)
    assert_near(attention, jax.nn.softmax(golden["Z"]), 1e-5)
    assert_channels(attended, golden["Astar"], frames, 1e-5)
    assert_channels(by_x, golden["gx"], frames, 1e-4)
    found = {torch_name(path): as_torch(path, array) for path, array in flatten_dict(by_params, sep="/").items()}
    expected = weights(golden, "g:")
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        assert_near(found[key], gradient, 1e-4, absolute=1e-5)


@pytest.mark.parametrize("case", ["RR_s0", "RR_s1", "RR_s2", "AR", "RA", "AA"])
def test_tss(case):
    golden = load("tss")
    x = golden["x_B4_T8" if case.startswith("RR") else "x_B4_T16"]
    frames = len(x) // 4
    selected = golden.get(f"{case}_selected", np.ones(4, np.int64))
    out = sequences(as_clips(x, frames), jnp.asarray(selected), golden.get(f"{case}_channel"))
    np.testing.assert_array_equal(out, as_clips(golden[f"{case}_out"], frames))
    assert np.array_equal(selected.repeat(frames), golden[f"{case}_labels"])


def test_tss_head():
    golden = load("tss")
    frames, head = 8, OrderHead(16)
    x = as_clips(golden["head_x"], frames)
    shapes = jax.eval_shape(lambda: head.init(jax.random.key(0), x.mean((2, 3))))
    variables, report = fill(shapes, weights(golden, "head_w:"))
    assert report.missing == report.unexpected == report.reshaped == []
    labels = jnp.asarray(golden["head_labels"][::frames])

    def loss(x):
        scores = head.apply(variables, x.mean((2, 3)))
        return reversal_loss(scores, labels), scores

    (value, scores), by_x = jit(jax.value_and_grad(loss, has_aux=True))(x)
    assert_near(scores.reshape(-1, 2), golden["head_scores"], 1e-5)
    assert_near(value, golden["head_loss"], 1e-5)
    assert_near(by_x, as_clips(golden["head_gx"], frames), 1e-4)


def test_total_loss():
    golden = load("total_loss")
    action = golden["action_logits_per_frame"].reshape(2, 8, -1).mean(1)
    order = jnp.asarray(golden["order_logits_per_frame"].reshape(2, 8, 2))
    by_class = cross_entropy(jnp.asarray(action), jnp.asarray(golden["action_label"]))
    by_order = reversal_loss(order, jnp.asarray(golden["selected"]))
    assert_near(by_class, golden["L_action"], 1e-6)
    assert_near(by_order, golden["L_self"], 1e-6)
    for theta2 in ("0.01", "0.1"):
        assert_near(by_class + float(theta2) * by_order, golden[f"L_total_theta2_{theta2}"], 1e-6)


@pytest.mark.parametrize(("variant", "groups"), [("fc_lr5_False", TCM_GROUPS), ("fc_lr5_True", TSM_GROUPS)])
def test_param_groups_tdn(variant, groups):
    theirs: dict[tuple[float, float], int] = {}
    for group in json.loads(find("param_groups_tdn.json").read_text())[variant]:
        key = (group["lr_mult"], group["decay_mult"])
        theirs[key] = theirs.get(key, 0) + group["params"]
    theirs[1, 1] -= 1  # weight and bias of the copy of the stem that they do not use
    theirs[2, 0] -= 1
    model = create_model("tdn_resnet50", num_classes=51)
    clips = jax.ShapeDtypeStruct((1, 40, 64, 64, 3), jnp.float32)
    params = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False)["params"], clips)
    rate, decay = multipliers(groups, "all")
    ours: dict[tuple[float, float], int] = {}
    for path, leaf in flatten_dict(params, sep="/").items():
        key = (rate(path, leaf), decay(path, leaf))
        ours[key] = ours.get(key, 0) + 1
    assert ours == theirs
