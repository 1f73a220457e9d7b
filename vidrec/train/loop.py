"""The training loop, from configuration to trained network, in one readable piece."""

import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import FrozenConfigDict

from vidrec import config as configuration
from vidrec.data.clips import ClipSpec
from vidrec.data.feed import DeviceFeed
from vidrec.data.pipeline import Loader, StepIterator, TrainPlan, train_plan
from vidrec.data.records import TFRecordSource
from vidrec.errors import VidrecError
from vidrec.files import write_json
from vidrec.models.registry import init_options
from vidrec.train.checkpoint import Checkpoints, Snapshot
from vidrec.train.optim import learning_rate, make_optimizer
from vidrec.train.report import MetricsLog, ProgressLine, read_metrics
from vidrec.train.sharding import check_batch, make_mesh, replicated
from vidrec.train.start import (
    build_model,
    evaluation_steps,
    frozen_paths,
    open_training_records,
    restore,
    run_length,
    with_weights,
)
from vidrec.train.state import Network, TrainState, count_parameters, initial_state, initial_variables
from vidrec.train.step import make_train_step, supervised

logger = logging.getLogger(__name__)

# (model, config, mesh) -> (variables -> metrics of the evaluation split)
MakeEvaluator = Callable[[Network, FrozenConfigDict, Mesh], Callable[[dict[str, Any]], dict[str, float]]]


class Outcome(NamedTuple):
    """How a call of `train` ended.

    Attributes:
      step: steps taken in all.
      finished: False if it was asked to stop before the end.
      metrics: of the last evaluation, if any.
    """

    step: int
    finished: bool
    metrics: dict[str, float]


def train(config: FrozenConfigDict, workdir: str | Path, make_evaluator: MakeEvaluator) -> Outcome:
    """Trains until the configured step, or goes on from the newest checkpoint in `workdir`.

    A run that is killed at any moment and started again ends with the parameters and metrics of an undisturbed one.

    Args:
      config: as from vidrec.config.load.
      workdir: folder of the run: config.json, metrics.jsonl, checkpoints/, tensorboard/.
      make_evaluator: builds the function called at every evaluation (vidrec.eval.evaluate.make_evaluator).

    Raises:
      VidrecError: configuration and records do not fit, the loss is not finite, too many unreadable records.
    """
    workdir = Path(workdir).resolve()
    lead = jax.process_index() == 0

    # --- what is trained, on what ---------------------------------------------------------------------------------
    source = open_training_records(config)
    model = build_model(config, source.classes)
    mesh = make_mesh(config.mesh.data)
    check_batch(config.train.batch_size, mesh, "train.batch_size")
    check_batch(config.eval.batch_size, mesh, "eval.batch_size")
    total_steps, steps_per_epoch = run_length(config, len(source))
    schedule = learning_rate(config.optim, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    optimizer = make_optimizer(config.optim, schedule, frozen_paths(model, config.data.image_size))

    with ExitStack() as stack:
        stack.enter_context(jax.set_mesh(mesh))
        stopping = stack.enter_context(stop_signals())
        checkpoints = stack.enter_context(Checkpoints(workdir / "checkpoints", keep=config.train.keep, writer=True))

        # --- state: fresh, or where the last run stopped ----------------------------------------------------------
        make_state = jax.jit(
            lambda key: initial_state(initial_variables(model, key, config.data.image_size), optimizer),
            out_shardings=replicated(mesh),
            compiler_options=init_options(),
        )
        key = jax.random.key(config.seed)
        step, clip = 0, 0
        if checkpoints.latest() is None:
            state = make_state(key)
            if config.train.init:
                state = with_weights(state, config, source.classes, mesh)
        else:
            state, step, clip = restore(checkpoints, jax.eval_shape(make_state, key), config, source, mesh)
        if lead:
            workdir.mkdir(parents=True, exist_ok=True)
            write_json(workdir / "config.json", configuration.to_dict(config))
        log = MetricsLog(workdir, step, write=lead)
        stack.callback(log.close)
        if lead:
            logger.info(
                "%s: %s parameters, %d device(s), %d videos; steps %d to %d of %d clips each",
                config.model.name, f"{count_parameters(state.params):,}", mesh.size, len(source), step,
                total_steps, config.train.batch_size,
            )  # fmt: skip

        # --- data, step, evaluation -------------------------------------------------------------------------------
        spec = ClipSpec.from_config(config.data, model.num_frames, model.clip_length)
        plan = train_plan(
            source,
            spec,
            batch_size=config.train.batch_size,
            seed=config.seed,
            max_bad=config.data.max_bad,
            first_step=step,
            first_clip=clip,
            host=jax.process_index(),
            hosts=jax.process_count(),
        )
        loader = Loader(config.data.workers, config.data.threads)
        batch_bytes = spec.nbytes * config.train.batch_size // jax.process_count()
        feed = DeviceFeed(stack.enter_context(StepIterator(plan.batches, loader, batch_bytes)), mesh)
        train_step = make_train_step(supervised(model, config), optimizer, mesh, config.seed)
        evaluate = make_evaluator(model, config, mesh)
        run = _Run(config, plan, checkpoints, log, source, schedule)
        evals = evaluation_steps(config, total_steps, steps_per_epoch)
        if step in evals and not run.evaluated(step):
            run.evaluate(step, state, evaluate)
        if checkpoints.latest() is None:
            run.save(0, state)  # so that there is one from before anything can go wrong

        # --- the loop ---------------------------------------------------------------------------------------------
        line = ProgressLine("train", total_steps, config.train.batch_size, step, show=lead)
        stack.enter_context(line)
        while step < total_steps and not agreed(stopping, step, config.train.log_every):
            batch, host_batch = next(feed)
            plan.audit(step, host_batch)
            state, metrics = train_step(state, batch)
            step += 1
            run.pending.append((step, metrics))
            due = step in evals or step % config.train.checkpoint_every == 0 or step == total_steps
            if due or step % config.train.log_every == 0:
                latest = run.settle()
                log.write("speed", step, line.update(step, latest, feed.waited))
            if due:  # before the evaluation, which may be long; a run stopped within it evaluates when it goes on
                run.save(step, state)
            if step in evals:
                run.evaluate(step, state, evaluate)

        # --- the end ----------------------------------------------------------------------------------------------
        run.settle()
        if checkpoints.latest() != step:
            run.save(step, state)
        checkpoints.wait()
        return Outcome(step, step >= total_steps, run.last_evaluation())


class _Run:
    """Metrics not yet read back, and what is written at a step."""

    def __init__(
        self,
        config: FrozenConfigDict,
        plan: TrainPlan,
        checkpoints: Checkpoints,
        log: MetricsLog,
        source: TFRecordSource,
        schedule: Callable[[Any], Any],
    ):
        self.config, self.plan, self.checkpoints, self.log = config, plan, checkpoints, log
        self.source, self.schedule = source, schedule
        self.pending: list[tuple[int, dict[str, Any]]] = []

    def settle(self) -> dict[str, float]:
        """Reads back the metrics of the steps since the last call, writes them, stops at one that is not finite."""
        row: dict[str, float] = {}
        pending, self.pending = self.pending, []
        for step, metrics in pending:
            row = {name: float(value) for name, value in jax.device_get(metrics).items()}
            if not (math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])):
                self._stop_at(step, row)
            self.log.write("train", step, {**row, "lr": float(self.schedule(step - 1))})
        self.log.flush()
        return row

    def evaluate(self, step: int, state: TrainState, evaluate: Callable[[dict[str, Any]], dict[str, float]]) -> None:
        self.log.write("eval", step, evaluate(state.variables))
        self.log.flush()

    def save(self, step: int, state: TrainState) -> None:
        if self.checkpoints.latest() == step:
            return
        position = {
            "version": 1,
            "step": step,
            "clip": self.plan.position(step),
            "seed": self.config.seed,
            "dataset_digest": self.source.digest,
            "global_batch": self.config.train.batch_size,
        }
        config = configuration.to_dict(self.config)
        snapshot = Snapshot(state.variables, state.opt_state, position, config, list(self.source.classes))
        self.checkpoints.save(step, snapshot)

    def evaluated(self, step: int) -> bool:
        """Whether the log of the first process, the only one that writes, holds the evaluation of `step`."""
        found = any(row["kind"] == "eval" and row["step"] == step for row in read_metrics(self.log.path))
        return bool(multihost_utils.broadcast_one_to_all(np.array(found))) if jax.process_count() > 1 else found

    def last_evaluation(self) -> dict[str, float]:
        rows = [row for row in read_metrics(self.log.path) if row["kind"] == "eval"]
        return {name: value for name, value in rows[-1].items() if name not in ("kind", "step")} if rows else {}

    def _stop_at(self, step: int, row: dict[str, float]) -> None:
        self.log.flush()
        self.checkpoints.wait()
        ids = ", ".join(self.plan.video_ids(step - 1))
        raise VidrecError(
            f"the loss of step {step} is {row['loss']} (gradient norm {row['grad_norm']}); the last checkpoint "
            f"before it is step {self.checkpoints.latest()} in {self.checkpoints.directory}; lower optim.lr, lengthen "
            f"optim.warmup_steps, or look at the batch's videos: {ids}"
        )


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Gives an event that SIGTERM or Ctrl-C sets, instead of ending the process; a second Ctrl-C does end it."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def stop(number: int, frame: Any) -> None:
        del frame
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        event.set()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def agreed(stopping: threading.Event, step: int, every: int) -> bool:
    """Whether to stop before the next step; several processes ask each other every so many steps."""
    if jax.process_count() == 1:
        return stopping.is_set()
    if step % every:
        return False
    return bool(np.any(multihost_utils.process_allgather(np.array(stopping.is_set()))))
