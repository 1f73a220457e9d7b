"""What each task learns from a batch, and which networks it refuses."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.families import CLASSES, IMAGE_SIZE, make
from tests.quick import jit
from vidrec.config import base
from vidrec.data.feed import mix
from vidrec.errors import UsageError
from vidrec.losses.classification import cross_entropy
from vidrec.losses.twins import twins_loss
from vidrec.train.tasks import make_task, pixels, task_fields
from vidrec.types import Batch, ModelOutput


def config_of(task, **fields):
    c = base()
    c.task.update(name=task, **{**task_fields(task), **fields})
    return c


def batch_for(model, views=1, videos=4):
    rng = np.random.default_rng(0)
    shape = (videos, views * model.clip_length, IMAGE_SIZE, IMAGE_SIZE, 3)
    clips = jnp.asarray(rng.integers(0, 256, shape, dtype=np.uint8))
    return Batch(clips, jnp.arange(videos) % CLASSES, jnp.arange(videos), jnp.ones(videos, bool))


def prepared(family, task, fields=None, **options):
    """(task, variables, batch) of a small network."""
    model = make(family, **(fields or {}))
    made = make_task(model, config_of(task, **options))
    batch = batch_for(model, made.views)
    clips = jnp.zeros((1, model.clip_length, IMAGE_SIZE, IMAGE_SIZE, 3))
    variables = dict(jit(lambda: model.init(jax.random.key(0), clips, train=False))())
    return made, {"batch_stats": {}, **variables}, batch


def run(task, variables, batch, key=0):
    loss, (statistics, metrics) = jit(task.loss)(variables, batch, jax.random.key(key))
    return float(loss), statistics, {name: float(value) for name, value in metrics.items()}


def test_reversal_adds_its_weighted_loss():
    task, variables, batch = prepared("ttsn-tsn", "tss", weight=0.5)
    loss, _, metrics = run(task, variables, batch)
    assert loss == pytest.approx(metrics["class_loss"] + 0.5 * metrics["order_loss"], rel=1e-6)
    assert 0 <= metrics["order_accuracy"] <= 1


def test_order_sums_three_losses_of_a_clip_and_its_shuffled_twin():
    weights = {"class_weight": 2.0, "order_weight": 0.5, "guided_weight": 0.25}
    task, variables, batch = prepared("direcformer", "order", **weights)
    loss, _, metrics = run(task, variables, batch)
    expected = 2 * metrics["class_loss"] + 0.5 * metrics["order_loss"] + 0.25 * metrics["guided_loss"]
    assert loss == pytest.approx(expected, rel=1e-5)
    model = make("direcformer")
    logits = model.apply(variables, pixels(batch.clips, base(), jax.random.key(0)), train=False).logits
    assert metrics["class_loss"] == pytest.approx(float(cross_entropy(logits, batch.label)), rel=1e-4)
    again = run(task, variables, batch, key=1)[2]
    assert again["order_loss"] != metrics["order_loss"]  # another draw of orders
    assert again["class_loss"] == pytest.approx(metrics["class_loss"], rel=1e-5)


def test_only_the_shuffled_maps_are_guided_when_asked():
    fields = {"time_embed_std": 1.0}  # without them a shuffled clip's maps are those of the clip, shuffled
    both, variables, batch = prepared("direcformer", "order", fields)
    shuffled = prepared("direcformer", "order", fields, guided_clips="shuffled")[0]
    one, other = run(both, variables, batch)[2], run(shuffled, variables, batch)[2]
    assert one["order_loss"] == other["order_loss"]
    assert one["guided_loss"] != other["guided_loss"]


def test_order_without_guidance_has_no_guided_loss():
    task, variables, batch = prepared("direcformer", "order", {"time_attn": "softmax"}, guided_weight=0.0)
    assert "guided_loss" not in run(task, variables, batch)[2]


def test_twins_of_equal_views():
    task, variables, batch = prepared("tsm", "twins", {"bn": "frozen"}, weight=0.3)
    assert task.views == 2
    half = batch.clips[:, : batch.clips.shape[1] // 2]
    same = batch._replace(clips=jnp.concatenate([half, half], axis=1))
    loss, _, metrics = run(task, variables, same)
    logits = make("tsm").apply(variables, pixels(half, base(), jax.random.key(0)), train=False).logits
    assert metrics["class_loss"] == pytest.approx(float(cross_entropy(logits, batch.label)), rel=1e-4)
    assert metrics["twins_loss"] == pytest.approx(float(twins_loss(logits, logits)), rel=1e-3)
    assert loss == pytest.approx(metrics["class_loss"] + 0.3 * metrics["twins_loss"], rel=1e-6)


def test_running_statistics_move_once_per_view():
    single, variables, batch = prepared("tsn", "supervised")
    twins = prepared("tsn", "twins")[0]
    views = jnp.concatenate([batch.clips, batch.clips], axis=1)
    once, twice = run(single, variables, batch)[1], run(twins, variables, batch._replace(clips=views))[1]
    first, second = once["bn1"]["mean"], twice["bn1"]["mean"]  # m1 = a*m0 + (1-a)*x, m2 = a*m1 + (1-a)*x, m0 = 0
    np.testing.assert_allclose(second, first * 1.9, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "fields", "task", "options", "named"),
    [
        ("tsn", {}, "tss", {}, r"task\.name=tss needs"),
        ("tsn", {}, "order", {}, r"task\.name=order needs"),
        ("ttsn-tsn", {}, "supervised", {}, r"model\.tss=none"),
        ("ttsn-tsn", {}, "twins", {}, r"model\.tss=none"),
        ("direcformer", {}, "supervised", {}, r"model\.num_orders=0"),
        ("direcformer", {}, "order", {"order_weight": 0.0, "guided_weight": 0.0}, "both 0"),
        ("direcformer", {"time_attn": "softmax"}, "order", {}, r"model\.time_attn=cosine"),
        ("direcformer", {}, "order", {"guided_clips": "all"}, r"task\.guided_clips"),
        ("direcformer", {}, "order", {"sigma": "releasd"}, r"task\.sigma.*did you mean 'released'"),
        ("direcformer", {}, "order", {"diagonal": 3}, r"task\.diagonal"),
        ("direcformer", {}, "order", {"sigma": "released", "diagonal": 0}, r"task\.diagonal has no effect"),
        ("direcformer", {}, "order", {"guided_weight": 0.0, "sigma": "released"}, r"task\.sigma has no effect"),
        ("direcformer", {}, "order", {"order_weight": -1.0}, r"task\.order_weight"),
        ("tsn", {}, "twins", {"weight": 0.0}, r"task\.weight"),
        ("ttsn-tsn", {}, "tss", {"weight": 0.0}, r"model\.tss=none"),
    ],
)
def test_networks_that_a_task_cannot_train(family, fields, task, options, named):
    with pytest.raises(UsageError, match=named):
        make_task(make(family, **fields), config_of(task, **options))


class Places(nn.Module):
    """A network without weights, whose scores are the means of places of the picture."""

    num_frames: int = 2
    clip_length: int = 2

    def __call__(self, clips, *, train):
        return ModelOutput(9 * clips.mean((1, 3))[:, :CLASSES, 0])


@pytest.mark.parametrize(("mixup", "cutmix"), [pytest.param(0.8, 0.0, marks=pytest.mark.slow), (0.0, 1.0)])
def test_mixed_clips_have_mixed_targets(mixup, cutmix):
    model, config = Places(), config_of("supervised")
    config.train.update(mixup=mixup, cutmix=cutmix, label_smoothing=0.1, class_weights=tuple(range(1, CLASSES + 1)))
    batch = batch_for(model)
    loss, _, metrics = run(make_task(model, config), {}, batch)
    normalized = pixels(batch.clips, config, jax.random.key(0))
    clips, own = jit(lambda key: mix(key, normalized, mixup, cutmix))(jax.random.fold_in(jax.random.key(0), 2))
    logits = model.apply({}, clips, train=False).logits
    targets = jnp.zeros((4, CLASSES))
    for row, other in enumerate((1, 0, 3, 2)):
        targets = targets.at[row, batch.label[row]].add(own).at[row, batch.label[other]].add(1 - own)
    smooth = 0.9 * targets + 0.1 / CLASSES
    weights = targets @ jnp.arange(1.0, CLASSES + 1)
    expected = (-(smooth * jax.nn.log_softmax(logits)).sum(1) * weights).sum() / weights.sum()
    assert loss == pytest.approx(float(expected), rel=1e-4)
    assert 0.02 < own < 0.98
    best = logits.argmax(1)
    hits = own * (best == batch.label).mean() + (1 - own) * (best == batch.label[jnp.array([1, 0, 3, 2])]).mean()
    assert metrics["top1"] == pytest.approx(float(hits), abs=1e-6)


@pytest.mark.parametrize(("family", "task"), [("tsn", "twins"), ("ttsn-tsn", "tss"), ("direcformer", "order")])
def test_only_plain_classification_mixes_videos(family, task):
    config = config_of(task)
    config.train.cutmix = 1.0
    with pytest.raises(UsageError, match=rf"task\.name={task} does not go with train\.mixup and train\.cutmix"):
        make_task(make(family), config)


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'twins'"):
        task_fields("twin")
