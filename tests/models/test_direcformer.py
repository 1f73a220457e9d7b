"""DirecFormer and TimeSformer: against plain numpy, token by token, and by identities."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.quick import jit
from vidrec.errors import UsageError, VidrecError
from vidrec.interop.torch import to_torch
from vidrec.models.registry import create_model

TINY = {"num_classes": 3, "num_frames": 3, "image_size": 16, "patch_size": 8, "dim": 12, "depth": 2, "heads": 2}
CLIPS = jax.random.normal(jax.random.key(0), (2, 3, 16, 16, 3))


def make(name="direcformer_base", **fields):
    extra = {} if name == "timesformer_base" else {"num_orders": 4}
    return create_model(name, **{**TINY, **extra, **fields})


def initial(model, clips=CLIPS):
    return jit(lambda: model.init(jax.random.key(1), clips, train=False))()


def random(model, clips=CLIPS):
    """Weights that are nowhere zero."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(1), clips, train=False))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(0.4 * rng.normal(size=leaf.shape), jnp.float32), shapes)


@partial(jit, static_argnames=("model", "train", "mutable"))
def applied(model, variables, clips, train, mutable, rngs):
    return model.apply(variables, clips, train=train, mutable=mutable, rngs=rngs)


def run(model, variables, clips=CLIPS, train=False, mutable=False, rngs=None):
    return applied(model, variables, clips, train, mutable, rngs)


# --- the network, one token at a time ---------------------------------------------------------------------------------


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(w, name, x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * w[f"{name}.weight"] + w[f"{name}.bias"]


def attend(w, name, x, first, kind, scale, heads=2):
    """Attention of the tokens x `[S, D]`, with the token `first` as one more key unless it is None."""
    tokens = x if first is None else np.concatenate([first[None], x])
    query = linear(w, f"{name}.qkv", x)
    parts, size = linear(w, f"{name}.qkv", tokens), x.shape[1] // heads
    result = np.zeros_like(x)
    for head in range(heads):
        at = slice(head * size, (head + 1) * size)
        q, k, v = query[:, at], parts[:, x.shape[1] :][:, at], parts[:, 2 * x.shape[1] :][:, at]
        scores = q @ k.T
        if kind == "softmax":
            weights = np.exp(scores / np.sqrt(size))
            weights /= weights.sum(1, keepdims=True)
        else:
            weights = scores / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(k, axis=1)
            weights = weights / len(k) if scale == "1/keys" else weights
        result[:, at] = weights @ v
    return linear(w, f"{name}.proj", result)


def reference(model, w, clip):
    """Logits and order logits of one clip `[T, H, W, 3]`."""
    frames, height, width, _ = clip.shape
    rows, columns, side = height // 8, width // 8, 2
    erf = np.vectorize(math.erf)
    x = np.zeros((rows * columns, frames, 12))
    for n, t in np.ndindex(rows * columns, frames):
        row, column = divmod(n, columns)
        pixels = clip[t, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        x[n, t] = np.einsum("hwc,dchw->d", pixels, w["patch_embed.proj.weight"]) + w["patch_embed.proj.bias"]
        place = row * side // rows * side + column * side // columns
        x[n, t] += w["pos_embed"][0, 1 + place] + w["time_embed"][0, t]
    cls = w["cls_token"][0, 0] + w["pos_embed"][0, 0]
    for block in (f"blocks.{index}" for index in range(2)):
        for n in range(len(x)):
            first = norm(w, f"{block}.temporal_norm1", cls) if model.time_cls_key else None
            y = norm(w, f"{block}.temporal_norm1", x[n])
            y = attend(w, f"{block}.temporal_attn", y, first, model.time_attn, model.cos_scale)
            x[n] += linear(w, f"{block}.temporal_fc", y)
        added = []
        for t in range(frames):
            y = norm(w, f"{block}.norm1", np.concatenate([cls[None], x[:, t]]))
            y = attend(w, f"{block}.attn", y, None, model.space_attn, model.cos_scale)
            x[:, t] += y[1:]
            added.append(y[0])
        cls = cls + np.mean(added, 0)
        for tokens in (x, cls):
            y = linear(w, f"{block}.mlp.fc1", norm(w, f"{block}.norm2", tokens))
            y = y * (1 + erf(y / np.sqrt(2))) / 2
            tokens += linear(w, f"{block}.mlp.fc2", y)
    orders = norm(w, "order_norm" if model.separate_norms else "norm", cls)
    return linear(w, "head", norm(w, "norm", cls)), linear(w, "order", orders) if model.num_orders else None


SETTINGS = [
    {},
    {"time_attn": "softmax", "space_attn": "softmax"},
    {"time_attn": "softmax", "space_attn": "cosine"},
    {"space_attn": "cosine", "cos_scale": "1/keys"},
    {"time_cls_key": True, "separate_norms": True},
]


@pytest.mark.parametrize("fields", SETTINGS, ids=str)
def test_settings_by_hand(fields):
    model = make(**fields)
    variables = random(model)
    output = run(model, variables)
    w = {name: array.astype(np.float64) for name, array in to_torch(model, variables).items()}
    for clip in range(2):
        logits, order_logits = reference(model, w, np.asarray(CLIPS[clip], np.float64))
        np.testing.assert_allclose(output.logits[clip], logits, rtol=1e-3, atol=2e-5 * np.abs(logits).max())
        np.testing.assert_allclose(output.order_logits[clip], order_logits, rtol=1e-3, atol=1e-4)


def test_pictures_of_another_size_get_the_nearest_places():
    model = make("timesformer_base", num_frames=2, depth=2)
    clips = jax.random.normal(jax.random.key(5), (1, 2, 24, 32, 3))
    variables = random(model, clips)
    w = {name: array.astype(np.float64) for name, array in to_torch(model, variables).items()}
    logits, _ = reference(model, w, np.asarray(clips[0], np.float64))
    np.testing.assert_allclose(run(model, variables, clips).logits[0], logits, rtol=1e-3, atol=1e-4)


# --- identities -------------------------------------------------------------------------------------------------------


def test_softmax_in_both_is_timesformer():
    assert make(time_attn="softmax", num_orders=0) == make("timesformer_base")
    assert make("timesformer_base").space_attn == "softmax"


def test_at_first_frames_are_seen_each_on_its_own():
    """temporal_fc and time_embed are 0: no order, and a still clip is a picture."""
    model = make(num_frames=3)
    variables = initial(model)
    logits = run(model, variables).logits
    np.testing.assert_allclose(run(model, variables, CLIPS[:, np.asarray([2, 0, 1])]).logits, logits, atol=1e-6)
    still = jnp.broadcast_to(CLIPS[:, :1], CLIPS.shape)
    params = variables["params"]
    embed = params["patch_embed"] | {"time_embed": params["patch_embed"]["time_embed"][:, :1]}
    picture = run(make(num_frames=1), {"params": params | {"patch_embed": embed}}, CLIPS[:, :1])
    np.testing.assert_allclose(run(model, variables, still).logits, picture.logits, atol=1e-6)
    moved = random(model)
    assert jnp.abs(run(model, moved, CLIPS[:, ::-1]).logits - run(model, moved).logits).max() > 1e-3


def test_initial_values():
    params = initial(make(dim=96, time_embed_std=1.0))["params"]
    block, embed = params["blocks_1"], params["patch_embed"]
    assert not block["temporal_fc"]["kernel"].any()
    assert np.std(block["attn"]["qkv"]["kernel"]) == pytest.approx(0.02, rel=0.05)
    assert np.std(params["order"]["kernel"]) == pytest.approx(0.02, rel=0.15)
    assert np.std(embed["time_embed"]) == pytest.approx(1, rel=0.2)
    wide = initial(make(dim=96, init_std=0.1))["params"]
    assert np.std(wide["blocks_0"]["mlp"]["fc1"]["kernel"]) == pytest.approx(0.1, rel=0.05)
    assert not wide["blocks_0"]["temporal_fc"]["kernel"].any()
    assert np.abs(embed["proj"]["kernel"]).max() == pytest.approx((8 * 8 * 3) ** -0.5, rel=0.01)
    assert not initial(make())["params"]["patch_embed"]["time_embed"].any()


# --- what comes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time_cls_key", [False, True])
def test_maps_for_the_loss_are_those_to_look_at(time_cls_key):
    model = make(time_cls_key=time_cls_key, drop_path=0.0)
    output, state = run(model, random(model), train=True, mutable=("intermediates",))
    maps = output.aux["time_attention"]
    assert maps.shape == (2, 2, 4, 3, 3)  # blocks, clips, patches, frames
    sown = state["intermediates"]
    assert sown["tokens_embed"][0].shape == (2, 1 + 4 * 3, 12)
    for index in range(2):
        block = sown[f"blocks_{index}"]
        assert block["time_attention"][0].shape == (2, 4, 2, 3, 3 + time_cls_key)
        np.testing.assert_allclose(block["time_attention"][0][..., -3:].mean(2), maps[index], atol=1e-6)
        assert block["space_attention"][0].shape == (2, 3, 2, 5, 5)
        np.testing.assert_allclose(block["space_attention"][0].sum(-1), 1, rtol=1e-5)
        assert block["tokens"][0].shape == sown["tokens_embed"][0].shape


def test_outputs():
    trained, plain = make(drop_path=0.0), make("timesformer_base")
    output = run(trained, random(trained))
    assert (output.logits.shape, output.order_logits.shape, output.aux) == ((2, 3), (2, 5), {})
    assert run(plain, random(plain)).order_logits is None


def test_branches_are_skipped_in_training_only():
    model = make(drop_path=0.5)
    variables = random(model)
    first, second = (
        run(model, variables, train=True, rngs={"dropout": jax.random.key(seed)}).logits for seed in range(2)
    )
    assert jnp.abs(first - second).max() > 1e-3
    assert np.array_equal(run(model, variables).logits, run(make(drop_path=0.0), variables).logits)


def test_dropout_is_before_the_heads():
    model = make(dropout=0.9, drop_path=0.0)
    variables = random(model)
    options = {"train": True, "rngs": {"dropout": jax.random.key(0)}, "mutable": ("intermediates",)}
    dropped, state = run(model, variables, **options)
    whole, same = run(make(drop_path=0.0), variables, **options)
    assert jnp.abs(dropped.logits - whole.logits).max() > 1e-3
    tokens = [s["intermediates"]["blocks_1"]["tokens"][0] for s in (state, same)]
    assert np.array_equal(*tokens)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"time_attn": "cos"}, "time_attn"),
        ({"space_attn": "soft"}, "did you mean 'softmax'"),
        ({"cos_scale": "2"}, "cos_scale"),
        ({"time_attn": "softmax", "cos_scale": "1/keys"}, "cos_scale has no effect"),
        ({"num_orders": 0, "separate_norms": True}, "separate_norms has no effect"),
        ({"num_orders": -1}, "num_orders"),
        ({"dim": 13}, "dim=13 must be a multiple of heads"),
        ({"image_size": 20}, "image_size=20 must be a multiple of patch_size"),
        ({"depth": 0}, "depth=0"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"dropout": -0.1}, "dropout"),
        ({"mlp_ratio": 0}, "mlp_ratio"),
        ({"time_embed_std": -1.0}, "time_embed_std"),
        ({"init_std": 0.0}, "init_std"),
        ({"remat": "all"}, "remat"),
        ({"dtype": "float"}, "dtype"),
    ],
)
def test_fields_that_are_wrong_or_have_no_effect(fields, named):
    with pytest.raises(UsageError, match=named):
        make(**fields)


@pytest.mark.parametrize(
    ("shape", "named"),
    [((1, 3, 20, 16, 3), "patch_size=8"), ((1, 4, 16, 16, 3), "num_frames"), ((3, 16, 16, 3), "num")],
)
def test_wrong_clips(shape, named):
    with pytest.raises(VidrecError, match=named):
        jax.eval_shape(lambda: make().init(jax.random.key(0), jnp.zeros(shape), train=False))
