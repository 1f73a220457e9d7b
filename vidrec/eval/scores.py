"""Scores of the videos of a split, and what is counted from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from vidrec.errors import UsageError, VidrecError
from vidrec.ranges import check_choice


@dataclass(frozen=True)
class Evaluation:
    """Scores of all videos of a split.

    Attributes:
      scores: softmax of the views averaged, or of their averaged logits, `[N, K]`; rows of unreadable videos are 0.
      labels: class indices, `[N]`.
      read: whether every view of the video could be read, `[N]`.
      video_ids: `[N]`.
      classes: class names.
      logits: class scores of every view, `[N, V, K]`, rows of unreadable videos are 0; None where the scores are not of
        one network, as those of an ensemble.
      views: names of the V views.
    """

    scores: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, " n"]
    read: Bool[np.ndarray, " n"]
    video_ids: list[str]
    classes: tuple[str, ...]
    logits: Float[np.ndarray, "n v k"] | None = None
    views: tuple[str, ...] = ()

    @property
    def unreadable(self) -> list[str]:
        """Ids of the videos that could not be read."""
        return [self.video_ids[i] for i in np.flatnonzero(~self.read)]

    def averaged(self, how: str) -> "Evaluation":
        """The same views averaged again: "softmax" (of their scores) or "logits" (softmax of the mean).

        Raises:
          VidrecError: the scores of single views are not there.
        """
        if self.logits is None:
            raise VidrecError("there are no scores of single views to average: they are the mean of several networks")
        return replace(self, scores=np.where(self.read[:, None], average(self.logits, how), 0))

    def correct(self, k: int = 1) -> Bool[np.ndarray, " m"]:
        """Of each readable video, whether its label is among the k best classes; of equal scores the first is best."""
        scores, labels = self.scores[self.read], self.labels[self.read]
        own = np.take_along_axis(scores, labels[:, None], axis=1)
        better = (scores > own).sum(1)
        ties_before = ((scores == own) & (np.arange(scores.shape[1]) < labels[:, None])).sum(1)
        return better + ties_before < k

    def top(self, k: int) -> float:
        """Share of the videos whose label is among the k best classes; NaN if none could be read."""
        return float(self.correct(k).mean()) if self.read.any() else float("nan")

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


def ensemble(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The mean scores of several networks on the same videos, such as one of 8 and one of 16 frames.

    Videos are matched by their ids, in the order of the first evaluation. One that a network could not read is
    unreadable.

    Raises:
      UsageError: other classes, other videos, or a video with another label.
    """
    first, *others = evaluations
    rows = [np.arange(len(first.labels)), *(_rows_of(first, other) for other in others)]
    read = np.all([e.read[r] for e, r in zip(evaluations, rows, strict=True)], axis=0)
    scores = np.mean([e.scores[r] for e, r in zip(evaluations, rows, strict=True)], axis=0)
    return Evaluation(np.where(read[:, None], scores, 0), first.labels, read, first.video_ids, first.classes)


def _rows_of(first: Evaluation, other: Evaluation) -> Int[np.ndarray, " n"]:
    """Which row of `other` each video of `first` has."""
    if other.classes != first.classes:
        raise UsageError("these evaluations are of other classes, or of another order of them: they have no mean")
    places = {video: row for row, video in enumerate(other.video_ids)}
    if len(places) < len(other.video_ids) or len(set(first.video_ids)) < len(first.video_ids):
        raise UsageError("an evaluation has two videos of the same id, which cannot be matched with those of another")
    if missing := sorted(places.keys() ^ set(first.video_ids)):
        raise UsageError(
            f"these evaluations are of other videos: {len(missing)} are in one of them only, such as {missing[0]!r}; "
            "evaluate the same split"
        )
    rows = np.array([places[video] for video in first.video_ids])
    if len(different := np.flatnonzero(other.labels[rows] != first.labels)):
        raise UsageError(f"video {first.video_ids[different[0]]!r} has another label in another of these evaluations")
    return rows


def average(logits: Float[np.ndarray, "n v k"], how: str) -> Float[np.ndarray, "n k"]:
    """Scores of each video from those of its views: "softmax", or "logits" (see `config.eval.average`).

    Raises:
      UsageError: another `how`.
    """
    check_choice("eval.average", how)
    each = softmax if how == "softmax" else np.float64
    mean = np.zeros((len(logits), logits.shape[2]))
    for view in range(logits.shape[1]):  # one by one: all views of all videos at once would need a lot of memory
        mean += each(logits[:, view]) / logits.shape[1]
    return mean if how == "softmax" else softmax(mean)


def softmax(logits: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Shares that sum to 1; NaN, without a warning, where logits are not finite."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
