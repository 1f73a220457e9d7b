"""The training step: one pure function of (state, batch), jitted over the mesh.

What is learned is the loss of a task (`vidrec.train.tasks`). The step does the rest, for all tasks alike.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from vidrec.data import feed
from vidrec.models.layout import BLOCKS, put_together
from vidrec.train.sharding import batch_sharded, replicated
from vidrec.train.state import Network, TrainState
from vidrec.train.tasks import Loss
from vidrec.types import BATCH_AXES, Batch

# params, batch statistics, batch, key -> (loss, new batch statistics, metrics, gradients)
Gradient = Callable[[Any, Any, Batch, PRNGKeyArray], tuple[Float[Array, ""], Any, dict[str, Any], Any]]


class Parts(NamedTuple):
    """How a global batch is taken in several parts, one after the other.

    Attributes:
      count: of parts; 1 takes it whole.
      together: clips, one behind the other in the batch, that stay in one part: those of a group of BatchNorm.
    """

    count: int = 1
    together: int = 1


WHOLE = Parts()


def make_train_step(
    task_loss: Loss,
    optimizer: optax.GradientTransformation,
    shardings: TrainState,
    mesh: Mesh,
    seed: int,
    *,
    parts: Parts = WHOLE,
    ema: float = 0.0,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any], Int[Array, " b"]]]:
    """Jitted (state, batch) -> (state, metrics, record numbers of the batch); the old state's memory is reused.

    Metrics are scalars of the whole global batch: loss, grad_norm (before clipping) and what the task reports. Every
    draw comes from (seed, step), so a step gives the same result in every run and on any number of devices. Metrics and
    record numbers are whole on every host, the state lies by `shardings`.

    Args:
      shardings: where each array of the state lies.
      parts: in which the batch is taken (see `in_parts`).
      ema: decay of the moving average of the weights; only for a state that has one.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any], Int[Array, " b"]]:
        """One update of the parameters."""
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        gradient = in_parts(gradient_of(task_loss), parts, mesh)
        loss, batch_stats, metrics, gradients = gradient(state.params, state.batch_stats, batch, key)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = None if state.average is None else optax.incremental_update(params, state.average, 1 - ema)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(gradients)} | metrics
        return TrainState(state.step + 1, params, batch_stats, opt_state, average), metrics, batch.record

    everywhere = replicated(mesh)
    return jax.jit(
        train_step,
        in_shardings=(shardings, batch_sharded(mesh)),
        out_shardings=(shardings, everywhere, everywhere),
        donate_argnums=0,
    )


def gradient_of(task_loss: Loss) -> Gradient:
    """The gradient of a task's loss by the parameters as they lie."""

    def gradient(params: Any, batch_stats: Any, batch: Batch, key: PRNGKeyArray) -> Any:
        """Loss, running statistics, metrics and gradients."""

        def loss_of(params: Any) -> Any:
            """The task's loss as a function of what is differentiated."""
            return task_loss({"params": put_together(params, but=BLOCKS), "batch_stats": batch_stats}, batch, key)

        (loss, (updated, metrics)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        return loss, updated, metrics, gradients

    return gradient


def in_parts(gradient: Gradient, parts: Parts, mesh: Mesh) -> Gradient:
    """The same of a batch that is taken in several parts, whose results are averaged: memory for one part is enough.

    Every part starts from the same running statistics, so that with BatchNorm over groups of clips the result is that
    of the whole batch; with bn=global a part is normalised by its own statistics, as a group of so many clips. Draws
    are made for each part, and means weighted by `train.class_weights` are taken within each.
    """
    if parts.count == 1:
        return gradient

    def of_all(params: Any, batch_stats: Any, batch: Batch, key: PRNGKeyArray) -> Any:
        """What `gradient` gives, on average over the parts."""

        def add(total: Any, numbered: tuple[Int[Array, ""], Batch]) -> tuple[Any, None]:
            """The sums with those of one more part."""
            number, part = numbered
            found = gradient(params, batch_stats, part, jax.random.fold_in(key, number))
            return jax.tree.map(jnp.add, total, found), None

        split = jax.tree.map(lambda rows: cut(rows, parts, mesh), batch)
        shapes = jax.eval_shape(gradient, params, batch_stats, jax.tree.map(lambda rows: rows[0], split), key)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        total, _ = jax.lax.scan(add, zeros, (jnp.arange(parts.count), split))
        return jax.tree.map(lambda x: x / parts.count, total)

    return of_all


def cut(rows: Shaped[Array, "b *rest"], parts: Parts, mesh: Mesh) -> Shaped[Array, "parts b2 *rest"]:
    """Deals the rows of a batch out to the parts, so many together, so that each device keeps its own."""
    dealt = rows.reshape(-1, parts.count, parts.together, *rows.shape[1:]).swapaxes(0, 1)
    split = NamedSharding(mesh, PartitionSpec(None, BATCH_AXES))
    return jax.lax.with_sharding_constraint(dealt.reshape(parts.count, -1, *rows.shape[1:]), split)


def make_predict_step(
    model: Network, mesh: Mesh, mean: tuple[float, ...], std: tuple[float, ...]
) -> Callable[[dict[str, Any], Batch], tuple[Batch, Float[Array, "b k"]]]:
    """Jitted (variables, batch) -> (the batch without its clips, float32 logits), whole on every device and host.

    Variables are taken as they lie.
    """

    def eval_step(variables: dict[str, Any], batch: Batch) -> tuple[Batch, Float[Array, "b k"]]:
        """The network in evaluation."""
        variables = put_together(variables, but=BLOCKS)
        output = model.apply(variables, feed.normalize(batch.clips, mean, std), train=False)
        return batch._replace(clips=jnp.zeros(0, jnp.uint8)), output.logits.astype(jnp.float32)

    return jax.jit(eval_step, in_shardings=(None, batch_sharded(mesh)), out_shardings=replicated(mesh))
