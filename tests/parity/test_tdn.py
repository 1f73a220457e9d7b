"""TDN's modules and whole networks against its public code."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.parity.goldens import as_clips, assert_near, find, load, weights
from tests.quick import jit
from vidrec.interop.names import rules_of
from vidrec.interop.torch import as_torch, convert, fill, to_torch, torch_name
from vidrec.models.layers import TemporalConv
from vidrec.models.registry import create_model
from vidrec.models.resnet import Bottleneck
from vidrec.models.tdn import MSE, nearest_index, shift_init

FRAMES = 8
# Of the part that lies in the repository, outputs and gradients have every eighth channel.
MODULES = ["mse_c64_T8_h7_part", "mse_c64_T8_h7", "mse_c32_T8_h14"]


def filled(module, name, x, state_dict):
    """Variables of a module as it is called inside a block."""
    initial = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    nested, report = fill({kind: {name: tree} for kind, tree in initial.items()}, state_dict)
    assert not report.missing
    assert not report.unexpected
    return {kind: tree[name] for kind, tree in nested.items()}


def mse(train):
    return MSE(create_model("tdn_resnet50", num_classes=2).layers(train))


def assert_channels(value, golden):
    golden = as_clips(golden, FRAMES)
    assert_near(value[..., :: value.shape[-1] // golden.shape[-1]], golden, 1e-5)


def test_nearest_index():
    golden = load("nearest_index")
    assert golden
    for name, index in golden.items():
        size, target = map(int, name.split("_to_"))
        assert nearest_index(size, target).tolist() == index.tolist(), name


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_mse(name, train):
    golden, module, mode = load(name), mse(train), "train" if train else "eval"
    x, cotangent = as_clips(golden["x"], FRAMES), as_clips(golden["cot"], FRAMES)
    variables = filled(module, "mse", x, {f"mse.{key}": array for key, array in weights(golden, "w:").items()})

    def loss(params, x):
        out, updated = module.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(out * cotangent), (out, updated["batch_stats"])

    step = jit(jax.grad(loss, (0, 1), has_aux=True))
    (by_params, by_x), (out, stats) = step(variables["params"], x)
    assert_channels(out, golden[f"{mode}_out"])
    assert_channels(by_x, golden[f"{mode}_gx"])
    gradients = flatten_dict({"mse": by_params}, sep="/")
    found = {torch_name(path): as_torch(path, array) for path, array in gradients.items()}
    expected = weights(golden, f"{mode}_g:")
    assert len(expected) == len(found) == 13
    for key, gradient in expected.items():
        assert_near(found[f"mse.{key}"], gradient, 1e-4, absolute=1e-4)
    if train:  # two norms have moved twice, by what changes forwards, then backwards
        moved = {torch_name(path): value for path, value in flatten_dict({"mse": stats}, sep="/").items()}
        for key, value in weights(golden, "after_train:").items():
            assert_near(np.asarray(moved[f"mse.{key}"]), value, 1e-5)


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", ["bottleneck_shift_s2_T8"])
def test_strided_block(name, train):
    golden, mode = load(name), "train" if train else "eval"
    x = as_clips(golden["x"], FRAMES)
    variables, step = strided_block(x, weights(golden, "w:"), as_clips(golden["cot"], FRAMES), train)
    (by_params, by_x), (out, stats) = step(variables["params"], x)
    near = 1e-4 if train else 1e-5  # norms of a single reduced channel amplify
    assert_near(out, as_clips(golden[f"{mode}_out"], FRAMES), near)
    assert_near(by_x, as_clips(golden[f"{mode}_gx"], FRAMES), 10 * near)
    found = {torch_name(path): as_torch(path, array) for path, array in flatten_dict(by_params, sep="/").items()}
    for key, gradient in weights(golden, f"{mode}_g:").items():
        assert_near(found[key], gradient, 10 * near, absolute=1e-4)
    if train:
        moved = {torch_name(path): value for path, value in flatten_dict(stats, sep="/").items()}
        for key, value in weights(golden, "after_train:").items():
            assert_near(np.asarray(moved[key]), value, near)


def strided_block(x, state_dict, cotangent, train):
    """Variables of a block of stride 2 and width 16, and its output's and gradients' function."""
    net = create_model("tdn_resnet50", num_classes=2, widths=(8, 16), stage_sizes=(1, 1), strides=(1, 2))
    layers = net.layers(train)
    block = Bottleneck(16, 2, layers, **net.block_fields(3, 0, layers))
    variables, report = fill(jax.eval_shape(lambda: dict(block.init(jax.random.key(0), x))), state_dict)
    assert report.missing == report.unexpected == report.reshaped == []

    def loss(params, x):
        out, updated = block.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(out * cotangent), (out, updated.get("batch_stats", {}))

    return variables, jit(jax.grad(loss, (0, 1), has_aux=True))


def test_shift_module():
    golden = load("shift_module")
    x, module = as_clips(golden["x"], FRAMES), TemporalConv(shift_init)
    initial = {"params": {"kernel": shift_init(jax.random.key(0), (3, 1, 16))}}
    assert np.array_equal(as_torch("kernel", initial["params"]["kernel"]), golden["init:conv.weight"])
    for state_dict, out in ((weights(golden, "init:"), "init_out"), (weights(golden, "w:"), "out")):
        variables = filled(module, "shift_conv", x, {f"shift.{key}": array for key, array in state_dict.items()})
        assert_near(jit(module.apply)(variables, x), as_clips(golden[out], FRAMES), 1e-5)


STAGES = {"fusion1": "fusion1", "fusion2": "fusion2", "stage3": "layer2_bak", "stage4": "layer3_bak"}
STAGES["stage5"] = "layer4_bak"


@pytest.mark.parametrize("name", ["net_tdn_resnet50_T8_w8", "net_tdn_resnet50_T16_w8"])
def test_network(name):
    golden = load(name)
    frames = int(golden["T"])
    state_dict = weights(load("net_tdn_resnet50_T8_w8"), "w:")
    model = create_model("tdn_resnet50", num_classes=11, num_frames=frames, widths=(8, 16, 32, 64), stem_width=8)
    assert model.fusion_weights == tuple(golden["alpha_beta"])
    variables, report = convert(model, state_dict, image_size=64, num_frames=frames)
    assert report.reshaped == report.missing == report.unexpected == []
    clips = as_clips(golden["x"].astype(np.float32).reshape(5 * frames, 3, 64, 64), 5 * frames)
    apply = jit(partial(model.apply, train=False, mutable=["intermediates"]))
    output, state = apply(variables, clips)
    assert_near(output.logits, golden["out:logits"], 1e-5)
    assert_near(state["intermediates"]["frame_logits"][0][0], golden["out:logits_per_frame"], 1e-5)
    for own, layer in STAGES.items():
        assert_near(state["intermediates"][own][0], as_clips(golden[f"out:{layer}"], frames), 1e-5)
    back = {theirs(name): array for name, array in to_torch(model, variables).items()}
    assert back.keys() == {name for name in state_dict if "conv1_temp" not in name}  # a copy they do not use
    assert all(np.array_equal(array, state_dict[name]) for name, array in back.items())


def test_state_dict_keys_tdn():
    (golden,) = json.loads(find("state_dict_keys_tdn.json").read_text()).values()
    model = create_model("tdn_resnet50", num_classes=51)
    clips = jax.ShapeDtypeStruct((1, 40, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: dict(model.init(jax.random.key(0), x, train=False)), clips)
    leaves = {path: leaf for tree in variables.values() for path, leaf in flatten_dict(tree, sep="/").items()}
    ours = {theirs(torch_name(path, rules_of(model))): axes_in_torch(path, leaf) for path, leaf in leaves.items()}
    unused = ("num_batches_tracked", "conv1_temp.weight", "conv1_temp.bias")
    assert ours == {key: shape for key, shape in golden.items() if not key.endswith(unused)}


def theirs(name):
    """A name as in their checkpoints, which wrap the network without its classifier."""
    return f"base_model.{name}".replace("base_model.fc", "new_fc")


def axes_in_torch(path, leaf):
    return list(leaf.shape[:-3:-1] + leaf.shape[:-2] if path.endswith("kernel") else leaf.shape)
