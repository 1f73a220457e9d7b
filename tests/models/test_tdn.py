import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quick import jit
from vidrec.errors import UsageError, VidrecError
from vidrec.inspect.summary import summarize
from vidrec.models.layers import TemporalConv
from vidrec.models.registry import create_model
from vidrec.models.tdn import MSE, colours_init, halve, nearest_index, resize_nearest, shift_init
from vidrec.ops.shift import temporal_shift

TINY = {"num_classes": 3, "num_frames": 2, "stem": "half", "stem_width": 8, "widths": (8, 16), "stage_sizes": (1, 1)}
TINY |= {"strides": (1, 2), "dropout": 0.0}
CLIPS = jax.random.normal(jax.random.key(0), (2, 10, 16, 16, 3))


def make(name="tdn_resnet50", **fields):
    return create_model(name, **{**TINY, **fields})


@settings(max_examples=30)
@given(size=st.integers(1, 9), target=st.integers(9, 20))
def test_nearest_takes_the_place_left_of_the_exact_one(size, target):
    x = jnp.arange(size, dtype=jnp.float32).reshape(1, 1, size, 1, 1)
    like = jnp.zeros((1, 1, target, 1, 1))
    resized = np.asarray(resize_nearest(x, like)).ravel()
    assert resized.tolist() == nearest_index(size, target).tolist()
    exact = np.arange(target) * size / target
    assert ((resized <= exact) & (exact < resized + 1)).all()


def test_halving_drops_what_is_odd():
    x = jnp.arange(15.0).reshape(1, 1, 3, 5, 1)
    assert halve(x).ravel().tolist() == [3.0, 5.0]
    with pytest.raises(VidrecError, match=r"1x4.*image_size"):
        halve(jnp.zeros((1, 1, 1, 4, 1)))


def test_temporal_convolution_starts_as_the_shift_of_an_eighth():
    x = jax.random.normal(jax.random.key(0), (2, 5, 2, 2, 16))
    module = TemporalConv(shift_init)
    variables = {"params": {"kernel": shift_init(jax.random.key(0), (3, 1, 16))}}
    np.testing.assert_array_equal(jit(module.apply)(variables, x), temporal_shift(x, 8))


def test_colours_start_equal():
    kernel = colours_init(jax.random.key(0), (7, 7, 12, 4))
    assert kernel.shape == (7, 7, 12, 4)
    assert (kernel == kernel[:, :, :1]).all()
    assert len(jnp.unique(kernel[:, :, 0])) == 7 * 7 * 4


def test_excitation_scales_channels_by_one_half_to_three_halves():
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 5, 32)) * 30
    module = MSE(make().layers(train=False))
    variables, apply = jit(module.init)(jax.random.key(1), x), jit(module.apply)
    out = apply(variables, x)
    assert (jnp.abs(out - x) <= 0.5 * jnp.abs(x) + 1e-5).all()
    assert jnp.abs(out - x).max() > 1
    one = apply(variables, x[:, :1])  # a single segment has no neighbours: sigmoid(0) - 0.5 is 0
    np.testing.assert_allclose(one, x[:, :1], rtol=1e-6)


@pytest.fixture(scope="module")
def network():
    """A network, its initial variables, and a function from clips to what it sows."""
    model = make()
    variables = jit(lambda: model.init(jax.random.key(1), CLIPS, train=False))()
    look = jit(lambda v, clips: model.apply(v, clips, train=False, mutable=["intermediates"])[1]["intermediates"])
    return model, variables, lambda clips: {k: v[0] for k, v in look(variables, clips).items() if type(v) is tuple}


def test_what_each_branch_sees(network):
    *_, look = network
    middle = jnp.zeros((2, 2, 5, 16, 16, 3)).at[:, :, 2].set(1).reshape(CLIPS.shape)
    rest = look(jnp.where(middle == 1, CLIPS, CLIPS[:, ::-1]))  # other neighbours of the same middle frames
    here = look(CLIPS)
    np.testing.assert_array_equal(rest["stem"], here["stem"])
    assert jnp.abs(rest["fusion1"] - here["fusion1"]).max() > 1e-3
    still = look(jnp.broadcast_to(CLIPS[:, :1], CLIPS.shape))  # no motion: the short-term branch gives zeros
    np.testing.assert_allclose(still["fusion1"], 0.75 * still["stem"], rtol=1e-6)


def test_only_later_stages_have_long_term_modules(network):
    _, variables, _ = network
    assert "mse" not in variables["params"]["layer1_0"]
    assert {"mse", "shift_conv"} <= variables["params"]["layer2_0"].keys()
    assert "bias" in variables["params"]["layer1_0"]["conv1"]
    assert "bias" not in variables["params"]["short_term"]["conv1"]


def test_clip_length_and_fusion():
    assert [make(num_frames=t).clip_length for t in (4, 8)] == [20, 40]
    weights = [make(num_frames=t).fusion_weights for t in (4, 8, 16)]
    assert weights == [(0.75, 0.25), (0.5, 0.5), (0.75, 0.25)]


@pytest.mark.parametrize("stem", ["imagenet", "half", "small"])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_sizes_with_every_stem(bottleneck, stem):
    model = make(bottleneck=bottleneck, stem=stem, strides=(2, 2))  # maps of odd size, too
    clips = jax.ShapeDtypeStruct((1, 10, 36, 44, 3), jnp.float32)
    out = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False)[0].logits, clips)
    assert out.shape == (1, 3)


def test_norms_that_both_directions_share_move_twice():
    train = jit(lambda model, v: model.apply(v, CLIPS, train=True, mutable=["batch_stats"])[1], static_argnums=0)
    slow, fast = make(bn_momentum=0.5), make(bn_momentum=0.25)
    variables = jit(lambda: slow.init(jax.random.key(1), CLIPS, train=False))()
    for_mse = [train(model, variables)["batch_stats"]["layer2_0"]["mse"] for model in (slow, fast)]
    # One step keeps a part m of the initial mean 0 and moves to (1 - m) times the batch's; two do not scale so.
    once = for_mse[0]["reduce_bn"]["mean"] / for_mse[1]["reduce_bn"]["mean"]
    np.testing.assert_allclose(once, 0.5 / 0.75, rtol=1e-4)
    twice = for_mse[0]["full_bn"]["mean"] / for_mse[1]["full_bn"]["mean"]
    assert (jnp.abs(twice - 0.5 / 0.75) > 1e-3).any()


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"widths": (8, 12)}, "widths.*multiples of 8"), ({"reduction": 0}, "reduction"), ({"reducton": 4}, "reduction")],
)
def test_wrong_fields(fields, named):
    with pytest.raises(UsageError, match=named):
        make(**fields)


def test_wrong_clips():
    with pytest.raises(VidrecError, match=r"num_frames=2.*\[batch, 10,"):
        jax.eval_shape(lambda: make().init(jax.random.key(0), jnp.zeros((1, 2, 16, 16, 3)), train=False))


@pytest.mark.parametrize(("frames", "gmac"), [(8, 35.64), (16, 71.27)])
def test_cost(frames, gmac):
    summary = summarize(create_model("tdn_resnet50", num_classes=51, num_frames=frames), image_size=224)
    assert summary.params == 24_168_019 - 9_472  # without the published network's unused copy of its stem
    assert summary.macs / 1e9 == pytest.approx(gmac, rel=1e-3)
    branch = next(row for row in summary.stages if row.name == "short_term")
    assert branch.macs / 1e9 == pytest.approx(2.28 * frames / 8, rel=5e-3)
