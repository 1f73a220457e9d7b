"""Order correction at work (DirecFormer section 4): shuffled clips, their attention in time, and the order read off."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vidrec.errors import UsageError
from vidrec.eval.order import no_attention, order_accuracy, recover_order, rules_for, run_with_attention
from vidrec.inspect.maps import Map, Maps
from vidrec.inspect.probe import compiled
from vidrec.losses.order import shuffle


def order(
    model: Any,
    variables: Mapping[str, Any],
    clips: Float[Array, "b t h w 3"],
    *,
    orders: Int[np.ndarray, "b t"] | None = None,
    seed: int = 0,
) -> Maps:
    """Shuffles clips and recovers their order from the last attention in time.

    Args:
      clips: normalised, their frames in order.
      orders: original index of the frame (of TDN: the segment) at each position of each shuffled clip; None draws them.
      seed: of the drawn orders.

    Returns:
      "shown" (clip, position): the orders; "attention" (clip, query, key): of the shuffled positions, the last block's
      (or ETT's), averaged over patches and heads; and by each of `vidrec.eval.order.rules_for` its frames
      "sign/recovered" (clip, position): original indices in the order that was found, ideally 0, 1, ..., and
      "sign/accuracy" (clip): OrderAcc in percent (Eq. 15), whose chance level `vidrec.eval.order.chance` gives.

    Raises:
      UsageError: the network has no attention in time, or the orders are no permutations of its frames.
    """
    frames = model.num_frames
    if orders is None:
        random = np.random.default_rng(seed)
        orders = np.stack([random.permutation(frames) for _ in range(len(clips))])
    orders = np.asarray(orders)
    if orders.shape != (len(clips), frames) or (np.sort(orders, -1) != np.arange(frames)).any():
        raise UsageError(f"orders must hold a permutation of 0..{frames - 1} for each of the {len(clips)} clips")
    segments = clips.reshape(len(clips), frames, -1, *clips.shape[2:])
    shuffled = shuffle(segments, jnp.asarray(orders)).reshape(clips.shape)
    _, found = compiled(run_with_attention, 0)(model, variables, shuffled)
    if found is None:
        raise UsageError(no_attention(model))
    attention = np.asarray(found)
    maps = {
        "shown": Map(orders, ("clip", "position"), "as the network saw them"),
        "attention": Map(attention, ("clip", "query", "key"), "frame (row) attends to frame (column), as shuffled"),
    }
    rules = rules_for(frames)
    for rule in rules:
        path = recover_order(attention, rule)
        recovered = np.take_along_axis(orders, path, -1)
        maps[f"{rule}/recovered"] = Map(recovered, ("clip", "position"), f"order recovered by rule {rule!r}")
        maps[f"{rule}/accuracy"] = Map(order_accuracy(path, orders), ("clip",), "OrderAcc in percent")
    drawn = [rule for rule in ("sign", "raw") if rule in rules] or rules
    return Maps("order", maps, ("shown", *(f"{rule}/recovered" for rule in drawn), "attention"))
