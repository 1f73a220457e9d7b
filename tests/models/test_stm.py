import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quick import jit
from vidrec.errors import UsageError, VidrecError
from vidrec.models.registry import create_model
from vidrec.models.stm import CMM, cstm, shift_init
from vidrec.ops.shift import temporal_taps

TINY = {"num_classes": 3, "num_frames": 4, "stem_width": 8, "widths": (8, 8), "stage_sizes": (2, 2), "strides": (1, 2)}
CLIPS = jax.random.normal(jax.random.key(0), (2, 4, 16, 16, 3))


def make(name="stm_resnet50", **fields):
    return create_model(name, **{**TINY, "stem": "small", **fields})


def parameters(**fields):
    model = make(**fields)
    return jax.eval_shape(lambda: model.init(jax.random.key(0), CLIPS, train=False))["params"]


def initial(model):
    return jit(lambda: model.init(jax.random.key(1), CLIPS, train=False))()


def logits(model, variables):
    return jit(lambda v: model.apply(v, CLIPS, train=False).logits)(variables)


def test_cstm_starts_as_a_shift_of_a_quarter_either_way():
    x = jax.random.normal(jax.random.key(1), (2, 5, 3, 3, 8))
    shifted = temporal_taps(x, shift_init(jax.random.key(0), (3, 1, 8))[:, 0])
    assert np.array_equal(shifted[:, 1:, ..., :2], x[:, :-1, ..., :2])
    assert np.array_equal(shifted[..., 2:6], x[..., 2:6])
    assert np.array_equal(shifted[:, :-1, ..., 6:], x[:, 1:, ..., 6:])


def test_ordinary_temporal_convolution_starts_as_the_same_network():
    networks = [make(modules="cstm", cstm_conv=conv) for conv in ("channelwise", "ordinary")]
    np.testing.assert_allclose(*[logits(model, initial(model)) for model in networks], rtol=1e-4, atol=1e-7)


def test_cmm_of_a_still_clip_is_zero_where_its_kernel_is_the_delta():
    layers = make().layers(train=False)
    still = jnp.broadcast_to(jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 16)), (2, 5, 4, 4, 16))
    cmm = CMM(layers, degenerate=True)
    variables = jit(cmm.init)(jax.random.key(1), still)
    assert not cmm.apply(variables, still).any()
    moving = still.at[:, 3].add(1)
    moved = jnp.abs(cmm.apply(variables, moving)).max((0, 2, 3, 4)) > 0
    assert moved.tolist() == [False, False, True, True, False]  # the last frame has no next one


@settings(max_examples=10)
@given(st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=2))
def test_degenerate_modules_are_the_two_bins_of_a_fourier_transform(frames):
    x = jnp.asarray(frames, jnp.float32).reshape(1, 2, 1, 1, 1)
    total, difference = np.fft.fft(np.asarray(frames, np.float32)).real
    assert np.allclose(cstm(x, degenerate=True)[0, 0], total, atol=1e-5)
    cmm = CMM(make().layers(train=False), degenerate=True)
    ones = {"params": {"reduce": {"kernel": jnp.ones((1, 1, 1, 1))}, "restore": {"kernel": jnp.ones((1, 1, 1, 1))}}}
    norm = {"reduce_bn": {"mean": jnp.zeros(1), "var": jnp.full(1, 1 - 1e-5)}}
    ones["params"]["reduce_bn"] = {"scale": jnp.ones(1), "bias": jnp.zeros(1)}
    motion = cmm.apply({**ones, "batch_stats": norm}, x)[0, 0]
    assert np.allclose(motion, -difference, atol=1e-4)  # the authors' sign


def blocks_with(module: str, **fields) -> list[str]:
    return sorted(name for name, tree in parameters(**fields).items() if module in tree)


@pytest.mark.parametrize(
    ("placement", "blocks"),
    [
        ("all", ["layer1_0", "layer1_1", "layer2_0", "layer2_1"]),
        ("first", ["layer1_0", "layer2_0"]),
        ("2", ["layer1_0"]),
        (3, ["layer2_0"]),
    ],
)
def test_placement(placement, blocks):
    assert blocks_with("cstm", placement=placement) == blocks_with("cmm", placement=placement) == blocks


def test_modules_have_the_parts_they_name():
    for modules, cstm_blocks, cmm_blocks in [("both", 4, 4), ("cstm", 4, 0), ("cmm", 0, 4), ("none", 0, 0)]:
        assert len(blocks_with("cstm", modules=modules)) == cstm_blocks
        assert len(blocks_with("cmm", modules=modules)) == cmm_blocks


def test_shapes_of_the_variants():
    assert parameters(cstm_conv="channelwise_2d")["layer1_0"]["conv2"]["kernel"].shape == (3, 3, 1, 8)
    assert parameters(cstm_conv="ordinary")["layer1_0"]["cstm"]["kernel"].shape == (3, 8, 8)
    assert parameters(reduction=4)["layer1_0"]["cmm"]["motion"]["kernel"].shape == (3, 3, 1, 2)
    assert parameters(reduction=4, cmm_conv="ordinary")["layer1_0"]["cmm"]["motion"]["kernel"].shape == (3, 3, 2, 2)
    assert parameters(fusion="concat")["layer1_0"]["fuse"]["kernel"].shape == (1, 1, 16, 8)
    assert "cstm" not in parameters(degenerate=True)["layer1_0"]
    assert "motion" not in parameters(degenerate=True)["layer1_0"]["cmm"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("stm_resnet50", {"fusion": "concat"}),
        ("stm_resnet18", {"fusion": "concat", "degenerate": True}),
        ("stm_resnet50", {"cstm_conv": "channelwise_2d", "cmm_conv": "ordinary"}),
        ("stm_resnet18", {"modules": "cmm", "placement": "first"}),
    ],
)
def test_variants_run(name, fields):
    model = make(name, **fields)
    out = logits(model, initial(model))
    assert out.shape == (2, 3)
    assert bool(jnp.isfinite(out).all())


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"modules": "cstm", "cmm_conv": "ordinary"}, "cmm_conv"),
        ({"modules": "cmm", "cstm_conv": "ordinary"}, "cstm_conv"),
        ({"modules": "cstm", "fusion": "concat"}, "fusion"),
        ({"modules": "cstm", "reduction": 8}, "reduction"),
        ({"modules": "none", "placement": "first"}, "placement"),
        ({"modules": "none", "degenerate": True}, "degenerate"),
        ({"degenerate": True, "cmm_conv": "ordinary"}, "cmm_conv"),
        ({"degenerate": True, "cstm_conv": "ordinary"}, "cstm_conv"),
        ({"modules": "bth"}, "did you mean 'both'"),
        ({"placement": 4}, "placement"),  # these have two stages
        ({"reduction": 0}, "reduction"),
    ],
)
def test_fields_that_are_wrong_or_have_no_effect(fields, named):
    with pytest.raises(UsageError, match=named):
        make(**fields)


def test_odd_maps_before_a_strided_block():
    model = make(num_frames=1)
    with pytest.raises(VidrecError, match=r"15x15.*image_size"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 1, 15, 15, 3)), train=False))


def test_maps_of_one_pixel_before_a_strided_block():
    model = make(num_frames=1)
    with pytest.raises(VidrecError, match="divides maps of 1x1 by 2"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 1, 1, 1, 3)), train=False))
