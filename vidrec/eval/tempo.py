"""Visual tempo (TCM-Net, Fig. 4): how accurate a network is on clips slower or faster than it was trained on."""

import re
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec.data.records import TFRecordSource
from vidrec.errors import UsageError
from vidrec.eval.evaluate import evaluate, one_view
from vidrec.eval.scores import Evaluation
from vidrec.train.state import Network
from vidrec.train.step import make_predict_step


def parse_strides(text: str) -> tuple[int, ...]:
    """Strides written "1..8" or "1,2,4", ascending; raises UsageError for anything else."""
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if ends:
        strides = tuple(range(int(ends[1]), int(ends[2]) + 1))
    else:
        strides = tuple(int(part) for part in text.split(",") if part.strip().isdigit())
    if not strides or 0 in strides or (not ends and len(set(strides)) < text.count(",") + 1):
        raise UsageError(f"--tempo {text!r}: give strides of 1 and more, each once, such as 1..8 or 1,2,4")
    return tuple(sorted(strides))


def evaluate_tempo(
    model: Network,
    variables: dict[str, Any],
    source: TFRecordSource,
    config: FrozenConfigDict,
    mesh: Mesh,
    strides: tuple[int, ...],
    *,
    show: bool = False,
) -> dict[int, Evaluation]:
    """Evaluates on one clip of each video at each stride: the distance, in frames, of neighbouring frames of the clip.

    The clip lies in the middle of the video, its centre is cut out, and a video that is too short stays on its last
    frame, as in the paper (its network has 4 frames and was trained at stride 4).

    Raises:
      UsageError: a network that reads several consecutive frames at a place, whose tempo no stride changes.
    """
    predict = make_predict_step(model, mesh, config.data.mean, config.data.std)
    found = {}
    for stride in strides:
        strided = at_stride(config, stride)
        found[stride] = evaluate(model, variables, source, strided, mesh, predict=predict, show=show)
    return found


def at_stride(config: FrozenConfigDict, stride: int) -> FrozenConfigDict:
    """The configuration with one clip of each video, whose frames are so far apart."""
    changed = ConfigDict(one_view(config).to_dict())
    changed.data.update(sampling="strided", stride=stride)
    changed.eval.sampling = "test"
    return FrozenConfigDict(changed)
