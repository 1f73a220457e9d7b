"""manifest.json: what a record folder holds, written last, so that a folder with one is a finished folder."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt32

from vidrec.data.remote import Place
from vidrec.data.schema import SCHEMA_VERSION
from vidrec.errors import VidrecError
from vidrec.files import write_json
from vidrec.labels import ClassList

FILE_NAME = "manifest.json"


@dataclass
class Shard:
    """One shard file: its name, size, number of records and a digest of their order and content."""

    file: str
    bytes: int
    records: int
    digest: str


@dataclass
class Split:
    """One split: its shards in order, videos and frames in all, videos per class, digest as of `rows_digest`."""

    shards: list[Shard]
    videos: int
    frames: int
    labels: dict[str, int]
    digest: str


@dataclass
class Manifest:
    """The content of manifest.json.

    Attributes:
      settings: everything that decided the bytes of the records.
      plan: digest of settings and source list; equal plans give equal record folders.
      skipped: `{"path", "why", "kind", "shard"}` of every listed video that is not in the records.
    """

    name: str
    codec: str
    classes: ClassList
    splits: dict[str, Split]
    settings: dict[str, Any]
    plan: str
    skipped: list[dict[str, str]] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Digest of the whole data set: of its classes and all its splits, wherever the folder lies."""
        parts = [
            self.classes.digest,
            *(f"{name}={split.digest}" for name, split in sorted(self.splits.items())),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def save(self, directory: Path) -> None:
        """Writes manifest.json into `directory`, by rename."""
        write_json(
            directory / FILE_NAME,
            {
                "name": self.name,
                "schema": SCHEMA_VERSION,
                "digest": self.digest,
                "codec": self.codec,
                "classes": list(self.classes),
                "classes_digest": self.classes.digest,
                "splits": {name: asdict(split) for name, split in self.splits.items()},
                "settings": self.settings,
                "plan": self.plan,
                "skipped": self.skipped,
            },
        )


def load(directory: Place) -> Manifest:
    """Reads the manifest of a record folder.

    Raises:
      VidrecError: the folder is not there, is not finished, or its manifest is damaged or of another version.
    """
    path = directory / FILE_NAME
    if isinstance(directory, Path) and not directory.is_dir():
        raise VidrecError(
            f"record folder {directory} does not exist; say where it is (--records, of a training "
            "--config.data.records), or make it: vidrec convert"
        )
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        why = f"{directory} has no {FILE_NAME}; make or finish the record folder with 'vidrec convert'"
        raise VidrecError(f"{why}{'' if isinstance(directory, Path) else ', and copy it there'}") from None
    try:
        content = json.loads(data)
        manifest = _parse(content)
        version, digests = content["schema"], (content["digest"], content["classes_digest"])
    except (ValueError, KeyError, TypeError, AttributeError, VidrecError) as error:
        why = f"{type(error).__name__}: {error}"
        raise VidrecError(f"{path} is damaged ({why}); delete it and run the same 'vidrec convert' again") from None
    if version != SCHEMA_VERSION:
        raise VidrecError(f"{path} is of schema {version}, this vidrec reads {SCHEMA_VERSION}; convert again")
    if digests != (manifest.digest, manifest.classes.digest):
        raise VidrecError(
            f"{path} was changed after it was written (its digest does not fit its classes and splits); "
            "delete it and run the same 'vidrec convert' again"
        )
    return manifest


def _parse(content: dict[str, Any]) -> Manifest:
    splits = {
        name: Split(**(split | {"shards": [Shard(**shard) for shard in split["shards"]]}))
        for name, split in content["splits"].items()
    }
    return Manifest(
        name=content["name"],
        codec=content["codec"],
        classes=ClassList(content["classes"]),
        splits=splits,
        settings=content["settings"],
        plan=content["plan"],
        skipped=content["skipped"],
    )


def rows_digest(classes: Sequence[str], crcs: UInt32[np.ndarray, " n"], labels: Int32[np.ndarray, " n"]) -> str:
    """Digest of a sequence of records: class names, CRC of each payload and label of each, in order."""
    digest = hashlib.sha256("\0".join(classes).encode())
    digest.update(np.ascontiguousarray(crcs, "<u4").tobytes())
    digest.update(np.ascontiguousarray(labels, "<i4").tobytes())
    return digest.hexdigest()[:16]
