"""The training step: one pure function of (state, batch), jitted over the mesh.

What is learned is the loss of a task (`vidrec.train.tasks`). The step does the rest, for all tasks alike.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from vidrec.data import feed
from vidrec.train.sharding import batch_sharded, replicated
from vidrec.train.state import Network, TrainState
from vidrec.train.tasks import Loss
from vidrec.types import Batch


def make_train_step(
    task_loss: Loss, optimizer: optax.GradientTransformation, mesh: Mesh, seed: int
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any], Int[Array, " b"]]]:
    """Jitted (state, batch) -> (state, metrics, record numbers of the batch); the old state's memory is reused.

    Metrics are scalars of the whole global batch: loss, grad_norm (before clipping) and what the task reports. Every
    draw comes from (seed, step), so a step gives the same result in every run and on any number of devices. All that
    is returned is whole on every host.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any], Int[Array, " b"]]:
        """One update of the parameters."""
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss_of(params: Any) -> Any:
            """The task's loss as a function of what is differentiated."""
            return task_loss({"params": params, "batch_stats": state.batch_stats}, batch, key)

        (loss, (batch_stats, metrics)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(gradients)} | metrics
        return TrainState(state.step + 1, params, batch_stats, opt_state), metrics, batch.record

    everywhere = replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(everywhere, batch_sharded(mesh)),
        out_shardings=everywhere,
        donate_argnums=0,
    )


def make_predict_step(
    model: Network, mesh: Mesh, mean: tuple[float, ...], std: tuple[float, ...]
) -> Callable[[dict[str, Any], Batch], tuple[Batch, Float[Array, "b k"]]]:
    """Jitted (variables, batch) -> (the batch without its clips, float32 logits), whole on every device and host."""

    def step(variables: dict[str, Any], batch: Batch) -> tuple[Batch, Float[Array, "b k"]]:
        """The network in evaluation."""
        output = model.apply(variables, feed.normalize(batch.clips, mean, std), train=False)
        return batch._replace(clips=jnp.zeros(0, jnp.uint8)), output.logits.astype(jnp.float32)

    everywhere = replicated(mesh)
    return jax.jit(step, in_shardings=(everywhere, batch_sharded(mesh)), out_shardings=everywhere)
