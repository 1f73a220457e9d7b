"""Transformers for video from ViT's and TimeSformer's weights."""

import jax
import numpy as np
import pytest

from tests.quick import jit
from vidrec.errors import UsageError, VidrecError
from vidrec.interop.torch import convert, to_torch
from vidrec.interop.weights import from_bgr, import_weights, plain_config
from vidrec.models.registry import create_model
from vidrec.train.checkpoint import Checkpoints

TINY = {"num_classes": 3, "num_frames": 4, "image_size": 16, "patch_size": 8, "dim": 8, "depth": 2, "heads": 2}
SIZE = {"image_size": 16, "num_frames": 4}
CLIPS = jax.random.normal(jax.random.key(0), (2, 4, 16, 16, 3))


def network(name="timesformer_base", **fields):
    return create_model(name, **{**TINY, **fields})


def small(num_classes: int, num_frames: int = 8):
    return network(num_classes=num_classes, num_frames=num_frames)


@pytest.fixture(scope="module")
def timesformer() -> dict[str, np.ndarray]:
    """A random state dict under the names of TimeSformer's files."""
    model = network()
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), CLIPS, train=False))
    rng = np.random.default_rng(0)
    state_dict = to_torch(model, jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes))
    return {f"model.{key}": array for key, array in state_dict.items()}


@pytest.fixture(scope="module")
def vit(timesformer) -> dict[str, np.ndarray]:
    """The same transformer for pictures: without what only video has."""
    plain = {key.removeprefix("model."): array for key, array in timesformer.items() if "time" not in key}
    plain = {key: array for key, array in plain.items() if "temporal" not in key}
    return plain | {"pre_logits.fc.bias": np.zeros(8, np.float32)}


def test_names_are_timesformers(timesformer):
    shapes = {key.removeprefix("model."): array.shape for key, array in timesformer.items()}
    assert shapes["patch_embed.proj.weight"] == (8, 3, 8, 8)
    assert (shapes["cls_token"], shapes["pos_embed"], shapes["time_embed"]) == ((1, 1, 8), (1, 5, 8), (1, 4, 8))
    assert shapes["blocks.1.temporal_attn.qkv.weight"] == shapes["blocks.1.attn.qkv.weight"] == (24, 8)
    for module in ("norm1", "temporal_norm1", "norm2", "temporal_fc", "mlp.fc1", "mlp.fc2", "attn.proj"):
        assert f"blocks.0.{module}.weight" in shapes
        assert f"blocks.0.{module}.bias" in shapes
    assert shapes["head.weight"] == (3, 8)
    assert {"norm.weight", "norm.bias", "head.bias"} < shapes.keys()


def test_timesformer_is_taken_whole_but_for_the_order_head(timesformer):
    _, report = convert(network(), timesformer, **SIZE)
    assert sorted(report.matched) == sorted(timesformer)
    direcformer = network("direcformer_base", num_orders=5)
    with pytest.raises(VidrecError, match="order"):
        convert(direcformer, timesformer, **SIZE)
    variables, report = convert(direcformer, timesformer, **SIZE, allow_missing=["order"])
    assert report.missing == ["order/bias", "order/kernel"]
    assert np.array_equal(to_torch(direcformer, variables)["norm.bias"], timesformer["model.norm.bias"])


def test_an_order_head_of_another_size_counts_as_missing():
    small, large = (network("direcformer_base", num_orders=orders) for orders in (5, 7))
    variables = jit(lambda: small.init(jax.random.key(0), CLIPS, train=False))()
    _, report = convert(large, to_torch(small, variables), **SIZE, allow_missing=["order"])
    assert report.missing == ["order/bias", "order/kernel"]


def test_a_picture_network_starts_as_itself_on_every_frame(vit):
    with pytest.raises(VidrecError, match="head"):
        convert(network(num_classes=4), vit, **SIZE)
    variables, report = convert(network(), vit, **SIZE)
    assert report.missing == []
    assert report.unexpected == ["pre_logits.fc.bias"]
    assert sum(" <- " in key for key in report.reshaped) == len(report.reshaped) == 2 * (4 + 2 + 2) + 1
    params = variables["params"]
    for block in (params["blocks_0"], params["blocks_1"]):
        assert np.array_equal(block["temporal_attn"]["qkv"]["kernel"], block["attn"]["qkv"]["kernel"])
        assert np.array_equal(block["temporal_norm1"]["bias"], block["norm1"]["bias"])
        assert not block["temporal_fc"]["kernel"].any()
    assert not params["patch_embed"]["time_embed"].any()
    still = np.broadcast_to(CLIPS[:, :1], CLIPS.shape)
    picture = network(num_frames=1)
    alone, _ = convert(picture, vit, image_size=16, num_frames=1)
    np.testing.assert_allclose(
        jit(lambda v: network().apply(v, still, train=False).logits)(variables),
        jit(lambda v: picture.apply(v, CLIPS[:, :1], train=False).logits)(alone),
        rtol=1e-4,
        atol=1e-5,
    )


def test_embeddings_are_resized_to_the_nearest(timesformer):
    model = network(image_size=24, num_frames=6)
    variables, report = convert(model, timesformer, image_size=24, num_frames=6)
    assert len(report.reshaped) == 2
    embed = variables["params"]["patch_embed"]
    old = timesformer["model.pos_embed"][0]
    assert np.array_equal(embed["pos_embed"][0], old[[0, 1, 1, 2, 1, 1, 2, 3, 3, 4]])
    assert np.array_equal(embed["time_embed"][0], timesformer["model.time_embed"][0, [0, 0, 1, 2, 2, 3]])


def test_embeddings_of_no_square_grid_are_refused(vit):
    distilled = vit | {"pos_embed": np.zeros((1, 7, 8), np.float32)}
    with pytest.raises(VidrecError, match="pos_embed"):
        convert(network(), distilled, **SIZE)


def test_colours_are_exchanged(vit, timesformer):
    for state_dict, key in ((vit, "patch_embed.proj.weight"), (timesformer, "model.patch_embed.proj.weight")):
        turned = from_bgr(state_dict)
        assert np.array_equal(turned[key][:, 0], state_dict[key][:, 2])
        assert all(np.array_equal(turned[other], state_dict[other]) for other in state_dict if other != key)
    variables, _ = convert(network(), timesformer, **SIZE)
    turned, _ = convert(network(), from_bgr(timesformer), **SIZE)
    apply = jit(lambda v, clips: network().apply(v, clips, train=False).logits)
    np.testing.assert_allclose(apply(turned, CLIPS), apply(variables, CLIPS[..., ::-1]), rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="--bgr"):
        from_bgr({"conv1.weight": np.zeros((4, 3, 7, 7))})


def test_import_finds_the_number_of_classes(timesformer, tmp_path):
    np.savez(tmp_path / "weights.npz", **timesformer)
    name = f"{small.__module__}:small"
    report = import_weights(
        plain_config(name, num_frames=4, image_size=16), tmp_path / "weights.npz", tmp_path / "out", bgr=True
    )
    assert not report.missing
    with Checkpoints(tmp_path / "out" / "checkpoints") as checkpoints:
        _, config, classes = checkpoints.describe(0)
    assert classes == ["class 0", "class 1", "class 2"]
    assert config["model"]["num_classes"] == 3
