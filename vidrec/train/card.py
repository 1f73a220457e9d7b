"""The card of a run, card.json: what it was made of and where it ran, an entry for each of its starts."""

import hashlib
import json
import os
import platform
import socket
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
from ml_collections import FrozenConfigDict

import vidrec
from vidrec import config as configuration
from vidrec.data.records import TFRecordSource
from vidrec.errors import UsageError
from vidrec.files import write_json
from vidrec.labels import ClassList

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
_NAME = "card.json"


def describe(config: FrozenConfigDict, source: TFRecordSource, evaluated: TFRecordSource) -> dict[str, Any]:
    """The entry of a start, as plain values.

    Args:
      source, evaluated: records of training and of evaluation.

    Returns:
      {"started": UTC time, "fingerprint" and "config" of the configuration, "data": {"train", "eval"} with the split,
      number of videos and digest of each, "labels": {"classes", "digest"}, "versions", "git": see `git_state`,
      "devices": {"platform", "kind", "here", "everywhere", "processes"}, "host": name of this machine}.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "fingerprint": configuration.fingerprint(config),
        "config": configuration.to_dict(config),
        "data": {
            name: {"split": records.split, "videos": len(records), "digest": records.digest}
            for name, records in (("train", source), ("eval", evaluated))
        },
        "labels": {"classes": len(source.classes), "digest": ClassList(source.classes).digest},
        "versions": versions(),
        "git": git_state(Path.cwd()),
        "devices": devices(),
        "host": socket.gethostname(),
    }


def add(workdir: Path, entry: dict[str, Any]) -> None:
    """Writes a start behind those that the card in `workdir` tells of."""
    before = read(workdir) if (workdir / _NAME).exists() else []
    write_json(workdir / _NAME, {"starts": [*before, entry]})


def last(workdir: Path) -> dict[str, Any] | None:
    """The latest start of the run in `workdir`, None if it holds none."""
    return read(workdir)[-1] if (workdir / _NAME).exists() else None


def read(workdir: str | Path) -> list[dict[str, Any]]:
    """The starts of a run, oldest first; raises UsageError if there is no card, or it is not one."""
    path = Path(workdir) / _NAME
    if not path.is_file():
        raise UsageError(f"there is no run in {workdir}: it has no {_NAME}, which `vidrec train` writes as it starts")
    try:
        return json.loads(path.read_text(encoding="utf-8"))["starts"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a card of a run ({type(error).__name__}: {error}); move it away") from error


def versions() -> dict[str, str | None]:
    """Versions of vidrec, Python and what results depend on; None for a package that is not there."""
    return {"vidrec": vidrec.__version__, "python": platform.python_version()} | {
        name: version_of(name) for name in PACKAGES
    }


def version_of(package: str) -> str | None:
    """The installed version, None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def devices() -> dict[str, Any]:
    """Platform, kind and numbers of devices; raises RuntimeError, as JAX does, where there is none."""
    first = jax.local_devices()[0]
    return {
        "platform": first.platform,
        "kind": first.device_kind,
        "here": jax.local_device_count(),
        "everywhere": jax.device_count(),
        "processes": jax.process_count(),
    }


def git_state(folder: Path) -> dict[str, str] | None:
    """{"commit": its name, "changes": digest of what differs from it in tracked files, or ""}.

    None where `folder` is not in a git repository, or git is not installed.
    """
    commit, changes = (_git(folder, *words) for words in (("rev-parse", "HEAD"), ("diff", "HEAD")))
    if commit is None or changes is None:
        return None
    return {"commit": commit.decode().strip(), "changes": hashlib.sha256(changes).hexdigest()[:12] if changes else ""}


def _git(folder: Path, *words: str) -> bytes | None:
    env = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}  # reading alone: another process may be at work there
    try:
        return subprocess.run(["git", *words], cwd=folder, env=env, capture_output=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
