import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.quick import jit
from vidrec.errors import UsageError, VidrecError
from vidrec.inspect.summary import summarize
from vidrec.models.registry import create_model
from vidrec.models.tcm import ETA, MTDM, TCMLayer, TripleConv, eta_size

TINY = {"num_classes": 3, "num_frames": 4, "stem_width": 8, "widths": (8, 8), "stage_sizes": (1, 1), "strides": (1, 2)}
CLIPS = jax.random.normal(jax.random.key(0), (2, 4, 16, 16, 3))
FEATURES = jax.random.normal(jax.random.key(1), (2, 4, 6, 6, 8))


def make(name="tcm_resnet18", **fields):
    return create_model(name, **{**TINY, "stem": "small", **fields})


def parameters(**fields):
    model = make(**fields)
    return jax.eval_shape(lambda: model.init(jax.random.key(0), CLIPS, train=False))["params"]


# Parameters and G multiply-adds of one clip of 224 x 224 and 174 classes, as counted on the authors' code.
COSTS = [
    ("tcm_resnet18", {}, 11_287_017, 14.80),
    ("tcm_resnet18", {"parts": "none"}, 11_265_774, 14.51),
    ("tcm_resnet50", {}, 23_935_721, 33.29),
    ("tcm_resnet101", {}, 42_927_849, 62.99),
]


def test_the_classifier_starts_as_xavier_s_has_it():
    model = make(num_classes=200)
    fc = jit(lambda key: model.init(key, CLIPS, train=False)["params"]["fc"])(jax.random.key(0))
    bound = np.sqrt(6 / (8 + 200))
    assert 0.95 * bound < jnp.abs(fc["kernel"]).max() <= bound
    assert abs(fc["kernel"].std() * np.sqrt(3) / bound - 1) < 0.1
    assert not fc["bias"].any()


@pytest.mark.parametrize(("name", "fields", "params", "gmac"), COSTS)
def test_costs_of_the_paper(name, fields, params, gmac):
    summary = summarize(create_model(name, num_classes=174, **fields), image_size=224)
    assert summary.params == params
    assert round(summary.macs / 1e9, 2) == gmac


def test_costs_of_the_module():
    """Reduction 205.5, correlations 158.05, grouped 3 x 0.68, 0.60, then 0.90, 3.21, 1.81, 12.85, 3.61, 205.5, ETA."""
    (row,) = (
        row
        for row in summarize(create_model("tcm_resnet50", num_classes=2), image_size=224).stages
        if row.name == "tcm3"
    )
    correlations = 14 * 28 * 28 * 15 * 15 * 64
    per_position = 512 * 64 + 3 * 6 * 2 * 9 + 6 * 16 + 16 * 9 + 16 * 32 + 32 * 9 + 32 * 64 + 64 * 9 + 64 * 512
    assert row.macs == correlations + 8 * 28 * 28 * per_position + 8 * 512 * 3
    assert row.params == 71_163


@pytest.mark.parametrize(("frames", "size"), [(1, 1), (2, 1), (4, 3), (8, 3), (12, 3), (16, 5), (32, 5)])
def test_size_of_the_attention_s_kernel(frames, size):
    assert eta_size(frames) == size


def test_attention_weighs_frames_by_their_means():
    eta = ETA(size=3)
    variables = {"params": {"kernel": jnp.asarray([0.0, 0.0, 1.0]).reshape(3, 1, 1)}}  # the mean of the next frame
    out, state = jit(lambda x: eta.apply(variables, x, mutable=["intermediates"]))(FEATURES)
    weights = state["intermediates"]["weights"][0]
    means = FEATURES.mean((2, 3))
    np.testing.assert_allclose(weights[:, :-1], jax.nn.sigmoid(means[:, 1:]), rtol=1e-5)
    np.testing.assert_allclose(weights[:, -1], 0.5)
    np.testing.assert_allclose(out, FEATURES * weights[:, :, None, None], rtol=1e-6)


def test_grouped_convolution():
    x = FEATURES[..., :6]
    module = TripleConv()
    variables = jit(lambda: module.init(jax.random.key(0), x))()
    kernel = variables["params"]["kernel"]
    assert kernel.shape == (3, 3, 2, 6)
    expected = jax.lax.conv_general_dilated(
        x.reshape(-1, 6, 6, 6),
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3,
    )
    np.testing.assert_allclose(module.apply(variables, x), expected.reshape(x.shape), rtol=1e-4, atol=1e-5)


def mtdm_maps(**fields):
    """Function of features -> what MTDM finds, by name, with fixed weights."""
    mtdm = MTDM(make().layers(train=False), reduction=4, patch=3, **fields)
    variables = jit(lambda: mtdm.init(jax.random.key(0), FEATURES))()

    @jit
    def run(x):
        out, state = mtdm.apply(variables, x, mutable=["intermediates"])
        return out, {name: value[0] for name, value in state["intermediates"].items()}

    return run


def test_fast_is_about_neighbours_and_slow_about_the_first_frame():
    run = mtdm_maps()
    before, after = run(FEATURES)[1], run(FEATURES.at[:, 0].multiply(-1.0))[1]
    changed = {
        name: (jnp.abs(after[name] - before[name]).reshape(2, 4, -1).max((0, 2)) > 1e-6).tolist() for name in before
    }
    assert changed["fast_confidence"] == [True, False, False, False]
    assert changed["slow_confidence"] == [True, True, True, True]
    assert changed["fast_displacement"] == [True, False, False, False]


def test_both_tempos_begin_with_the_same_pair():
    out, found = mtdm_maps()(FEATURES)
    for kind in ("displacement", "confidence"):
        np.testing.assert_array_equal(found[f"fast_{kind}"][:, 0], found[f"slow_{kind}"][:, 0])
    np.testing.assert_array_equal(out[..., :2], found["fast_displacement"])
    np.testing.assert_array_equal(out[..., 5], found["slow_confidence"])


def test_one_tempo_alone_is_the_same_as_beside_the_other():
    both, _ = mtdm_maps()(FEATURES)
    for tempo, part in (("fast", np.s_[..., :3]), ("slow", np.s_[..., 3:])):
        alone, found = mtdm_maps(tempos=(tempo,))(FEATURES)
        np.testing.assert_allclose(alone, both[part], rtol=1e-5, atol=1e-6)
        assert sorted(found) == [f"{tempo}_confidence", f"{tempo}_displacement"]


def test_names_of_what_can_be_looked_at():
    model = make()
    shapes = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), CLIPS, mutable=True)[1])["intermediates"]
    module = shapes["tcm3"]
    assert (
        module["mtdm"]["fast_displacement"][0].shape == module["mtdm"]["slow_displacement"][0].shape == (2, 4, 8, 8, 2)
    )
    assert module["mtdm"]["fast_confidence"][0].shape == module["mtdm"]["slow_confidence"][0].shape == (2, 4, 8, 8)
    assert module["tam"]["eta"]["weights"][0].shape == (2, 4, 8)
    assert module["out"][0].shape == shapes["stage3"][0].shape == (2, 4, 8, 8, 8)


def test_parts():
    assert sorted(parameters()["tcm3"]) == ["mtdm", "tam"]
    assert "eta" in parameters()["tcm3"]["tam"]
    assert "eta" not in parameters(parts="mtdm")["tcm3"]["tam"]
    assert list(parameters(parts="tam")["tcm3"]) == ["eta"]
    assert "tcm3" not in parameters(parts="none")


def test_shapes_of_the_variants():
    assert [name for name in parameters(tcm_stages=(2, 3)) if name.startswith("tcm")] == ["tcm2", "tcm3"]
    assert parameters()["tcm3"]["mtdm"]["reduce"]["kernel"].shape == (1, 1, 8, 8)  # to the width of stage 2
    assert parameters(tcm_reduction=5)["tcm3"]["mtdm"]["reduce"]["kernel"].shape == (1, 1, 8, 5)
    assert parameters(tempos=("slow",))["tcm3"]["tam"]["conv1_0"]["kernel"].shape == (3, 3, 1, 3)
    assert parameters(eta_kernel=5)["tcm3"]["tam"]["eta"]["kernel"].shape == (5, 1, 1)


@pytest.mark.parametrize("fields", [{"patch": 5}, {"sigma": 0.5}, {"tau": 1.0}, {"gaussian": "paper"}])
def test_fields_of_the_match_have_an_effect(fields):
    layers = make().layers(train=False)
    plain = TCMLayer(layers, reduction=4, patch=3, tau=0.1)
    other = TCMLayer(layers, **{"reduction": 4, "patch": 3, "tau": 0.1, **fields})
    variables = jit(lambda: plain.init(jax.random.key(0), FEATURES))()
    difference = jit(lambda v: plain.apply(v, FEATURES) - other.apply(v, FEATURES))(variables)
    assert float(jnp.abs(difference).max()) > 1e-4


def test_the_window_of_each_stage():
    def patches(**fields):
        model = create_model("tcm_resnet50", num_classes=2, tcm_stages=(2, 3, 4, 5), **fields)
        return {row.name: row.macs for row in summarize(model, image_size=64).stages if row.name.startswith("tcm")}

    table, equal = patches(), patches(tcm_patch=3)
    assert table["tcm2"] - equal["tcm2"] == 14 * 16 * 16 * 64 * (15**2 - 3**2)
    assert table["tcm3"] - equal["tcm3"] == 14 * 8 * 8 * 64 * (15**2 - 3**2)
    assert table["tcm4"] - equal["tcm4"] == 14 * 4 * 4 * 64 * (7**2 - 3**2)
    assert table["tcm5"] == equal["tcm5"]


def test_windows_and_small_maps():
    """The authors' window is taken even where it is larger than the map; one of the user's own is refused."""
    small = jnp.zeros((1, 4, 8, 8, 3))  # 4 x 4 behind stage 3
    assert jax.eval_shape(lambda: make().init(jax.random.key(0), small))["params"]["tcm3"]
    with pytest.raises(VidrecError, match=r"tcm_patch=9 .* maps of 4x4 .* take 7 or less"):
        jax.eval_shape(lambda: make(tcm_patch=9).init(jax.random.key(0), small))


@pytest.mark.parametrize(
    ("name", "fields", "named"),
    [
        ("tcm_resnet18", {"tcm_stages": 5}, "tcm_stages=5 must be a list, each item a whole number"),
        ("tcm_resnet18", {"tempos": "fast"}, "tempos='fast' must be a list, each item a word"),
        ("tcm_resnet18", {"tcm_stages": ()}, "tcm_stages"),
        ("tcm_resnet18", {"tcm_stages": (4,)}, "tcm_stages"),  # of two stages
        ("tcm_resnet18", {"tcm_stages": (3, 2)}, "in order"),
        ("tcm_resnet18", {"tempos": ("slow", "fast")}, "tempos"),
        ("tcm_resnet18", {"tempos": ("quick",)}, "tempos"),
        ("tcm_resnet18", {"tempos": ()}, "tempos"),
        ("tcm_resnet18", {"parts": "mdtm"}, "did you mean 'mtdm'"),
        ("tcm_resnet18", {"gaussian": "text"}, "gaussian"),
        ("tcm_resnet18", {"tcm_patch": 4}, "tcm_patch=4"),
        ("tcm_resnet18", {"eta_kernel": 2}, "eta_kernel=2"),
        ("tcm_resnet18", {"tcm_reduction": -1}, "tcm_reduction"),
        ("tcm_resnet18", {"tau": 0.0}, "tau"),
        ("tcm_resnet18", {"num_frames": 1}, "num_frames=1"),
        ("tcm_resnet18", {"parts": "none", "tcm_stages": (2,)}, "tcm_stages has no effect"),
        ("tcm_resnet18", {"parts": "tam", "tempos": ("fast",)}, "tempos has no effect"),
        ("tcm_resnet18", {"parts": "tam", "sigma": 2.0}, "sigma has no effect"),
        ("tcm_resnet18", {"parts": "tam", "tcm_patch": 7}, "tcm_patch has no effect"),
        ("tcm_resnet18", {"parts": "mtdm", "eta_kernel": 3}, "eta_kernel has no effect"),
        ("tcm_resnet18", {"tcm_host": "tea"}, "take tcm_resnet50"),
        ("tcm_resnet34", {"tcm_host": "resnext3d"}, "take tcm_resnet50 or tcm_resnet101"),
        (
            "tcm_resnet50",
            {"tcm_host": "tea", "widths": (2, 16)},
            r"widths=\(2, 16\): tcm_host='tea' .* needs 3 or more",
        ),
        ("tcm_resnet18", {"tau": 0.0}, "^tau=0.0 must be more than 0"),
        ("tcm_resnet50", {"tcm_host": "resnxt3d"}, "did you mean 'resnext3d'"),
        ("tcm_resnet50", {"tcm_host": "tea", "shift_div": 4}, "shift_div has no effect"),
        ("tcm_resnet101", {"tcm_host": "resnext3d"}, "stem has no effect"),
        ("tcm_resnet101", {"tcm_host": "resnext3d", "stem": "imagenet", "widths": (16, 16)}, "leaves one frame"),
    ],
)
def test_fields_that_are_wrong_or_have_no_effect(name, fields, named):
    strides = {"strides": (1, 2, 2, 2)} if len(fields.get("widths", ())) == 4 else {}
    with pytest.raises(UsageError, match=named):
        make(name, **fields, **strides)
