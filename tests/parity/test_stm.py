"""STM's block, its CMM and its network against the first author's own modules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.parity.goldens import as_clips, assert_near, load, weights
from tests.quick import jit
from vidrec.interop.torch import as_torch, convert, fill, torch_name
from vidrec.models.norm import BatchNorm
from vidrec.models.registry import create_model
from vidrec.models.resnet import Bottleneck
from vidrec.models.stm import CMM, STM

FRAMES = 4


def make_block(train: bool, stride: int = 1, **fields) -> Bottleneck:
    net = STM(num_classes=2, num_frames=FRAMES, widths=(16,), stage_sizes=(1,), strides=(stride,), **fields)
    layers = net.layers(train)
    return Bottleneck(16, stride, layers, **net.block_fields(2, 0, layers))


def stride_of(golden) -> int:
    return golden["x"].shape[-1] // golden["out_eval"].shape[-1]


def shapes(module, x):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), x))


def filled(module, x, state_dict):
    variables, report = fill(shapes(module, x), state_dict)
    assert len(report.matched) == len(state_dict)
    return variables


@pytest.mark.parametrize(
    ("name", "train"),
    [
        ("block_author_s1", False),
        ("block_author_s1", True),
        ("block_author_s2", False),
        ("block_author_s2", True),
        ("block_author_freq", False),
    ],
)
def test_block_output(name, train):
    golden = load(name)
    x, block = as_clips(golden["x"], FRAMES), make_block(train, stride_of(golden))
    variables = filled(block, x, weights(golden))
    out, _ = jit(lambda v: block.apply(v, x, mutable=["batch_stats"]))(variables)
    assert_near(out, as_clips(golden["out_train" if train else "out_eval"], FRAMES))


@pytest.mark.parametrize("name", ["block_author_s1", "block_author_s2"])
def test_block_gradients(name):
    golden = load(name)
    x, block = as_clips(golden["x"], FRAMES), make_block(False, stride_of(golden))
    variables = filled(block, x, weights(golden))
    cotangent = as_clips(golden["cotangent"], FRAMES)

    def loss(params, x):
        return jnp.sum(block.apply({**variables, "params": params}, x) * cotangent)

    by_params, by_x = jit(jax.grad(loss, (0, 1)))(variables["params"], x)
    assert_near(by_x, as_clips(golden["grad_x"], FRAMES), 1e-3)
    found = {torch_name(path): as_torch(path, grad) for path, grad in flatten_dict(by_params, sep="/").items()}
    for key, grad in weights(golden, "g/").items():
        assert_near(found[key], grad, 1e-3, absolute=2e-5)


@pytest.mark.parametrize("name", ["block_author_freq"])
def test_degenerate_block_needs_no_temporal_weights(name):
    golden = load(name)
    x, block = as_clips(golden["x"], FRAMES), make_block(False, degenerate=True)
    variables, report = fill(shapes(block, x), weights(golden))
    assert sorted(report.unexpected) == ["mb.shift.weight", "shift.weight"]
    assert_near(jit(block.apply)(variables, x), as_clips(golden["out_eval"], FRAMES))


@pytest.mark.parametrize("train", [False, True], ids=["cmm_author-eval", "cmm_author-train"])
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


@pytest.mark.parametrize("name", ["net_author_tiny"])
def test_network(name):
    golden = load(name)
    sizes = {"stage_sizes": (1, 2, 1, 1), "widths": (16, 16, 32, 32), "stem_width": 16}
    model = create_model("stm_resnet50", num_classes=7, num_frames=FRAMES, dropout=0.0, **sizes)
    variables, report = convert(model, weights(golden), image_size=golden["x"].shape[-1], num_frames=FRAMES)
    assert not report.missing
    assert not report.unexpected
    clips = as_clips(golden["x"].reshape(-1, 3, *golden["x"].shape[-2:]), FRAMES)
    logits = jit(lambda v: model.apply(v, clips, train=False).logits)(variables)
    scores = next(golden[key] for key in ("logits", "out_eval", "out") if key in golden)
    assert_near(logits, scores.reshape(len(clips), -1, 7).mean(1))
