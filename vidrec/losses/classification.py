"""Cross-entropy of class scores."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def cross_entropy(
    logits: Float[Array, "b k"],
    labels: Int[Array, " b"],
    *,
    label_smoothing: float = 0.0,
    class_weights: tuple[float, ...] = (),
) -> Float[Array, ""]:
    """Mean softmax cross-entropy over the batch.

    Args:
      logits: class scores, `[B, K]`.
      labels: class indices, `[B]`.
      label_smoothing: share of the target spread evenly over all classes.
      class_weights: one factor per class; the mean is then weighted by the factors of the labels.
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    picked = jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]
    losses = -(1 - label_smoothing) * picked - label_smoothing * log_probabilities.mean(-1)
    if not class_weights:
        return losses.mean()
    weights = jnp.asarray(class_weights)[labels]
    return (losses * weights).sum() / weights.sum()
