"""STM's block and its CMM against the first author's own modules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.parity.goldens import as_clips, assert_near, load, weights
from tests.quick import jit
from vidrec.interop.torch import as_torch, fill, torch_name
from vidrec.models.norm import BatchNorm
from vidrec.models.resnet import Bottleneck
from vidrec.models.stm import CMM, STM

FRAMES = 4


def make_block(train: bool, **fields) -> Bottleneck:
    net = STM(num_classes=2, num_frames=FRAMES, widths=(16,), stage_sizes=(1,), strides=(1,), **fields)
    layers = net.layers(train)
    return Bottleneck(16, 1, layers, **net.block_fields(2, 0, layers))


def shapes(module, x):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), x))


def filled(module, x, state_dict):
    variables, report = fill(shapes(module, x), state_dict)
    assert len(report.matched) == len(state_dict)
    return variables


@pytest.mark.parametrize(
    ("name", "train"), [("block_author_s1", False), ("block_author_s1", True), ("block_author_freq", False)]
)
def test_block_output(name, train):
    golden = load(name)
    x, block = as_clips(golden["x"], FRAMES), make_block(train)
    variables = filled(block, x, weights(golden))
    out, _ = jit(lambda v: block.apply(v, x, mutable=["batch_stats"]))(variables)
    assert_near(out, as_clips(golden["out_train" if train else "out_eval"], FRAMES))


def test_block_gradients():
    golden = load("block_author_s1")
    x, block = as_clips(golden["x"], FRAMES), make_block(train=False)
    variables = filled(block, x, weights(golden))
    cotangent = as_clips(golden["cotangent"], FRAMES)

    def loss(params, x):
        return jnp.sum(block.apply({**variables, "params": params}, x) * cotangent)

    by_params, by_x = jit(jax.grad(loss, (0, 1)))(variables["params"], x)
    assert_near(by_x, as_clips(golden["grad_x"], FRAMES), 1e-3)
    found = {torch_name(path): as_torch(path, grad) for path, grad in flatten_dict(by_params, sep="/").items()}
    for key, grad in weights(golden, "g/").items():
        assert_near(found[key], grad, 1e-3, absolute=2e-5)


def test_degenerate_block_needs_no_temporal_weights():
    golden = load("block_author_freq")
    x, block = as_clips(golden["x"], FRAMES), make_block(False, degenerate=True)
    variables, report = fill(shapes(block, x), weights(golden))
    assert sorted(report.unexpected) == ["mb.shift.weight", "shift.weight"]
    assert_near(jit(block.apply)(variables, x), as_clips(golden["out_eval"], FRAMES))


@pytest.mark.parametrize("train", [False, True])
def test_cmm(train):
    golden = load("cmm_author")
    x = as_clips(golden["x"], FRAMES)
    layers = STM(num_classes=2, num_frames=FRAMES).layers(train)
    cmm = CMM(layers)
    initial = shapes(cmm, x)
    state_dict = {f"mb.{key}": array for key, array in weights(golden).items()}
    nested, _ = fill({name: {"cmm": tree} for name, tree in initial.items()}, state_dict)
    variables = {name: tree["cmm"] for name, tree in nested.items()}
    out, state = cmm.apply(variables, x, mutable=["batch_stats", "intermediates"], capture_intermediates=True)
    assert_near(out, as_clips(golden["out_train" if train else "out_eval"], FRAMES))
    stats = state["batch_stats"]["reduce_bn"]
    if train:
        assert_near(np.asarray(stats["mean"]), golden["bn_mean_after"])
        assert_near(np.asarray(stats["var"]), golden["bn_var_after"])  # torch keeps the unbiased variance
    else:
        reduced = state["intermediates"]["reduce_bn"]["__call__"][0]
        assert_near(reduced, as_clips(golden["reduced"], FRAMES))


def test_shift_init():
    golden = load("block_author_s1")["shift_init"]
    x = as_clips(load("block_author_s1")["x"], FRAMES)
    params = jit(make_block(False).init)(jax.random.key(0), x)["params"]
    assert np.array_equal(as_torch("cstm/kernel", params["cstm"]["kernel"]), golden)
    assert BatchNorm.epsilon == 1e-5
