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
from vidrec.data.feed import DeviceFeed
from vidrec.data.pipeline import TrainPlan
from vidrec.data.records import TFRecordSource
from vidrec.errors import VidrecError
from vidrec.files import write_json
from vidrec.train.checkpoint import Checkpoints, Snapshot
from vidrec.train.program import make_program, starting_state
from vidrec.train.report import MetricsLog, ProgressLine, read_metrics
from vidrec.train.sharding import is_lead
from vidrec.train.start import (
    evaluation_steps,
    mesh_for,
    open_training_records,
    training_stream,
    with_class_weights,
)
from vidrec.train.state import Network, TrainState, count_parameters

logger = logging.getLogger(__name__)

# (model, config, mesh, evaluation step) -> (variables -> metrics of the evaluation split)
MakeEvaluator = Callable[[Network, FrozenConfigDict, Mesh, Any], Callable[[dict[str, Any]], dict[str, float]]]


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
    # --- what is trained, on what, for how long -------------------------------------------------------------------
    source = open_training_records(config)
    mesh = mesh_for(config)
    program = make_program(with_class_weights(config, source), mesh, source.classes, len(source))
    total_steps = program.total_steps
    evaluations = evaluation_steps(config, total_steps, program.steps_per_epoch)
    evaluator = make_evaluator(program.model, config, mesh, program.eval_step)

    workdir = Path(workdir).resolve()
    folder = Checkpoints(workdir / "checkpoints", keep=config.train.keep, writer=True)
    with ExitStack() as stack, jax.set_mesh(mesh), stop_signals() as stopping, folder as checkpoints:
        # --- state: fresh, or where the last run stopped ----------------------------------------------------------
        state, position = starting_state(program, config, source, checkpoints)
        step = position["step"]
        log = stack.enter_context(_open_log(workdir, config, step))
        _announce(config, state, source, mesh, step, total_steps)

        # --- data, step, evaluation -------------------------------------------------------------------------------
        plan, batches = training_stream(config, source, program.spec, position)
        feed = DeviceFeed(stack.enter_context(batches), mesh)
        run = _Run(config, plan, checkpoints, log, program.schedule, evaluator)
        run.save(step, state)  # so that there is one from before anything can go wrong
        if step in evaluations and not run.evaluated(step):
            run.evaluate(step, state)

        # --- the loop ---------------------------------------------------------------------------------------------
        line = stack.enter_context(ProgressLine("train", total_steps, config.train.batch_size, step, show=is_lead()))
        while step < total_steps and not agreed(stopping, step, config.train.log_every):
            batch = next(feed)
            with jax.transfer_guard("disallow"):  # all that a step needs lies on the devices already
                state, metrics, read = program.train_step(state, batch)
            step += 1
            run.taken(step, metrics, read)
            due = step in evaluations or step % config.train.checkpoint_every == 0
            if due or step % config.train.log_every == 0:
                log.write("speed", step, line.update(step, run.settle(), feed.waited))
            if due:
                with line.paused():
                    run.save(step, state)  # before the evaluation: a run stopped within it evaluates when it goes on
                    if step in evaluations:
                        run.evaluate(step, state)

        # --- the end ----------------------------------------------------------------------------------------------
        run.end(step, state)
        return Outcome(step, step >= total_steps, run.last_evaluation())


class _Run:
    """Metrics not yet read back, and what is written at a step."""

    def __init__(
        self,
        config: FrozenConfigDict,
        plan: TrainPlan,
        checkpoints: Checkpoints,
        log: MetricsLog,
        schedule: Callable[[Any], Any],
        evaluator: Callable[[dict[str, Any]], dict[str, float]],
    ):
        self.config, self.plan, self.checkpoints, self.log = config, plan, checkpoints, log
        self.schedule, self.evaluator = schedule, evaluator
        self.pending: list[tuple[int, dict[str, Any], list[int], Any]] = []

    def taken(self, step: int, metrics: dict[str, Any], read: Any) -> None:
        """Keeps what a step gave, while the devices still work on it, for the next call of `settle`."""
        self.pending.append((step, metrics, self.plan.wanted(step - 1), read))

    def settle(self) -> dict[str, float]:
        """Reads back what the steps since the last call gave and writes their metrics; returns those of the last.

        Stops at one that is not finite, or when too many records could not be read: all hosts at the same step.
        """
        row: dict[str, float] = {}
        pending, self.pending = self.pending, []
        for step, metrics, wanted, read in pending:
            row = {name: float(value) for name, value in jax.device_get(metrics).items()}
            if not (math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])):
                self._stop_at(step, row)
            self.plan.audit(wanted, jax.device_get(read).tolist())
            self.log.write("train", step, {**row, "lr": float(self.schedule(step - 1))})
        self.log.flush()
        return row

    def evaluate(self, step: int, state: TrainState) -> None:
        """Writes the metrics of the evaluation split into the log."""
        self.log.write("eval", step, self.evaluator(state.variables))
        self.log.flush()

    def save(self, step: int, state: TrainState) -> None:
        """Writes a checkpoint, unless the newest one is of this step."""
        if self.checkpoints.latest() == step:
            return
        position = {
            "version": 1,
            "step": step,
            "clip": self.plan.position(step),
            "replaced": sorted(self.plan.replaced),
            "seed": self.config.seed,
            "dataset_digest": self.plan.source.digest,
            "global_batch": self.config.train.batch_size,
        }
        config = configuration.to_dict(self.config)
        snapshot = Snapshot(state.variables, state.continuation, position, config, list(self.plan.source.classes))
        self.checkpoints.save(step, snapshot)

    def end(self, step: int, state: TrainState) -> None:
        self.settle()
        self.save(step, state)
        self.checkpoints.wait()

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


def _open_log(workdir: Path, config: FrozenConfigDict, step: int) -> MetricsLog:
    """Makes the run's folder, with the configuration of its last start and its metrics up to `step`."""
    if is_lead():
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", configuration.to_dict(config))
    return MetricsLog(workdir, step, write=is_lead())


def _announce(
    config: FrozenConfigDict, state: TrainState, source: TFRecordSource, mesh: Mesh, step: int, total_steps: int
) -> None:
    if is_lead():
        logger.info(
            "%s: %s parameters, %d device(s), %d videos; steps %d to %d of %d clips each; configuration %s",
            config.model.name, f"{count_parameters(state.params):,}", mesh.size, len(source), step,
            total_steps, config.train.batch_size, configuration.fingerprint(config),
        )  # fmt: skip


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
