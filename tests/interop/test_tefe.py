"""TEFE from the weights it starts from: a 2D ResNet, and TANet."""

import jax
import numpy as np
import pytest

from tests.quick import jit
from vidrec.errors import VidrecError
from vidrec.interop.torch import convert, to_torch
from vidrec.models.registry import create_model

TINY = {"num_classes": 3, "num_frames": 4, "stem_width": 4, "widths": (4, 8), "stage_sizes": (2, 2), "strides": (1, 2)}
TINY |= {"stem": "small"}
SIZE = {"image_size": 8, "num_frames": 4}
CLIPS = jax.random.normal(jax.random.key(0), (2, 4, 8, 8, 3))


def tefe(te, fe, **fields):
    return create_model("tefe_resnet50", **{**TINY, **fields}, te=te, fe=fe)


def random_weights(model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), CLIPS, train=False))
    return to_torch(model, jax.tree.map(lambda leaf: rng.uniform(0.1, 1, leaf.shape).astype(np.float32), shapes))


def logits(model, variables):
    return jit(lambda v: model.apply(v, CLIPS, train=False).logits)(variables)


@pytest.fixture(scope="module")
def resnet():
    """A plain network, its state dict and what it makes of the clips."""
    model = create_model("tsn_resnet50", **TINY)
    state_dict = random_weights(model)
    variables, _ = convert(model, state_dict, **SIZE)
    return state_dict, logits(model, variables)


@pytest.mark.parametrize("start", ["identity", "random"])
def test_fe_with_the_weights_of_a_resnet_is_that_resnet(resnet, start):
    state_dict, expected = resnet
    model = tefe((0, 0), (2, 1), fe_init=start)
    variables, report = convert(model, state_dict, **SIZE)
    assert not report.missing
    assert not report.unexpected
    assert "layer1.0.fe.conv1.weight <- layer1.0.conv2.weight" in report.reshaped
    assert len(report.reshaped) == 3 * 3
    np.testing.assert_allclose(logits(model, variables), expected, rtol=1e-4)
    taps = variables["params"]["layer1_1"]["fe"]["conv1"]["kernel"]
    assert np.array_equal(taps[1], state_dict["layer1.1.conv2.weight"].transpose(2, 3, 1, 0))
    assert not taps[[0, 2]].any()


def test_te_is_all_that_a_resnet_lacks(resnet):
    model = tefe((1, 1), (1, 1))
    with pytest.raises(VidrecError, match=r"lack 24 of .*layer1_0/te/long"):  # in both blocks: 4 kernels, 2 norms
        convert(model, resnet[0], **SIZE)
    variables, report = convert(model, resnet[0], **SIZE, allow_missing=["*/te/*"])
    assert len(report.missing) == 24
    assert not report.unexpected
    assert np.isfinite(logits(model, variables)).all()


def test_weights_go_to_torch_and_back():
    model = tefe((1, 1), (1, 1))
    state_dict = random_weights(model)
    shapes = {name: array.shape for name, array in state_dict.items()}
    assert shapes["layer1.0.tam.G.0.weight"] == (8, 4)  # 2T, T
    assert shapes["layer1.0.tam.G.3.weight"] == (3, 8)
    assert shapes["layer2.0.tam.L.0.weight"] == (2, 8, 3)
    assert shapes["layer2.0.tam.L.3.weight"] == (8, 2, 1)
    assert shapes["layer2.1.fe.conv1.weight"] == (8, 8, 3, 3, 3)
    assert shapes["layer2.1.fe.conv2.bias"] == (8,)
    variables, report = convert(model, state_dict, **SIZE)
    assert report.reshaped == report.missing == report.unexpected == []
    back = to_torch(model, variables)
    assert back.keys() == state_dict.keys()
    assert all(np.array_equal(back[name], array) for name, array in state_dict.items())
    again, _ = convert(model, back, **SIZE)
    assert np.array_equal(logits(model, again), logits(model, variables))


def tanet_name(key: str) -> str:
    """As in TANet's checkpoints: blocks are wrapped in .net, beside their .tam; the classifier is new_fc."""
    if key.startswith("fc."):
        return f"module.new_{key}"
    layer, block, rest = key.split(".", 2) if key.startswith("layer") else ("", "", key)
    wrapped = rest if rest.startswith("tam.") or not layer else f"net.{rest}"
    return "module.base_model." + ".".join(filter(None, (layer, block, wrapped)))


def test_a_file_of_tanet_fills_a_network_of_te_blocks():
    model = tefe((2, 2), (0, 0), te_position="before_conv2")
    state_dict = random_weights(model)
    tanet = {tanet_name(key): array for key, array in state_dict.items()}
    tanet["module.base_model.layer1.0.tam.G.1.num_batches_tracked"] = np.array(5)
    assert "module.base_model.layer2.1.net.conv2.weight" in tanet
    assert "module.base_model.layer2.0.net.downsample.0.weight" in tanet
    assert "module.base_model.layer2.1.tam.L.1.running_var" in tanet
    variables, report = convert(model, tanet, **SIZE)
    assert len(report.matched) == len(state_dict)
    assert report.reshaped == report.missing == report.unexpected == []
    kernel = variables["params"]["layer2_1"]["te"]["short_in"]["kernel"]
    assert np.array_equal(kernel, state_dict["layer2.1.tam.L.0.weight"].transpose(2, 1, 0))


def test_weights_of_another_clip_length_are_refused():
    state_dict = random_weights(tefe((1, 1), (0, 0)))
    longer = tefe((1, 1), (0, 0), num_frames=8)
    with pytest.raises(VidrecError, match=r"layer1\.0\.tam\.G\.0\.weight .* clips of 4 frames.* num_frames=8"):
        convert(longer, state_dict, image_size=8, num_frames=8)
