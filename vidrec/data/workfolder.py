"""The state of a conversion on disk, so that it can be killed at any moment and gone on with.

A record folder in the making holds `.convert/` with the plan and a note for each shard that is complete. An index
appears by rename, then its shard, then their note; so a shard that is there has its index, and need not be read through
to make one. The manifest comes last and the work folder goes.
"""

import contextlib
import json
import shutil
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from vidrec.data import archives, aside, manifest, tfds
from vidrec.data.index import index_path, open_index
from vidrec.data.manifest import Manifest, Shard
from vidrec.data.plan import Plan, difference
from vidrec.data.shards import describe_split, open_shard
from vidrec.errors import VidrecError
from vidrec.files import alone, write_json

NAME = ".convert"
_NOTE = ".done.json"

Skipped = list[dict[str, str]]
"""Of listed videos that are not in the records: `path`, `why`, `kind` ("missing" or "damaged"), and `shard`, the file
where each would be."""


@dataclass(frozen=True)
class Note:
    """What is known of a complete shard."""

    shard: Shard
    skipped: Skipped


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Makes the record folder and keeps every other conversion out of it; the lock dies with the process."""
    with alone(out, wait=False) as mine:
        if not mine:
            raise VidrecError(f"another 'vidrec convert' is at work in {out}; wait or choose another --out")
        yield


def load_finished(plan: Plan, out: Path) -> Manifest | None:
    """Returns the manifest of a finished folder, None where there is still something to do.

    A finished folder in which a shard has gone missing or bad becomes an unfinished one.

    Raises:
      VidrecError: the folder was made by another plan.
    """
    if not (out / manifest.FILE_NAME).is_file():
        return None
    found = manifest.load(out)
    _check_same(plan, out, found.plan, found.name, found.settings)
    shards = [shard for split in found.splits.values() for shard in split.shards]
    whole = [shard for shard in shards if _is_whole(out, shard, plan)]
    if len(whole) == len(shards):
        clear(out)  # it is left where the last call was killed after the manifest
        return found
    reopen(plan, out, found, [shard.file for shard in shards if shard not in whole])
    return None


def clear(out: Path) -> None:
    """Removes the work folder of a finished folder, if there is one."""
    shutil.rmtree(out / NAME, ignore_errors=True)


def reopen(plan: Plan, out: Path, found: Manifest, again: Collection[str]) -> None:
    """Makes a finished folder an unfinished one.

    Args:
      plan: of the conversion.
      out: the folder.
      found: its manifest.
      again: file names of the shards that are to be made again; all others count as complete.
    """
    _write_plan(plan, out)
    for shard in (shard for split in found.splits.values() for shard in split.shards):
        if shard.file not in again:
            write_note(out, Note(shard, [skip for skip in found.skipped if skip["shard"] == shard.file]))
    (out / manifest.FILE_NAME).unlink()


def start(plan: Plan, out: Path) -> dict[str, Note]:
    """Stores the plan or finds the same one stored, and clears away what a killed process left.

    Returns:
      File name of each complete shard -> its note.

    Raises:
      VidrecError: another plan is stored.
    """
    work = out / NAME
    for stale in [*out.glob(".*.tmp"), *work.glob(".*.tmp")]:
        stale.unlink()
    if (work / "plan.json").is_file():
        stored = json.loads((work / "plan.json").read_text())
        _check_same(plan, out, stored["digest"], stored["name"], stored["settings"])
    else:
        _write_plan(plan, out)
    notes = [_read_note(file) for file in sorted(work.glob(f"*{_NOTE}"))]
    whole = {note.shard.file: note for note in notes if _is_whole(out, note.shard, plan)}
    aside.clear(out, [shard.file for shard in plan.shards if shard.file not in whole])  # they are made again
    return whole


def write_note(out: Path, note: Note) -> None:
    """Notes that a shard and its index are in their places."""
    write_json(out / NAME / f"{note.shard.file}{_NOTE}", asdict(note))


def unpack(out: Path, files: list[Path]) -> Path:
    """Unpacks archives below the work folder, where they stay until the conversion is finished; returns the folder."""
    folder = out / NAME / "unpacked"
    archives.unpack(files, folder)
    return folder


def discard(plan: Plan, out: Path) -> None:
    """Removes all that a conversion made."""
    for shard in plan.shards:
        (out / shard.file).unlink(missing_ok=True)
        index_path(out / shard.file).unlink(missing_ok=True)
    shutil.rmtree(out / NAME)


def finish(plan: Plan, out: Path, skipped: Skipped) -> Manifest:
    """Writes the metadata of complete shards, last of all the manifest, and removes the work folder."""
    splits = {}
    for name in dict.fromkeys(shard.split for shard in plan.shards):
        indexes = [open_index(out / shard.file) for shard in plan.shards if shard.split == name]
        splits[name] = describe_split(indexes, plan.classes)
    codec = plan.settings["codec"]
    result = Manifest(plan.name, codec, plan.classes, splits, plan.settings, plan.digest, skipped)
    tfds.write_metadata(out, result)
    result.save(out)
    shutil.rmtree(out / NAME)
    return result


def _check_same(plan: Plan, out: Path, digest: str, name: str, settings: dict) -> None:
    if digest != plan.digest:
        what = difference(plan, name, settings)
        raise VidrecError(f"{out} was begun with other settings ({what}); choose another --out or delete it")


def _is_whole(out: Path, shard: Shard, plan: Plan) -> bool:
    try:
        open_shard(out, shard, plan.classes)
    except VidrecError:
        return False
    return True


def _write_plan(plan: Plan, out: Path) -> None:
    (out / NAME).mkdir(exist_ok=True)
    content = {"name": plan.name, "digest": plan.digest, "settings": plan.settings}
    write_json(out / NAME / "plan.json", content)


def _read_note(file: Path) -> Note:
    content = json.loads(file.read_text())
    return Note(Shard(**content["shard"]), content["skipped"])
