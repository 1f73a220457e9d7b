"""`vidrec import`: a PyTorch checkpoint becomes a vidrec checkpoint that training and evaluation start from."""

import json
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec import config as configuration
from vidrec.errors import UsageError
from vidrec.interop.names import clean_name
from vidrec.interop.reading import metadata
from vidrec.interop.torch import Report, convert, read
from vidrec.models.registry import CLASSIFIERS, model_fields
from vidrec.train.checkpoint import Checkpoints, Snapshot
from vidrec.train.start import build_model


def plain_config(name: str, *, num_frames: int = 8, image_size: int = 224) -> FrozenConfigDict:
    """The configuration of a network with its name's own fields."""
    config = configuration.base()
    config.model.update(name=name, num_frames=num_frames)
    config.model.update({key: value for key, value in model_fields(name).items() if key not in config.model})
    config.data.image_size = image_size
    return FrozenConfigDict(config)


def stored_config(weights: str | Path) -> FrozenConfigDict:
    """The configuration that `vidrec export --format safetensors` put into a file.

    Raises:
      UsageError: there is no such file, or none in it.
    """
    if not Path(weights).is_file():
        raise UsageError(f"there is no weights file {weights}")
    try:
        return configuration.from_dict(json.loads(metadata(weights)["config"]))
    except (KeyError, json.JSONDecodeError):
        raise UsageError("give either --model, with --num-frames and --image-size, or --config FILE[:arg]") from None


def import_weights(
    config: FrozenConfigDict,
    weights: str | Path,
    out: str | Path,
    *,
    num_classes: int | None = None,
    classes: str | Path | None = None,
    allow_missing: tuple[str, ...] = (),
    bgr: bool = False,
) -> Report:
    """Reads PyTorch weights into the network of a configuration and writes them to `out` as a checkpoint of step 0.

    Args:
      config: of a recipe, or from `plain_config`.
      num_classes: size of the classifier; None takes it from `classes`, from the configuration or from the file.
      classes: text file with one class name per line, in label order; without it the classes of a file that
        `vidrec export` wrote, else "class 0", ...
      allow_missing: patterns of parameters that the file need not have; they keep their initial values.
      bgr: the weights were trained on pictures whose colours are in the order blue, green, red (see `from_bgr`).

    Raises:
      UsageError: `out` holds a checkpoint already, the class list and num_classes differ, or bgr has no effect.
      VidrecError: the file cannot be read or does not fill the network.
    """
    state_dict = from_bgr(read(weights)) if bgr else read(weights)
    names = Path(classes).read_text(encoding="utf-8").splitlines() if classes else stored_classes(weights, num_classes)
    count = num_classes or len(names) or config.model.num_classes or classifier_size(state_dict)
    names = names or [f"class {number}" for number in range(count)]
    if len(names) != count:
        raise UsageError(f"{classes} lists {len(names)} classes, but --num-classes is {count}")
    made = ConfigDict(config)
    made.model.num_classes = count
    config = FrozenConfigDict(made)
    variables, report = convert(
        build_model(config, names),
        state_dict,
        image_size=config.data.image_size,
        num_frames=config.model.num_frames,
        allow_missing=allow_missing,
    )
    with Checkpoints(Path(out) / "checkpoints", writer=True) as checkpoints:
        if checkpoints.latest() is not None:
            raise UsageError(f"{out} holds a checkpoint already; choose another --out")
        position = {"version": 1, "step": 0, "clip": 0}
        snapshot = Snapshot(
            jax.tree.map(jax.numpy.asarray, variables), None, position, configuration.to_dict(config), names
        )
        checkpoints.save(0, snapshot)
    return report


def stored_classes(weights: str | Path, wanted: int | None) -> list[str]:
    """The classes that a file names; [] if it names none, or another number than is wanted."""
    names = json.loads(metadata(weights).get("classes", "[]"))
    return names if wanted in (None, len(names)) else []


def classifier_size(state_dict: dict[str, np.ndarray]) -> int:
    """Number of classes of the file's classifier: rows of the layer called fc, new_fc or head."""
    for key, value in state_dict.items():
        if clean_name(key) in [f"{name}.weight" for name in CLASSIFIERS]:
            return len(value)
    raise UsageError(
        "the weights have no classifier (fc, new_fc or head); give --num-classes and --allow-missing fc (head for "
        "transformers)"
    )


def from_bgr(state_dict: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns a transformer's weights for pictures in RGB, from those for BGR: its patch embedding, colours reversed.

    TimeSformer's public Something-Something V2 weights need it (OpenCV decoded their frames). Raises UsageError when
    the file has no patch embedding.
    """
    embeddings = [key for key in state_dict if clean_name(key) == "patch_embed.proj.weight"]
    if not embeddings:
        raise UsageError(
            "--bgr exchanges the colours of a transformer's patch embedding, which the weights do not have"
        )
    return state_dict | {key: np.ascontiguousarray(state_dict[key][:, ::-1]) for key in embeddings}
