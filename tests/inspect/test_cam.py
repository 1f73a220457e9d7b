"""Grad-CAM: on an object whose place is known, against the analytic gradient, and against torch's features."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vidrec.inspect
from tests.inspect.objects import RESNET, TRANSFORMER, make, peaks, pointwise, squares
from tests.parity.goldens import as_clips, assert_near, load, weights
from tests.quick import jit
from vidrec.errors import UsageError, VidrecError
from vidrec.inspect.probe import default_stage, recorded, score_gradient, stages
from vidrec.interop.torch import convert
from vidrec.models.registry import create_model

HEIGHT, WIDTH = 24, 32  # not square: rows and columns cannot be exchanged
CELLS = np.array([[(1, 1), (1, 4), (4, 6), (3, 2)], [(4, 1), (2, 6), (0, 3), (5, 5)]])  # of 4 pixels
CLIPS = squares(4 * CELLS, HEIGHT, WIDTH, 4)


@pytest.fixture(scope="module")
def tsn():
    """TSN whose class 1 grows with every feature, class 2 falls; its last maps have cells of four pixels."""
    model, variables = make("tsn_resnet18", HEIGHT, WIDTH, **{**RESNET, "strides": (2, 2)})
    variables = pointwise(variables)
    kernel = jnp.stack([jnp.zeros(8), jnp.ones(8), -jnp.ones(8)], 1)
    return model, {**variables, "params": {**variables["params"], "fc": {"kernel": kernel, "bias": jnp.zeros(3)}}}


def test_peaks_on_the_object_in_every_frame(tsn):
    maps = vidrec.inspect.cam(*tsn, CLIPS)
    assert maps["cam"].axes == ("clip", "frame", "row", "column")
    assert maps["cam"].values.shape == (2, 4, 6, 8)
    assert peaks(maps["cam"].values) == [[tuple(cell) for cell in clip] for clip in CELLS.tolist()]
    assert maps["class"].values.tolist() == [1, 1]
    assert maps["cam"].values.max((2, 3)) == pytest.approx(1.0, abs=1e-4)


def test_equals_the_gradient_by_hand(tsn):
    """The score is the mean over frames and cells of features times weights."""
    model, variables = tsn
    features = np.asarray(recorded(model, variables, CLIPS)["stage3"])
    by_hand = features.sum(-1) / features[0, ..., 0].size
    maps = vidrec.inspect.cam(*tsn, CLIPS, target=[1, 2])
    np.testing.assert_allclose(maps["evidence"].values[0], by_hand[0], rtol=1e-4, atol=1e-7)
    assert not maps["evidence"].values[1].any()  # nothing speaks for a class that every feature speaks against


def test_gradient_of_an_inner_stage(tsn):
    """Against the gradient of the network's second half, as a function of the features that enter it."""
    model, variables = tsn

    class SecondHalf(type(model)):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return self.head(self.stage_features(3, x, self.layers(False)), False)

    half = SecondHalf(**RESNET | {"strides": (2, 2), "bottleneck": False})
    x = recorded(model, variables, CLIPS)["stage2"]
    by_hand = jit(jax.grad(lambda x: half.apply(variables, x).logits[:, 1].sum()))(x)
    found = score_gradient(model, variables, CLIPS, "stage2", jnp.array([1, 1]))
    assert_near(found.features, x, 1e-6)
    assert_near(found.gradient, by_hand, 1e-5)
    again = score_gradient(model.clone(remat="block"), variables, CLIPS, "stage2", jnp.array([1, 1]))
    assert_near(again.gradient, by_hand, 1e-5)


def test_golden_features_and_weights():
    """The last stage of torchvision's network: the map follows from its features and its classifier alone."""
    golden = load("resnet_basic_tiny")
    state_dict = weights(golden)
    fc, bias = state_dict["fc.weight"], state_dict["fc.bias"]
    frames = golden["feat_layer4"]  # [T, C, H, W], T frames of one clip
    best = (frames.mean((2, 3)) @ fc.T + bias).mean(0).argmax()
    expected = np.maximum(np.einsum("tchw,c->thw", frames, fc[best]), 0)
    expected = expected - expected.min((1, 2), keepdims=True)
    expected = expected / (expected.max((1, 2), keepdims=True) + 1e-12)
    assert expected.any()
    sizes = {"stem_width": 8, "widths": (8, 12, 16, 24), "stage_sizes": (2, 1, 1, 1)}
    model = create_model("tsn_resnet18", num_classes=5, num_frames=4, **sizes)
    variables, _ = convert(model, state_dict, image_size=64, num_frames=4)
    maps = vidrec.inspect.cam(model, variables, as_clips(golden["x"], 4))
    assert maps["class"].values.tolist() == [best]
    assert_near(maps["cam"].values[0], expected, 1e-3)


def test_published_arithmetic():
    """Grad-CAM of TCM-Net by torch; its arrays are told apart by their shapes."""
    net, golden = load("net_tcm_resnet18_T8_w8"), load("gradcam_tcm_resnet18_w8")
    model = create_model("tcm_resnet18", num_classes=11, num_frames=8, stem_width=8, widths=(8, 16, 32, 64))
    variables, _ = convert(model, weights(net, "w:"), image_size=96, num_frames=8)
    maps = vidrec.inspect.cam(model, variables, as_clips(net["x"].reshape(8, 3, 96, 96), 8))
    compared = [array for array in golden.values() if array.squeeze().shape == (8, 3, 3)]
    assert any(np.allclose(array.squeeze(), maps["cam"].values[0], rtol=0, atol=1e-4) for array in compared)


def test_stages_in_order():
    tcm = create_model("tcm_resnet18", num_classes=2, stage_sizes=(1, 2, 1, 1))
    assert stages(tcm) == {
        "stage2": "layer1_0", "stage3": "layer2_1", "tcm3": "tcm3", "stage4": "layer3_0", "stage5": "layer4_0"
    }  # fmt: skip
    assert default_stage(tcm) == "stage5"
    former = create_model("timesformer_base", num_classes=2, depth=3)
    assert list(stages(former)) == ["patch_embed", "blocks_0", "blocks_1", "blocks_2"]
    assert default_stage(former) == "blocks_1"


@pytest.mark.slow
def test_a_transformer_by_patches():
    """Behind the last block nothing reads the patches; before it, changing a patch changes its features alone."""
    model, variables = make("timesformer_base", 16, 24, **TRANSFORMER)
    clips = jax.random.normal(jax.random.key(1), (1, 3, 16, 24, 3))
    changed = clips.at[0, 1, 8:16, 16:24].add(1.0)  # frame 1, row 1, column 2
    one, other = (score_gradient(model, variables, x, "patch_embed") for x in (clips, changed))
    assert one.features.shape == (1, 3, 2, 3, 8)
    moved = np.abs(one.features - other.features).max(-1) > 1e-6
    assert np.argwhere(moved).tolist() == [[0, 1, 1, 2]]
    assert np.all(np.abs(one.gradient).max(-1) > 0)
    with pytest.raises(VidrecError, match="choose an earlier stage"):
        vidrec.inspect.cam(model, variables, clips, stage="blocks_1")


def test_wrong_wishes(tsn):
    with pytest.raises(UsageError, match="no stage 'stage9'"):
        vidrec.inspect.cam(*tsn, CLIPS, stage="stage9")
    with pytest.raises(UsageError, match=r"target=3 is no class: they are 0\.\.2"):
        vidrec.inspect.cam(*tsn, CLIPS, target=3)
