"""What a run keeps of its steps: metrics read back from the devices, evaluations, checkpoints."""

import logging
import math
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import FrozenConfigDict

from vidrec import config as configuration
from vidrec.data.pipeline import TrainPlan
from vidrec.errors import VidrecError
from vidrec.train import hosts
from vidrec.train.checkpoint import Checkpoints, Snapshot
from vidrec.train.report import Clock, MetricsLog, read_metrics, shares
from vidrec.train.sharding import is_lead
from vidrec.train.stages import failures
from vidrec.train.state import TrainState
from vidrec.train.watchdog import Watchdog

logger = logging.getLogger(__name__)


class Run:
    """Metrics not yet read back, and what is written at a step."""

    def __init__(
        self,
        config: FrozenConfigDict,
        plan: TrainPlan,
        checkpoints: Checkpoints,
        log: MetricsLog,
        schedule: Callable[[Any], Any],
        evaluator: Callable[[dict[str, Any]], dict[str, float]],
        clock: Clock,
        watchdog: Watchdog,
    ):
        self.config, self.plan, self.checkpoints, self.log = config, plan, checkpoints, log
        self.schedule, self.evaluator, self.clock, self.watchdog = schedule, evaluator, clock, watchdog
        self.pending: list[tuple[int, dict[str, Any], list[int], Any]] = []
        self.best = self._best_so_far()

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
            self.watchdog.at(f"step {step}")
            with failures(f"step {step}"):
                row = {name: float(value) for name, value in jax.device_get(metrics).items()}
                numbers = jax.device_get(read).tolist()
            if not (math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])):
                self._stop_at(step, row)
            self.plan.audit(wanted, numbers)
            self.log.write("train", step, {**row, "lr": float(self.schedule(step - 1))})
        self.log.flush()
        return row

    def evaluate(self, step: int, state: TrainState) -> None:
        """Writes the metrics of the evaluation split into the log; the best checkpoint is kept from now on."""
        self.watchdog.at(f"the evaluation after step {step}")
        with self.clock.of("eval"):
            metrics = self.evaluator(state.variables)
        self.log.write("eval", step, metrics)
        self.log.flush()
        name = self.config.train.keep_best
        if name and (self.best is None or metrics[name] > self.best[0]):
            self.best = (metrics[name], step)
            self.checkpoints.keep_also(step)

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
        self.watchdog.at(f"the checkpoint of step {step}")
        with self.clock.of("checkpoint"):
            self.log.sync()
            self.checkpoints.save(step, snapshot)

    def end(self, step: int, state: TrainState) -> None:
        """Waits for everything, and tells where the time went and which checkpoint is the best."""
        self.settle()
        self.save(step, state)
        with self.clock.of("checkpoint"):
            self.checkpoints.wait()
        self.clock.lap()
        parts = ", ".join(f"{kind} {share:.1%}" for kind, share in shares(self.clock.seconds).items())
        if is_lead():
            logger.info("%.0f s: %s", sum(self.clock.seconds.values()), parts)
        if is_lead() and self.best is not None:
            logger.info("The best %s, %.4g, is that of step %d.", self.config.train.keep_best, *self.best)

    def evaluated(self, step: int) -> bool:
        """Whether the log of the first process, the only one that writes, holds the evaluation of `step`."""
        return hosts.from_lead(any(row["step"] == step for row in self._evaluations()))

    def last_evaluation(self) -> dict[str, float]:
        """Metrics of the last evaluation in the log, {} if there was none."""
        rows = self._evaluations()
        return {name: value for name, value in rows[-1].items() if name not in ("kind", "step")} if rows else {}

    def _evaluations(self) -> list[dict[str, Any]]:
        return [row for row in read_metrics(self.log.path) if row["kind"] == "eval"]

    def _best_so_far(self) -> tuple[float, int] | None:
        """(metric, step) of the best evaluation of which there is a checkpoint, the first of equals."""
        name = self.config.train.keep_best
        if not name:
            return None
        steps = self.checkpoints.steps()
        found = [(row[name], -row["step"]) for row in self._evaluations() if row["step"] in steps]
        best = hosts.from_lead(max(found, default=None))
        if best is None:
            return None
        self.checkpoints.keep_also(-best[1])
        return best[0], -best[1]

    def _stop_at(self, step: int, row: dict[str, float]) -> None:
        self.log.flush()
        self.checkpoints.wait()
        ids = ", ".join(self.plan.video_ids(step - 1))
        raise VidrecError(
            f"the loss of step {step} is {row['loss']} (gradient norm {row['grad_norm']}); the last checkpoint "
            f"before it is step {self.checkpoints.latest()} in {self.checkpoints.directory}; lower optim.lr, lengthen "
            f"optim.warmup_steps, or look at the batch's videos: {ids}"
        )
