"""Where the videos of a conversion lie, and which shards to make again because a skipped video is there now."""

from pathlib import Path

from vidrec.data import archives, workfolder
from vidrec.data.datasets import ARCHIVES, FINDERS, locate, prepared
from vidrec.data.openfiles import reading
from vidrec.data.plan import Plan, ShardPlan
from vidrec.data.workfolder import Skipped
from vidrec.errors import VidrecError


def find_videos(plan: Plan, shards: list[ShardPlan], root: Path, out: Path) -> list[dict[str, str]]:
    """Finds the videos that lie elsewhere than listed, after unpacking what is still in archives.

    Args:
      plan: of the conversion.
      shards: those of it whose videos are wanted.
      root: folder that listed paths start from, or an archive.
      out: the record folder; archives are unpacked in its work folder.

    Returns:
      Of each shard: listed path -> the file, a whole path.

    Raises:
      VidrecError: an archive cannot be unpacked. Unreadable: the system does not let a folder be read.
    """
    dataset, roots = plan.settings["dataset"], [root]
    if shards and dataset in ARCHIVES:
        unpacked = workfolder.unpack(out, archives.find_archives(root, ARCHIVES[dataset](plan.classes)))
        roots = [folder.absolute() for folder in (root, unpacked) if folder.is_dir()]
    if not shards or dataset not in FINDERS:
        return [{} for _ in shards]
    found = FINDERS[dataset]([entry for shard in shards for entry in shard.entries], roots)
    return [{entry.path: found[entry.path] for entry in shard.entries if entry.path in found} for shard in shards]


def shards_to_retry(plan: Plan, skipped: Skipped, root: Path, out: Path) -> list[str]:
    """Chooses the shards that may hold more videos when they are made again.

    Args:
      plan: of the conversion.
      skipped: what the finished folder does not hold.
      root: folder that listed paths start from, or an archive.
      out: the record folder.

    Returns:
      File names of the shards of which a skipped video is there now: it was missing, or damaged and may be whole now.

    Raises:
      VidrecError: a video that such a shard holds is gone, so that the shard would lose it.
    """
    places: dict[str, set[str]] = {}
    for skip in skipped:
        places.setdefault(skip["shard"], set()).add(skip["path"])
    shards = [shard for shard in plan.shards if shard.file in places]
    if plan.settings["dataset"].startswith(prepared.PREFIX):
        return [shard.file for shard in shards]
    again: list[str] = []
    gone: list[str] = []
    for shard, found in zip(shards, find_videos(plan, shards, root, out), strict=True):
        there = {entry.path for entry in shard.entries if _exists(root, found.get(entry.path, entry.path))}
        if there & places[shard.file]:
            again.append(shard.file)
            gone += sorted({entry.path for entry in shard.entries} - there - places[shard.file])
    if gone:
        raise VidrecError(
            f"--retry-skipped makes {len(again)} shards again, which would lose {len(gone)} videos that are not below "
            f"{root} any more (the first is {gone[0]}); put all of them there"
        )
    return again


def _exists(root: Path, path: str) -> bool:
    with reading(root / path):
        return locate(root, path).exists()
