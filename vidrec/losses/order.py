"""Losses of temporal order: whether a sequence runs backwards (TTSN), and which permutation it is in (DirecFormer)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from vidrec.errors import UsageError
from vidrec.losses.classification import cross_entropy
from vidrec.losses.permutations import Permutations

SIGNS = ("paper", "released")


def reversal_loss(order_logits: Float[Array, "b *n 2"], labels: Int[Array, " b"]) -> Float[Array, ""]:
    """TTSN's self-supervised loss, Eq. 7: mean cross-entropy of "in order" (0) against "reversed" (1).

    Args:
      order_logits: one pair of scores per frame `[B, N, 2]`, which all have their video's label, or per video `[B, 2]`.
      labels: 1 where a video was reversed, int `[B]`.

    Added to the loss of the classes with a weight theta2 (Eq. 8: theta1 = 1, theta2 0.01 to 0.1).
    """
    frames = order_logits.shape[1] if order_logits.ndim == 3 else 1
    return cross_entropy(order_logits.reshape(-1, 2), labels.repeat(frames))


def draw_orders(
    key: PRNGKeyArray, permutations: Permutations, clips: int
) -> tuple[Int[Array, "b t"], Int[Array, " b"]]:
    """Draws how the frames of each of B clips are shuffled: (orders `[B, T]`, labels `[B]`).

    `orders[b, i]` is the original index of the frame that moves to position i. Label 0 is the unshuffled clip, j is
    permutation j-1 of the P given (see `permutation_set`); all P + 1 are equally likely (DirecFormer Eq. 1-2).
    """
    labels = jax.random.randint(key, (clips,), 0, len(permutations) + 1)
    unshuffled = jnp.arange(permutations.shape[1], dtype=jnp.int32)[None]
    orders = jnp.concatenate([unshuffled, jnp.asarray(permutations, jnp.int32)])
    return orders[labels], labels


def shuffle(clips: Shaped[Array, "b t *rest"], orders: Int[Array, "b t"]) -> Shaped[Array, "b t *rest"]:
    """Puts the frames of every clip into its order: position i of clip b becomes frame `orders[b, i]`."""
    return jnp.take_along_axis(clips, orders.reshape(*orders.shape, *[1] * (clips.ndim - 2)), axis=1)


def order_loss(order_logits: Float[Array, "b p"], labels: Int[Array, " b"]) -> Float[Array, ""]:
    """Mean cross-entropy of the order head's scores `[B, P + 1]` with the labels of `draw_orders` (Eq. 2)."""
    return cross_entropy(order_logits, labels)


def order_signs(orders: Int[Array, "*b t"], *, rule: str = "paper", diagonal: int = -1) -> Float[Array, "*b t t"]:
    """What the sign of the attention of position t (row) to position u (column) should be, for frames in an order.

    Args:
      orders: original index of the frame at each position, `[..., T]`.
      rule: paper (Eq. 13): +1 where t's frame comes before u's, else -1. released: the matrix of the authors' loader,
        symmetric, -1 for two positions whose frames are in the wrong order, else +1; it cannot tell a direction.
      diagonal: sign of a position to itself under the paper's rule: -1 (Eq. 13 as written), 0 or 1. The released matrix
        has 1.

    Raises:
      UsageError: unknown rule or diagonal, or a diagonal given for the released rule.
    """
    if rule not in SIGNS or diagonal not in (-1, 0, 1):
        raise UsageError(f"order signs {rule!r} with diagonal {diagonal}: choose paper or released, and -1, 0 or 1")
    if rule == "released" and diagonal != -1:
        raise UsageError(f"diagonal={diagonal} has no effect on the released order signs, whose diagonal is 1")
    before = jnp.where(orders[..., :, None] < orders[..., None, :], 1.0, -1.0)
    place = jnp.arange(orders.shape[-1])
    if rule == "released":
        forward = place[:, None] < place
        kept = jnp.where(forward, before, 0)
        return kept + jnp.swapaxes(kept, -1, -2) + jnp.eye(len(place))
    return jnp.where(place[:, None] == place, float(diagonal), before)


def guided_loss(
    time_attention: Float[Array, "l b n t t"], orders: Int[Array, "b t"], *, rule: str = "paper", diagonal: int = -1
) -> Float[Array, ""]:
    """DirecFormer's self-supervised guided loss, Eq. 13, averaged over the batch.

    The mean of (1 - a) * sigma over blocks, patches and pairs of positions, where sigma is `order_signs`: it pulls the
    attention of a frame to a later one to 1, to an earlier one to -1. It is linear in the attention: -1/T where that is
    zero, and -(T + 1)/T at the ideal (both with the default signs), so negative values are normal.

    Args:
      time_attention: cosines of each block and patch, averaged over heads, rows = queries (`aux["time_attention"]`).
      orders: original index of the frame at each position of each clip.
    """
    mean = time_attention.astype(jnp.float32).mean((0, 2))
    return jnp.mean((1 - mean) * order_signs(orders, rule=rule, diagonal=diagonal))
