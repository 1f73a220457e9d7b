"""What a network is trained for: a plain function (variables, batch, key) -> loss; `train.step` does the rest.

Each function below makes one task from a network and a configuration; its keyword arguments are the fields of
`config.task`. One of the user's own is named as "package.module:function" and looks the same.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray
from ml_collections import FrozenConfigDict

from vidrec.data import feed
from vidrec.errors import UsageError
from vidrec.losses.classification import cross_entropy
from vidrec.losses.order import SIGNS, draw_orders, guided_loss, order_loss, reversal_loss, shuffle
from vidrec.losses.permutations import permutation_set
from vidrec.losses.twins import twins_loss
from vidrec.models.fields import check_choice, check_has_effect
from vidrec.models.registry import find_maker
from vidrec.train.state import Network
from vidrec.types import Batch, ModelOutput

Clips = Float[Array, "b t h w 3"]
Variables = dict[str, Any]
# variables, batch, key -> loss, (new batch statistics, metrics)
Loss = Callable[[Variables, Batch, PRNGKeyArray], tuple[Float[Array, ""], tuple[Any, dict[str, Any]]]]


class Task(NamedTuple):
    """What one training step learns.

    Attributes:
      loss: (variables, batch, key) -> (loss, (new running statistics, metrics that are scalars)).
      views: how many clips, each with its own crop and flip, are cut from the same frames of a video; they stand one
        behind the other on the time axis of the batch.
      whole_batch: its loss is more than a mean over clips, so that it cannot be that of a batch taken in parts.
    """

    loss: Loss
    views: int = 1
    whole_batch: bool = False


def supervised(model: Network, config: FrozenConfigDict) -> Task:
    """Cross-entropy with the label of each clip, or those of the clips it is mixed of. Metrics: top1.

    Of mixed clips, top1 counts each label by its share.
    """
    refuse_untrained_head(model, "supervised")

    def loss(variables: Variables, batch: Batch, key: PRNGKeyArray) -> Any:
        """Cross-entropy, running statistics, metrics."""
        color, network = jax.random.split(key)
        clips, own = mixed(pixels(batch.clips, config, color), config, jax.random.fold_in(key, 2))
        output, statistics = forward(model, variables, clips, network)
        if own is None:
            target, top1 = batch.label, share(output.logits, batch.label)
        else:
            other, classes = feed.neighbours(batch.label), output.logits.shape[-1]
            target = own * jax.nn.one_hot(batch.label, classes) + (1 - own) * jax.nn.one_hot(other, classes)
            top1 = own * share(output.logits, batch.label) + (1 - own) * share(output.logits, other)
        return class_loss(output.logits, target, config), (statistics, {"top1": top1})

    return Task(loss)


def tss(model: Network, config: FrozenConfigDict, *, weight: float = 0.1) -> Task:
    """TTSN, Eq. 6 to 8: the label, and whether features were reversed in time, on the same clips.

    The network draws what is reversed (its field `tss`). Metrics: top1, class_loss, order_loss, order_accuracy.

    Args:
      weight: theta2 of Eq. 8, of the reversal loss; theta1 is 1.
    """
    if getattr(model, "tss", "none") == "none":
        raise UsageError("task.name=tss needs a network with a reversal head: a ttsn network with model.tss not none")
    if weight <= 0:
        raise UsageError(f"task.weight is {weight}, but must be more than 0; without TSS, set model.tss=none")

    def loss(variables: Variables, batch: Batch, key: PRNGKeyArray) -> Any:
        """Eq. 8, running statistics, metrics."""
        color, network = jax.random.split(key)
        output, statistics = forward(model, variables, pixels(batch.clips, config, color), network)
        action = class_loss(output.logits, batch.label, config)
        labels = output.aux["order_label"]
        assert output.order_logits is not None
        reversal = reversal_loss(output.order_logits, labels)
        per_frame = output.order_logits.reshape(len(labels), -1, 2)
        metrics = {
            "top1": share(output.logits, batch.label),
            "class_loss": action,
            "order_loss": reversal,
            "order_accuracy": share(per_frame, labels[:, None]),
        }
        return action + weight * reversal, (statistics, metrics)

    return Task(loss)


def order(
    model: Network,
    config: FrozenConfigDict,
    *,
    class_weight: float = 1.0,
    order_weight: float = 1.0,
    guided_weight: float = 1.0,
    rule: str = "max_randtie",
    sigma: str = "paper",
    diagonal: int = -1,
    guided_clips: str = "both",
) -> Task:
    """DirecFormer, Eq. 1, 2 and 12 to 14: each clip and a shuffled twin of it go through one network.

    The clip is scored by its class, the twin by the number of its permutation (0: left in order, drawn as often as
    any other), the maps of attention over time by their direction. Metrics: top1, class_loss, order_loss,
    order_accuracy, guided_loss.

    Args:
      class_weight, order_weight, guided_weight: of the three losses (Eq. 14); 0 switches the last two off.
      rule: how the permutations are chosen (vidrec.losses.permutations.permutation_set).
      sigma: signs of Eq. 13, "paper" or "released" (vidrec.losses.order.order_signs).
      diagonal: sign of a frame's attention to itself.
      guided_clips: guide the maps of "both" clips, or of the "shuffled" one only.
    """
    weights = {"class_weight": class_weight, "order_weight": order_weight, "guided_weight": guided_weight}
    check_order_fields(model, weights, sigma, diagonal, guided_clips)
    guided = partial(guided_loss, rule=sigma, diagonal=diagonal)
    permutations = permutation_set(model.num_frames, cast(Any, model).num_orders, rule=rule)

    def loss(variables: Variables, batch: Batch, key: PRNGKeyArray) -> Any:
        """Eq. 14, running statistics, metrics."""
        color, draw, network = jax.random.split(key, 3)
        clips = pixels(batch.clips, config, color)
        orders, number = draw_orders(draw, permutations, len(clips))
        pairs = jnp.stack([clips, shuffle(clips, orders)], axis=1)  # side by side: each device keeps its own clips
        output, statistics = forward(model, variables, pairs.reshape(-1, *clips.shape[1:]), network)
        assert output.order_logits is not None
        logits, order_logits = output.logits[::2], output.order_logits[1::2]
        action, ordering = class_loss(logits, batch.label, config), order_loss(order_logits, number)
        metrics = {
            "top1": share(logits, batch.label),
            "class_loss": action,
            "order_loss": ordering,
            "order_accuracy": share(order_logits, number),
        }
        total = class_weight * action + order_weight * ordering
        if guided_weight:
            maps, in_order = output.aux["time_attention"], jnp.broadcast_to(jnp.arange(model.num_frames), orders.shape)
            metrics["guided_loss"] = guided(maps[:, 1::2], orders)
            if guided_clips == "both":
                metrics["guided_loss"] = (metrics["guided_loss"] + guided(maps[:, ::2], in_order)) / 2
            total += guided_weight * metrics["guided_loss"]
        return total, (statistics, metrics)

    return Task(loss)


def check_order_fields(model: Network, weights: dict[str, float], sigma: str, diagonal: int, guided_clips: str) -> None:
    """Raises UsageError for a network that `order` cannot train, and for fields of it that are wrong or do nothing."""
    for field, weight in weights.items():
        if weight < 0:
            raise UsageError(f"task.{field} is {weight}, but must be 0 or more")
    if not getattr(model, "num_orders", 0):
        raise UsageError("task.name=order needs a network with an order head: direcformer_base with model.num_orders>0")
    guided = weights["guided_weight"]
    if not weights["order_weight"] and not guided:
        raise UsageError("task.order_weight and task.guided_weight are both 0: use task.name=supervised, num_orders=0")
    if guided and getattr(model, "time_attn", "") != "cosine":
        raise UsageError("task.guided_weight needs signed attention: set model.time_attn=cosine, or the weight to 0")
    check_choice("task.guided_clips", guided_clips, ("both", "shuffled"))
    check_choice("task.sigma", sigma, SIGNS)
    check_choice("task.diagonal", str(diagonal), ("-1", "0", "1"))
    fields = {
        "task.sigma": sigma != "paper",
        "task.diagonal": diagonal != -1,
        "task.guided_clips": guided_clips != "both",
    }
    for field, changed in fields.items():
        check_has_effect(field, bool(guided) or not changed, "guided_weight=0")
    check_has_effect("task.diagonal", diagonal == -1 or sigma == "paper", "the released signs have a diagonal of 1")


def twins(
    model: Network, config: FrozenConfigDict, *, weight: float = 0.01, beta: float = 0.0039, center: bool = False
) -> Task:
    """Twins Training (STM, Eq. 8 to 10): two draws of the augmentation of the same frames, for any network.

    Cross-entropy of both, and a loss that pulls the correlation matrix of their scores over the whole global batch to
    the identity. The network is called once per draw; running statistics move twice. Metrics: top1, class_loss,
    twins_loss.

    Args:
      weight: lambda of Eq. 10.
      beta: of what is off the diagonal, Eq. 9.
      center: subtract each class's mean score first, as Barlow Twins does; the paper does not.
    """
    refuse_untrained_head(model, "twins")
    if weight <= 0:
        raise UsageError(f"task.weight is {weight}, but must be more than 0; without twins, set task.name=supervised")
    if beta < 0:
        raise UsageError(f"task.beta is {beta}, but must be 0 or more")

    def loss(variables: Variables, batch: Batch, key: PRNGKeyArray) -> Any:
        """Eq. 10, running statistics, metrics."""
        outputs = []
        for clips, draw in zip(jnp.split(batch.clips, 2, axis=1), jax.random.split(key), strict=True):
            color, network = jax.random.split(draw)
            output, statistics = forward(model, variables, pixels(clips, config, color), network)
            variables = {**variables, "batch_stats": statistics}
            outputs.append(output)
        a, b = outputs
        action = (class_loss(a.logits, batch.label, config) + class_loss(b.logits, batch.label, config)) / 2
        twin = twins_loss(a.logits, b.logits, beta=beta, center=center)
        metrics = {"top1": share(a.logits, batch.label), "class_loss": action, "twins_loss": twin}
        return action + weight * twin, (variables["batch_stats"], metrics)

    return Task(loss, views=2, whole_batch=True)


TASKS: dict[str, Callable[..., Task]] = {"supervised": supervised, "tss": tss, "order": order, "twins": twins}


def find_task(name: str) -> Callable[..., Task]:
    """Returns the function that makes the task `name`; raises UsageError when there is none."""
    return find_maker("task", name, TASKS)


def task_fields(name: str) -> dict[str, Any]:
    """Returns the fields of a task and their defaults."""
    parameters = inspect.signature(find_task(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def make_task(model: Network, config: FrozenConfigDict) -> Task:
    """The task of `config.task` for a network."""
    fields = {key: value for key, value in config.task.items() if key != "name"}
    if config.task.name in {*TASKS} - {"supervised"} and (config.train.mixup or config.train.cutmix):
        raise UsageError(
            f"task.name={config.task.name} does not go with train.mixup and train.cutmix, whose mixtures of two videos "
            "have no order or twin of their own: set them to 0, or task.name=supervised"
        )
    task = find_task(config.task.name)(model, config, **fields)
    if not isinstance(task, Task):
        raise UsageError(
            f"task {config.task.name!r} gives a {type(task).__name__}, but must give a vidrec.train.tasks.Task, whose "
            "loss is a function (variables, batch, key) -> (loss, (running statistics, metrics))"
        )
    return task


def forward(model: Network, variables: Variables, clips: Clips, key: PRNGKeyArray) -> tuple[ModelOutput, Any]:
    """The network in training: its output and the running statistics after it."""
    rngs = dict(zip(("dropout", "tss"), jax.random.split(key), strict=True))
    output, updated = model.apply(variables, clips, train=True, rngs=rngs, mutable=["batch_stats"])
    if not isinstance(output, ModelOutput):
        raise UsageError(f"the network gives a {type(output).__name__}, but must give a vidrec.types.ModelOutput")
    return output, updated.get("batch_stats", {})


def pixels(clips: Array, config: FrozenConfigDict, key: PRNGKeyArray) -> Clips:
    """Colours changed as `config.data` says, then normalised."""
    data = config.data
    if data.color_jitter or data.grayscale_probability:
        clips = feed.jitter(key, clips, data.color_jitter, data.color_jitter_probability, data.grayscale_probability)
    return feed.normalize(clips, data.mean, data.std)


def mixed(clips: Clips, config: FrozenConfigDict, key: PRNGKeyArray) -> tuple[Clips, Float[Array, ""] | None]:
    """(clips, share of its own in each, or None) after mixup or cutmix with its neighbour as `config.train` says."""
    train = config.train
    return feed.mix(key, clips, train.mixup, train.cutmix) if train.mixup or train.cutmix else (clips, None)


def class_loss(
    logits: Float[Array, "b k"], label: Int[Array, " b"] | Float[Array, "b k"], config: FrozenConfigDict
) -> Float[Array, ""]:
    """Cross-entropy with labels or soft targets, by the smoothing and class weights of `config.train`."""
    train = config.train
    return cross_entropy(logits, label, label_smoothing=train.label_smoothing, class_weights=tuple(train.class_weights))


def share(scores: Float[Array, "*b k"], label: Int[Array, "..."]) -> Float[Array, ""]:
    """Share of the rows of scores whose best entry is the label."""
    return (scores.argmax(-1) == label).mean()


def refuse_untrained_head(model: Network, task: str) -> None:
    """Raises UsageError for a network with a head that this task would leave untrained."""
    if getattr(model, "num_orders", 0):
        raise UsageError(f"task.name={task} does not train the order head: set model.num_orders=0, or task.name=order")
    if getattr(model, "tss", "none") != "none":
        raise UsageError(f"task.name={task} does not train the reversal head: set model.tss=none, or task.name=tss")
