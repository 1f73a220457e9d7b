import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidrec.errors import VidrecError
from vidrec.interop.torch import convert, fill, to_torch
from vidrec.models.registry import create_model

TINY = {"num_classes": 3, "num_frames": 2, "stem_width": 4, "widths": (4, 8), "stage_sizes": (1, 1), "strides": (1, 2)}
SIZE = {"image_size": 32, "num_frames": 2}


def network(name="stm_resnet18", **fields):
    return create_model(name, **{**TINY, **fields})


@pytest.fixture(scope="module")
def state_dict():
    """A random state dict of a small STM network, under the first author's names."""
    rng = np.random.default_rng(0)
    model = network()
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 2, 32, 32, 3)), train=False))
    random = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    return to_torch(model, random)


def test_names_and_axes_are_those_of_the_author(state_dict):
    shapes = {name: array.shape for name, array in state_dict.items()}
    assert shapes["layer2.0.shift.weight"] == (8, 1, 3)
    assert shapes["layer2.0.mb.stage_conv.weight"] == (1, 8, 1, 1)
    assert shapes["layer2.0.mb.stage_bn.running_var"] == (1,)
    assert shapes["layer2.0.mb.shift.weight"] == (1, 1, 3, 3)
    assert shapes["layer2.0.downsample.0.weight"] == (8, 4, 1, 1)
    assert shapes["layer2.0.downsample.1.running_mean"] == (8,)
    assert shapes["conv1.weight"] == (4, 3, 7, 7)
    assert shapes["fc.weight"] == (3, 8)


def test_there_and_back(state_dict):
    variables, report = convert(network(), state_dict, **SIZE)
    assert sorted(report.matched) == sorted(state_dict)
    assert report.reshaped == report.missing == report.unexpected == []
    back = to_torch(network(), variables)
    assert back.keys() == state_dict.keys()
    assert all(np.array_equal(back[name], array) for name, array in state_dict.items())
    assert all(array.flags.c_contiguous for array in jax.tree.leaves(variables))


def rename(key: str, style: str) -> str:
    wrapped = {
        "parallel": f"module.{key}",
        "tsm": "module.base_model." + key.replace("conv1.weight", "conv1.net.weight"),
        "tanet": "module.base_model." + key.replace(".0.", ".0.net.", 1),
        "lightning": f"model.{key}",
    }[style]
    return wrapped.replace("base_model.fc", "new_fc")


@pytest.mark.parametrize("style", ["parallel", "tsm", "tanet", "lightning"])
def test_wrappers_of_public_training_code(state_dict, style):
    wrapped = {rename(key, style): array.astype(np.float16) for key, array in state_dict.items()}
    wrapped[rename("bn1.num_batches_tracked", style)] = np.array(7)
    variables, report = convert(network(), wrapped, **SIZE)
    assert not report.missing
    assert not report.unexpected
    kernel = variables["params"]["layer1_0"]["conv1"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_allclose(kernel, state_dict["layer1.0.conv1.weight"].transpose(2, 3, 1, 0), rtol=1e-3)


def test_weights_of_a_plain_resnet_start_an_stm_network(state_dict):
    plain = {key: array for key, array in state_dict.items() if ".shift." not in key and ".mb." not in key}
    plain["layer9.0.conv1.weight"] = np.zeros((2, 2, 3, 3))
    with pytest.raises(VidrecError, match=r"lack 16 of .*layer1_0/cmm.*layer9\.0\.conv1\.weight"):
        convert(network(), plain, **SIZE)
    for allowed in (["*/cmm/*", "*/cstm/*"], ["*cmm*", "*cstm*"], ["*.mb.*", "layer?.0.shift.weight"]):
        variables, report = convert(network(), plain, **SIZE, allow_missing=allowed)
    assert len(report.missing) == 16
    assert report.unexpected == ["layer9.0.conv1.weight"]
    assert (variables["params"]["layer2_0"]["cstm"]["kernel"].sum((0, 1)) == 1).all()  # its own start
    text = report.text()
    assert text.startswith(f"matched     {len(plain) - 1}\n")
    assert "\n  layer9.0.conv1.weight" in text
    assert report.as_dict()["missing"] == report.missing


def test_classifier_of_another_size_counts_as_missing(state_dict):
    model = network(num_classes=5)
    with pytest.raises(VidrecError, match=r"fc/bias, fc/kernel|fc/kernel, fc/bias"):
        convert(model, state_dict, **SIZE)
    variables, report = convert(model, state_dict, **SIZE, allow_missing=["fc"])
    assert sorted(report.missing) == ["fc/bias", "fc/kernel"]
    assert variables["params"]["fc"]["kernel"].shape == (8, 5)
    assert 0 < abs(variables["params"]["fc"]["kernel"]).max() < 0.01  # drawn, not left empty
    assert not report.unexpected


def test_classifier_as_a_convolution(state_dict):
    tcm = {key.replace("fc.", "new_fc."): array for key, array in state_dict.items()}
    tcm["new_fc.weight"] = tcm["new_fc.weight"][:, :, None]
    variables, report = convert(network(), tcm, **SIZE)
    assert report.reshaped == ["new_fc.weight"]
    assert np.array_equal(variables["params"]["fc"]["kernel"], state_dict["fc.weight"].T)


def test_other_widths_are_refused(state_dict):
    with pytest.raises(VidrecError, match=r"layer2\.0\.\w+\.\w+ has shape \[.*8\].* has \[.*12\]"):
        convert(network(widths=(4, 12)), state_dict, **SIZE, allow_missing=["*"])


def test_two_keys_of_one_name_are_refused(state_dict):
    with pytest.raises(VidrecError, match=r"bn1\.bias and module\.bn1\.bias"):
        convert(network(), {**state_dict, "module.bn1.bias": state_dict["bn1.bias"]}, **SIZE)


def test_another_clip_length_is_refused(state_dict):
    with pytest.raises(VidrecError, match=r"num_frames is 8.* made with 2"):
        convert(network(), state_dict, image_size=32, num_frames=8)


def test_variables_of_another_network_do_not_become_a_state_dict(state_dict):
    variables, _ = convert(network(), state_dict, **SIZE)
    with pytest.raises(VidrecError, match=r"not of this network: .*cmm"):
        to_torch(network(modules="cstm"), variables)


def test_a_module_of_its_own_is_told_by_the_name_its_parent_gives_it():
    weights = {"mb.stage_conv.weight": np.arange(8.0).reshape(2, 4, 1, 1)}
    module = {"reduce": {"kernel": np.zeros((1, 1, 4, 2))}}
    filled, report = fill({"params": {"cmm": module}}, weights)
    assert report.matched == list(weights)
    assert filled["params"]["cmm"]["reduce"]["kernel"][0, 0, :, 1].tolist() == [4, 5, 6, 7]
    with pytest.raises(VidrecError, match=r"they have mb.stage_conv.weight, ..., where it has reduce.weight"):
        fill({"params": module}, weights)


def test_a_plain_network_s_weights_go_out_under_torchvision_s_names(state_dict):
    """So that `load_state_dict(strict=False)` takes them; authors' wrappers want prefixes, as the docstring says."""
    plain = {"conv1.weight", "bn1.running_var", "layer1.0.bn2.bias", "layer2.0.downsample.0.weight", "fc.bias"}
    assert plain <= state_dict.keys()
    assert not [key for key in state_dict if key.endswith("num_batches_tracked") or "base_model" in key]
