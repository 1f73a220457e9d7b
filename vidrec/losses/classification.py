"""Cross-entropy of class scores."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def cross_entropy(
    logits: Float[Array, "b k"],
    labels: Int[Array, " b"] | Float[Array, "b k"],
    *,
    label_smoothing: float = 0.0,
    class_weights: tuple[float, ...] = (),
) -> Float[Array, ""]:
    """Mean softmax cross-entropy over the batch.

    Args:
      logits: class scores, `[B, K]`.
      labels: class indices, `[B]`, or soft targets, rows of `[B, K]` that sum to 1.
      label_smoothing: share of the target spread evenly over all classes.
      class_weights: one factor per class; the mean is then weighted by the labels' factors (of soft ones, averaged).
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    hard = labels.ndim == 1
    picked = (
        jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]
        if hard
        else (labels * log_probabilities).sum(-1)
    )
    losses = -(1 - label_smoothing) * picked - label_smoothing * log_probabilities.mean(-1)
    if not class_weights:
        return losses.mean()
    weights = jnp.asarray(class_weights)[labels] if hard else labels @ jnp.asarray(class_weights)
    return (losses * weights).sum() / weights.sum()
