"""Writing shards: records and their index together, and what the manifest says about them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vidrec.data import manifest
from vidrec.data.index import IndexBuilder, ShardIndex, index_path
from vidrec.data.tfrecord import write_record
from vidrec.files import atomic_write
from vidrec.labels import ClassList


def shard_name(name: str, split: str, number: int, count: int) -> str:
    """File name of shard `number` of `count`, as TensorFlow and tensorflow-datasets expect it."""
    return f"{name}-{split}.tfrecord-{number:05d}-of-{count:05d}"


def write_shard(shard: Path, payloads: Iterable[bytes]) -> ShardIndex:
    """Writes a shard and its index, each by rename; where `payloads` raises, neither appears.

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


def describe_split(indexes: Sequence[ShardIndex], classes: ClassList) -> manifest.Split:
    """Returns the manifest's entry of the split that consists of these shards."""
    records = np.concatenate([index.records for index in indexes])
    counts = np.bincount(records["label"][records["label"] >= 0], minlength=len(classes))
    return manifest.Split(
        shards=[_describe(index, classes) for index in indexes],
        videos=len(records),
        frames=int(records["num_frames"].sum()),
        labels={name: int(count) for name, count in zip(classes, counts, strict=False)},
        digest=manifest.rows_digest(classes, records["crc"], records["label"]),
    )


def _describe(index: ShardIndex, classes: ClassList) -> manifest.Shard:
    digest = manifest.rows_digest(classes, index.records["crc"], index.records["label"])
    return manifest.Shard(index.shard.name, index.shard_bytes, len(index), digest)
