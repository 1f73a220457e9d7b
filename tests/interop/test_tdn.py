"""TDN and TTSN from the weights they start from: a 2D ResNet, TDN itself, later code of TTSN's group."""

import jax
import numpy as np
import pytest

from vidrec.errors import VidrecError
from vidrec.interop.torch import convert, to_torch
from vidrec.models.registry import clip_shape, create_model

TINY = {"num_classes": 3, "num_frames": 2, "stem": "half", "stem_width": 8, "widths": (8, 16), "stage_sizes": (1, 1)}
TINY |= {"strides": (1, 2)}
SIZE = {"image_size": 16, "num_frames": 2}
FRESH = ["*/mse", "*/shift_conv", "*conv*/bias", "short_term/bn1"]  # what no 2D network has


def make(name, **fields):
    return create_model(name, **{**TINY, **fields})


def random_weights(model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    clips = np.zeros((1, *clip_shape(model, 16)), np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), clips, train=False))
    return to_torch(model, jax.tree.map(lambda leaf: rng.uniform(0.1, 1, leaf.shape).astype(np.float32), shapes))


@pytest.fixture(scope="module")
def tdn():
    """A state dict as of TDN's checkpoints, whose second stem nothing uses."""
    weights = random_weights(make("tdn_resnet50"))
    wrapped = {f"module.base_model.{name}".replace("base_model.fc", "new_fc"): a for name, a in weights.items()}
    return {**wrapped, "module.base_model.conv1_temp.weight": np.zeros((8, 3, 3, 3))}


def test_weights_of_a_2d_network_go_to_both_copies():
    resnet = random_weights(make("tsn_resnet50"))
    variables, report = convert(make("tdn_resnet50"), resnet, **SIZE, allow_missing=FRESH)
    assert not report.unexpected
    back = to_torch(make("tdn_resnet50"), variables)
    stem, changes = back["conv1.weight"], back["conv1_5.0.weight"]
    assert np.array_equal(stem, resnet["conv1.weight"])
    np.testing.assert_allclose(changes, np.repeat(stem.mean(1, keepdims=True), 12, 1), rtol=1e-6)
    for name, array in resnet.items():
        if name.startswith("layer"):
            assert np.array_equal(back[name.replace(".", "_bak.", 1)], array)
        if name.startswith("layer1"):
            assert np.array_equal(back[f"resnext_{name}"], array)
    assert "conv1_5.0.weight <- conv1.weight" in report.reshaped
    assert not back["layer2_bak.0.conv1.bias"].any()
    assert back["layer2_bak.0.shift.conv.weight"].sum() == 16


@pytest.mark.parametrize("forgotten", FRESH)
def test_what_a_2d_network_lacks_is_told(forgotten):
    resnet = random_weights(make("tsn_resnet50"))
    with pytest.raises(VidrecError, match="short_term" if "short" in forgotten else "bias|mse|shift_conv"):
        convert(make("tdn_resnet50"), resnet, **SIZE, allow_missing=[name for name in FRESH if name != forgotten])


def test_tdn_checkpoint_without_its_unused_stem(tdn):
    _, report = convert(make("tdn_resnet50"), tdn, **SIZE)
    assert report.missing == report.unexpected == report.reshaped == []
    assert len(report.matched) == len(tdn) - 1


@pytest.mark.parametrize("fields", [{}, {"ett": False, "tss": "none"}])
def test_tdn_checkpoint_starts_ttsn(tdn, fields):
    variables, report = convert(make("ttsn_resnet50", **fields), tdn, **SIZE, allow_missing=["ett", "order"])
    assert report.unexpected == []
    assert {path.partition("/")[0] for path in report.missing} == (set() if fields else {"ett", "order"})
    assert np.array_equal(variables["params"]["fc"]["bias"], tdn["module.new_fc.bias"])


@pytest.mark.parametrize("backbone", ["tdn", "tsm", "tsn"])
def test_names_of_ttsn(backbone):
    model = make("ttsn_resnet50", backbone=backbone, ett_embed="separate")
    state_dict = random_weights(model)
    shapes = {name: array.shape for name, array in state_dict.items()}
    assert shapes["fc_shuffle_rbrc.weight"] == (64, 1)
    assert [shapes[f"fc_rbrc{layer}.weight"] for layer in (1, 2, 3, 4)] == [(64, 64)] * 3 + [(2, 64)]
    assert shapes["ett.h.2.weight"] == (8, 64, 1, 1)
    assert shapes["ett.hinv.weight"] == (64, 8, 1, 1)
    assert shapes["ett.pe"] == (3, 2, 8 * 4 * 4)
    assert shapes["ett.lam"] == ()
    assert ("layer2_bak.0.conv1.weight" if backbone == "tdn" else "layer2.0.conv1.weight") in shapes
    _, report = convert(model, state_dict, **SIZE)
    assert len(report.matched) == len(state_dict)


def test_attention_of_the_group_s_later_code_starts_ett():
    model = make("ttsn_resnet50", backbone="tsn", ett_embed="separate")
    state_dict = random_weights(model)
    later = {f"module.base_model.{name}": array for name, array in state_dict.items() if not name.startswith("ett.")}
    place = "module.base_model.Attention."
    for role, letter in enumerate("QKV"):
        later[f"{place}pos_embed{letter}"] = state_dict["ett.pe"][role : role + 1]
        for leaf in ("weight", "bias"):
            later[f"{place}conv{role + 1}.{leaf}"] = state_dict[f"ett.h.{role}.{leaf}"]
    later[f"{place}value_conv.weight"] = state_dict["ett.hinv.weight"][..., None]
    later[f"{place}value_conv.bias"] = state_dict["ett.hinv.bias"]
    later[f"{place}gamma"] = np.full(1, 0.5)
    variables, report = convert(model, later, **SIZE)
    assert report.missing == report.unexpected == []
    back = to_torch(model, variables)
    for name, array in state_dict.items():
        factor = 0.5 if name.startswith("ett.hinv") else 1.0
        expected = np.ones(()) if name == "ett.lam" else factor * array
        np.testing.assert_allclose(back[name], expected, rtol=1e-6)
