"""Only what the command line needs; everything else is Any."""

from typing import Any

def __getattr__(name: str) -> Any: ...
