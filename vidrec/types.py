"""The few structures that cross module borders. Importing this module does not import jax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Bool, Float, Int, UInt8

BATCH_AXES = ("data", "fsdp")  # of a mesh of devices: the axes that a batch is split over


class Batch(NamedTuple):
    """One (global or per-host) batch; numpy arrays on the host, jax arrays on the devices.

    Attributes:
      clips: decoded frames, uint8 `[B, T, H, W, 3]`, RGB, B clips of T frames.
      label: class index per clip, int32 `[B]`; -1 when unknown.
      record: index of the record the clip was read from, int32 `[B]`.
      valid: False for padding and for clips that could not be read, bool `[B]`.
    """

    clips: UInt8[Any, "b t h w 3"]
    label: Int[Any, " b"]
    record: Int[Any, " b"]
    valid: Bool[Any, " b"]


class ModelOutput(NamedTuple):
    """What every network returns.

    Attributes:
      logits: class scores, float32 `[B, K]`.
      order_logits: scores of an order head, or None where the network has none: float32 `[B, P+1]` for P orders, or
        `[B, N, 2]` or `[B, 2]` for in order or reversed.
      aux: named extras that a loss needs; never things that are only looked at (those are sown as intermediates).
    """

    logits: Float[Array, "b k"]
    order_logits: Float[Array, "b *n p"] | None = None
    aux: dict[str, Any] = {}  # noqa: RUF012  read only
