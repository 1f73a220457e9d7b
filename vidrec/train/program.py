"""Everything that a training run compiles, built from a configuration in one place.

The training loop runs it, and a compiler for devices that are not there lowers the same: nothing here touches a device.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray
from ml_collections import FrozenConfigDict

from vidrec.data.clips import ClipSpec
from vidrec.data.records import TFRecordSource
from vidrec.errors import UsageError
from vidrec.models.norm import parse_bn
from vidrec.models.registry import init_options
from vidrec.train.checkpoint import Checkpoints, abstract
from vidrec.train.optim import learning_rate, make_optimizer
from vidrec.train.sharding import at_rest, batch_sharded, check_effect, undivided
from vidrec.train.start import build_model, frozen_paths, restore, run_length, with_weights
from vidrec.train.state import Network, TrainState, initial_state, initial_variables
from vidrec.train.step import Parts, make_predict_step, make_train_step
from vidrec.train.tasks import Task, make_task
from vidrec.types import Batch

logger = logging.getLogger(__name__)


class Program(NamedTuple):
    """What a configuration makes of a mesh of devices.

    Attributes:
      mesh: the devices; `train_step`, `eval_step` and `make_state` are called in `jax.set_mesh(mesh)`.
      model: the network.
      task: what it learns.
      spec: how records become its clips.
      optimizer: the gradient transformation of `train_step`.
      schedule: step -> learning rate.
      total_steps: length of the run.
      steps_per_epoch: records / batch size.
      make_state: jitted key -> the state at step 0, laid out by `state_shardings`.
      train_step: jitted (state, batch) -> (state, metrics, record numbers); see `vidrec.train.step`.
      eval_step: jitted (variables, batch) -> (batch without its clips, logits); see `vidrec.train.step`.
      state_shardings: where each array of the state lies.
    """

    mesh: Mesh
    model: Network
    task: Task
    spec: ClipSpec
    optimizer: optax.GradientTransformation
    schedule: Callable[[Any], Any]
    total_steps: int
    steps_per_epoch: float
    make_state: Any
    train_step: Any
    eval_step: Any
    state_shardings: TrainState


def make_program(config: FrozenConfigDict, mesh: Mesh, classes: Sequence[str], records: int) -> Program:
    """Builds what a run of `config` compiles for a mesh, which may be one of a topology that is not there.

    Args:
      config: with numbers, not "balanced", for train.class_weights (vidrec.train.start.with_class_weights).
      classes: names of the classes, of which only the number counts here.
      records: of the training split; they give the run its length and its schedule.

    Raises:
      UsageError: fields that do not go together.
    """
    model = build_model(config, classes)
    task = make_task(model, config)
    spec = ClipSpec.from_config(config, model.num_frames, model.clip_length, task.views)
    total_steps, steps_per_epoch = run_length(config, records)
    schedule = learning_rate(config.optim, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    optimizer = make_optimizer(config.optim, schedule, frozen_paths(model, config.data.image_size))

    parts = parts_of(config, model, task)

    def draw(key: PRNGKeyArray) -> TrainState:
        """The state at step 0."""
        variables = initial_variables(model, key, config.data.image_size)
        return initial_state(variables, optimizer, averaged=config.train.ema > 0)

    shapes = jax.eval_shape(lambda: draw(jax.random.key(0)))
    check_effect(shapes.params, mesh)
    for line in undivided(shapes.params, mesh):
        logger.info("%s.", line)
    shardings = at_rest(shapes, mesh)
    return Program(
        mesh=mesh,
        model=model,
        task=task,
        spec=spec,
        optimizer=optimizer,
        schedule=schedule,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        make_state=jax.jit(draw, out_shardings=shardings, compiler_options=init_options()),
        train_step=make_train_step(
            task.loss, optimizer, shardings, mesh, config.seed, parts=parts, ema=config.train.ema
        ),
        eval_step=make_predict_step(model, mesh, config.data.mean, config.data.std),
        state_shardings=shardings,
    )


def parts_of(config: FrozenConfigDict, model: Network, task: Task) -> Parts:
    """How `train.accumulate` takes the batch in parts.

    Raises:
      UsageError: the task needs the whole batch at once, or the parts are no whole number of groups of BatchNorm.
    """
    count, size = config.train.accumulate, config.train.batch_size
    if count == 1:
        return Parts()
    if task.whole_batch:
        raise UsageError(
            f"task.name={config.task.name} compares the clips of the whole batch with each other, which "
            "train.accumulate would not have at once: set it to 1"
        )
    together = parse_bn(getattr(model, "bn", "global")).clips or 1
    if size % (count * together):
        groups = f" of whole groups of {together} clips (model.bn)" if together > 1 else ""
        raise UsageError(f"train.batch_size is {size}, which cannot be taken in train.accumulate={count} parts{groups}")
    return Parts(count, together)


def abstract_state(program: Program) -> TrainState:
    """Shape, type and place of every array of the state, for `program.train_step.lower`."""
    key = jax.eval_shape(lambda: jax.random.key(0))  # so that no device makes it
    return abstract(jax.eval_shape(program.make_state, key), program.state_shardings)


def abstract_batch(program: Program, batch_size: int, *, train: bool = True) -> Batch:
    """Shape, type and place of a global batch of clips, of training or of the evaluations within it."""
    spec = program.spec
    if train:
        clips = (spec.frames * spec.views, spec.image_size, spec.image_size, 3)
    else:
        clips = (spec.frames, *replace(spec, full_resolution=False).picture, 3)
    split = batch_sharded(program.mesh)

    def array(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        """One of the batch's arrays, of which each clip has this shape."""
        return jax.ShapeDtypeStruct((batch_size, *shape), dtype, sharding=split)

    return Batch(array(clips, jnp.uint8), array((), jnp.int32), array((), jnp.int32), array((), jnp.bool_))


def starting_state(
    program: Program, config: FrozenConfigDict, source: TFRecordSource, checkpoints: Checkpoints
) -> tuple[TrainState, dict[str, Any]]:
    """(state, position) of the newest checkpoint; without one, those of step 0, with the weights of `train.init`."""
    if checkpoints.latest() is not None:
        return restore(checkpoints, abstract_state(program), config, source)
    state = program.make_state(jax.random.key(config.seed))
    if config.train.init:
        state = with_weights(state, config, source.classes, program.mesh)
    return state, {"step": 0, "clip": 0}
