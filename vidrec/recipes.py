"""Recipe files: Python that is run for its `get_config(arg)` or `sweep()`."""

import importlib.util
import traceback
from pathlib import Path
from typing import Any

from vidrec.errors import UsageError


def call(path: str, function: str, *arguments: Any) -> Any:
    """What a function of a recipe file returns.

    Raises:
      UsageError: there is no such file or function, or it fails; one sentence with the line.
    """
    if not Path(path).is_file():
        raise UsageError(f"there is no config file {path!r}; recipes stand in configs/, such as configs/stm.py:ssv1")
    spec = importlib.util.spec_from_file_location("vidrec_recipe", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path!r} is not a Python file; a recipe is one with get_config(arg)")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, function):
            raise UsageError(f"there is no function {function}; see those of configs/stm.py")
        return getattr(module, function)(*arguments)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except Exception as error:  # whatever a recipe does wrong is told by line, not by traceback
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(path)]
        reason = " ".join(str(error).replace("\\n", " ").replace("\\'", "").split()).strip("\"' ")
        raise UsageError(f"{path}, line {lines[-1] if lines else '?'}: {type(error).__name__}: {reason}") from error
