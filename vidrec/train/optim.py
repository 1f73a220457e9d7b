"""Optimizer and learning rate from `config.optim`.

The order of operations is that of the published training code: clip the gradient over all parameters, add weight decay
(or, for Adam, scale first and decay after), momentum, per-group multiplier, learning rate; for LARS, momentum is last.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec.config import TRUST
from vidrec.errors import UsageError
from vidrec.models.fields import check_has_effect
from vidrec.models.layout import path_of

Groups = tuple[tuple[str, float, float], ...]


def learning_rate(
    optim: ConfigDict | FrozenConfigDict, *, total_steps: int, steps_per_epoch: float
) -> Callable[[Any], Any]:
    """Step -> learning rate: linear warm-up, then step (per epoch), cosine or constant.

    Args:
      total_steps: length of the run, where cosine ends.
      steps_per_epoch: records / batch size; a step belongs to the epoch that its first clip lies in.
    """
    if optim.schedule == "step":
        scales: dict[int, float] = {}
        for step in (math.ceil(epoch * steps_per_epoch) for epoch in optim.boundaries):
            scales[step] = scales.get(step, 1.0) * optim.factor  # in a short run, several fall on one step
        after = optax.piecewise_constant_schedule(optim.lr, scales)
    elif optim.schedule == "cosine":
        after = optax.cosine_decay_schedule(optim.lr, max(total_steps - optim.warmup_steps, 1), optim.final)
    elif optim.schedule == "constant":
        after = optax.constant_schedule(optim.lr)
    else:
        raise UsageError(f"optim.schedule is {optim.schedule!r}, but must be step, cosine or constant")

    def schedule(step: Any) -> Any:
        """The learning rate of a step, counted from 0."""
        # Boundaries of the step schedule count from the first step; cosine starts behind the warm-up.
        rate = after(jnp.maximum(step - optim.warmup_steps, 0) if optim.schedule == "cosine" else step)
        return rate * jnp.minimum((step + 1) / (optim.warmup_steps + 1), 1.0)

    return schedule


def make_optimizer(
    optim: ConfigDict | FrozenConfigDict,
    schedule: Callable[[Any], Any],
    frozen: frozenset[str] = frozenset(),
) -> optax.GradientTransformation:
    """SGD with momentum, AdamW, NAdamW or LARS with per-parameter multipliers.

    LARS (You, Gitman, Ginsburg 2017, Algorithm 1) leaves out norms and biases, as is usual.

    Args:
      schedule: step -> learning rate.
      frozen: paths of parameters that never change, such as "layer1_0/bn1/scale".
    """
    check_has_effect("optim.trust", optim.name == "lars" or optim.trust == TRUST, f"optim.name={optim.name}")
    lr_multiplier, decay_multiplier = multipliers(tuple(optim.groups), optim.decay, frozen)
    parts = [optax.clip_by_global_norm(optim.clip_norm)] if optim.clip_norm else []
    decay = _add_decay(optim.weight_decay, decay_multiplier)
    rate = [_scale_by(lr_multiplier), optax.scale_by_learning_rate(schedule)]
    momentum = optax.trace(optim.momentum, nesterov=optim.nesterov)
    if optim.name == "sgd":
        parts += [decay, momentum, *rate]
    elif optim.name in ("adamw", "nadamw"):
        parts += [optax.scale_by_adam(optim.momentum, optim.b2, nesterov=optim.name == "nadamw"), decay, *rate]
    elif optim.name == "lars":
        parts += [_trust(optim.trust, optim.weight_decay, decay_multiplier), *rate, momentum]
    else:
        raise UsageError(f"optim.name is {optim.name!r}, but must be sgd, adamw, nadamw or lars")
    return optax.chain(*parts)


def multipliers(
    groups: Groups, decay: str, frozen: frozenset[str] = frozenset()
) -> tuple[Callable[[str, Any], float], Callable[[str, Any], float]]:
    """(path, parameter) -> multiplier of the learning rate, and of the weight decay."""
    if decay not in ("all", "kernels"):
        raise UsageError(f"optim.decay is {decay!r}, but must be all or kernels")

    def find(path: str) -> tuple[float, float]:
        """The factors of the first group that a parameter belongs to."""
        return next(((lr, wd) for pattern, lr, wd in groups if re.search(pattern, path)), (1.0, 1.0))

    def lr_multiplier(path: str, parameter: Any) -> float:
        """Of the learning rate; 0 for what is frozen."""
        del parameter
        return 0.0 if path in frozen else find(path)[0]

    def decay_multiplier(path: str, parameter: Any) -> float:
        """Of the weight decay."""
        return 0.0 if decay == "kernels" and parameter.ndim < 2 else find(path)[1]

    return lr_multiplier, decay_multiplier


def _add_decay(weight_decay: float, multiplier: Callable[[str, Any], float]) -> optax.GradientTransformation:
    """The gradient plus weight_decay times each parameter, by its multiplier."""

    def decayed(key_path: tuple[Any, ...], update: Any, parameter: Any) -> Any:
        """Of one parameter."""
        return update + weight_decay * multiplier(path_of(key_path), parameter) * parameter

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(decayed, updates, params))


def _trust(trust: float, weight_decay: float, multiplier: Callable[[str, Any], float]) -> optax.GradientTransformation:
    """The gradient g with decay added, times trust * |w| / (|g| + decay * |w|) where a parameter w is a matrix or more.

    Zeros, which have no direction to keep, move by the gradient as it is.
    """

    def scaled(key_path: tuple[Any, ...], update: Any, parameter: Any) -> Any:
        """Of one parameter."""
        decay = weight_decay * multiplier(path_of(key_path), parameter)
        decayed = update + decay * parameter
        if parameter.ndim < 2:
            return decayed
        weight, gradient = jnp.linalg.norm(parameter.ravel()), jnp.linalg.norm(update.ravel())
        moves = (weight > 0) & (gradient > 0)
        return decayed * jnp.where(moves, trust * weight / jnp.where(moves, gradient + decay * weight, 1), 1)

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scaled, updates, params))


def _scale_by(multiplier: Callable[[str, Any], float]) -> optax.GradientTransformation:
    """Each update times the multiplier of its parameter."""

    def scaled(key_path: tuple[Any, ...], update: Any) -> Any:
        """Of one parameter."""
        return multiplier(path_of(key_path), update) * update

    return optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(scaled, updates))
