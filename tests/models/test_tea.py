import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.quick import jit
from vidrec.inspect.summary import summarize
from vidrec.interop.torch import torch_name
from vidrec.models.registry import create_model
from vidrec.models.tea import MotionExcitation, TEABlock, shift_init

FIELDS = {"tcm_host": "tea", "num_classes": 1000, "parts": "none"}
CLIPS = jax.random.normal(jax.random.key(0), (2, 4, 6, 6, 32))
LAYERS = create_model("tcm_resnet50", num_classes=2).layers(train=False)


def leaves(tree, *names):
    return sum(leaf.size for path, leaf in jax.tree.leaves_with_path(tree) if any(n in str(path) for n in names))


def test_parameters_are_those_of_res2net_and_what_tea_adds():
    """Res2Net-50 (26w x 4s) has 25.70 M with ImageNet's classes."""
    model = create_model("tcm_resnet50", **FIELDS)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 64, 64, 3)), train=False))["params"]
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert total == 26_148_754
    assert round((total - leaves(params, "'me'", "shifts_")) / 1e6, 2) == 25.70


def test_costs_beside_the_paper_s():
    """The paper has 24.6 M parameters and 36.6 GFLOPs for TEA with TCM, the public code of the parts fewer."""
    summary = summarize(create_model("tcm_resnet50", tcm_host="tea", num_classes=174), image_size=224)
    assert summary.params == 24_527_443
    assert round(summary.macs / 1e9, 2) == 35.13


def test_excitation_leaves_still_clips_nearly_alone():
    """Where nothing moves (a delta as the 3x3 kernel) all channels are scaled alike, by what the last norm adds."""
    me = MotionExcitation(LAYERS)
    variables = jit(lambda: me.init(jax.random.key(1), CLIPS))()
    kernel = variables["params"]["conv2"]["kernel"]
    variables["params"]["conv2"]["kernel"] = jnp.zeros_like(kernel).at[1, 1].set(1)
    apply = jit(lambda x: me.apply(variables, x))
    still = jnp.broadcast_to(CLIPS[:, :1], CLIPS.shape)
    np.testing.assert_allclose(apply(still), still, atol=1e-6)
    moving = still.at[:, 2].add(1.0)
    changed = jnp.abs(apply(moving) - moving).max((0, 2, 3, 4)) > 1e-6
    assert changed.tolist() == [False, True, True, False]  # the last frame has no next one


def test_the_last_part_starts_as_a_shift():
    taps = shift_init(jax.random.key(0), (3, 1, 5))[:, 0]
    assert taps.T.tolist() == [[0, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(("first", "frames"), [(True, [False, True, True, True, False]), (False, [True] * 5)])
def test_parts_pass_on_their_results_inside_a_stage(first, frames):
    """With temporal kernels that look one frame around, three in a row see three frames around, one alone one."""
    clips = jax.random.normal(jax.random.key(3), (1, 5, 4, 4, 32))
    block = TEABlock(8, 1, LAYERS, first=first)
    variables = jit(lambda: block.init(jax.random.key(1), clips))()
    params = variables["params"]
    params = {name: {"kernel": jnp.ones((3, 1, 3))} if name.startswith("shifts") else p for name, p in params.items()}
    params["me"] = jax.tree.map(jnp.zeros_like, params["me"])  # ME looks at the next frame, too

    def middle(x):
        return jnp.sum(block.apply({**variables, "params": params}, x)[:, 2] ** 2)

    reach = jnp.abs(jit(jax.grad(middle))(clips)).max((0, 2, 3, 4)) > 0
    assert reach.tolist() == frames


def test_strided_block():
    block = TEABlock(8, 2, LAYERS, first=True)
    shape = jax.eval_shape(lambda: block.init_with_output(jax.random.key(0), CLIPS))[0].shape
    assert shape == (2, 4, 3, 3, 32)


def test_names_in_the_public_code():
    small = {"num_classes": 2, "stem_width": 8, "stage_sizes": (1,), "widths": (16,), "strides": (1,)}
    model = create_model("tcm_resnet50", tcm_host="tea", parts="none", **small)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 32, 32, 3)), train=False))
    paths = [path for tree in shapes.values() for path in flatten_dict(tree, sep="/")]
    names = {torch_name(path) for path in paths}
    assert {
        "layer1.0.me.conv1.weight", "layer1.0.me.bn3.running_mean", "layer1.0.convs.0.weight", "layer1.0.bns.2.bias",
        "layer1.0.bns.0.running_var", "layer1.0.shifts.3.conv.weight", "layer1.0.downsample.1.weight",
    } <= names  # fmt: skip
    assert not any("convs_" in name or "shifts_" in name for name in names)
