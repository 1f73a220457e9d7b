"""A trained network as one object: load it, give it videos.

network = vidrec.load("runs/stm")
prediction = network.predict("clip.mp4")
print(prediction.top(5))
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from ml_collections import FrozenConfigDict

from vidrec import config as configuration
from vidrec.data.augment import resized_shape
from vidrec.data.clips import ClipSpec, cut_and_resize, eval_view
from vidrec.data.feed import normalize
from vidrec.data.images import Frame, resize
from vidrec.data.video import read_video
from vidrec.errors import UsageError, VidrecError
from vidrec.eval.evaluate import one_view
from vidrec.train.checkpoint import Checkpoints, abstract
from vidrec.train.start import build_model, find_checkpoints
from vidrec.train.state import Network, initial_variables

_VIDEOS = frozenset((".mp4", ".avi", ".webm", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv"))


class Prediction(NamedTuple):
    """Scores of one video.

    Attributes:
      scores: softmax, float `[K]`.
      classes: class names.
    """

    scores: Float[np.ndarray, " k"]
    classes: tuple[str, ...]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k best (class, score), best first."""
        best = np.argsort(-self.scores, kind="stable")[:k]
        return [(self.classes[i], float(self.scores[i])) for i in best]


@dataclass(frozen=True)
class Recognizer:
    """A trained network with all it takes to use it.

    Attributes:
      model: flax module.
      variables: its weights and running statistics.
      classes: class names in label order.
      config: of the training run.
      step: of the checkpoint.
    """

    model: Network
    variables: dict[str, Any]
    classes: tuple[str, ...]
    config: FrozenConfigDict
    step: int

    def __repr__(self) -> str:
        return f"Recognizer({self.config.model.name}, {len(self.classes)} classes, step {self.step})"

    @cached_property
    def spec(self) -> ClipSpec:
        """How a clip is made of a video."""
        return ClipSpec.from_config(one_view(self.config), self.model.num_frames, self.model.clip_length)

    def clip(self, video: str | Path | UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "t s s 3"]:
        """The clip of a video file, or of its frames, that an evaluation with one view sees."""
        return clip_of(video, self.spec)

    def predict(self, video: str | Path | UInt8[np.ndarray, "n h w 3"]) -> Prediction:
        """Classes and scores of one video.

        Args:
          video: a file, or its frames as uint8 RGB `[N, H, W, 3]`, any N, H, W.
        """
        return self.predict_clips(self.clip(video)[None])[0]

    def predict_clips(self, clips: UInt8[np.ndarray, "b t s s 3"]) -> list[Prediction]:
        """Scores of ready-made clips, uint8 `[B, T, S, S, 3]`; raises VidrecError if one is not finite."""
        return [self.prediction(scores) for scores in np.asarray(self._scores(self.variables, jnp.asarray(clips)))]

    def prediction(self, scores: Float[np.ndarray, " k"]) -> Prediction:
        """Scores with the names of their classes; raises VidrecError where one is not finite."""
        if not np.isfinite(scores).all():
            raise VidrecError(f"the network's scores are not finite: the weights of step {self.step} are damaged")
        return Prediction(scores, self.classes)

    def scores(self, variables: dict[str, Any], clips: UInt8[Array, "b t s s 3"]) -> Float[Array, "b k"]:
        """Softmax of the network on clips as they are decoded; pure, for jit and export."""
        data = self.config.data
        return jax.nn.softmax(self.model.apply(variables, normalize(clips, data.mean, data.std), train=False).logits)

    @cached_property
    def _scores(self) -> Any:
        return jax.jit(self.scores)


def clip_of(video: str | Path | UInt8[np.ndarray, "n h w 3"], spec: ClipSpec) -> UInt8[np.ndarray, "t s s 3"]:
    """The clip that stands for a whole video: as in an evaluation with one view.

    Args:
      video: a file, or its frames as uint8 RGB `[N, H, W, 3]`.

    Raises:
      UsageError: an array that is no video.
      VidrecError: a file that cannot be read.
    """
    kept, places = chosen_frames(video, spec, partial(as_stored, spec=spec))
    return cut_and_resize(kept, places, spec.picture, [partial(eval_view, spec=spec)])


def chosen_frames(
    video: str | Path | UInt8[np.ndarray, "n h w 3"], spec: ClipSpec, keep: Callable[[Frame], Frame]
) -> tuple[list[Frame], list[int]]:
    """The distinct frames of the clip that stands for a whole video, and which of them is at each of its places.

    Args:
      keep: frame -> what is kept of it, while the video is read.

    Raises:
      UsageError: an array that is no video.
      VidrecError: a file that cannot be read.
    """
    if isinstance(video, np.ndarray):
        if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or not len(video):
            raise UsageError(f"a video is uint8 [frames, height, width, 3], not {video.dtype} {list(video.shape)}")
        chosen = spec.eval_frames(len(video), "", 0, 1).tolist()
        numbered = ((number, video[number]) for number in dict.fromkeys(chosen))
    else:  # decoded twice, so that a long video need not fit into memory
        chosen = spec.eval_frames(sum(1 for _ in read_video(video)), "", 0, 1).tolist()
        numbered = ((number, frame) for number, frame in enumerate(read_video(video)) if number in chosen)
    kept = {number: keep(frame) for number, frame in numbered}
    return list(kept.values()), [list(kept).index(number) for number in chosen]


def as_stored(frame: UInt8[np.ndarray, "h w 3"], spec: ClipSpec) -> UInt8[np.ndarray, "h w 3"]:
    """Makes a large frame as small as a record's, so that the picture is cut at the same whole pixels."""
    height, width = resized_shape(frame.shape[0], frame.shape[1], spec.resize[:1])
    return resize(frame, height, width) if height < frame.shape[0] else frame


def load(path: str | Path, *, step: int | None = None) -> Recognizer:
    """Loads a trained network from a run's folder, or from a folder of checkpoints.

    Args:
      step: of the checkpoint; None takes the newest.

    Raises:
      UsageError: no checkpoint there.
    """
    folder = find_checkpoints(path)
    if not folder.is_dir():
        raise UsageError(f"there is no run in {path}; give the folder of `vidrec train` or `vidrec import`")
    with Checkpoints(folder) as checkpoints:
        step = checkpoints.latest() if step is None else step
        if step is None:
            inside = sorted(run.parent.name for run in folder.glob("*/checkpoints"))
            hint = f"; its runs are {', '.join(inside)}" if inside else "; train first"
            raise UsageError(f"there is no checkpoint in {folder}{hint}")
        _, saved, classes = checkpoints.describe(step)
        config = configuration.from_dict(saved)
        model = build_model(config, classes)
        shapes = jax.eval_shape(lambda key: initial_variables(model, key, config.data.image_size), jax.random.key(0))
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        variables, _ = checkpoints.restore(step, abstract(shapes, device))
    return Recognizer(model, variables, tuple(classes), config, step)


def predict(path: str | Path, video: str | Path | UInt8[np.ndarray, "n h w 3"]) -> Prediction:
    """Loads the network in `path` and classifies one video; to classify many, keep what `load` returns."""
    return load(path).predict(video)


def list_videos(paths: Sequence[str | Path]) -> list[Path]:
    """The given files, and the video files below the given folders, sorted.

    Raises:
      UsageError: a path that does not exist, or a folder without videos.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix.lower() in _VIDEOS)
        if not files:
            raise UsageError(f"{path} {'holds no video file' if path.is_dir() else 'does not exist'}")
        found += files
    return found
