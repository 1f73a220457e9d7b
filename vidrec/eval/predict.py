"""A trained network as one object: load it, give it videos."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from ml_collections import FrozenConfigDict

from vidrec import config as configuration
from vidrec.data.clips import ClipSpec, cut_and_resize, test_view
from vidrec.data.feed import normalize
from vidrec.data.video import read_video
from vidrec.errors import UsageError
from vidrec.train.checkpoint import Checkpoints, abstract
from vidrec.train.start import build_model, find_checkpoints
from vidrec.train.state import Network, initial_variables


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

    @cached_property
    def spec(self) -> ClipSpec:
        """How a clip is made of a video."""
        return ClipSpec.from_config(self.config.data, self.model.num_frames, self.model.clip_length)

    def clip(self, video: str | Path | UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "t s s 3"]:
        """The test clip of a video file, or of its frames: segment centres, centre crop."""
        frames = video if isinstance(video, np.ndarray) else read_video(video).frames
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
            raise UsageError(f"a video is uint8 [frames, height, width, 3], not {frames.dtype} {list(frames.shape)}")
        chosen = self.spec.test_frames(len(frames), "", 0, 1)
        return cut_and_resize(
            [frames[i] for i in chosen], self.spec.image_size, lambda h, w: test_view(h, w, spec=self.spec)
        )

    def predict(self, video: str | Path | UInt8[np.ndarray, "n h w 3"]) -> Prediction:
        """Classes and scores of one video.

        Args:
          video: a file, or its frames as uint8 RGB `[N, H, W, 3]`, any N, H, W.
        """
        return self.predict_clips(self.clip(video)[None])[0]

    def predict_clips(self, clips: UInt8[np.ndarray, "b t s s 3"]) -> list[Prediction]:
        """Scores of ready-made clips, uint8 `[B, T, S, S, 3]`."""
        scores = np.asarray(self._scores(self.variables, jnp.asarray(clips)))
        return [Prediction(row, self.classes) for row in scores]

    @cached_property
    def _scores(self) -> Any:
        data = self.config.data

        def scores(variables: dict[str, Any], clips: Any) -> Any:
            output = self.model.apply(variables, normalize(clips, data.mean, data.std), train=False)
            return jax.nn.softmax(output.logits)

        return jax.jit(scores)


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
            raise UsageError(f"there is no checkpoint in {folder}; train first")
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
