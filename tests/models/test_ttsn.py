from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quick import jit
from vidrec.errors import UsageError, VidrecError
from vidrec.inspect.summary import summarize
from vidrec.losses.order import reversal_loss
from vidrec.models.registry import create_model, model_fields
from vidrec.models.ttsn import ALGORITHMS, ETT, OrderHead, draw, embedded_channels, sequences

TINY = {"num_classes": 3, "num_frames": 4, "stem": "half", "stem_width": 8, "widths": (8, 16), "stage_sizes": (1, 1)}
TINY |= {"strides": (1, 2), "bottleneck": False, "dropout": 0.0, "backbone": "tsn"}
CLIPS = jax.random.normal(jax.random.key(0), (3, 4, 16, 16, 3))
RNGS = {"dropout": jax.random.key(2), "tss": jax.random.key(3)}


def make(**fields):
    return create_model("ttsn_resnet50", **{**TINY, **fields})


def initial(model):
    return jit(lambda: model.init(jax.random.key(1), CLIPS, train=False))()


def shapes(model):
    clips = jnp.zeros((1, model.clip_length, 16, 16, 3))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), clips, train=False))["params"]


@pytest.fixture(scope="module")
def network():
    model = make()
    return model, initial(model)


def test_ett_adds_nothing_at_the_start(network):
    model, variables = network
    run = jit(lambda model, v: model.apply(v, CLIPS, train=False).logits, static_argnums=0)
    with_ett = run(model, variables)
    np.testing.assert_allclose(run(make(ett=False), variables), with_ett, rtol=1e-6)
    assert jnp.abs(run(model, moved(variables)) - with_ett).max() > 1e-6


def moved(variables):
    """The same with something leading out of ETT."""
    kernel = jax.random.normal(jax.random.key(0), variables["params"]["ett"]["hinv"]["kernel"].shape)
    params = variables["params"]
    hinv = {**params["ett"]["hinv"], "kernel": kernel}
    return {**variables, "params": {**params, "ett": {**params["ett"], "hinv": hinv}}}


def test_ett_learns_from_the_first_step_on_what_leads_out_of_it_and_then_the_rest(network):
    model, variables = network

    @jit
    def gradient(params):
        def loss(params):
            out = model.apply({**variables, "params": params}, CLIPS, train=False)
            return jnp.square(out.logits - 1).sum()

        return jax.tree.map(lambda leaf: jnp.abs(leaf).max(), jax.grad(loss)(params)["ett"])

    first, then = gradient(variables["params"]), gradient(moved(variables)["params"])
    assert first["hinv"]["kernel"] > 0
    assert max(first["pe"], first["lam"], first["h_0"]["kernel"]) == 0
    assert min(then["pe"], then["lam"], then["h_0"]["kernel"], then["h_0"]["bias"]) > 0


def test_what_is_sown(network):
    model, variables = network
    apply = jit(partial(model.apply, train=False, mutable=["intermediates"]))
    out, state = apply(moved(variables), CLIPS)
    attention, attended = (state["intermediates"][name][0] for name in ("ett_attention", "ett_map"))
    assert attention.shape == (3, 4, 4)
    np.testing.assert_allclose(attention.sum(-1), 1, rtol=1e-5)
    assert attended.shape == state["intermediates"]["stage3"][0].shape == (3, 4, 4, 4, 16)
    assert out.order_logits is None
    assert out.aux == {}


@pytest.mark.parametrize(("tss", "inputs"), [("rr", 1), ("ar", 1), ("ra", 16), ("aa", 16)])
@pytest.mark.parametrize("head", ["frame", "clip"])
def test_order_head_in_training(tss, inputs, head):
    model = make(tss=tss, tss_head=head, ett=False)
    frames = 4 if head == "clip" else 1
    assert shapes(model)["order"]["fc_in"]["kernel"].shape == (inputs * frames, 16)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), CLIPS, train=False))
    train = partial(model.apply, train=True, mutable=["batch_stats"], rngs=RNGS)
    out, _ = jax.eval_shape(train, variables, CLIPS)
    assert out.order_logits.shape == ((3, 2) if head == "clip" else (3, 4, 2))
    assert (out.aux["order_label"].shape, out.aux["order_label"].dtype) == ((3,), jnp.int32)


def test_order_loss_reaches_the_backbone_and_repeats_with_its_key(network):
    model, variables = network

    @jit
    def step(params, key):
        def loss(params):
            rngs = {**RNGS, "tss": key}
            out, _ = model.apply({**variables, "params": params}, CLIPS, train=True, mutable=["batch_stats"], rngs=rngs)
            assert out.order_logits is not None
            return reversal_loss(out.order_logits, out.aux["order_label"]), out

        return jax.value_and_grad(loss, has_aux=True)(params)

    (value, _), gradient = step(variables["params"], jax.random.key(0))
    assert jnp.abs(gradient["conv1"]["kernel"]).max() > 0
    assert not gradient["fc"]["kernel"].any()
    (again, same), _ = step(variables["params"], jax.random.key(0))
    assert again == value
    (_, other), _ = step(variables["params"], jax.random.key(8))
    assert (same.order_logits != other.order_logits).any()


def test_training_without_draws_is_refused(network):
    model, variables = network
    train = partial(model.apply, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})
    with pytest.raises(VidrecError, match=r"rngs=.*'tss'"):
        jax.eval_shape(train, variables, CLIPS)


def test_draws():
    key = jax.random.key(0)
    for algorithm in ALGORITHMS:
        selected, channel = jit(draw, static_argnums=(1, 2, 3))(key, algorithm, 400, 10)
        assert (algorithm in ("aa", "ra")) == (channel is None)
        if channel is not None:
            assert set(channel.tolist()) == set(range(10))
        share = float(selected.mean())
        assert share == 1 if algorithm[0] == "a" else 0.4 < share < 0.6


@settings(max_examples=10)
@given(seed=st.integers(0, 99), frames=st.integers(1, 5), channels=st.integers(1, 4))
def test_sequences(seed, frames, channels):
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=(3, frames, 2, 2, channels)), jnp.float32)
    selected, channel = jnp.asarray(rng.integers(2, size=3)), jnp.asarray(rng.integers(channels, size=3))
    whole = sequences(x, selected)
    np.testing.assert_array_equal(sequences(whole, selected), x)
    one = sequences(x, selected, channel)
    for video in range(3):
        expected = x[video, ::-1] if selected[video] else x[video]
        np.testing.assert_array_equal(whole[video], expected)
        np.testing.assert_array_equal(one[video, ..., 0], expected[..., channel[video]])
    pooled = sequences(x.mean((2, 3)), selected, channel)  # as the network does it
    np.testing.assert_allclose(pooled, one.mean((2, 3)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("backbone", "frames"), [("tdn", 20), ("tsm", 4), ("tsn", 4)])
def test_backbones(backbone, frames):
    model = make(backbone=backbone)
    assert model.clip_length == frames
    assert model.clone().backbone == backbone
    params = shapes(model)
    assert ("short_term" in params) == ("mse" in params["layer2_0"]) == (backbone == "tdn")
    assert {"ett", "order", "fc"} <= params.keys()


def test_fields_are_those_of_every_backbone():
    fields = model_fields("ttsn_resnet50")
    assert fields["backbone"] == "tdn"
    assert {"ett", "ett_ratio", "ett_embed", "tss", "tss_head", "widths", "bn"} <= fields.keys()
    assert fields["bottleneck"] is True


@pytest.mark.parametrize(("ratio", "channels"), [(8, 256), (2048, 1), (1, 2048), (-2, 4096)])
def test_ratio(ratio, channels):
    assert embedded_channels(2048, ratio) == channels
    pe = jax.eval_shape(ETT(ratio).init, jax.random.key(0), jnp.zeros((1, 8, 7, 7, 2048)))["params"]["pe"]
    assert pe.shape == (3, 8, 49 * channels)


def test_ett_behind_an_earlier_stage():
    params = shapes(make(ett_stage=2))
    assert params["ett"]["hinv"]["kernel"].shape == (1, 1, 1, 8)
    assert shapes(make(ett_stage=2, ett_ratio=-2))["ett"]["pe"].shape == (3, 4, 16 * 8 * 8)
    assert shapes(make())["ett"]["hinv"]["kernel"].shape == (1, 1, 2, 16)


def test_modules_switched_off_have_no_parameters():
    assert {"ett", "order"}.isdisjoint(shapes(make(ett=False, tss="none")))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"ett": False, "ett_ratio": 4}, "ett_ratio has no effect"),
        ({"ett": False, "ett_embed": "separate"}, "ett_embed has no effect"),
        ({"ett": False, "ett_stage": 2}, "ett_stage has no effect"),
        ({"tss": "none", "tss_head": "clip"}, "tss_head has no effect"),
        ({"ett_ratio": 0}, "ett_ratio=0"),
        ({"ett_ratio": 3}, "ett_ratio=3 must divide 16"),
        ({"ett_stage": 4}, "ett_stage=4"),
        ({"ett_pe_std": -1.0}, "ett_pe_std=-1"),
        ({"ett_embed": "shard"}, "did you mean 'shared'"),
        ({"tss": "rar"}, "tss='rar'"),
        ({"tss_head": "video"}, "tss_head"),
        ({"backbone": "tdm"}, "backbone='tdm'.*did you mean"),
        ({"backbone": "tdn", "widths": (8, 12), "ett_ratio": 4}, "multiples of 8"),
    ],
)
def test_fields_that_are_wrong_or_have_no_effect(fields, named):
    with pytest.raises(UsageError, match=named):
        make(**fields)


def test_a_class_of_another_backbone_is_refused():
    with pytest.raises(UsageError, match=r"vidrec\.models\.ttsn\.ttsn"):
        make().clone(backbone="tdn")


def test_other_pictures_than_the_position_codes_are_for(network):
    model, variables = network
    with pytest.raises(VidrecError, match="image_size"):
        jax.eval_shape(partial(model.apply, train=False), variables, jnp.zeros((1, 4, 32, 32, 3)))


def parameters(module, x):
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(module.init, jax.random.key(0), x)))


def test_cost_of_the_modules():
    """Table V counts 4 clips of 16 segments for operations, and codes for 8 segments in the size."""
    features = jnp.zeros((1, 8, 7, 7, 2048))
    assert parameters(ETT(8, "shared"), features) == 1_351_937
    separate = parameters(ETT(8, "separate"), features)
    assert separate == 2_401_025
    assert 8 * separate / 2**20 == pytest.approx(18.33, abs=0.02)
    doubled = jnp.zeros((1, 16, 7, 7, 2048))  # three codes of 8 more frames
    assert parameters(ETT(8, "shared"), doubled) == 1_652_993
    assert parameters(ETT(8, "separate"), doubled) == 2_702_081
    assert parameters(OrderHead(2048), features[..., 0, 0, :1]) == 12_597_250
    fields = {"num_classes": 51, "num_frames": 16, "backbone": "tsn", "ett_embed": "separate"}
    summary = summarize(create_model("ttsn_resnet50", **fields), image_size=224, batch=4)
    costs = {row.name: row.macs / 1e9 for row in summary.stages}
    assert costs["ett"] == pytest.approx(6.58, rel=5e-3)
    assert costs["order"] == 0  # not computed outside training
    assert sum(row.params for row in summary.stages) == summary.params
