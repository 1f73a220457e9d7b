"""What changes during training, as one tree of arrays."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PRNGKeyArray

from vidrec.errors import UsageError


class Network(Protocol):
    """What training and evaluation need of a network: a flax module with these fields.

    Attributes:
      num_frames: segments T of a clip.
      clip_length: frames of a clip; a multiple of num_frames.

    Networks with BatchNorm also have `bn`, the policy of those norms.
    """

    num_frames: int

    @property
    def clip_length(self) -> int:
        """Frames on the T axis of the input."""
        ...

    def init(self, rngs: Any, clips: Any, *, train: bool) -> Any:
        """Fresh variables."""

    def apply(self, variables: Any, clips: Any, **options: Any) -> Any:
        """ModelOutput, with `mutable` also the changed collections."""


class TrainState(NamedTuple):
    """Step counter, weights, running statistics and optimizer state.

    Attributes:
      step: steps taken.
      params: the weights that the optimizer moves.
      batch_stats: running statistics of norms.
      opt_state: the optimizer's.
      average: moving average of the weights, the ones to evaluate and to save; None without `train.ema`.
    """

    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes to evaluate: the average of the weights where there is one."""
        return {"params": self.params if self.average is None else self.average, "batch_stats": self.batch_stats}

    @property
    def continuation(self) -> Any:
        """What only going on with training needs beside `variables`."""
        return self.opt_state if self.average is None else {"opt_state": self.opt_state, "params": self.params}

    def filled(self, step: Any, variables: dict[str, Any], continuation: Any) -> "TrainState":
        """A state of the same kind with the arrays of a checkpoint: what `variables` and `continuation` were."""
        params, batch_stats = variables["params"], variables["batch_stats"]
        if self.average is None:
            return TrainState(step, params, batch_stats, continuation)
        return TrainState(step, continuation["params"], batch_stats, continuation["opt_state"], params)


def initial_variables(model: Network, key: PRNGKeyArray, image_size: int) -> dict[str, Any]:
    """Freshly drawn {"params", "batch_stats"} of a network for pictures of the given side."""
    clips = jnp.zeros((1, model.clip_length, image_size, image_size, 3))
    variables = model.init(key, clips, train=False)
    if "params" not in variables:
        raise UsageError(f"the network {type(model).__name__} has no parameters, so there is nothing to train")
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def initial_state(
    variables: dict[str, Any], optimizer: optax.GradientTransformation, *, averaged: bool = False
) -> TrainState:
    """State at step 0 with the given weights, with their average if it is kept."""
    params = variables["params"]
    average = jax.tree.map(jnp.copy, params) if averaged else None
    return TrainState(jnp.zeros((), jnp.int32), params, variables["batch_stats"], optimizer.init(params), average)


def count_parameters(params: Any) -> int:
    """Number of trained values."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
