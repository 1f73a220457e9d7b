"""Shards as files: records and their index written together, and what the manifest says about them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vidrec.data import manifest
from vidrec.data.aside import AsideList
from vidrec.data.index import IndexBuilder, ShardIndex, index_path, open_damaged, open_index
from vidrec.data.remote import Place
from vidrec.data.tfrecord import WAY_OUT, write_record
from vidrec.errors import VidrecError
from vidrec.files import atomic_write
from vidrec.labels import ClassList


def shard_name(name: str, split: str, number: int, count: int) -> str:
    """File name of shard `number` of `count`, as TensorFlow and tensorflow-datasets expect it."""
    return f"{name}-{split}.tfrecord-{number:05d}-of-{count:05d}"


def write_shard(shard: Path, payloads: Iterable[bytes]) -> ShardIndex:
    """Writes a shard and its index, each by rename; where `payloads` raises, neither appears.

    The index appears first, so that a shard in its place always has one. Where the process is killed in between, the
    index stands alone or beside an older shard; that does no harm, as it says which shard it belongs to.

    Args:
      shard: path of the shard file.
      payloads: serialised records (`schema.write`), in order.

    Returns:
      The index.
    """
    builder = IndexBuilder(shard.name)
    with atomic_write(shard) as file:
        for payload in payloads:
            builder.add(write_record(file, payload), payload)
        index = builder.finish(file.tell())
        with atomic_write(index_path(shard)) as index_file:
            index_file.write(index)
    return ShardIndex(shard, index)


def open_shard(
    directory: Place, shard: manifest.Shard, classes: ClassList, aside: AsideList | None = None
) -> ShardIndex:
    """Opens the index of a shard that a manifest names, as far as it is not set aside.

    Raises:
      VidrecError: the shard is missing, cut off, damaged where the index shows it, or another one.
    """
    path = directory / shard.file

    def is_wanted(index: ShardIndex) -> bool:
        """Whether an index is of the shard that the manifest names."""
        return describe(index, classes) == (aside.kept(shard) if aside else shard)

    known_damaged = aside is not None and aside.names(shard.file)
    index = open_damaged(path) if known_damaged else open_index(path, right=is_wanted)
    if not is_wanted(index):
        raise VidrecError(f"shard {shard.file} in {directory} is not the one that its manifest names; {WAY_OUT}")
    return index


def describe(index: ShardIndex, classes: ClassList) -> manifest.Shard:
    """Returns the manifest's entry of a shard."""
    digest = manifest.rows_digest(classes, index.records["crc"], index.records["label"])
    return manifest.Shard(index.shard.name, index.shard_bytes, len(index), digest)


def describe_split(indexes: Sequence[ShardIndex], classes: ClassList) -> manifest.Split:
    """Returns the manifest's entry of the split that consists of these shards."""
    records = np.concatenate([index.records for index in indexes])
    known = records["label"][(records["label"] >= 0) & (records["label"] < len(classes))]
    counts = np.bincount(known, minlength=len(classes))
    return manifest.Split(
        shards=[describe(index, classes) for index in indexes],
        videos=len(records),
        frames=int(records["num_frames"].sum()),
        labels={name: int(count) for name, count in zip(classes, counts, strict=True)},
        digest=manifest.rows_digest(classes, records["crc"], records["label"]),
    )
