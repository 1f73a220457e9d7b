"""Losses of temporal order: whether a sequence runs backwards (TTSN), and which permutation it is in (DirecFormer)."""

from jaxtyping import Array, Float, Int

from vidrec.losses.classification import cross_entropy


def reversal_loss(order_logits: Float[Array, "b *n 2"], labels: Int[Array, " b"]) -> Float[Array, ""]:
    """TTSN's self-supervised loss, Eq. 7: mean cross-entropy of "in order" (0) against "reversed" (1).

    Args:
      order_logits: one pair of scores per frame `[B, N, 2]`, which all have their video's label, or per video `[B, 2]`.
      labels: 1 where a video was reversed, int `[B]`.

    Added to the loss of the classes with a weight theta2 (Eq. 8: theta1 = 1, theta2 0.01 to 0.1).
    """
    frames = order_logits.shape[1] if order_logits.ndim == 3 else 1
    return cross_entropy(order_logits.reshape(-1, 2), labels.repeat(frames))
