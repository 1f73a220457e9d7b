"""DirecFormer against its authors' network, and its orders, paths and losses against plain numpy and torch."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.parity.goldens import assert_near, load, weights
from tests.quick import jit
from vidrec.eval.order import common_length, hamiltonian_path, order_accuracy
from vidrec.interop.torch import as_torch, convert, fill, to_torch, torch_name
from vidrec.losses.order import guided_loss, order_signs
from vidrec.losses.permutations import permutation_set
from vidrec.models.direcformer import Attention
from vidrec.models.registry import create_model

TINY = {"image_size": 32, "patch_size": 8, "num_frames": 8, "dim": 48, "depth": 2, "heads": 4}


def network(**fields):
    return create_model("direcformer_base", num_classes=5, num_orders=30, **{**TINY, **fields})


def as_input(x: np.ndarray) -> jnp.ndarray:
    """The network's [B, C, T, H, W] to [B, T, H, W, C]."""
    return jnp.asarray(x.transpose(0, 2, 3, 4, 1))


def run(golden, train=False):
    model = network(drop_path=0.0)
    variables, report = convert(model, weights(golden), image_size=32, num_frames=8)
    assert not report.missing
    assert not report.unexpected
    clips = as_input(golden["x"])
    return jit(lambda v: model.apply(v, clips, train=train, mutable=["intermediates"]))(variables)


def test_outputs_and_maps_of_direcformer_tiny_cs_small():
    golden = load("direcformer_tiny_cs_small")
    output, _ = run(golden, train=True)
    assert_near(output.logits, golden["logits"], 1e-5)
    assert_near(output.order_logits, golden["order_logits"], 1e-5)
    assert_near(output.aux["time_attention"], load("self_loss_small")["temporal_attn"], 1e-5)


def test_tokens_of_direcformer_tiny_cs():
    golden = load("direcformer_tiny_cs")
    output, state = run(golden)
    sown = state["intermediates"]
    assert_near(output.logits, golden["logits"], 1e-5)
    assert_near(sown["tokens_embed"][0], golden["tokens_embed"], 1e-5)
    for block in range(2):
        assert_near(sown[f"blocks_{block}"]["tokens"][0], golden[f"tokens_block{block}"], 1e-5)
        maps = sown[f"blocks_{block}"]["time_attention"][0]
        assert_near(maps.reshape(-1, *maps.shape[2:]), golden["temporal_attn"][block], 1e-5)


@pytest.mark.parametrize("name", ["direcformer_tiny_cs_small", "direcformer_tiny_cs"])
def test_gradients(name):
    golden = load(name)
    model = network()
    variables, _ = convert(model, weights(golden), image_size=32, num_frames=8)

    def loss(params, x):
        output = model.apply({"params": params}, x, train=False)
        scores = jnp.sum(output.logits * golden["cot_logits"])
        return scores + jnp.sum(output.order_logits * golden["cot_order"])

    by_params, by_x = jit(jax.grad(loss, (0, 1)))(variables["params"], as_input(golden["x"]))
    found = {torch_name(path): as_torch(path, grad) for path, grad in flatten_dict(by_params, sep="/").items()}
    gradients = weights(golden, "g/")
    assert gradients
    for key, gradient in gradients.items():
        assert_near(found[key], gradient, 1e-5)
    if "grad_x" in golden:
        assert_near(by_x, as_input(golden["grad_x"]), 1e-5)


def assert_scores(model, golden, expected):
    """Runs the tiny network on a golden's clips; expected scores are found by their shapes."""
    variables, report = convert(model, weights(golden), image_size=model.image_size, num_frames=model.num_frames)
    assert not report.missing
    assert not report.unexpected
    output = jit(lambda v: model.apply(v, as_input(golden["x"]), train=False))(variables)
    scores = {array.shape: array for array in expected}
    assert_near(output.logits, scores[output.logits.shape], 1e-5)
    if output.order_logits.shape in scores:
        assert_near(output.order_logits, scores[output.order_logits.shape], 1e-5)


KINDS = {"c": "cosine", "s": "softmax"}


@pytest.mark.parametrize("variant", ["cs", "ss", "sc", "cc"], ids=lambda variant: f"attention_variants-{variant}")
def test_attention_variants(variant):
    """The first letter is the attention in time, the second that in space."""
    golden = load("attention_variants")
    model = network(time_attn=KINDS[variant[0]], space_attn=KINDS[variant[1]])
    expected = [array for key, array in golden.items() if variant in re.split("[^a-z]", key)]
    assert_scores(model, {**load("direcformer_tiny_cs_small"), **golden}, expected)


def test_embed_resize():
    """Weights for 8 frames of 32 x 32 in a network for others: the nearest embeddings."""
    golden = load("embed_resize")
    model = network(num_frames=golden["x"].shape[2], image_size=golden["x"].shape[-1])
    assert_scores(model, {**load("direcformer_tiny_cs_small"), **golden}, golden.values())


def test_weights_go_back_unchanged():
    state_dict = weights(load("direcformer_tiny_cs_small"))
    wrapped = {f"module.model.{key}": array for key, array in state_dict.items()}
    variables, report = convert(network(), wrapped, image_size=32, num_frames=8)
    assert sorted(report.matched) == sorted(wrapped)
    back = to_torch(network(), variables)
    assert back.keys() == state_dict.keys()
    assert all(np.array_equal(back[key], array) for key, array in state_dict.items())


@pytest.fixture(scope="module")
def modules():
    return load("attention_modules")


@pytest.mark.parametrize("kind", ["cosine", "softmax"])
def test_attention_modules(modules, kind):
    x, module = jnp.asarray(modules["x"]), Attention(3, kind)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    state_dict = {f"temporal_attn.{key}": array for key, array in weights(modules).items()}
    variables = fill({"params": {"temporal_attn": shapes["params"]}}, state_dict)[0]["params"]["temporal_attn"]
    cotangent = jnp.asarray(modules["cotangent"])

    def loss(x):
        out, maps = module.apply({"params": variables}, x)
        return jnp.sum(out * cotangent), (out, maps)

    gradient, (out, maps) = jit(jax.grad(loss, has_aux=True))(x)
    assert_near(out, modules["out_cos" if kind == "cosine" else "out_softmax"], 1e-5)
    if kind == "cosine":
        assert_near(maps, modules["attn_cos"], 1e-5)
        assert_near(gradient, modules["grad_x_cos"], 1e-5)


def test_order_matrices():
    golden = load("order_matrices")
    assert np.array_equal(order_signs(golden["perms"]), golden["paper_sigma"])
    assert np.array_equal(order_signs(golden["perms"], rule="released"), golden["released_d_matrix"])


@pytest.mark.parametrize("name", ["self_loss_small", "self_loss"])
def test_self_loss(name):
    golden = load(name)
    maps, orders = jnp.asarray(golden["temporal_attn"]), jnp.asarray(golden["o"])
    if name == "self_loss":  # by head; patches of all clips on one axis
        maps = maps.mean(2).reshape(len(maps), len(orders), -1, *maps.shape[-2:])
    assert_near(guided_loss(maps, orders), golden["loss_paper"], 1e-5)
    assert_near(guided_loss(maps, orders, rule="released"), golden["loss_released_matrix"], 1e-5)
    assert_near(guided_loss(0 * maps, orders), golden["loss_paper_at_zero_attn"], 1e-6)


@pytest.mark.parametrize("frames", [8, 16])
def test_hamilton(frames):
    golden = {key.removesuffix(str(frames)): array for key, array in load("hamilton").items()}
    paths = hamiltonian_path(golden["A"])
    assert np.array_equal(paths, golden["path"])
    steps = np.take_along_axis(golden["A"], paths[:, :, None], 1)[:, :-1]
    total = np.take_along_axis(steps, paths[:, 1:, None], 2).sum((1, 2))
    assert_near(total, golden["weight"], 1e-6)
    assert np.array_equal(order_accuracy(paths, golden["o"]), 100 * golden["lcs"] / frames)
    assert np.array_equal(common_length(np.take_along_axis(golden["o"], paths, 1)), golden["lcs"])


@pytest.mark.parametrize(
    ("name", "count", "rule"),
    [
        ("max_first_seed0", 1000, "max"),
        ("max_randtie_seed0", 1000, "max_randtie"),
        ("min_first_seed0", 1000, "min"),
        ("max_first_k30_seed0", 30, "max"),
    ],
)
def test_perms_greedy(name, count, rule):
    assert np.array_equal(permutation_set(8, count, rule=rule), load("perms_greedy")[name])
