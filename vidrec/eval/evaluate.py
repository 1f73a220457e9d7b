"""Exact evaluation: every video of a split once, whatever the number of devices and hosts."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec.data.clips import ClipSpec
from vidrec.data.feed import DeviceFeed
from vidrec.data.pipeline import Loader, StepIterator, eval_batches
from vidrec.data.records import TFRecordSource
from vidrec.errors import UsageError, VidrecError
from vidrec.eval.scores import Evaluation, average
from vidrec.labels import mirror_pairs, one_sided
from vidrec.progress import Progress
from vidrec.train.start import open_eval_records
from vidrec.train.state import Network
from vidrec.train.step import make_predict_step
from vidrec.types import Batch


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

    The scores are the same to the last bit on any number of devices that get as many clips at once (`eval.batch_size`
    of 8 on one, 64 on eight). With other numbers XLA sums in another order, which moves scores by about 1e-6.

    Args:
      config: its `data` and `eval` sections say how clips are made and batched, and how views are averaged.
      predict: a step of make_predict_step to use again; None makes one.
      show: draw a progress line.

    Raises:
      VidrecError: no video can be read, or a score is not finite.
      UsageError: ten crops of classes that no mirror image can vote for.
    """
    predict = predict or make_predict_step(model, mesh, config.data.mean, config.data.std)
    looks = [(_as_it_is, np.arange(len(source.classes)))]
    if config.eval.crops == 10:
        looks.append((_mirrored, mirror_order(source.classes)))
    cut = config.eval.clips * config.eval.crops // len(looks)
    logits = np.zeros((len(source), cut * len(looks), len(source.classes)), np.float32)
    seen = np.zeros(logits.shape[:2], bool)
    spec = ClipSpec.from_config(config, model.num_frames, model.clip_length)
    with closing(each_batch(source, spec, config, mesh, crops=config.eval.crops // len(looks), show=show)) as batches:
        for batch, view in batches:
            for number, (look, order) in enumerate(looks):
                given, found = jax.device_get(predict(variables, look(batch)))
                place = given.record[given.valid], number * cut + view[given.valid]
                logits[place] = found[given.valid][:, order]
                seen[place] = True
    return of_views(source, logits, seen, config.eval.average, view_names(config.eval.clips, config.eval.crops))


def of_views(
    source: TFRecordSource,
    logits: Float[np.ndarray, "n v k"],
    seen: Bool[np.ndarray, "n v"],
    how: str,
    names: tuple[str, ...],
) -> Evaluation:
    """The evaluation of a split from the class scores of its views.

    Args:
      logits: of each view of each record.
      seen: whether the view could be read.
      how: `config.eval.average`.
      names: of the views.

    Raises:
      VidrecError: no video could be read, or a score is not finite.
    """
    read = seen.all(1)
    if not read.any():
        raise VidrecError(f"no video of {source!r} can be read; run `vidrec verify` on the records")
    logits[~read] = 0
    if not np.isfinite(logits).all():
        raise VidrecError(
            f"the network's scores of {source!r} are not finite: its weights are damaged, or training diverged; "
            "take an earlier checkpoint, or train again with a lower optim.lr"
        )
    scores = np.where(read[:, None], average(logits, how), 0)
    ids = [source.video_id(record) for record in range(len(source))]
    return Evaluation(scores, np.asarray(source.labels), read, ids, tuple(source.classes), logits, names)


def each_batch(
    source: TFRecordSource,
    spec: ClipSpec,
    config: FrozenConfigDict,
    mesh: Mesh,
    *,
    crops: int,
    title: str = "eval",
    show: bool = False,
) -> Generator[tuple[Batch, Int[np.ndarray, " b"]]]:
    """Every one of `eval.clips` x `crops` views of every record once, in global batches on the devices.

    Close it (`contextlib.closing`) where it may not be read to its end: loader processes end then.

    Yields:
      (batch, number of each clip's view among those of its record); clips that could not be read, and those that fill
      the last batch up, are not valid.
    """
    size, hosts, views = config.eval.batch_size, jax.process_count(), config.eval.clips * crops
    batches = eval_batches(
        source, spec, batch_size=size, clips=config.eval.clips, crops=crops, host=jax.process_index(), hosts=hosts
    )
    loader = Loader(config.data.workers, config.data.threads)
    with (
        StepIterator(batches, loader, spec.nbytes * size // hosts) as iterator,
        Progress(title, len(batches), show=show) as progress,
    ):
        for number, batch in enumerate(DeviceFeed(iterator, mesh)):
            yield batch, np.arange(number * size, (number + 1) * size) % views
            progress.update(number + 1)


def view_names(clips: int, crops: int) -> tuple[str, ...]:
    """Names of the views of `eval.clips` and `eval.crops`, in the order of `Evaluation.logits`."""
    mirrored = ("", ", mirrored") if crops == 10 else ("",)
    cut = crops // len(mirrored)
    return tuple(
        f"clip {clip} of {clips}, crop {crop} of {cut}{mirror}"
        for mirror in mirrored
        for clip in range(1, clips + 1)
        for crop in range(1, cut + 1)
    )


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


def make_evaluator(
    model: Network, config: FrozenConfigDict, mesh: Mesh, predict: Callable[..., Any]
) -> Callable[[dict[str, Any]], dict[str, float]]:
    """variables -> metrics of `data.eval_split` by one view of each video; the training loop calls it.

    The views of `eval.clips` and `eval.crops`, up to thirty times the work, are those of `vidrec eval`. `predict` is a
    step of make_predict_step, compiled once.
    """
    config = one_view(config)
    source = open_eval_records(config, "--config.data.eval_split")
    return lambda variables: evaluate(model, variables, source, config, mesh, predict=predict).metrics()


def one_view(config: FrozenConfigDict) -> FrozenConfigDict:
    """The configuration with one clip of each video, which no draw decides on, and its centre."""
    changed = ConfigDict(config.to_dict())  # a copy: ConfigDict(config) would share its sections
    changed.eval.update(clips=1, crops=1, full_resolution=False)
    if changed.eval.sampling in ("twice", "random"):
        changed.eval.sampling = "test"
    return FrozenConfigDict(changed)
