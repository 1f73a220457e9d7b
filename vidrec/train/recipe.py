"""Recipes with all the fields of their network and task, which `vidrec.config` itself knows nothing of."""

from collections.abc import Sequence

from ml_collections import ConfigDict, FrozenConfigDict

from vidrec import config as configuration
from vidrec.models.registry import model_fields
from vidrec.train.tasks import task_fields


def load_recipe(spec: str, overrides: Sequence[str] = ()) -> FrozenConfigDict:
    """Reads `path[:arg]` as `vidrec.config.load` does, checked and completed throughout."""
    return configuration.load(spec, overrides, model_fields=model_fields, task_fields=task_fields)


def complete(config: ConfigDict) -> FrozenConfigDict:
    """What `load_recipe` makes of a configuration that is there already."""
    return configuration.completed(config, model_fields=model_fields, task_fields=task_fields)
