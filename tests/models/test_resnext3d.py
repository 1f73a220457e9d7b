import jax
import jax.numpy as jnp
import pytest

from vidrec.inspect.summary import summarize
from vidrec.models.registry import create_model
from vidrec.models.resnext3d import frames_at

FIELDS = {"tcm_host": "resnext3d", "num_frames": 16}


@pytest.mark.parametrize(("classes", "params"), [(400, 48.34e6), (600, 48.75e6)])
def test_parameters_known_of_it(classes, params):
    model = create_model("tcm_resnet101", num_classes=classes, parts="none", **FIELDS)
    clips = jnp.zeros((1, 16, 32, 32, 3))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), clips, train=False))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == pytest.approx(params, abs=5e3)


def test_costs_and_shapes():
    """The paper has 48.2 M parameters and 9.8 GFLOPs with TCM; the convolutions and correlations give 9.64."""
    summary = summarize(create_model("tcm_resnet101", num_classes=174, **FIELDS), image_size=112)
    assert summary.params == 47_948_905
    assert round(summary.macs / 1e9, 2) == 9.64
    shapes = {row.name: row.shape for row in summary.stages}
    assert shapes["stem"] == (1, 8, 28, 28, 64)
    assert shapes["tcm3"] == (1, 4, 14, 14, 512)
    assert shapes["stage5"] == (1, 1, 4, 4, 2048)


@pytest.mark.parametrize("frames", [16, 13, 8, 1])
def test_frames_behind_each_stage(frames):
    model = create_model(
        "tcm_resnet101", num_classes=2, parts="none", stage_sizes=(1, 1, 1, 1), **FIELDS | {"num_frames": frames}
    )
    clips = jnp.zeros((1, frames, 32, 32, 3))
    _, seen = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), clips, mutable=True))
    for stage in (2, 3, 4, 5):
        assert seen["intermediates"][f"stage{stage}"][0].shape[1] == frames_at(stage, frames, (1, 2, 2, 2))
