"""What the loop calls on the devices: errors name stage and shapes, compiling is counted, a hang is noticed."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import jax

from vidrec.errors import VidrecError
from vidrec.train import hosts
from vidrec.train.report import Clock
from vidrec.train.watchdog import Watchdog
from vidrec.types import Batch

logger = logging.getLogger(__name__)


class Stage:
    """A jitted step as the loop calls it.

    It is compiled before its first call, which is counted as that and not watched; the call itself waits for others.

    Args:
      name: as errors name it, such as "the training step".
      step: jitted (state or variables, batch) -> anything.
      jit: False to run it operation by operation.
      guard: whether a transfer between host and devices within a call is an error; all it needs must lie there already.
    """

    def __init__(
        self, name: str, step: Any, clock: Clock, watchdog: Watchdog, *, jit: bool = True, guard: bool = False
    ):
        self.name, self._step, self._clock, self._watchdog = name, step, clock, watchdog
        self._jit, self._guard, self._compiled = jit, guard, False

    def __call__(self, state: Any, batch: Batch) -> Any:
        """The step's result; raises VidrecError for what a device or another process did wrong."""
        with ExitStack() as stack:
            if self._guard:
                stack.enter_context(jax.transfer_guard("disallow"))
            if not self._jit:
                stack.enter_context(jax.disable_jit())
            stack.enter_context(failures(f"{self.name}, given {shapes(batch)}"))
            if self._jit and not self._compiled:
                self._compile(state, batch)
            result = self._step(state, batch)
        self._watchdog.progress()
        return result

    def _compile(self, state: Any, batch: Batch) -> None:
        if jax.process_index() == 0:
            logger.info("compiling %s", self.name)
        with self._clock.of("compile"), self._watchdog.paused():
            self._step.lower(state, batch).compile()  # the call takes this one
        self._compiled = True


@contextmanager
def failures(stage: str) -> Iterator[None]:
    """Errors inside name the stage: a device's in a sentence, those of the network's or task's code in a note."""
    try:
        yield
    except VidrecError:
        raise
    except jax.errors.JaxRuntimeError as error:
        raise VidrecError(f"{stage}: {_reason(error)}") from error
    except Exception as error:
        error.add_note(f"This was in {stage}.")
        raise


def shapes(batch: Batch) -> str:
    """Type and shape of each array, such as "clips uint8[8, 4, 16, 16, 3], label int32[8]"."""
    return ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in batch._asdict().items())


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    if "RESOURCE_EXHAUSTED" in text:
        return (
            f"the device's memory does not suffice ({text}); lower train.batch_size, raise train.accumulate, set "
            "model.remat where the network has it, or take more devices"
        )
    if jax.process_count() > 1:
        return (
            f"{text}; {hosts.name()} tells this, and another process may have failed before: see what each of them "
            "says, then start the same command again on all: it goes on from the last complete checkpoint"
        )
    return text
