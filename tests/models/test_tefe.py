import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quick import jit
from vidrec.errors import UsageError
from vidrec.inspect.summary import summarize
from vidrec.models.registry import create_model
from vidrec.models.tefe import FE, TE

TINY = {"num_classes": 3, "num_frames": 4, "stem_width": 8, "widths": (8, 8), "stage_sizes": (2, 2), "strides": (1, 2)}
TINY |= {"te": (1, 1), "fe": (1, 1), "stem": "small"}
CLIPS = jax.random.normal(jax.random.key(0), (2, 4, 8, 8, 3))


def make(**fields):
    return create_model("tefe_resnet50", **{**TINY, **fields})


@pytest.fixture(scope="module")
def tiny():
    """A network and its variables, with every weight of FE away from its start."""
    model = make(fe_init="random")
    return model, jit(lambda: model.init(jax.random.key(1), CLIPS, train=False))()


def kinds(model) -> list[list[str]]:
    return [[model.kind(stage, i) for i in range(n)] for stage, n in enumerate(model.stage_sizes, start=2)]


# Parameters and G multiply-adds with 2 per BatchNorm output, as measured for clips of 224x224 and 174 classes. The
# first is TSN, the last the paper's choice, whose 90 and 181 G are for 224x256.
COSTS = [
    ((0, 0, 0, 0), (0, 0, 0, 0), 23_864_558, 32.88),
    ((3, 4, 6, 3), (0, 0, 0, 0), 25_127_246, 32.89),
    ((0, 0, 0, 0), (0, 4, 6, 3), 79_901_422, 92.99),
    ((3, 3, 3, 3), (0, 1, 3, 0), 34_498_510, 51.38),
    ((2, 2, 2, 2), (0, 2, 4, 1), 49_632_814, 65.25),
    ((1, 1, 1, 1), (0, 3, 5, 2), 64_767_118, 79.12),
]


@pytest.mark.parametrize(("te", "fe", "params", "gmac"), COSTS)
def test_costs_of_the_placements(te, fe, params, gmac):
    summary = summarize(create_model("tefe_resnet50", num_classes=174, te=te, fe=fe), image_size=224)
    assert summary.params == params
    assert (summary.macs + summary.bn_macs) / 1e9 == pytest.approx(gmac, rel=2e-3)


@pytest.mark.parametrize(
    ("frames", "paper", "measured", "without_bn"), [(8, 90, 90.43, 90.22), (16, 181, 180.85, None)]
)
def test_costs_of_the_paper(frames, paper, measured, without_bn):
    summary = summarize(create_model("tefe_resnet50", num_classes=174, num_frames=frames), image_size=(224, 256))
    total = (summary.macs + summary.bn_macs) / 1e9
    assert round(total) == paper
    assert total == pytest.approx(measured, rel=1e-3)
    if without_bn:
        assert summary.macs / 1e9 == pytest.approx(without_bn, rel=1e-3)


def test_placement():
    assert kinds(create_model("tefe_resnet50", num_classes=2)) == [
        ["te", "plain", "plain"],
        ["te", "fe", "fe", "fe"],
        ["te", "fe", "fe", "fe", "fe", "fe"],
        ["te", "fe", "fe"],
    ]
    first = make(stage_sizes=(4, 2), te=(1, 1), fe=(2, 0), block_order="fe_first")
    assert kinds(first) == [["fe", "fe", "te", "plain"], ["te", "plain"]]
    params = jax.eval_shape(lambda: first.init(jax.random.key(0), CLIPS, train=False))["params"]
    parts = {name: sorted(params[name].keys() & {"te", "fe", "conv2"}) for name in params if name.startswith("layer")}
    assert parts == {
        "layer1_0": ["fe"],
        "layer1_1": ["fe"],
        "layer1_2": ["conv2", "te"],
        "layer1_3": ["conv2"],
        "layer2_0": ["conv2", "te"],
        "layer2_1": ["conv2"],
    }


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"te": (1, 1, 1)}, "te has 3"),
        ({"fe": (1,)}, "fe has 1"),
        ({"te": (2, 1)}, r"2 \+ 1 blocks in stage 2, which has 2"),
        ({"fe": (1, -1)}, "stage 3"),
        ({"te_position": "before"}, "did you mean 'before_conv2'"),
        ({"block_order": "fe"}, "block_order"),
        ({"fe_init": "zeros"}, "fe_init"),
        ({"te": (0, 0), "te_position": "before_conv2"}, "te_position has no effect"),
        ({"fe": (0, 0), "fe_init": "random"}, "fe_init has no effect"),
        ({"te": (2, 0), "fe": (0, 2), "block_order": "fe_first"}, "block_order has no effect"),
    ],
)
def test_fields_that_are_wrong_or_have_no_effect(fields, named):
    with pytest.raises(UsageError, match=named):
        make(**fields)


def test_counts_of_the_paper_do_not_fit_a_shorter_network():
    with pytest.raises(UsageError, match=r"stage_sizes=\(1, 1, 1, 1\).*set te and fe"):
        create_model("tefe_resnet50", num_classes=2, stage_sizes=(1, 1, 1, 1))


def test_fe_starts_as_the_2d_convolution_without_te_as_tsn():
    model, tsn = (
        make(te=(0, 0)),
        create_model("tsn_resnet50", **{k: v for k, v in TINY.items() if k not in ("te", "fe")}),
    )
    variables = jit(lambda: model.init(jax.random.key(1), CLIPS, train=False))()
    params = dict(variables["params"])
    for block in ("layer1_0", "layer2_0"):
        params[block] = dict(params[block])
        taps = params[block].pop("fe")["conv1"]["kernel"]
        assert np.any(taps[1])
        params[block]["conv2"] = {"kernel": taps[1]}
    plain = jit(lambda v: tsn.apply(v, CLIPS, train=False).logits)({**variables, "params": params})
    np.testing.assert_allclose(
        jit(lambda v: model.apply(v, CLIPS, train=False).logits)(variables), plain, rtol=1e-4, atol=1e-7
    )


@settings(max_examples=3)
@given(st.integers(1, 5), st.sampled_from([(1, 6), (2, 3)]), st.integers(0, 2**31 - 1))
def test_fe_of_identity_is_a_2d_convolution_of_every_frame(frames, stride_and_size, seed):
    stride, size = stride_and_size
    x = jax.random.normal(jax.random.key(seed), (2, frames, 6, 6, 3))
    fe = FE(4, stride)
    variables = fe.init(jax.random.key(seed), x)
    kernel = variables["params"]["conv1"]["kernel"][1]
    strides, pads, axes = (stride, stride), ((1, 1), (1, 1)), ("NHWC", "HWIO", "NHWC")
    frame_by_frame = jax.lax.conv_general_dilated(x.reshape(-1, 6, 6, 3), kernel, strides, pads, dimension_numbers=axes)
    out = fe.apply(variables, x)
    assert out.shape == (2, frames, size, size, 4)
    np.testing.assert_allclose(out.reshape(frame_by_frame.shape), frame_by_frame, atol=1e-5)


@settings(max_examples=3)
@given(st.integers(0, 2**31 - 1))
def test_te_of_a_clip_is_a_weighted_mean_of_neighbours_and_its_own(seed):
    """Taps are positive and sum to 1, M lies between 0 and 1; what one clip gives does not depend on the others."""
    x = jnp.abs(jax.random.normal(jax.random.key(seed), (3, 5, 2, 2, 8)))
    te = TE(make().layers(train=False))
    variables = te.init(jax.random.key(seed + 1), x)
    out, state = te.apply(variables, x, mutable=["intermediates"])
    taps, activation = (state["intermediates"][name][0] for name in ("taps", "activation"))
    assert taps.shape == (3, 3, 8)
    assert activation.shape == (3, 5, 8)
    assert np.allclose(taps.sum(1), 1, atol=1e-6)
    assert bool((taps > 0).all() & (activation > 0).all() & (activation < 1).all())
    gated = activation[:, :, None, None] * x
    padded = jnp.pad(gated, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    assert bool((out <= jnp.maximum(jnp.maximum(padded[:, :-2], gated), padded[:, 2:]) + 1e-6).all())
    np.testing.assert_allclose(te.apply(variables, x[1:2]), out[1:2], atol=1e-6)


def test_te_knows_the_order_of_frames(tiny):
    model, variables = tiny
    logits = jit(lambda v, clips: model.apply(v, clips, train=False).logits)
    assert not np.allclose(logits(variables, CLIPS), logits(variables, CLIPS[:, ::-1]), rtol=1e-3)


def loss_and_gradient(model, variables):
    def loss(params):
        output, state = model.apply(
            {**variables, "params": params}, CLIPS, train=True, mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(2)},
        )  # fmt: skip
        assert state["batch_stats"].keys() == variables["batch_stats"].keys()
        return -jax.nn.log_softmax(output.logits)[:, 0].mean()

    return jit(jax.value_and_grad(loss))(variables["params"])


@pytest.fixture(scope="module")
def exact(tiny):
    return loss_and_gradient(*tiny)


def test_every_parameter_learns(exact):
    loss, gradient = exact
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_recomputed_blocks_give_the_same_gradient(tiny, exact):
    model, variables = tiny
    loss, gradient = loss_and_gradient(model.clone(remat="block"), variables)
    np.testing.assert_allclose(loss, exact[0], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), gradient, exact[1])


def test_bfloat16(tiny, exact):
    model, variables = tiny
    loss, gradient = loss_and_gradient(model.clone(dtype="bfloat16"), variables)
    assert abs(loss - exact[0]) < 0.05
    for rough, leaf in zip(jax.tree.leaves(gradient), jax.tree.leaves(exact[1]), strict=True):
        assert rough.dtype == jnp.float32
        assert np.isfinite(rough).all()
        assert rough.shape == leaf.shape


@pytest.mark.parametrize("fields", [{}, {"te_position": "before_conv2", "block_order": "fe_first"}])
def test_blocks_of_two_convolutions(fields):
    model = make(bottleneck=False, **fields)
    variables = jit(lambda: model.init(jax.random.key(1), CLIPS, train=False))()
    output, state = jit(lambda v: model.apply(v, CLIPS, train=False, mutable=["intermediates"]))(variables)
    assert np.isfinite(output.logits).all()
    block = "layer1_1" if fields else "layer1_0"
    assert state["intermediates"][block]["te"]["taps"][0].shape == (2, 3, 8)
    other = variables["params"]["layer1_0" if fields else "layer1_1"]
    assert other["fe"]["conv2"]["kernel"].shape == (3, 3, 3, 8, 8)
    assert "conv2" not in other


def test_fe_learns_from_its_identity_start():
    """conv2's weights are 0 but their gradient is not (paper's Eq. 11 is a starting point, not a fixed one)."""
    model = make()
    variables = jit(lambda: model.init(jax.random.key(1), CLIPS, train=False))()
    _, gradient = loss_and_gradient(model, variables)
    fe = gradient["layer1_1"]["fe"]
    assert np.any(fe["conv2"]["kernel"])
    assert all(np.any(fe["conv1"]["kernel"][tap]) for tap in range(3))
