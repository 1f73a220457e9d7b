"""Training so small that one can look at it: one device, a few clips, no loader processes, no time limit."""

import logging

import jax
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec import config as configuration
from vidrec.errors import UsageError
from vidrec.models.norm import parse_bn

logger = logging.getLogger(__name__)


def small(config: FrozenConfigDict) -> FrozenConfigDict:
    """The configuration with which `vidrec train --debug` trains; what it changes is told.

    One device, the fewest clips that the network and task take, loading in this process, no watchdog: a breakpoint
    (`jax.debug.breakpoint()` in a jitted function, `breakpoint()` elsewhere) may last as long as it takes.

    Raises:
      UsageError: this is one of several processes.
    """
    if jax.process_count() > 1:
        raise UsageError("--debug and --no-jit are for a single process: start it without --processes")
    changed = ConfigDict(config.to_dict())
    changed.mesh.update(dict.fromkeys(changed.mesh, 1))
    changed.data.workers = 0
    clips = parse_bn(getattr(config.model, "bn", "global")).clips
    changed.train.update(batch_size=min(config.train.batch_size, clips or 2), accumulate=1, watchdog=0.0)
    lines = configuration.differences(configuration.to_dict(config), configuration.to_dict(changed))
    logger.info("Debugging, with NaN checks and: %s.", "; ".join(lines) or "no other change")
    return FrozenConfigDict(changed)
