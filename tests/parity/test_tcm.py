"""TCM's module and networks against the authors' code."""

import json
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.parity.goldens import as_clips, assert_near, find, load, names, weights
from tests.quick import jit
from vidrec.config import TCM_GROUPS
from vidrec.interop.torch import as_torch, convert, fill, to_torch, torch_name
from vidrec.models.registry import create_model
from vidrec.models.tcm import ETA, TCMLayer
from vidrec.train.optim import multipliers

MODULES = names("tcm_module_*", "tcm_module_r18_T8", "tcm_module_r50_T8")
NETWORKS = ["net_tcm_resnet18_T8_w8", "net_tcm_resnet18_T16_w8", "net_tcm_resnet50_T8_w8"]
SEEDED = ["seeded_full_tcm_resnet18_T8", "seeded_full_tcm_resnet50_T8"]
STAGES = {"stage2": "layer1", "stage3": "layer2", "stage4": "layer3", "stage5": "layer4"}
NARROW = {"num_classes": 11, "widths": (8, 16, 32, 64), "stem_width": 8}


def make_layer(train: bool) -> TCMLayer:
    return TCMLayer(create_model("tcm_resnet18", num_classes=2).layers(train), reduction=8)


def filled(module, x, state_dict):
    variables, report = fill(jax.eval_shape(lambda: module.init(jax.random.key(0), x)), state_dict)
    assert len(report.matched) == len(state_dict)
    assert not report.missing
    return variables


@pytest.fixture(scope="module", params=MODULES)
def golden(request):
    return load(request.param)


def read(golden, key):
    return as_clips(golden[key], int(golden["T"]))


def test_tcm_module_parts(golden):
    x, layer = read(golden, "x"), make_layer(train=False)
    frames = x.shape[1]
    variables = filled(layer, x, weights(golden, "w:"))
    out, state = jit(lambda v: layer.apply(v, x, mutable=["intermediates"], capture_intermediates=True))(variables)
    seen = state["intermediates"]
    mtdm = seen["mtdm"]
    assert_near(jax.nn.relu(mtdm["reduce_bn"]["__call__"][0]), read(golden, "eval_reduced"), 1e-5)
    for tempo in ("fast", "slow"):
        displacement, confidence = mtdm[f"{tempo}_displacement"][0], mtdm[f"{tempo}_confidence"][0]
        assert_near(displacement[:, :-1], as_clips(golden[f"eval_{tempo}_flow"], frames - 1), 2e-5)
        assert_near(confidence[:, :-1, ..., None], as_clips(golden[f"eval_{tempo}_conf"], frames - 1), 1e-5)
        np.testing.assert_array_equal(displacement[:, -1], displacement[:, -2])
    assert_near(mtdm["__call__"][0], read(golden, "eval_mtdm"), 2e-5)
    assert_near(seen["tam"]["__call__"][0], read(golden, "eval_tam"), 2e-5)
    assert_near(out, read(golden, "eval_out"), 2e-5)
    np.testing.assert_array_equal(seen["out"][0], out)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_tcm_module_gradients(golden, mode):
    x, layer = read(golden, "x"), make_layer(mode == "train")
    variables = filled(layer, x, weights(golden, "w:"))

    def run(params, x):
        out, state = layer.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(out * read(golden, "cot")), (out, state)

    function = jit(jax.value_and_grad(run, (0, 1), has_aux=True))
    (_, (out, state)), (by_params, by_x) = function(variables["params"], x)
    assert_near(out, read(golden, f"{mode}_out"), 2e-5)
    assert_near(by_x, read(golden, f"{mode}_gx"), 1e-4)
    found = {torch_name(path): as_torch(path, grad) for path, grad in flatten_dict(by_params, sep="/").items()}
    expected = weights(golden, f"{mode}_g:")
    assert found.keys() == expected.keys()
    for key, grad in expected.items():
        assert_near(found[key], grad, 1e-4, absolute=2e-5)
    if mode == "train":
        after = flatten_dict(state["batch_stats"], sep="/")
        for path, value in after.items():
            assert_near(np.asarray(value), golden[f"after_train:{torch_name(path)}"], 1e-5)


@pytest.mark.parametrize("name", ["temporal_attention_small", "temporal_attention"])
def test_temporal_attention(name):
    golden = load(name)
    for case in sorted({key.partition("_")[0] for key in golden}):
        clips = {key: golden[f"{case}_{key}"].transpose(0, 2, 3, 1)[..., None] for key in ("x", "out", "cot", "gx")}
        clips = {key: jnp.asarray(array.transpose(0, 3, 1, 2, 4)) for key, array in clips.items()}  # [NC, T, H, W, 1]
        eta = ETA(size=int(case[-1]))
        state_dict = {"ETA.conv.weight": golden[f"{case}_conv.weight"]}
        variables = filled_under("eta", eta, clips["x"], state_dict)

        def run(params, x, eta=eta):
            return eta.apply({"params": params}, x)

        values, pullback = jax.vjp(jit(run), variables["params"], clips["x"])
        assert_near(values, clips["out"], 1e-5)
        by_params, by_x = pullback(clips["cot"])
        assert_near(by_x, clips["gx"], 5e-5)
        assert_near(as_torch("kernel", by_params["kernel"]), golden[f"{case}_gw"], 5e-5)


def filled_under(name, module, x, state_dict):
    """Variables of a module that usually stands below `name`."""
    initial = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    nested, _ = fill({kind: {name: tree} for kind, tree in initial.items()}, state_dict)
    return {kind: tree[name] for kind, tree in nested.items()}


def run_network(model, variables, clips):
    output, state = jit(lambda v: model.apply(v, clips, train=False, mutable=["intermediates"]))(variables)
    return output.logits, state["intermediates"]


@pytest.mark.parametrize("name", names("net_tcm_*", *NETWORKS))
def test_network(name):
    golden = load(name)
    frames, side = int(golden["T"]), golden["x"].shape[-1]
    model = create_model(f"tcm_{name.split('_')[2]}", num_frames=frames, **NARROW)
    variables, report = convert(model, weights(golden, "w:"), image_size=side, num_frames=frames)
    assert report.reshaped == ["new_fc.weight"]  # a 1x1 convolution there
    assert not report.missing
    assert not report.unexpected
    logits, seen = run_network(model, variables, as_clips(golden["x"].reshape(frames, 3, side, side), frames))
    for stage, layer in STAGES.items():
        assert_near(seen[stage][0], as_clips(golden[f"out:{layer}"], frames))
    assert_near(seen["tcm3"]["out"][0], as_clips(golden["out:tcm_layer"], frames))
    assert_near(seen["frame_logits"][0][0], golden["out:logits_per_frame"])
    assert_near(logits, golden["out:logits"])


@pytest.mark.parametrize("name", ["gradcam_tcm_resnet18_w8"])
def test_gradients_of_a_score_by_features(name):
    """Grad-CAM on the last stage; its arrays are told apart by their shapes."""
    net, golden = load(NETWORKS[0]), load(name)
    model = create_model("tcm_resnet18", **NARROW)
    variables, _ = convert(model, weights(net, "w:"), image_size=96, num_frames=8)
    clips = as_clips(net["x"].reshape(8, 3, 96, 96), 8)

    def score(shift):
        def moved(call, args, kwargs, context):
            if context.method_name == "head":
                args = (args[0] + shift, *args[1:])
            return call(*args, **kwargs)

        with nn.intercept_methods(moved):
            output, state = model.apply(variables, clips, train=False, mutable=["intermediates"])
        return output.logits[0, net["out:logits"].argmax()], state["intermediates"]["stage5"][0]

    gradient, features = jit(jax.grad(score, has_aux=True))(jnp.zeros((1, 8, 3, 3, 64)))
    channels = gradient.mean((2, 3))
    maps = jax.nn.relu(jnp.einsum("bthwc,btc->bthw", features, channels))
    maps = maps - maps.min((2, 3), keepdims=True)
    maps = maps / (1e-7 + maps.max((2, 3), keepdims=True))
    assert_near(features, as_clips(net["out:layer4"], 8))
    compared = [array for array in golden.values() if array.squeeze().shape == (8, 3, 3)]
    assert any(np.allclose(array.squeeze(), maps[0], rtol=0, atol=1e-4) for array in compared)


def draw(tag: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weights of the seeded goldens: a generator for each, seeded by its name."""
    random = np.random.RandomState(zlib.crc32(f"{tag}/{name}".encode()))
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        values = random.uniform(0.5, 1.5, shape)
    elif name.endswith(("running_mean", "bias")):
        values = 0.1 * random.standard_normal(shape)
    else:
        values = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    return values.astype(np.float32)


@pytest.mark.parametrize("name", names("seeded_full_*", *SEEDED))
def test_full_width_network(name):
    golden = load(name)
    tag, frames, side = bytes(golden["tag"]).decode(), int(golden["T"]), golden["x"].shape[-1]
    model = create_model(name.split("_", 2)[2].rpartition("_")[0], num_classes=174, num_frames=frames)
    state_dict = {key: draw(tag, key, shape) for key, shape in torch_shapes(model, side).items()}
    for key in weights(golden, "check:"):
        np.testing.assert_array_equal(
            state_dict[key.removesuffix("_first8")].ravel()[:8], golden[f"check:{key}"].astype(np.float32)
        )
    variables, _ = convert(model, state_dict, image_size=side, num_frames=frames)
    clips = as_clips(golden["x"].astype(np.float32).reshape(frames, 3, side, side), frames)
    logits, seen = run_network(model, variables, clips)
    layers = [(seen[stage][0], layer) for stage, layer in STAGES.items()]
    layers += [(seen["tcm3"]["out"][0], "tcm_layer")] if "tcm3" in seen else []
    for features, layer in layers:
        assert_near(features.mean((0, 1, 2, 3)), golden[f"{layer}_mean_nhw"])
        assert_near(features[0, 0, ..., :4].transpose(2, 0, 1), golden[f"{layer}_frame0_ch0to3"])
    assert_near(seen["frame_logits"][0][0], golden["logits_per_frame"])
    assert_near(logits, golden["logits"])


def torch_shapes(model, side=64) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state dict that the authors' code has for a network."""
    shape = (1, model.num_frames, side, side, 3)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape), train=False))
    named = {}
    for tree in variables.values():
        for path, leaf in flatten_dict(tree, sep="/").items():
            axes = leaf.shape[-1:-3:-1] + leaf.shape[:-2] if path.endswith("kernel") else leaf.shape
            name = torch_name(path)
            named[f"new_{name}" if name.startswith("fc.") else f"base_model.{name}"] = axes
    named["new_fc.weight"] += (1,)
    return named


@pytest.mark.parametrize("name", [f"{host}_resnet{depth}" for depth in (18, 50, 101) for host in ("tsm", "tcm")])
def test_state_dict_keys(name):
    expected = json.loads(find("state_dict_keys.json").read_text())[name]
    expected = {key: tuple(shape) for key, shape in expected.items() if not key.endswith("num_batches_tracked")}
    found = torch_shapes(create_model(name, num_classes=174))
    if "tsm" in name:
        found["new_fc.weight"] = found["new_fc.weight"][: len(expected["new_fc.weight"])]
    assert found == expected


def test_param_groups_tcm_resnet18_something():
    groups = json.loads(find("param_groups_tcm_resnet18_something.json").read_text())
    expected = {name: (group["lr_mult"], group["decay_mult"]) for group in groups for name in group["params"]}
    model = create_model("tcm_resnet18", num_classes=174)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 32, 32, 3)), train=False))
    rate, decay = multipliers(TCM_GROUPS, "all")
    found = {}
    for path, leaf in flatten_dict(variables["params"], sep="/").items():
        name = torch_name(path)
        found[f"new_{name}" if name.startswith("fc.") else f"base_model.{name}"] = (rate(path, leaf), decay(path, leaf))
    assert found == expected


def test_weights_go_back_to_torch_unchanged():
    model = create_model("tcm_resnet18", num_classes=11, stage_sizes=(1, 1, 1, 1), widths=(8, 8, 8, 8), stem_width=8)
    state_dict = {key: draw("", key, shape) for key, shape in torch_shapes(model).items()}
    variables, _ = convert(model, {f"module.{key}": a for key, a in state_dict.items()}, image_size=64, num_frames=8)
    back = to_torch(model, variables)
    assert len(back) == len(state_dict)
    for key, array in state_dict.items():
        name = key.removeprefix("base_model.").replace("new_fc", "fc")
        np.testing.assert_array_equal(back[name].ravel(), array.ravel())


def test_weights_of_tsm_fill_the_backbone():
    """The first authors of TSM wrap conv1 of each block, and their classifier is a matrix."""
    tiny = {"num_classes": 11, "stage_sizes": (1, 1, 1, 1), "widths": (8, 8, 8, 8), "stem_width": 8}
    shapes = torch_shapes(create_model("tsm_resnet18", **tiny))
    state_dict = {}
    for key, shape in shapes.items():
        wrapped = key.replace(".0.conv1.", ".0.conv1.net.")
        state_dict[f"module.{wrapped}"] = draw("", key, shape[:2] if key == "new_fc.weight" else shape)
    model = create_model("tcm_resnet18", **tiny)
    variables, report = convert(model, state_dict, image_size=32, num_frames=8, allow_missing=["tcm3"])
    assert len(report.matched) == len(state_dict)
    assert report.missing
    assert all(path.startswith("tcm3/") for path in report.missing)
    kernel = state_dict["module.base_model.layer2.0.conv1.net.weight"]
    np.testing.assert_array_equal(variables["params"]["layer2_0"]["conv1"]["kernel"], kernel.transpose(2, 3, 1, 0))
