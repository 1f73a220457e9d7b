"""ResNet against torchvision's, TSM against the network of its descendants' public code."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.parity.goldens import as_clips, assert_near, load, names, weights
from tests.quick import jit
from vidrec.interop.torch import convert, to_torch
from vidrec.models.registry import create_model

STAGES = {"stem": "maxpool", "stage2": "layer1", "stage3": "layer2", "stage4": "layer3", "stage5": "layer4"}


def run(model, variables, clips):
    output, state = jit(lambda v: model.apply(v, clips, train=False, mutable=["intermediates"]))(variables)
    return output.logits, {name: value[0] for name, value in state["intermediates"].items()}


@pytest.mark.parametrize(
    ("name", "network"), [("resnet_basic_tiny", "tsn_resnet18"), ("resnet_bottleneck_tiny", "tsn_resnet50")]
)
def test_resnet_of_torchvision(name, network):
    golden = load(name)
    sizes = {"stem_width": 8, "widths": (8, 12, 16, 24), "stage_sizes": (2, 1, 1, 1)}
    model = create_model(network, num_classes=5, num_frames=1, **sizes)
    variables, report = convert(model, weights(golden), image_size=64, num_frames=1)
    assert not report.missing
    assert not report.unexpected
    logits, features = run(model, variables, as_clips(golden["x"], 1))
    assert_near(logits, golden["out"])
    for stage, layer in STAGES.items():
        assert_near(features[stage], as_clips(golden[f"feat_{layer}"], 1))


@pytest.fixture(scope="module", params=names("net_tsm_*", "net_tsm_resnet18_T8_w8"))
def tsm(request):
    golden = load(request.param)
    sizes = {"num_classes": 11, "widths": (8, 16, 32, 64), "stem_width": 8}
    return golden, create_model(request.param[4:16], num_frames=int(golden["T"]), **sizes)


def test_tsm_network(tsm):
    golden, model = tsm
    frames, side = model.num_frames, golden["x"].shape[-1]
    variables, report = convert(model, weights(golden, "w:"), image_size=side, num_frames=frames)
    assert report.reshaped == ["new_fc.weight"]  # a 1x1 convolution there
    assert not report.missing
    assert not report.unexpected
    clips = as_clips(golden["x"].reshape(frames, 3, side, side), frames)
    logits, features = run(model, variables, clips)
    assert_near(logits, golden["out:logits"])
    assert_near(features["frame_logits"][0], golden["out:logits_per_frame"])
    for stage, layer in list(STAGES.items())[1:]:
        assert_near(features[stage], as_clips(golden[f"out:{layer}"], frames))
    assert_near(jnp.mean(features["stage5"], (2, 3))[0], golden["out:avgpool"][:, :, 0, 0])


def test_weights_go_back_to_torch_unchanged(tsm):
    golden, model = tsm
    state_dict = weights(golden, "w:")
    variables, _ = convert(model, state_dict, image_size=96, num_frames=model.num_frames)
    back = to_torch(model, variables)
    expected = {key.removeprefix("base_model.").replace("new_fc", "fc"): array for key, array in state_dict.items()}
    expected["fc.weight"] = expected["fc.weight"][:, :, 0]
    assert back.keys() == expected.keys()
    assert all(np.array_equal(back[name], array) for name, array in expected.items())
