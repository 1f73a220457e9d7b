import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.quick import jit
from vidrec.errors import UsageError, VidrecError
from vidrec.models.registry import create_model, list_models

TINY = {
    "num_classes": 5, "num_frames": 4, "stem_width": 8, "widths": (8, 12), "stage_sizes": (1, 2),
    "stem": "small", "strides": (1, 2),
}  # fmt: skip
CLIPS = jax.random.normal(jax.random.key(0), (2, 4, 16, 16, 3))


def initial(model):
    return jit(lambda: model.init(jax.random.key(1), CLIPS, train=False))()


def evaluate(model, variables, clips=CLIPS):
    return jit(lambda v: model.apply(v, clips, train=False, mutable=["intermediates"]))(variables)


def loss_and_gradient(model, variables, clips=CLIPS):
    def loss(params):
        output, _ = model.apply(
            {**variables, "params": params}, clips, train=True, mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(2)},
        )  # fmt: skip
        return -jax.nn.log_softmax(output.logits)[:, 0].mean()

    return jit(jax.value_and_grad(loss))(variables["params"])


@pytest.fixture(scope="module")
def exact():
    """Networks at small widths -> (variables, output, gradient) in float32; depths that are the same are run once."""
    return {}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "tsm_resnet18" else pytest.mark.slow)
        for name in list_models("ts[nm]_*") + list_models("stm_*")
    ],
)
def test_forward_and_backward(name, dtype, exact):
    small = create_model(name, **TINY)
    if small not in exact:
        variables = initial(small)
        exact[small] = variables, *loss_and_gradient(small, variables)
    variables, loss, gradient = exact[small]
    assert variables.keys() == {"params", "batch_stats"}
    if dtype == "float32":
        assert np.isfinite(loss)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))  # all that is trained has an effect
    elif (small, dtype) not in exact:
        rough_loss, rough = exact[small, dtype] = loss_and_gradient(small.clone(dtype=dtype), variables)
        assert abs(rough_loss - loss) < 0.05
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(rough))
        assert angle(rough, gradient) < 0.3


def angle(a, b) -> float:
    """Angle in radians between two gradients."""
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
    return np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("name", ["tsm_resnet18", pytest.param("stm_resnet50", marks=pytest.mark.slow)])
def test_recomputing_blocks_changes_nothing(name):
    kept, recomputed = (
        create_model(name, **{**TINY, "stage_sizes": (1, 1)}, remat=remat) for remat in ("none", "block")
    )
    variables = initial(kept)
    again = initial(recomputed)
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, again))
    (loss, gradient), (same_loss, same_gradient) = (loss_and_gradient(m, variables) for m in (kept, recomputed))
    np.testing.assert_allclose(loss, same_loss, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), gradient, same_gradient)


def test_features_of_every_stage_can_be_looked_at():
    model = create_model("tsn_resnet50", **TINY)
    variables = initial(model)
    output, state = evaluate(model, variables)
    shapes = {name: value[0].shape for name, value in state["intermediates"].items()}
    assert shapes == {
        "stem": (2, 4, 16, 16, 8),
        "stage2": (2, 4, 16, 16, 32),
        "stage3": (2, 4, 8, 8, 48),
        "frame_logits": (2, 4, 5),
    }
    np.testing.assert_allclose(output.logits, state["intermediates"]["frame_logits"][0].mean(1), rtol=1e-6)


def test_initial_weights():
    model = create_model("tsn_resnet50", num_classes=400, stage_sizes=(1,), widths=(256,), strides=(1,))
    clips = jnp.zeros((1, 8, 32, 32, 3))
    params = jit(lambda key: model.init(key, clips, train=False)["params"])(jax.random.key(0))
    assert abs(params["layer1_0"]["conv2"]["kernel"].std() / np.sqrt(2 / (9 * 256)) - 1) < 0.01
    assert abs(params["fc"]["kernel"].std() / 0.001 - 1) < 0.01
    assert not params["fc"]["bias"].any()
    assert (params["layer1_0"]["bn3"]["scale"] == 1).all()  # no residual branch starts at zero, as in torchvision


def test_dropout_only_in_training():
    model = create_model("tsn_resnet18", **TINY, bn="frozen")
    variables = initial(model)

    def logits(train, key):
        return model.apply(variables, CLIPS, train=train, rngs={"dropout": jax.random.key(key)}).logits

    assert np.array_equal(logits(False, 0), logits(False, 1))
    assert not np.array_equal(logits(True, 0), logits(True, 1))


def test_frame_average_does_not_see_the_order_but_the_others_do():
    for name, sees in [("tsn_resnet18", False), ("tsm_resnet18", True), ("stm_resnet18", True)]:
        model = create_model(name, **TINY)
        variables = initial(model)
        scale = 1e4  # of the classifier's tiny initial weights
        there, back = (scale * evaluate(model, variables, clips)[0].logits for clips in (CLIPS, CLIPS[:, ::-1]))
        assert bool(jnp.allclose(there, back, rtol=1e-3, atol=1e-2)) != sees


@pytest.mark.parametrize("shape", [(2, 3, 16, 16, 3), (2, 4, 16, 16, 1)])
def test_clips_of_another_shape_are_refused(shape):
    model = create_model("tsn_resnet18", **TINY)
    with pytest.raises(VidrecError, match=r"num_frames=4"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape), train=False))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stem", "tiny"),
        ("remat", "all"),
        ("bn", "batch"),
        ("widths", (8, 16, 8)),
        ("strides", (1, 2, 2)),
        ("stage_sizes", ()),
    ],
)
def test_wrong_fields_are_refused_when_the_network_is_made(field, value):
    with pytest.raises(UsageError, match=field):
        create_model("tsn_resnet18", **{**TINY, field: value})


@pytest.mark.parametrize(
    "field",
    [
        {"num_frames": 0},
        {"num_classes": 0},
        {"stem_width": 0},
        {"widths": (0, 8)},
        {"dropout": 1.5},
        {"bn_momentum": 2},
    ],
)
def test_impossible_values_are_refused_by_name(field):
    with pytest.raises(UsageError, match=f"^{next(iter(field))}="):
        create_model(
            "tsn_resnet18", **{"num_classes": 2, "stage_sizes": (1, 1), "strides": (1, 2), "widths": (8, 8), **field}
        )
