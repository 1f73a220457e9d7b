"""ResNet against torchvision's, TSM against the network of its descendants' public code."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.parity.goldens import as_clips, assert_near, load, weights
from tests.quick import jit
from vidrec.interop.torch import convert, to_torch
from vidrec.models.registry import create_model

STAGES = {"stem": "maxpool", "stage2": "layer1", "stage3": "layer2", "stage4": "layer3", "stage5": "layer4"}


def run(model, variables, clips):
    output, state = jit(lambda v: model.apply(v, clips, train=False, mutable=["intermediates"]))(variables)
    return output.logits, {name: value[0] for name, value in state["intermediates"].items()}


def test_resnet_of_torchvision():
    golden = load("resnet_basic_tiny")
    model = create_model(
        "tsn_resnet18", num_classes=5, num_frames=1, stem_width=8, widths=(8, 12, 16, 24), stage_sizes=(2, 1, 1, 1)
    )
    variables, report = convert(model, weights(golden), image_size=64, num_frames=1)
    assert not report.missing
    assert not report.unexpected
    logits, features = run(model, variables, as_clips(golden["x"], 1))
    assert_near(logits, golden["out"])
    for stage, layer in STAGES.items():
        assert_near(features[stage], as_clips(golden[f"feat_{layer}"], 1))


@pytest.fixture(scope="module")
def tsm():
    golden = load("net_tsm_resnet18_T8_w8")
    model = create_model("tsm_resnet18", num_classes=11, widths=(8, 16, 32, 64), stem_width=8)
    return golden, model


def test_tsm_network(tsm):
    golden, model = tsm
    variables, report = convert(model, weights(golden, "w:"), image_size=96, num_frames=8)
    assert report.reshaped == ["new_fc.weight"]  # a 1x1 convolution there
    assert not report.missing
    assert not report.unexpected
    clips = as_clips(golden["x"].reshape(8, 3, 96, 96), 8)
    logits, features = run(model, variables, clips)
    assert_near(logits, golden["out:logits"])
    assert_near(features["frame_logits"][0], golden["out:logits_per_frame"])
    for stage, layer in list(STAGES.items())[1:]:
        assert_near(features[stage], as_clips(golden[f"out:{layer}"], 8))
    assert_near(jnp.mean(features["stage5"], (2, 3))[0], golden["out:avgpool"][:, :, 0, 0])


def test_weights_go_back_to_torch_unchanged(tsm):
    golden, model = tsm
    state_dict = weights(golden, "w:")
    variables, _ = convert(model, state_dict, image_size=96, num_frames=8)
    back = to_torch(model, variables)
    names = {key.removeprefix("base_model.").replace("new_fc", "fc"): array for key, array in state_dict.items()}
    names["fc.weight"] = names["fc.weight"][:, :, 0]
    assert back.keys() == names.keys()
    assert all(np.array_equal(back[name], array) for name, array in names.items())
