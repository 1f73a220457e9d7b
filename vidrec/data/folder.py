"""What opening a record folder means: our own, local or remote, or one that tensorflow-datasets prepared."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from vidrec.data import aside as aside_module
from vidrec.data import foreign, manifest
from vidrec.data.aside import AsideList
from vidrec.data.index import ShardIndex
from vidrec.data.openfiles import allow_files
from vidrec.data.remote import Place
from vidrec.data.shards import open_shard
from vidrec.labels import ClassList

log = logging.getLogger(__name__)

_REQUESTS = 16


class Folder(NamedTuple):
    """An opened record folder.

    Attributes:
      sizes: number of videos of each split.
      aside: what is set aside in it.
      open_split: name of a split -> the indexes of its shards.
    """

    name: str
    classes: ClassList
    sizes: dict[str, int]
    aside: AsideList
    open_split: Callable[[str], list[ShardIndex]]


def open_folder(directory: Place) -> Folder:
    """Opens a record folder, of which no shard is looked at yet.

    Raises:
      VidrecError: it is not there or not finished, or what it says of itself is damaged. OSError: it cannot be read.
    """
    if isinstance(directory, Path) and is_foreign(directory):
        return _open_foreign(directory)
    info = manifest.load(directory)
    aside = aside_module.load(directory)
    for cut in aside.cut:
        log.warning("%s: not read are %s", directory, cut)
    if isinstance(directory, Path):
        allow_files(sum(len(split.shards) for split in info.splits.values()))  # each index is one while it is mapped
    sizes = {name: sum(aside.kept(shard).records for shard in split.shards) for name, split in info.splits.items()}

    def open_split(name: str) -> list[ShardIndex]:
        """The shards of a split."""
        return _open_shards(directory, info.splits[name].shards, info.classes, aside)

    return Folder(info.name, info.classes, sizes, aside, open_split)


def is_foreign(directory: Path) -> bool:
    """Whether tensorflow-datasets prepared a folder; ours, finished or not, hold its metadata as well."""
    ours = (directory / manifest.FILE_NAME).exists() or (directory / ".convert").exists()
    return not ours and (directory / foreign.FILE_NAME).is_file()


def _open_foreign(directory: Path) -> Folder:
    data = foreign.load(directory)
    allow_files(sum(len(shards) for shards in data.splits.values()))
    sizes = {name: sum(records for _, records in shards) for name, shards in data.splits.items()}
    return Folder(data.name, data.classes, sizes, AsideList(), data.open_split)


def _open_shards(
    directory: Place, shards: Sequence[manifest.Shard], classes: ClassList, aside: AsideList
) -> list[ShardIndex]:
    def open_one(shard: manifest.Shard) -> ShardIndex:
        """One shard."""
        return open_shard(directory, shard, classes, aside)

    if isinstance(directory, Path):
        return [open_one(shard) for shard in shards]
    with ThreadPoolExecutor(_REQUESTS) as threads:  # each waits for answers most of the time
        try:
            return list(threads.map(open_one, shards))
        finally:
            threads.shutdown(cancel_futures=True)  # after a failure nobody needs the rest
