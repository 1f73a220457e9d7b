"""How a run starts: its records and network, its length, fresh or restored state."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import FrozenConfigDict

from vidrec import config as configuration
from vidrec.data.clips import ClipSpec
from vidrec.data.pipeline import Loader, StepIterator, TrainPlan, train_plan
from vidrec.data.records import TFRecordSource, open_records
from vidrec.errors import NoSplitError, UsageError
from vidrec.labels import mirror_pairs
from vidrec.models.layout import path_of
from vidrec.models.norm import frozen_params
from vidrec.models.registry import CLASSIFIERS, create_model, model_fields
from vidrec.ranges import BALANCED, record_folders
from vidrec.train.checkpoint import Checkpoints, abstract
from vidrec.train.sharding import at_rest, check_batch, is_lead, make_mesh
from vidrec.train.state import Network, TrainState, initial_variables
from vidrec.train.tasks import task_fields

logger = logging.getLogger(__name__)

# What may differ between a run and its continuation: nothing in it changes what the steps already taken computed.
_MAY_CHANGE = ("data.records", "data.workers", "data.threads", "data.max_bad", "data.eval_split", "eval.", "mesh.")
_MAY_CHANGE += tuple(f"train.{name}" for name in ("steps", "epochs", "batch_size", "log_every", "eval_every"))
_MAY_CHANGE += ("train.checkpoint_every", "train.accumulate", "train.keep", "train.watchdog", "train.init")


def open_training_records(config: FrozenConfigDict) -> TFRecordSource:
    """Opens the training split; raises UsageError if no folder is configured."""
    return _open_split(config, config.data.train_split, "--config.data.train_split")


def open_eval_records(config: FrozenConfigDict, option: str = "--split") -> TFRecordSource:
    """Opens the split to evaluate; raises UsageError, which names the option, if there is none or no folder."""
    return _open_split(config, config.data.eval_split, option)


def _open_split(config: FrozenConfigDict, split: str, option: str) -> TFRecordSource:
    folders = record_folders(config)
    if not folders:
        raise UsageError("there are no records: set --config.data.records=FOLDER, as written by `vidrec convert`")
    try:
        return open_records(folders, split)
    except NoSplitError as error:
        raise NoSplitError(f"{error}; name one by {option}") from error


def with_class_weights(config: FrozenConfigDict, source: TFRecordSource) -> FrozenConfigDict:
    """The configuration with numbers for balanced train.class_weights: 1 on average over the clips drawn in training.

    They are the inverse of how often a class is drawn, with the shares of data.mixture and the labels that
    data.flip="swap" exchanges; a class that is never drawn keeps 1.
    """
    if config.train.class_weights != BALANCED:
        return config
    shares = _class_shares(source, config.data.mixture)
    if config.data.flip == "swap":  # half of the clips show the mirror class
        mirror = mirror_pairs(source.classes)
        shares = (shares + shares[[mirror.get(label, label) for label in range(len(shares))]]) / 2
    drawn = shares > 0
    weights = np.where(drawn, 1 / (np.count_nonzero(drawn) * np.where(drawn, shares, 1)), 1)
    fields = config.to_dict()
    fields["train"]["class_weights"] = tuple(weights.tolist())
    return FrozenConfigDict(fields)


def _class_shares(source: TFRecordSource, mixture: Sequence[float]) -> np.ndarray:
    """Of the clips drawn, the share of each class, `[classes]`, by the label that is stored."""
    readable = np.ones(len(source), bool)
    readable[list(source.aside)] = False
    weights = np.array(mixture or [1.0]) / sum(mixture or [1.0])
    shares = np.zeros(len(source.classes))
    for number, weight in enumerate(weights):
        own = source.labels[readable & (source.member == number)] if mixture else source.labels[readable]
        shares += weight * np.bincount(own, minlength=len(shares)) / max(len(own), 1)
    return shares


def build_model(config: FrozenConfigDict, classes: Sequence[str]) -> Network:
    """The network of `config.model` for these classes.

    Raises:
      UsageError: `model.num_classes` is set, but not to the number of classes.
    """
    fields = {key: value for key, value in config.model.items() if key != "name"}
    if fields["num_classes"] not in (0, len(classes)):
        raise UsageError(
            f"model.num_classes is {fields['num_classes']}, but the records have {len(classes)} classes; "
            "set it to 0 to follow the records"
        )
    weights = config.train.class_weights
    if weights != BALANCED and len(weights) not in (0, len(classes)):
        raise UsageError(f"train.class_weights has {len(weights)} values for {len(classes)} classes")
    model = create_model(config.model.name, **{**fields, "num_classes": len(classes)})
    if lacking := [name for name in ("init", "apply", "num_frames", "clip_length") if not hasattr(model, name)]:
        raise UsageError(
            f"model {config.model.name!r} gives a {type(model).__name__} without {', '.join(lacking)}; it must be a "
            "flax.linen module with num_frames and clip_length (see vidrec.train.state.Network)"
        )
    return model


def mesh_for(config: FrozenConfigDict) -> Mesh:
    """The mesh of `config.mesh`; raises UsageError if a batch does not split evenly over it."""
    mesh = make_mesh(config.mesh)
    part = "train.batch_size" if config.train.accumulate == 1 else "train.batch_size / train.accumulate"
    check_batch(config.train.batch_size // config.train.accumulate, mesh, part)
    check_batch(config.eval.batch_size, mesh, "eval.batch_size")
    return mesh


def frozen_paths(model: Network, image_size: int) -> frozenset[str]:
    """Paths of the parameters that the network's policy for its norms keeps fixed; none without such a policy."""
    policy = getattr(model, "bn", None)
    if policy is None:
        return frozenset()
    shapes = jax.eval_shape(lambda: initial_variables(model, jax.random.key(0), image_size))
    return frozenset("/".join(path) for path in frozen_params(policy, shapes))


def run_length(config: FrozenConfigDict, records: int) -> tuple[int, float]:
    """(steps of the whole run, steps per epoch); the last, partial batch of a run is dropped."""
    if records < config.train.batch_size:
        raise UsageError(f"train.batch_size is {config.train.batch_size}, but there are {records} records: lower it")
    steps_per_epoch = records / config.train.batch_size
    steps = config.train.steps or math.floor(config.train.epochs * steps_per_epoch)
    if steps < 1:
        raise UsageError(f"train.epochs={config.train.epochs} of {records} records is less than one step")
    return steps, steps_per_epoch


def evaluation_steps(config: FrozenConfigDict, total_steps: int, steps_per_epoch: float) -> set[int]:
    """Steps after which the evaluation split is run: every `eval_every`, or the end of each epoch; always the last."""
    if config.train.eval_every:
        steps = set(range(config.train.eval_every, total_steps + 1, config.train.eval_every))
    else:
        epochs = math.ceil(total_steps / steps_per_epoch)
        steps = {math.ceil(epoch * steps_per_epoch) for epoch in range(1, epochs + 1)}
    return {step for step in steps if step <= total_steps} | {total_steps}


def training_stream(
    config: FrozenConfigDict, source: TFRecordSource, spec: ClipSpec, position: dict[str, Any]
) -> tuple[TrainPlan, StepIterator]:
    """This host's part of the training data from `position` on: which records, and the batches made of them."""
    plan = train_plan(
        source,
        spec,
        batch_size=config.train.batch_size,
        seed=config.seed,
        max_bad=config.data.max_bad,
        balance=config.data.balance,
        mixture=config.data.mixture,
        first_step=position["step"],
        first_clip=position["clip"],
        replaced=position.get("replaced", ()),  # of older checkpoints it is not known
        host=jax.process_index(),
        hosts=jax.process_count(),
    )
    loader = Loader(config.data.workers, config.data.threads)
    batch_bytes = spec.nbytes * config.train.batch_size // jax.process_count()
    return plan, StepIterator(plan.batches, loader, batch_bytes)


def restore(
    checkpoints: Checkpoints, state: TrainState, config: FrozenConfigDict, source: TFRecordSource
) -> tuple[TrainState, dict[str, Any]]:
    """(state, position) of the newest checkpoint, after checking that it is of this run.

    Args:
      state: shape, type and place of every array, as from vidrec.train.program.abstract_state; any mesh will do.
    """
    latest = checkpoints.latest()
    assert latest is not None
    position, saved, classes = checkpoints.describe(latest)
    where = checkpoints.directory.parent
    # What one of the two does not say is the default, as of a field that is newer than the run.
    before, now = (
        configuration.from_dict(values, model_fields=model_fields, task_fields=task_fields)
        for values in (saved, configuration.to_dict(config))
    )
    changed = configuration.differences(configuration.to_dict(before), configuration.to_dict(now))
    if other := [line for line in changed if not line.startswith(_MAY_CHANGE)]:
        raise UsageError(
            f"{where} holds a run with another configuration ({'; '.join(other)}); "
            "go on with the old one, or choose another --workdir"
        )
    if changed and is_lead():
        logger.info("The run goes on with changes: %s", "; ".join(changed))
    if position["dataset_digest"] != source.digest or classes != list(source.classes):
        raise UsageError(
            f"{where} was trained on other records than {source!r} (their content or classes differ); "
            "point data.records to the same records, or choose another --workdir"
        )
    variables, continuation = checkpoints.restore(latest, state.variables, state.continuation)
    step = jax.device_put(np.int32(latest), state.step.sharding)
    return state.filled(step, variables, continuation), position


def with_weights(state: TrainState, config: FrozenConfigDict, classes: tuple[str, ...], mesh: Mesh) -> TrainState:
    """Replaces the weights by those of `train.init`, but for heads and a temporal transformer that do not fit.

    Those stay as drawn: a classifier of other classes; an order head or TTSN's ETT of another shape, or not there.
    """
    if not Path(config.train.init).exists():
        raise UsageError(f"train.init is {config.train.init!r}, which does not exist; make it with `vidrec import`")
    with Checkpoints(find_checkpoints(config.train.init)) as checkpoints:
        latest = checkpoints.latest()
        if latest is None:
            raise UsageError(f"train.init: there is no checkpoint in {config.train.init}")
        _, saved, saved_classes = checkpoints.describe(latest)
        model = build_model(configuration.from_dict(saved), saved_classes)
        shapes = jax.eval_shape(lambda: initial_variables(model, jax.random.key(0), saved["data"]["image_size"]))
        loaded, _ = checkpoints.restore(latest, abstract(shapes, at_rest(shapes, mesh)))
    if list(saved_classes) != list(classes):
        logger.info("The classifier starts afresh: %s has other classes.", config.train.init)
        loaded["params"] |= {name: state.params[name] for name in CLASSIFIERS if name in state.params}
    for name, what in (("order", "order head"), ("ett", "temporal transformer")):
        if not _same_shapes(loaded["params"].get(name), state.params.get(name)):
            logger.info("The %s of %s, if it has one, does not fit and is not taken over.", what, config.train.init)
            loaded["params"].pop(name, None)
            loaded["params"] |= {key: module for key, module in state.params.items() if key == name}
    _check_same_shapes(loaded["params"], state.params, config.train.init)
    params, batch_stats = loaded["params"], loaded["batch_stats"]
    average = None if state.average is None else jax.tree.map(jnp.copy, params)
    return state._replace(params=params, batch_stats=batch_stats, average=average)


def _same_shapes(one: Any, other: Any) -> bool:
    return jax.tree.map(np.shape, one) == jax.tree.map(np.shape, other)


def _check_same_shapes(loaded: Any, wanted: Any, where: str) -> None:
    def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
        """Of every array, by its path."""
        leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
        return {path_of(path): leaf.shape for path, leaf in leaves}

    have, want = shapes(loaded), shapes(wanted)
    different = sorted(name for name in {*have, *want} if have.get(name) != want.get(name))
    if different:
        first = different[0]
        raise UsageError(
            f"train.init: {where} holds another network than config.model: {len(different)} parameters differ, "
            f"such as {first} ({have.get(first, 'absent')} there, {want.get(first, 'absent')} here)"
        )


def find_checkpoints(path: str | Path) -> Path:
    """The folder of checkpoints of a run: `path` itself or `path/checkpoints`."""
    path = Path(path)
    return path / "checkpoints" if (path / "checkpoints").is_dir() else path
