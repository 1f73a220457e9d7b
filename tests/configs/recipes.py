"""Reading the recipes in configs/ as the command line does."""

import importlib.util
from typing import Any

from vidrec.models.registry import create_model
from vidrec.train.recipe import load_recipe


def read(path: str, arg: str) -> Any:
    """The configuration of a recipe, the fields of its network and task checked and completed."""
    return load_recipe(f"{path}:{arg}")


def sweep(path: str) -> dict[str, list[str]]:
    """The arguments that a recipe lists."""
    spec = importlib.util.spec_from_file_location("recipe", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.sweep()


def network(config: Any) -> Any:
    """The network that a configuration names."""
    fields = {key: value for key, value in config.model.items() if key != "name"}
    return create_model(config.model.name, **{**fields, "num_classes": fields["num_classes"] or 8})
