"""How sure a counted share is, how honest scores are, and which classes are taken for each other."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

Z95 = 1.959963984540054  # of the normal distribution: 95 % lie within so many standard deviations
BINS = 15


class Interval(NamedTuple):
    """Where a value lies with 95 % confidence."""

    low: float
    high: float


def share_interval(correct: Bool[np.ndarray, " n"]) -> Interval:
    """Wilson's score interval of the share of true values (Wilson 1927); (0, 1) of none.

    It needs no draws, so that it is the same every time, stays within 0 and 1, and is right for small counts and for
    shares near 0 and 1, too, where the usual `p +- 1.96 s` is not.
    """
    count, share = len(correct), float(np.mean(correct)) if len(correct) else 0.0
    if not count:
        return Interval(0.0, 1.0)
    scale = 1 + Z95**2 / count
    middle = (share + Z95**2 / (2 * count)) / scale
    half = Z95 * math.sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2)) / scale
    return Interval(max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def mean_interval(values: Float[np.ndarray, " n"]) -> Interval:
    """Of the mean of independent values, by its standard error; without bounds for fewer than two values."""
    if len(values) < 2:
        return Interval(-math.inf, math.inf)
    half = Z95 * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(float(np.mean(values)) - half, float(np.mean(values)) + half)


class Calibration(NamedTuple):
    """How often the best class is right, by the score it has.

    Attributes:
      error: the expected calibration error, 0 to 1.
      videos: of each bin, `[BINS]`; bin m holds scores above m / BINS, up to (m + 1) / BINS.
      confidence: mean score of the best class in each bin; 0 in an empty one.
      accuracy: share of the bin's videos that are right; 0 in an empty one.
    """

    error: float
    videos: Int[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]


def calibration(scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> Calibration:
    """Expected calibration error over 15 equal bins (Guo et al. 2017, On Calibration of Modern Neural Networks, Eq. 3).

    The mean over videos of |accuracy - confidence| of their bin: 0 where the best class is right as often as its score
    says; NaN without videos.
    """
    best = scores.max(1)
    places = np.clip(np.ceil(best * BINS).astype(int) - 1, 0, BINS - 1)
    videos = np.bincount(places, minlength=BINS)
    confidence = np.bincount(places, best, BINS) / np.maximum(videos, 1)
    accuracy = np.bincount(places, scores.argmax(1) == labels, BINS) / np.maximum(videos, 1)
    error = float(np.average(np.abs(accuracy - confidence), weights=videos)) if len(labels) else float("nan")
    return Calibration(error, videos, confidence, accuracy)


class Confused(NamedTuple):
    """How many videos of one class were taken for another.

    Attributes:
      true, called: class names.
      videos: how many.
      share: of the videos of the true class.
    """

    true: str
    called: str
    videos: int
    share: float


def most_confused(matrix: Int[np.ndarray, "k k"], classes: tuple[str, ...], count: int = 10) -> list[Confused]:
    """The pairs of classes with the most errors, most first; equal ones in the order of the classes.

    Args:
      matrix: true class by row, best class by column.
    """
    errors = matrix * ~np.eye(len(matrix), dtype=bool)
    best = np.argsort(-errors, axis=None, kind="stable")[:count]
    pairs = [divmod(int(place), len(matrix)) for place in best]
    return [
        Confused(classes[true], classes[called], int(errors[true, called]), float(errors[true, called] / row))
        for true, called in pairs
        if errors[true, called] and (row := matrix[true].sum())
    ]


def sign_test(one: Bool[np.ndarray, " n"], other: Bool[np.ndarray, " n"]) -> float:
    """Probability of a difference as large as that of two paired series of right answers, if neither were better.

    McNemar's test in its exact form: of the videos that only one of the two gets right, either has half by chance.
    """
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    trials, fewer = only_one + only_other, min(only_one, only_other)
    logs = [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in range(fewer + 1)]
    return min(1.0, 2 * sum(math.exp(log - trials * math.log(2)) for log in logs))
