"""Exact evaluation: every video of a split once, whatever the number of devices and hosts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec.data.clips import ClipSpec
from vidrec.data.feed import DeviceFeed
from vidrec.data.pipeline import Loader, StepIterator, eval_batches
from vidrec.data.records import TFRecordSource
from vidrec.errors import UsageError, VidrecError
from vidrec.labels import mirror_pairs, one_sided
from vidrec.progress import Progress
from vidrec.train.start import open_split
from vidrec.train.state import Network
from vidrec.train.step import make_predict_step
from vidrec.types import Batch


@dataclass(frozen=True)
class Evaluation:
    """Scores of all videos of a split.

    Attributes:
      scores: softmax of the views averaged, or of their averaged logits, `[N, K]`; rows of unreadable videos are 0.
      labels: class indices, `[N]`.
      read: whether every view of the video could be read, bool `[N]`.
      video_ids: `[N]`.
      classes: class names.
    """

    scores: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, " n"]
    read: np.ndarray
    video_ids: list[str]
    classes: tuple[str, ...]

    @property
    def unreadable(self) -> list[str]:
        """Ids of the videos that could not be read."""
        return [self.video_ids[i] for i in np.flatnonzero(~self.read)]

    def top(self, k: int) -> float:
        """Share of the videos whose label is among the k best classes; NaN if none could be read."""
        scores, labels = self.scores[self.read], self.labels[self.read]
        own = np.take_along_axis(scores, labels[:, None], axis=1)
        better = (scores > own).sum(1)
        ties_before = ((scores == own) & (np.arange(scores.shape[1]) < labels[:, None])).sum(1)
        return float((better + ties_before < k).mean()) if len(labels) else float("nan")

    def confusion(self) -> Int[np.ndarray, "k k"]:
        """Counts, true class by row, best class by column."""
        matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(matrix, (self.labels[self.read], self.scores[self.read].argmax(1)), 1)
        return matrix

    def per_class(self) -> list[tuple[str, int, float]]:
        """(class, videos, accuracy) for each class; NaN where it has no video."""
        matrix = self.confusion()
        return [
            (name, int(row.sum()), float(row[i] / row.sum()) if row.sum() else float("nan"))
            for i, (name, row) in enumerate(zip(self.classes, matrix, strict=True))
        ]

    def pair_accuracy(self, pairs: Sequence[tuple[str, str]]) -> float:
        """Accuracy when only the two classes of the true pair are compared; 0.5 is chance.

        Args:
          pairs: class names that mirror each other; videos of other classes do not count.
        """
        partner = {self.classes.index(a): self.classes.index(b) for a, b in pairs}
        partner |= {b: a for a, b in partner.items()}
        rows = [i for i in np.flatnonzero(self.read) if int(self.labels[i]) in partner]
        own = self.scores[rows, self.labels[rows]]
        other = self.scores[rows, [partner[int(label)] for label in self.labels[rows]]]
        return float(((own > other) + 0.5 * (own == other)).mean()) if rows else float("nan")

    def metrics(self) -> dict[str, float]:
        """Top-1, top-5 (when there are more than five classes), mean class accuracy, number of videos, missing ones."""
        accuracies = [accuracy for _, videos, accuracy in self.per_class() if videos]
        values = {"top1": self.top(1)}
        if len(self.classes) > 5:
            values["top5"] = self.top(5)
        values["mean_class"] = float(np.mean(accuracies)) if accuracies else float("nan")
        return {**values, "videos": int(self.read.sum()), "unreadable": len(self.unreadable)}


def evaluate(
    model: Network,
    variables: dict[str, Any],
    source: TFRecordSource,
    config: FrozenConfigDict,
    mesh: Mesh,
    *,
    predict: Callable[..., Any] | None = None,
    show: bool = False,
) -> Evaluation:
    """Runs the network over every view of every record of `source`.

    Args:
      config: its `data` and `eval` sections say how clips are made and batched, and how views are averaged.
      predict: a step of make_predict_step to use again; None makes one.
      show: draw a progress line.

    Raises:
      VidrecError: no video can be read, or a score is not finite.
      UsageError: ten crops of classes that no mirror image can vote for.
    """
    predict = predict or make_predict_step(model, mesh, config.data.mean, config.data.std)
    clips, crops, average = config.eval.clips, config.eval.crops, config.eval.average
    looks = [(_as_it_is, np.arange(len(source.classes)))]
    if crops == 10:
        looks.append((_mirrored, mirror_order(source.classes)))
    spec = ClipSpec.from_config(config, model.num_frames, model.clip_length)
    batches = eval_batches(
        source,
        spec,
        batch_size=config.eval.batch_size,
        clips=clips,
        crops=crops // len(looks),
        host=jax.process_index(),
        hosts=jax.process_count(),
    )
    total = np.zeros((len(source), len(source.classes)))
    views = np.zeros(len(source), np.int64)
    loader = Loader(config.data.workers, config.data.threads)
    batch_bytes = spec.nbytes * config.eval.batch_size // jax.process_count()
    with StepIterator(batches, loader, batch_bytes) as iterator, Progress("eval", len(batches), show=show) as progress:
        for done, batch in enumerate(DeviceFeed(iterator, mesh), start=1):
            for look, order in looks:
                given, logits = jax.device_get(predict(variables, look(batch)))
                record, scores = given.record[given.valid], logits[given.valid][:, order]
                np.add.at(total, record, softmax(scores) if average == "softmax" else scores)
                np.add.at(views, record, 1)
            progress.update(done)
    read = views == clips * crops
    if not read.any():
        raise VidrecError(f"no video of {source!r} can be read; run `vidrec verify` on the records")
    if not np.isfinite(total).all():
        raise VidrecError(
            f"the network's scores of {source!r} are not finite: its weights are damaged, or training diverged; "
            "take an earlier checkpoint, or train again with a lower optim.lr"
        )
    mean = total / np.maximum(views, 1)[:, None]
    scores = np.where(read[:, None], mean if average == "softmax" else softmax(mean), 0)
    ids = [source.video_id(record) for record in range(len(source))]
    return Evaluation(scores, np.asarray(source.labels), read, ids, tuple(source.classes))


def mirror_order(classes: Sequence[str]) -> Int[np.ndarray, " k"]:
    """Where the score of each class stands among those of a mirrored picture: with its mirror class, if it has one.

    Raises:
      UsageError: a class names a side and has no mirror class, so that its mirrored videos are of no class at all.
    """
    if sided := one_sided(classes):
        raise UsageError(
            f"eval.crops=10 looks at mirror images, but class {classes[sided[0]]!r} names a side and no class is its "
            "mirror image: use eval.crops=5"
        )
    pairs = mirror_pairs(classes)
    return np.array([pairs.get(label, label) for label in range(len(classes))])


def _as_it_is(batch: Batch) -> Batch:
    return batch


@jax.jit
def _mirrored(batch: Batch) -> Batch:
    return batch._replace(clips=batch.clips[:, :, :, ::-1])


def softmax(logits: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Shares that sum to 1; NaN, without a warning, where logits are not finite."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def make_evaluator(
    model: Network, config: FrozenConfigDict, mesh: Mesh, predict: Callable[..., Any]
) -> Callable[[dict[str, Any]], dict[str, float]]:
    """variables -> metrics of `data.eval_split` by one view of each video; the training loop calls it.

    The views of `eval.clips` and `eval.crops`, up to thirty times the work, are those of `vidrec eval`. `predict` is a
    step of make_predict_step, compiled once.
    """
    one_view = ConfigDict(config)
    one_view.eval.update(clips=1, crops=1, full_resolution=False)
    if one_view.eval.sampling == "twice":
        one_view.eval.sampling = "test"
    config = FrozenConfigDict(one_view)
    source = open_split(config, config.data.eval_split)
    return lambda variables: evaluate(model, variables, source, config, mesh, predict=predict).metrics()
