"""`vidrec export`: a trained network as one file that needs no vidrec, and a card that says what to feed it.

The file takes clips, uint8 `[batch, T, height, width, 3]` in RGB, for any batch, and gives scores `[batch, K]`:
weights, normalisation and softmax are inside, and for frames of one size resizing and cutting, too. It is written only
if it gives what the network gives.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jaxtyping import Float, UInt8

import vidrec
from vidrec import config as configuration
from vidrec.data.clips import ClipSpec
from vidrec.errors import UsageError, VidrecError, did_you_mean
from vidrec.eval.predict import Prediction, Recognizer, chosen_frames, clip_of
from vidrec.files import atomic_write, write_json
from vidrec.interop.preprocessing import ALLOWED, check_preprocessing, preprocessing
from vidrec.interop.safetensors import weights_file

Clips = UInt8[np.ndarray, "b t h w 3"]
Run = Callable[[Clips], Float[np.ndarray, "b k"]]

# Each has write(function of clips, shape of a clip) -> bytes, read(bytes) -> Run, PLATFORMS and DTYPES.
FORMATS = {"stablehlo": "vidrec.interop.stablehlo", "onnx": "vidrec.interop.onnx_graph"}
WEIGHTS = "safetensors"
_TINY = 1e-37  # below it, scores of the softmax are 0
BATCHES = (1, 3)  # that the file is tried with
TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 2e-2}  # of `compare`


class Exported(NamedTuple):
    """What was written.

    Attributes:
      path: of the file.
      card: of the file, which stands beside it as PATH.json.
      picture: (height, width) that the network sees.
    """

    path: Path
    card: dict[str, Any]
    picture: tuple[int, int]


def export(
    recognizer: Recognizer, out: str | Path, format: str, *, frame_size: tuple[int, int] | None = None
) -> Exported:
    """Writes a network as `out` and its card as `out`.json.

    Args:
      format: stablehlo (jax.export: CPU, CUDA and TPU; jax alone runs it), onnx (which computes in float32, as the card
        says), or safetensors: the weights alone, under torch's names, which `vidrec import` makes a checkpoint again.
      frame_size: (height, width) of the whole frames that the file takes, to resize and cut them itself, as an
        evaluation with one view does; None: it takes what is left of them then.

    Raises:
      UsageError: an unknown format, or a size of frames for weights.
      VidrecError: the network has an operation that the format lacks, or the file does not give its scores; nothing is
        written then.
    """
    if format == WEIGHTS:
        if frame_size:
            raise UsageError("a safetensors file holds weights alone, and takes no frames: leave --frame-size out")
        data, more = weights_file(recognizer), {}
    else:
        data, more = _program(recognizer, format, frame_size)
    card = {
        "format": format,
        "sha256": hashlib.sha256(data).hexdigest(),
        "network": recognizer.config.model.name,
        "step": recognizer.step,
        "fingerprint": configuration.fingerprint(recognizer.config),
        "vidrec": vidrec.__version__,
        **more,
        "mean": list(recognizer.config.data.mean),
        "std": list(recognizer.config.data.std),
        "sampling": asdict(recognizer.spec),
        "classes": list(recognizer.classes),
    }
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(data)
    write_json(_card_of(path), card)
    return Exported(path, card, recognizer.spec.picture)


def _program(recognizer: Recognizer, format: str, size: tuple[int, int] | None) -> tuple[bytes, dict[str, Any]]:
    """A file that computes scores, and what its card says of that."""
    module, spec = _format(format), recognizer.spec
    shape = (spec.frames, *(size or spec.picture), 3)
    dtype = np.dtype(getattr(recognizer.model, "dtype", "float32")).name
    if dtype not in module.DTYPES:
        dtype = module.DTYPES[0]
        recognizer = replace(recognizer, model=cast(Any, recognizer.model).clone(dtype=dtype))
    pictures = preprocessing(spec, size) if size else lambda clips: clips
    data = module.write(lambda clips: recognizer.scores(recognizer.variables, pictures(clips)), shape)
    made = jax.jit(pictures)
    allowed = TOLERANCES[dtype]
    measured = compare(module.read(data), recognizer, shape, made)
    if not measured <= allowed:
        raise VidrecError(
            f"the {format} file does not give what the network gives: log scores differ by {measured:.2g}, more than "
            f"{allowed:.0e}; nothing was written"
        )
    checked = {"difference": measured, "allowed": allowed, "batches": BATCHES, "on": jax.default_backend()}
    if size:
        checked["pixels"] = check_preprocessing(made, spec, random_clips(2, shape))._asdict() | {"allowed": ALLOWED}
    return data, {
        "platforms": list(module.PLATFORMS),
        "computes_in": dtype,
        "frame_size": size,
        "input": {"name": "clips", "dtype": "uint8", "shape": ["batch", *shape], "colours": "RGB"},
        "output": {"name": "scores", "dtype": "float32", "shape": ["batch", len(recognizer.classes)]},
        "inside": [*["resize", "centre crop"] * bool(size), "(clips / 255 - mean) / std", "softmax"],
        "checked": checked,
    }


def compare(
    run: Run, recognizer: Recognizer, shape: tuple[int, ...], pictures: Callable[[Clips], Any] = np.asarray
) -> float:
    """Largest difference between a file and the network, over random clips in batches of several sizes.

    Logarithms of the scores are compared, as a share of them where they are beyond 1: all scores but one may be tiny.

    Args:
      shape: of a clip that the file takes.
      pictures: makes what the network takes of it.
    """
    found = [0.0]
    for batch in BATCHES:
        clips = random_clips(batch, shape)
        seen = np.asarray(pictures(clips))
        wanted = np.stack([prediction.scores for prediction in recognizer.predict_clips(seen)])
        given, wanted = (np.log(np.maximum(scores, _TINY)) for scores in (np.asarray(run(clips)), wanted))
        found.append(float((np.abs(given - wanted) / np.maximum(1, np.abs(wanted))).max()))
    return max(found) if np.isfinite(found).all() else float("inf")


def random_clips(batch: int, shape: tuple[int, ...]) -> Clips:
    """Noise whose brightness and colour change from frame to frame."""
    rng = np.random.default_rng(batch)
    bright = rng.uniform(0, 255, (batch, shape[0], 1, 1, 3))
    return (bright * rng.uniform(size=(batch, *shape))).astype(np.uint8)


@dataclass(frozen=True)
class Artifact:
    """An exported network.

    Attributes:
      run: clips -> scores.
      spec: how a clip is made of a video.
      classes: class names.
      frame_size: (height, width) of the whole frames that it takes; None where it takes what is cut from them.
      card: all that is known of it.
    """

    run: Run
    spec: ClipSpec
    classes: tuple[str, ...]
    frame_size: list[int] | None
    card: dict[str, Any]

    def predict(self, video: str | Path | UInt8[np.ndarray, "n h w 3"]) -> Prediction:
        """Classes and scores of a video file, or of its frames.

        Raises:
          UsageError: the file takes frames of another size.
          VidrecError: the video cannot be read, or a score is not finite.
        """
        scores = np.asarray(self.run(self.clip(video)[None]))[0]
        if not np.isfinite(scores).all():
            raise VidrecError("the file's scores are not finite: the weights of its network are damaged")
        return Prediction(scores, self.classes)

    def clip(self, video: str | Path | UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "t h w 3"]:
        """What the file takes of a video; raises as `predict`."""
        size = self.frame_size
        if size is None:
            return clip_of(video, self.spec)
        frames, places = chosen_frames(video, self.spec, lambda frame: frame)
        if any([*frame.shape[:2]] != size for frame in frames):
            height, width = frames[0].shape[:2]
            raise UsageError(
                f"this file takes frames of {size[1]}x{size[0]} pixels, but those of the video are {width}x{height}: "
                f"export the network with --frame-size {width}x{height}, or without --frame-size for any size"
            )
        return np.stack([frames[place] for place in places])


def load_artifact(path: str | Path) -> Artifact:
    """Opens what `export` wrote.

    Raises:
      UsageError: there is no such file, or no card beside it.
      VidrecError: the card is of another file, or one of them is damaged.
    """
    path = Path(path)
    for file, what in ((path, "file"), (_card_of(path), "card")):
        if not file.is_file():
            raise UsageError(f"there is no {what} {file}; `vidrec export` writes both")
    data = path.read_bytes()
    try:
        card = json.loads(_card_of(path).read_text(encoding="utf-8"))
        module, digest = _format(card["format"]), card["sha256"]
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in card["sampling"].items()}
        spec = ClipSpec(**fields)
        classes, size = tuple(card["classes"]), card["frame_size"]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise VidrecError(f"{_card_of(path)} is not the card of an exported network ({error}); export again") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise VidrecError(f"{path} is not the file that {_card_of(path)} tells of: export again")
    return Artifact(module.read(data), spec, classes, size, card)


def _card_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _format(name: str) -> Any:
    if name == WEIGHTS:
        raise UsageError("a safetensors file holds weights alone: `vidrec import` makes a checkpoint of it")
    if name not in FORMATS:
        raise UsageError(f"there is no format {name!r}{did_you_mean(name, (*FORMATS, WEIGHTS))}")
    return import_module(FORMATS[name])
