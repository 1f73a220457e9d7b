"""Training of the experiments' small networks."""

from pathlib import Path

from ml_collections import ConfigDict

from vidrec.eval.evaluate import make_evaluator
from vidrec.train.loop import train
from vidrec.train.recipe import complete


def train_small(config: ConfigDict, run: Path, records: str | Path, *, seed: int = 0, steps: int | None = None) -> Path:
    """Trains from a recipe, or goes on; returns the run's folder.

    Args:
      steps: of the training; None takes the recipe's. A recipe of so many steps, not epochs, is evaluated and saved at
        its end alone.

    Raises:
      KeyboardInterrupt: it was asked to stop before the end.
    """
    config = config.copy_and_resolve_references()
    config.seed, config.data.records = seed, str(records)
    length: int = steps or config.train.steps
    if length:
        config.train.update(steps=length, eval_every=length, checkpoint_every=length)
        config.optim.warmup_steps = min(config.optim.warmup_steps, length // 2)
    if not train(complete(config), run, make_evaluator).finished:
        raise KeyboardInterrupt
    return run
