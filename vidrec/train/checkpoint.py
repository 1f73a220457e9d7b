"""Checkpoints: one folder per step holding weights, optimizer, position in the data, configuration and class list.

All of orbax stands behind this file. A checkpoint appears by rename when it is complete; a half-written one left by a
crash is never seen as one and is removed at the next start.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint
from etils import epath

from vidrec.errors import UsageError, VidrecError

ocp = orbax.checkpoint.v1
_JSON_ITEMS = ("position", "config", "classes")

# Orbax tells every save and restore at info level, and each error of a background thread with its traceback, though it
# also raises it where the write is waited for.
logging.getLogger("absl").setLevel(logging.WARNING)
logging.getLogger("absl").addFilter(lambda record: not (record.exc_info and "orbax" in record.pathname))


class Snapshot(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      variables: {"params": ..., "batch_stats": ...} of the network.
      optimizer: the optimizer's state, or None for weights that come from elsewhere.
      position: {"version", "step", "clip", "replaced", "seed", "dataset_digest", "global_batch"}: where the data stream
        goes on, and which records it has replaced.
      config: the whole configuration, as from vidrec.config.to_dict.
      classes: class names in label order.
    """

    variables: Mapping[str, Any]
    optimizer: Any
    position: dict[str, Any]
    config: dict[str, Any]
    classes: list[str]


class Checkpoints:
    """The checkpoints of one folder; writes in the background, keeps the newest `keep`.

    Only a `writer`, of which there is one, clears away what a crash left half-written.
    Use it as a context manager: leaving it waits for the write under way.
    """

    def __init__(self, directory: str | Path, *, keep: int = 3, writer: bool = False):
        self.directory = epath.Path(directory).resolve()
        registry = ocp.handlers.local_registry()
        for name in _JSON_ITEMS:
            registry.add(ocp.handlers.JsonHandler, checkpointable_name=name)
        context = ocp.Context()
        context.checkpointables.registry = registry
        self._policy = _NewestAndBest(keep)
        self._checkpointer = ocp.training.Checkpointer(
            self.directory,
            context=context,
            preservation_policy=self._policy,
            cleanup_tmp_directories=writer,
        )
        self._pending = None

    def keep_also(self, step: int) -> None:
        """Keeps the checkpoint of `step` beside the newest, as the best; the one that was the best no longer counts.

        All processes of a run must say the same. What is no longer kept goes with the next `save`.
        """
        self._policy.best = step

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    def steps(self) -> list[int]:
        """Steps of all complete checkpoints, ascending."""
        return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

    def save(self, step: int, snapshot: Snapshot) -> None:
        """Starts writing a checkpoint of `step`; the arrays may be changed as soon as this returns."""
        self.wait()
        items = {name: value for name, value in snapshot._asdict().items() if value is not None}
        with self._told():
            self._pending = self._checkpointer.save_checkpointables_async(step, items, force=True)

    def describe(self, step: int) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        """Reads position, configuration and class list of a checkpoint."""
        items = self._load(step, dict.fromkeys(_JSON_ITEMS))
        return items["position"], items["config"], items["classes"]

    def restore(self, step: int, variables: Any, optimizer: Any = None) -> tuple[Any, Any]:
        """Reads weights, and the optimizer's state if asked for, onto the devices of the given abstract trees.

        Args:
          variables, optimizer: trees of jax.ShapeDtypeStruct with shardings; any topology.
        """
        wanted = {"variables": variables} | ({} if optimizer is None else {"optimizer": optimizer})
        items = self._load(step, wanted)
        return items["variables"], items.get("optimizer")

    def wait(self) -> None:
        """Waits until the write under way is complete; raises its error."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            with self._told():
                pending.result()

    def close(self) -> None:
        """Waits for the write under way, whose error it raises, and ends the background threads."""
        try:
            self.wait()
        finally:
            with self._told():  # orbax raises the error of a failed write here once more
                self._checkpointer.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turns a failed write (tensorstore raises ValueError for a full disk) into one sentence."""
        try:
            yield
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise VidrecError(
                f"cannot write a checkpoint in {self.directory}: {reason}; free some space and start the command "
                "again: it goes on from the last complete checkpoint"
            ) from error

    def _load(self, step: int, items: dict[str, Any]) -> dict[str, Any]:
        if step not in self.steps():
            raise UsageError(f"there is no checkpoint of step {step} in {self.directory}, only of {self.steps()}")
        try:
            return self._checkpointer.load_checkpointables(step, items)
        except (KeyError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:300]
            raise VidrecError(f"checkpoint {step} in {self.directory} does not fit this network: {reason}") from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _NewestAndBest:
    """Orbax's rule of what stays, asked at every save: the newest `count`, and the step `best`."""

    def __init__(self, count: int):
        self._count = count
        self.best: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether each checkpoint stays."""
        del context
        newest = sorted(checkpoint.step for checkpoint in checkpoints)[-self._count :]
        return [checkpoint.step in newest or checkpoint.step == self.best for checkpoint in checkpoints]


def abstract(tree: Any, sharding: Any) -> Any:
    """Shapes and types of `tree` (arrays or shapes), placed by `sharding` (one, or a tree of them)."""
    if isinstance(sharding, jax.sharding.Sharding):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, sharding)
