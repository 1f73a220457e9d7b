"""ONNX files, run by onnxruntime, give what JAX gives: every kind of network, and every operation on its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.eval.recognizers import drawn, fresh
from tests.models.families import IMAGE_SIZE, make, marked_slow
from tests.quick import jit
from vidrec.data.clips import ClipSpec
from vidrec.data.feed import normalize
from vidrec.errors import VidrecError
from vidrec.interop.export import export, load_artifact
from vidrec.interop.preprocessing import preprocessing
from vidrec.models.registry import clip_shape

pytest.importorskip("onnx", reason="ONNX files need onnx")
pytest.importorskip("onnxruntime", reason="ONNX files are checked by onnxruntime")
from vidrec.interop.onnx_graph import Unsupported, read, write

SHAPE = (3, 6, 8, 4)


def clips_of(shape, batch=3):
    rng = np.random.default_rng(0)
    return (rng.uniform(size=(batch, *shape)) * rng.uniform(0, 255, (batch, shape[0], 1, 1, 1))).astype(np.uint8)


def assert_same(function, shape, jitted, absolute=1e-5):
    run, clips = read(write(function, shape)), clips_of(shape)
    expected = np.asarray(jitted(clips))
    assert np.ptp(expected, axis=0).max() > 10 * absolute
    for batch in (1, 3):
        np.testing.assert_allclose(run(clips[:batch]), expected[:batch], rtol=1e-5, atol=absolute)


@pytest.mark.parametrize(
    "family",
    marked_slow(["stm-basic", "tefe", "tcm", "ttsn-tsn", "direcformer"], quick="stm-basic"),
)
def test_networks(family):
    model = make(family, **({"ett_inverse_std": 1.0} if family.startswith("ttsn") else {}))
    variables = drawn(model, IMAGE_SIZE)

    def logits(clips):
        return model.apply(variables, normalize(clips, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3)), train=False).logits

    assert_same(logits, clip_shape(model, IMAGE_SIZE), jit(logits), 2e-4)


KERNEL = np.random.default_rng(1).normal(size=(3, 3, 2, 6)).astype(np.float32)


def one(x):
    """A 1 that is not known before the clips are."""
    return (x.min() * 0 + 1).astype(jnp.int32)


OPERATIONS = {
    "slices": lambda x: x[:, 1:, :, 3, :2] + lax.slice_in_dim(x, 0, 4, 2, axis=3)[:, :2, :, 1, 1:3],
    "backwards": lambda x: lax.rev(x, (1, 3)),
    "rows of an axis": lambda x: x[:, :, jnp.array([3, 0, 0, 5])],
    "where values say": lambda x: lax.dynamic_slice(x, (0, one(x), 9, 0, 0), (*x.shape[:1], 2, 2, 8, 4)),
    "last row by argmax": lambda x: x.argmax(-1).astype(jnp.float32) + x.argmin(-2).sum(-1, keepdims=True),
    "padding": lambda x: jnp.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0), (0, 0)), constant_values=7.0),
    "padding and cutting": lambda x: lax.pad(x, 0.0, ((0, 0, 0), (-1, 1, 0), (2, -1, 0), (0, 0, 0), (0, 0, 0))),
    "halves to even": lambda x: jnp.round(x / 2),
    "choices": lambda x: jnp.where((x > 60) & ~(x >= 150) | (x == 0), x, -x) + jnp.where(x != 33, 1.0, 2.0),
    "remainders": lambda x: (x.astype(jnp.int32) % 7).astype(jnp.float32) + lax.rem(-x, 9.0),
    "powers": lambda x: (x / 90) ** 3 + jnp.square(x / 50) + lax.rsqrt(x + 1) + jnp.power(x / 99 + 1, 1.5),
    "functions": lambda x: jnp.tanh(x / 99) + lax.erfc(x / 99) + jax.nn.sigmoid(x / 99) + jnp.sign(x),
    "smallest and largest": lambda x: x.min((2, 3)) + x.max((2, 3)) + jnp.clip(x, 20, 90).sum((2, 3)) / 99,
    "stacks": lambda x: sum(jnp.unstack(jnp.stack([x, 2 * x + 1], 2), axis=2)),
    "parts": lambda x: jnp.concatenate(jnp.split(x, 2, axis=3)[::-1], axis=2),
    "tiles": lambda x: jnp.tile(x, (1, 1, 2, 1, 3)),
    "attention": lambda x: jnp.einsum("bthwc,bshwc->bts", x / 99, x / 99) @ KERNEL[0, :, 0],
    "batches of frames": lambda x: jnp.broadcast_to(x.reshape(-1, 6, 8, 4)[:, None], (3 * x.shape[0], 2, 6, 8, 4)),
    "groups of channels": lambda x: lax.conv_general_dilated(
        x.reshape(-1, *x.shape[2:]) / 99, KERNEL, (2, 1), ((1, 0), (0, 1)), rhs_dilation=(1, 2),
        feature_group_count=2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
    ),
    "means of windows": lambda x: lax.reduce_window(
        x, 0.0, lax.add, (1, 1, 3, 2, 1), (1, 1, 2, 1, 1), ((0, 0), (0, 0), (1, 1), (0, 1), (0, 0))
    ) / 99,
    "largest of windows": lambda x: lax.reduce_window(
        x, -jnp.inf, lax.max, (1, 2, 3, 2, 1), (1, 1, 2, 1, 1), ((0, 0), (0, 1), (1, 1), (0, 0), (0, 0))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name):
    operation = OPERATIONS[name]

    def function(clips):
        result = operation(clips.astype(jnp.float32))
        return result.reshape(clips.shape[0], -1)

    assert_same(function, SHAPE, function, 1e-4)


def test_what_onnx_lacks_is_told():
    def scanned(clips):
        frames = clips.astype(jnp.float32).swapaxes(0, 1).reshape(3, -1, 192)
        return lax.scan(lambda total, frame: (total + frame, None), jnp.zeros_like(frames[0]), frames)[0]

    with pytest.raises(Unsupported, match="'scan' cannot be written as ONNX: take --format stablehlo"):
        write(scanned, SHAPE)
    with pytest.raises(Unsupported, match="part of the batch"):
        write(lambda clips: clips[:1].astype(jnp.float32).reshape(1, -1), SHAPE)
    with pytest.raises(VidrecError, match="damaged"):
        read(b"no model")


def test_frames_are_resized_as_by_jax():
    """Half pixels are rounded as they are there; pixels differ where sums come in another order."""
    spec = ClipSpec(3, 24, resize=(28,))
    pictures = preprocessing(spec, (40, 52))
    run = read(write(lambda frames: pictures(frames).reshape(frames.shape[0], -1).astype(jnp.float32), (3, 40, 52, 3)))
    frames = clips_of((3, 40, 52, 3), 2)
    away = np.abs(run(frames) - np.asarray(pictures(frames)).reshape(2, -1).astype(np.float32))
    assert away.max() <= 1
    assert away.mean() < 0.01


@pytest.mark.slow
def test_an_exported_file_and_its_card(tiny_config, tmp_path):
    """A network that computes in bfloat16, which onnxruntime does not, is written in float32 and says so."""
    recognizer = fresh(tiny_config(model__dtype="bfloat16"))
    exported = export(recognizer, tmp_path / "stm.onnx", "onnx")
    assert exported.card["computes_in"] == "float32"
    video = clips_of((9, 20, 30, 3), 1)[0]
    artifact = load_artifact(exported.path)
    assert artifact.predict(video).scores == pytest.approx(recognizer.predict(video).scores, abs=0.03)
    whole = export(recognizer, tmp_path / "frames.onnx", "onnx", frame_size=(20, 30))
    assert load_artifact(whole.path).predict(video).scores == pytest.approx(artifact.predict(video).scores, abs=0.01)
