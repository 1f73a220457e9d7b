"""Networks with fresh weights as trained ones, in memory or as the checkpoint of a run."""

import jax

from vidrec import config as configuration
from vidrec.eval.predict import Recognizer
from vidrec.models.registry import CLASSIFIERS, init_options
from vidrec.train.checkpoint import Checkpoints, Snapshot
from vidrec.train.start import build_model
from vidrec.train.state import initial_variables


def drawn(model, image_size: int):
    """Fresh variables, with a classifier large enough for the scores to differ from clip to clip."""
    init = jax.jit(initial_variables, static_argnums=(0, 2), compiler_options=init_options())
    variables = init(model, jax.random.key(0), image_size)
    for name in {*CLASSIFIERS} & {*variables["params"]}:
        kernel = variables["params"][name]["kernel"]
        variables["params"][name]["kernel"] = kernel / kernel.std()
    return variables


def fresh(config, classes=("left", "right")) -> Recognizer:
    """A recognizer with them."""
    model = build_model(config, classes)
    return Recognizer(model, drawn(model, config.data.image_size), tuple(classes), config, 3)


def save(recognizer: Recognizer, folder) -> None:
    """Writes what `vidrec.load(folder)` reads."""
    position = {"version": 1, "step": recognizer.step, "clip": 0}
    saved = configuration.to_dict(recognizer.config)
    with Checkpoints(folder / "checkpoints", writer=True) as checkpoints:
        snapshot = Snapshot(recognizer.variables, None, position, saved, list(recognizer.classes))
        checkpoints.save(recognizer.step, snapshot)
