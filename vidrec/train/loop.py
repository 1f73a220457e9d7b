"""The training loop, from configuration to trained network, in one readable piece."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import FrozenConfigDict

from vidrec import config as configuration
from vidrec.data.feed import DeviceFeed
from vidrec.data.records import TFRecordSource
from vidrec.errors import BusyError, UsageError
from vidrec.files import alone, write_json
from vidrec.train import card, hosts
from vidrec.train.checkpoint import Checkpoints
from vidrec.train.profile import Profile
from vidrec.train.program import make_program, starting_state
from vidrec.train.report import Clock, MetricsLog, ProgressLine
from vidrec.train.run import Run
from vidrec.train.sharding import is_lead
from vidrec.train.stages import Stage, failures
from vidrec.train.start import (
    evaluation_steps,
    mesh_for,
    open_eval_records,
    open_training_records,
    training_stream,
    with_class_weights,
)
from vidrec.train.state import Network, TrainState, count_parameters
from vidrec.train.watchdog import Watchdog

logger = logging.getLogger(__name__)

# (model, config, mesh, evaluation step) -> (variables -> metrics of the evaluation split)
MakeEvaluator = Callable[[Network, FrozenConfigDict, Mesh, Any], Callable[[dict[str, Any]], dict[str, float]]]


class How(NamedTuple):
    """What changes no result of a run, but how one can look at it.

    Attributes:
      profile: steps to trace, into workdir/profile; 0 for none.
      debug: stop at the operation that gives the first NaN; the configuration is one of vidrec.train.debug.small.
      jit: False, only with `debug`, runs the steps operation by operation.
    """

    profile: int = 0
    debug: bool = False
    jit: bool = True


class Outcome(NamedTuple):
    """How a call of `train` ended.

    Attributes:
      step: steps taken in all.
      finished: False if it was asked to stop before the end.
      metrics: of the last evaluation, if any.
      seconds: where the time of this call went, by kind of work (vidrec.train.report.Clock).
    """

    step: int
    finished: bool
    metrics: dict[str, float]
    seconds: dict[str, float]


def train(
    config: FrozenConfigDict, workdir: str | Path, make_evaluator: MakeEvaluator, how: How | None = None
) -> Outcome:
    """Trains until the configured step, or goes on from the newest checkpoint in `workdir`.

    A run that is killed at any moment and started again ends with the parameters and metrics of an undisturbed one.

    Args:
      config: as from vidrec.config.load.
      workdir: folder of the run: config.json, card.json, metrics.jsonl, checkpoints/, tensorboard/.
      make_evaluator: builds the function called at every evaluation (vidrec.eval.evaluate.make_evaluator).
      how: to look at it; None for a plain run.

    Raises:
      BusyError: another process trains in `workdir`.
      VidrecError: configuration and records do not fit, the processes of the run do not agree, the loss is not finite,
        too many unreadable records, a device that fails.
    """
    how, workdir, clock = how or How(), Path(workdir).resolve(), Clock()
    with ExitStack() as stack:
        # --- what is trained, on what, for how long ---------------------------------------------------------------
        watchdog = stack.enter_context(Watchdog(config.train.watchdog, hosts.name()))
        with hosts.failing_together():
            source = open_training_records(config)
            entry = card.describe(config, source, open_eval_records(config, "--config.data.eval_split"))
        entry |= {"hosts": hosts.agree(entry), "debug": how.debug}
        mesh, size = mesh_for(config), config.data.image_size
        drawing = f"drawing {config.model.name} of {config.model.num_frames} frames of {size} x {size} pixels"
        with failures(drawing):
            program = make_program(with_class_weights(config, source), mesh, source.classes, len(source))
        train_step = Stage("the training step", program.train_step, clock, watchdog, jit=how.jit, guard=not how.debug)
        eval_step = Stage("the evaluation step", program.eval_step, clock, watchdog, jit=how.jit)
        total_steps = program.total_steps
        evaluations = evaluation_steps(config, total_steps, program.steps_per_epoch)
        evaluator = make_evaluator(program.model, config, mesh, eval_step)
        _check(config, source, workdir, how)
        stack.enter_context(_the_only_one(workdir))

        # --- state: fresh, or where the last run stopped ----------------------------------------------------------
        stack.enter_context(jax.set_mesh(mesh))
        stopping = stack.enter_context(stop_signals())
        if how.debug:
            stack.enter_context(jax.debug_nans(True))
        checkpoints = Checkpoints(workdir / "checkpoints", keep=config.train.keep, writer=True)
        stack.enter_context(checkpoints)
        fresh = checkpoints.latest() is None
        with (
            failures(drawing),
            clock.of("compile" if fresh else "checkpoint"),
            watchdog.paused() if fresh else nullcontext(),
        ):
            state, position = starting_state(program, config, source, checkpoints)
        step = position["step"]
        if step > total_steps:
            raise UsageError(
                f"{workdir} is at step {step} already, and the training is to end at {total_steps}: let it end at "
                f"--config.train.steps={step} or later, or choose another --workdir"
            )
        profile = stack.enter_context(Profile(workdir / "profile", how.profile, step, total_steps))
        log = stack.enter_context(_open_log(workdir, config, step, entry))
        _announce(config, state, source, mesh, step, total_steps)

        # --- data, step, evaluation -------------------------------------------------------------------------------
        plan, batches = training_stream(config, source, program.spec, position)
        feed = DeviceFeed(stack.enter_context(batches), mesh)
        run = Run(config, plan, checkpoints, log, program.schedule, evaluator, clock, watchdog)
        run.save(step, state)  # so that there is one from before anything can go wrong
        if step in evaluations and not run.evaluated(step):
            run.evaluate(step, state)

        # --- the loop ---------------------------------------------------------------------------------------------
        line = ProgressLine("train", total_steps, config.train.batch_size, step, clock, show=is_lead())
        stack.enter_context(line)
        while step < total_steps and not agreed(stopping, step, config.train.log_every):
            step += 1
            watchdog.at(f"step {step}")
            with profile.step(step):
                with clock.of("data_wait"):
                    batch = next(feed)
                state, metrics, read = train_step(state, batch)
            run.taken(step, metrics, read)
            profile.after(step, metrics)
            due = step in evaluations or step % config.train.checkpoint_every == 0
            if due or step % config.train.log_every == 0:
                log.write("speed", step, line.update(step, run.settle()))
            if due:
                run.save(step, state)  # before the evaluation: a run stopped within it evaluates when it goes on
                if step in evaluations:
                    run.evaluate(step, state)

        # --- the end ----------------------------------------------------------------------------------------------
        run.end(step, state)
        return Outcome(step, step >= total_steps, run.last_evaluation(), clock.seconds)


def _check(config: FrozenConfigDict, source: TFRecordSource, workdir: Path, how: How) -> None:
    """Raises UsageError for what would be found out too late."""
    if config.train.keep_best == "top5" and len(source.classes) <= 5:
        raise UsageError(f"train.keep_best is top5, which {len(source.classes)} classes do not have; use top1")
    before = card.last(workdir)
    if before is not None and before["debug"] != how.debug:
        kinds = {False: "a run without --debug", True: "a run of --debug, with its few clips to a step"}
        raise UsageError(f"{workdir} holds {kinds[before['debug']]}, which this one is not: choose another --workdir")


@contextmanager
def _the_only_one(workdir: Path) -> Iterator[None]:
    """Keeps a second training out of a run's folder, all of its processes."""
    with alone(workdir, wait=False) if is_lead() else nullcontext(True) as mine:
        if not hosts.from_lead(mine):
            raise BusyError(f"another training is at work in {workdir}: wait for its end or choose another --workdir")
        yield


def _open_log(workdir: Path, config: FrozenConfigDict, step: int, entry: dict[str, Any]) -> MetricsLog:
    """Makes the run's folder, with the configuration of its last start, its card, and its metrics up to `step`."""
    if is_lead():
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", configuration.to_dict(config))
        card.add(workdir, {**entry, "step": step})
    return MetricsLog(workdir, step, write=is_lead())


def _announce(
    config: FrozenConfigDict, state: TrainState, source: TFRecordSource, mesh: Mesh, step: int, total_steps: int
) -> None:
    if is_lead():
        logger.info(
            "%s: %s parameters, %d device(s), %d videos; %s of %d clips each; configuration %s",
            config.model.name, f"{count_parameters(state.params):,}", mesh.size, len(source),
            f"steps {step} to {total_steps}" if step < total_steps else f"no step left after {step}",
            config.train.batch_size, configuration.fingerprint(config),
        )  # fmt: skip


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Gives an event that SIGTERM or Ctrl-C sets, instead of ending the process; a second Ctrl-C does end it.

    SIGTERM is also what comes before a machine goes: Kubernetes and Slurm send it to what they stop, and a Cloud VM
    that is preempted or shut down for maintenance to all its processes. It takes the place of JAX's own handler.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def stop(number: int, frame: Any) -> None:
        """What a signal does."""
        del frame
        if number == signal.SIGINT:
            if event.is_set():
                raise KeyboardInterrupt
            # Not print, which may be under way.
            os.write(2, b"\nstopping: what was done is saved first; Ctrl-C again ends at once\n")
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
