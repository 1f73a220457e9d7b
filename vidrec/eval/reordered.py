"""Does a network use the order of frames, and can it name it? Its scores on clips whose frames are in another order."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int
from ml_collections import FrozenConfigDict

from vidrec.data.clips import ClipSpec
from vidrec.data.feed import normalize
from vidrec.data.records import TFRecordSource
from vidrec.errors import UsageError
from vidrec.eval.evaluate import each_batch, of_views, one_view
from vidrec.eval.order import order_accuracy, recover_order, rules_for, run_with_attention, video_order
from vidrec.eval.scores import Evaluation
from vidrec.losses.order import shuffle
from vidrec.models.layout import BLOCKS, put_together
from vidrec.train.sharding import batch_sharded, replicated
from vidrec.train.state import Network
from vidrec.types import Batch

WAYS = ("normal", "shuffled", "reversed", "frozen")


@dataclass(frozen=True)
class Reordered:
    """A network's scores on the same clips in several orders.

    Attributes:
      evaluations: by each of `WAYS`.
      orders: how the segments of each shuffled clip lie: original indices, `[N, T]`.
      attention: `time_attention` of the shuffled clips, `[N, T, T]`; None of a network without.
    """

    evaluations: dict[str, Evaluation]
    orders: Int[np.ndarray, "n t"]
    attention: Float[np.ndarray, "n t t"] | None

    @property
    def read(self) -> Bool[np.ndarray, " n"]:
        """Whether each video could be read."""
        return self.evaluations["normal"].read

    def order_accuracies(self) -> dict[str, Float[np.ndarray, " m"]]:
        """OrderAcc of each readable video, in percent, by each of `rules_for` its frames; {} without attention."""
        if self.attention is None:
            return {}
        attention, orders = self.attention[self.read], self.orders[self.read]
        return {rule: order_accuracy(recover_order(attention, rule), orders) for rule in rules_for(orders.shape[1])}

    def signs_right(self) -> float | None:
        """Share of pairs of frames whose attention has the sign of Eq. 13: positive to a later frame, else negative."""
        if self.attention is None:
            return None
        orders, pairs = self.orders[self.read], ~np.eye(self.orders.shape[1], dtype=bool)
        earlier = orders[:, :, None] < orders[:, None, :]
        return float(((self.attention[self.read] > 0) == earlier)[:, pairs].mean())


def evaluate_reordered(
    model: Network,
    variables: dict[str, Any],
    source: TFRecordSource,
    config: FrozenConfigDict,
    mesh: Mesh,
    *,
    show: bool = False,
) -> Reordered:
    """Runs the network over one clip of every record four times: see `frames_shown`.

    Raises:
      UsageError: a clip of one frame. VidrecError: no video can be read, or a score is not finite.
    """
    config = one_view(config)
    ids = [source.video_id(record) for record in range(len(source))]
    orders = np.array([video_order(video, model.num_frames) for video in ids])
    shown = frames_shown(orders, model.clip_length)
    step = make_reordered_step(model, mesh, config.data.mean, config.data.std)
    logits = {way: np.zeros((len(source), 1, len(source.classes)), np.float32) for way in WAYS}
    seen, attention = np.zeros((len(source), 1), bool), None
    spec = ClipSpec.from_config(config, model.num_frames, model.clip_length)
    with closing(each_batch(source, spec, config, mesh, crops=1, title="order", show=show)) as batches:
        for batch, _ in batches:
            for way, frames in shown.items():
                given, scores, maps = jax.device_get(step(variables, batch, frames))
                rows = given.record[given.valid]
                logits[way][rows, 0], seen[rows] = scores[given.valid], True
                if way == "shuffled" and maps is not None:
                    attention = np.zeros((len(source), *maps.shape[1:]), np.float32) if attention is None else attention
                    attention[rows] = maps[given.valid]
    return Reordered({way: of_views(source, logits[way], seen, "softmax", (way,)) for way in WAYS}, orders, attention)


def frames_shown(orders: Int[np.ndarray, "n t"], clip_length: int) -> dict[str, Int[np.ndarray, "n l"]]:
    """Which frame of its clip each video shows at each place, by each of `WAYS`.

    Shuffled by `orders`, segments as wholes where they have several frames; reversed frame by frame; frozen: the middle
    frame all the time.

    Raises:
      UsageError: one frame has no order.
    """
    videos, segments = orders.shape
    if clip_length < 2:
        raise UsageError("this network sees one frame: there is no order in it")
    each = np.arange(clip_length // segments)
    normal = np.tile(np.arange(clip_length), (videos, 1))
    shuffled = (orders[:, :, None] * len(each) + each).reshape(videos, clip_length)
    return dict(zip(WAYS, (normal, shuffled, normal[:, ::-1], np.full_like(normal, clip_length // 2)), strict=True))


def make_reordered_step(
    model: Network, mesh: Mesh, mean: Sequence[float], std: Sequence[float]
) -> Callable[[dict[str, Any], Batch, Int[np.ndarray, "n l"]], tuple[Batch, Any, Any]]:
    """Jitted (variables, batch, frames shown) -> (the batch without clips, logits, time attention or None), whole."""

    def reordered_step(variables: dict[str, Any], batch: Batch, shown: Any) -> tuple[Batch, Any, Any]:
        """The network in evaluation, on clips whose frames are put into an order."""
        clips = shuffle(batch.clips, shown[batch.record])
        variables = put_together(variables, but=BLOCKS)
        output, attention = run_with_attention(model, variables, normalize(clips, tuple(mean), tuple(std)))
        return batch._replace(clips=jnp.zeros(0, jnp.uint8)), output.logits.astype(jnp.float32), attention

    everywhere = replicated(mesh)
    return jax.jit(reordered_step, in_shardings=(None, batch_sharded(mesh), everywhere), out_shardings=everywhere)
