"""TEFE: TE against TANet's public modules, FE against plain torch operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.parity.goldens import as_clips, assert_near, load, weights
from tests.quick import jit
from vidrec.interop.torch import as_torch, fill, torch_name
from vidrec.models.resnet import Bottleneck
from vidrec.models.tefe import FE, TE, TEFE

FRAMES = 8


def network(**fields) -> TEFE:
    given = {"num_frames": FRAMES, "strides": (1,), **fields}
    return TEFE(num_classes=2, widths=(8,), stage_sizes=(1,), **given)


def make_block(**fields) -> Bottleneck:
    net = network(**fields)
    layers = net.layers(train=False)
    return Bottleneck(8, net.strides[0], layers, **net.block_fields(2, 0, layers))


def filled(module, x, state_dict, at: str = ""):
    """Variables of a module that lies below `at` in a network, with a state dict of that network."""
    shapes = jax.eval_shape(lambda: dict(module.init(jax.random.key(0), x)))
    nested = {name: {at: tree} for name, tree in shapes.items()} if at else shapes
    variables, report = fill(nested, state_dict)
    assert len(report.matched) == len(state_dict)
    return {name: tree[at] for name, tree in variables.items()} if at else variables


@pytest.fixture(scope="module", params=["tam_t8", "tam_t16"])
def tam(request):
    return load(request.param)


def frames_of(golden) -> int:
    return golden["pooled"].shape[-1]


def te_of(golden, train: bool):
    te = TE(network(num_frames=frames_of(golden), te=(1,), fe=(0,)).layers(train))
    x = as_clips(golden["x"], frames_of(golden))
    return te, x, filled(te, x, {f"tam.{key}": array for key, array in weights(golden).items()}, "te")


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_te_is_the_temporal_adaptive_module(tam, train):
    te, x, variables = te_of(tam, train)
    out, state = jit(lambda v: te.apply(v, x, mutable=["batch_stats", "intermediates"]))(variables)
    assert_near(out, as_clips(tam["out_train" if train else "out_eval"], frames_of(tam)), 1e-5)
    if not train:
        assert_near(state["intermediates"]["taps"][0].swapaxes(1, 2), tam["kernel"], 1e-5)
        assert_near(state["intermediates"]["activation"][0].swapaxes(1, 2), tam["activation"], 1e-5)


def test_statistics_after_training_are_those_of_rows_and_of_frames(tam):
    """G.1 normalises 2T values over clips and channels, L.1 the reduced channels over clips and frames."""
    te, x, variables = te_of(tam, train=True)
    _, state = jit(lambda v: te.apply(v, x, mutable=["batch_stats"]))(variables)
    rows = tam["pooled"].reshape(-1, frames_of(tam)) @ weights(tam)["G.0.weight"].T
    moved = 0.9 * weights(tam)["G.1.running_var"] + 0.1 * rows.var(0, ddof=1)
    assert_near(np.asarray(state["batch_stats"]["long_bn"]["var"]), moved, 1e-5)
    padded = np.pad(tam["pooled"], ((0, 0), (0, 0), (1, 1)))
    windows = np.stack([padded[..., t : t + 3] for t in range(frames_of(tam))], 1)  # [B, T, C, 3]
    hidden = np.einsum("btck,ock->bto", windows, weights(tam)["L.0.weight"])
    moved = 0.9 * weights(tam)["L.1.running_mean"] + 0.1 * hidden.mean((0, 1))
    assert_near(np.asarray(state["batch_stats"]["short_bn"]["mean"]), moved, 1e-5)


def test_te_gradients(tam):
    te, x, variables = te_of(tam, train=False)
    cotangent = as_clips(tam["cotangent"], frames_of(tam))

    def loss(params, x):
        return jnp.sum(te.apply({**variables, "params": params}, x) * cotangent)

    by_params, by_x = jit(jax.grad(loss, (0, 1)))(variables["params"], x)
    assert_near(by_x, as_clips(tam["grad_x"], frames_of(tam)), 1e-4)
    paths = {f"te/{path}": grad for path, grad in flatten_dict(by_params, sep="/").items()}
    found = {torch_name(path): as_torch(path, grad) for path, grad in paths.items()}
    assert len(found) == len(weights(tam, "g/"))
    for key, grad in weights(tam, "g/").items():
        assert_near(found[f"tam.{key}"], grad, 1e-4)


@pytest.mark.parametrize(
    ("position", "out"),
    [("before_conv2", "out_tanet_before_conv2"), ("after_conv2", "out_te_after_conv2")],
    ids=["before_conv2", "after_conv2"],
)
@pytest.mark.parametrize("name", ["te_block_s1", "te_block_s2"])
def test_te_block(name, position, out):
    golden = load(name)
    stride = golden["x"].shape[-1] // golden[out].shape[-1]
    block = make_block(te=(1,), fe=(0,), te_position=position, strides=(stride,))
    x = as_clips(golden["x"], FRAMES)
    variables = filled(block, x, weights(golden))
    assert_near(jit(block.apply)(variables, x), as_clips(golden[out], FRAMES), 1e-5)


def test_fe_product():
    golden = load("fe_product")
    x = jnp.asarray(golden["x_ncthw"].transpose(0, 2, 3, 4, 1))
    fe = FE(x.shape[-1])
    variables = filled(fe, x, {f"fe.{key}": array for key, array in weights(golden).items()}, "fe")
    assert_near(jit(fe.apply)(variables, x), golden["product"].transpose(0, 2, 3, 4, 1), 1e-5)


@pytest.mark.parametrize("start", ["fe_at_init", "fe_random"], ids=lambda start: f"fe_block-{start}")
def test_fe_block(start):
    """The identity start makes it the 2D block (`out_fe_at_init` of the golden equals `out_plain_bottleneck`)."""
    golden = load("fe_block")
    fe = {"fe.conv1.weight", "fe.conv2.weight", "fe.conv2.bias"}
    state_dict = {key: array for key, array in weights(golden).items() if key not in {*fe, "conv2.weight"}}
    plain = weights(golden)["conv2.weight"]
    taps = np.zeros((8, 8, 3, 3, 3), np.float32)
    taps[:, :, 1] = plain
    identity = {"fe.conv1.weight": taps, "fe.conv2.weight": np.zeros_like(taps), "fe.conv2.bias": np.ones(8)}
    state_dict |= identity if start == "fe_at_init" else {key: weights(golden)[key] for key in fe}
    block, x = make_block(te=(0,), fe=(1,)), as_clips(golden["x"], FRAMES)
    out = jit(block.apply)(filled(block, x, state_dict), x)
    assert_near(
        out, as_clips(golden["out_fe_random" if start == "fe_random" else "out_plain_bottleneck"], FRAMES), 1e-5
    )
