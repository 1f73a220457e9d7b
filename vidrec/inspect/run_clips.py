"""The clips of a report: which videos are worth seeing, what networks say of them, and what they look at."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence

import numpy as np
from jaxtyping import Int, UInt8

from vidrec.data.clips import EvalReader
from vidrec.data.records import TFRecordSource
from vidrec.errors import VidrecError
from vidrec.eval.predict import Recognizer
from vidrec.eval.scores import Evaluation
from vidrec.inspect.looking import FPS, default_look, drawn_over
from vidrec.inspect.page import ClipCard, Gallery, Prediction
from vidrec.inspect.render import animation
from vidrec.train.start import open_eval_records

QUALITY = 80  # of WebP: a tenth of the bytes of one that keeps every pixel


def gallery(
    recognizers: Mapping[str, Recognizer], evaluations: Mapping[str, Evaluation], count: int
) -> tuple[Gallery, list[str]]:
    """Clips of the first evaluated run's split, as each evaluated run's network sees them and with what it says.

    Args:
      recognizers: by name of the run.
      evaluations: of those runs that were evaluated, by name.
      count: clips shown at most.

    Returns:
      the clips, and sentences about what could not be shown.
    """
    if not (evaluations and count):
        return Gallery([]), []
    first, scores = next(iter(evaluations.items()))
    config = recognizers[first].config
    try:
        source = open_eval_records(config)
    except VidrecError as error:
        return Gallery([]), [f"Clips are left out, for the records cannot be opened: {error}"]
    numbers = {source.video_id(record): record for record in range(len(source))}
    shown = worth_seeing(scores, count, numbers)
    if not shown:
        return Gallery([]), [f"Clips are left out: {first} was evaluated on other videos than those of {source!r}."]
    cards = []
    for row in shown:
        video = scores.video_ids[row]
        said = [
            Prediction(name, *best, as_seen(recognizers[name], source, numbers[video]))
            for name, evaluation in evaluations.items()
            if (best := said_of(evaluation, video))
        ]
        cards.append(ClipCard(scores.classes[scores.labels[row]], said, note=video))
    looks = {name: default_look(recognizers[name].model) or "nothing" for name in evaluations}
    drawn = ", ".join(f"{look} of {name}" for name, look in looks.items())
    about = f"First what {first} is most surely wrong about. Over the frames, as `vidrec inspect` draws it: {drawn}."
    return Gallery(cards, about), []


def as_seen(recognizer: Recognizer, source: TFRecordSource, record: int) -> bytes:
    """The clip that a network gets of a record, with the look that suits it best drawn over it, as a moving picture."""
    clip: UInt8[np.ndarray, "t s s 3"] = np.array(reader_of(recognizer, source)(record).clips)
    return animation(drawn_over(recognizer, clip), fps=FPS, scale=1, quality=QUALITY)


def reader_of(recognizer: Recognizer, source: TFRecordSource) -> EvalReader:
    """Reads the one clip that stands for a whole video."""
    return EvalReader(source, recognizer.spec, 1, 1)


def worth_seeing(evaluation: Evaluation, count: int, videos: Container[str]) -> list[int]:
    """Rows of an evaluation: the surest mistakes of each class in turn, at most half, then the surest right ones alike.

    Args:
      count: rows at most.
      videos: ids of those that can be shown.
    """
    right = evaluation.scores.argmax(1) == evaluation.labels
    shown = evaluation.read & np.array([video in videos for video in evaluation.video_ids])
    surest = [int(row) for row in np.argsort(-evaluation.scores.max(1), kind="stable") if shown[row]]
    wrong = in_turn([row for row in surest if not right[row]], evaluation.labels)[: (count + 1) // 2]
    return [*wrong, *in_turn([row for row in surest if right[row]], evaluation.labels)][:count]


def in_turn(rows: Sequence[int], labels: Int[np.ndarray, " n"]) -> list[int]:
    """The same rows: the first of each class, then the second of each, and so on."""
    seen: Counter[int] = Counter()
    turns = []
    for row in rows:
        seen[int(labels[row])] += 1
        turns.append(seen[int(labels[row])])
    return [row for _, row in sorted(zip(turns, rows, strict=True), key=lambda pair: pair[0])]


def said_of(evaluation: Evaluation, video: str) -> tuple[str, float] | None:
    """The best class of a video and its score; None where it was not evaluated, or could not be read."""
    for row, name in enumerate(evaluation.video_ids):
        if name == video and evaluation.read[row]:
            best = evaluation.scores[row]
            return evaluation.classes[int(best.argmax())], float(best.max())
    return None
