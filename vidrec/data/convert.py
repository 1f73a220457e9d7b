"""Videos to record folders: one task per shard, on several processes; killed at any moment, the next call goes on.

The plan (`plan.py`) fixes what every shard will hold, the work folder (`workfolder.py`) knows which are complete; so
the next call makes only what is missing, and the result does not depend on how often it was stopped.

Equal videos, annotations and settings give equal bytes: on any number of workers, in any folder, whenever it is run.
That holds for one version of the libraries that decode videos (PyAV with its FFmpeg) and encode frames (OpenCV, or
else Pillow: which one is a setting of the plan, so a folder begun with one is not gone on with by the other).
"""

import errno
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vidrec.data import archives, images, schema, workfolder
from vidrec.data.convert_places import find_videos, shards_to_retry
from vidrec.data.convert_report import ConvertReport, make_report
from vidrec.data.convert_video import make_record
from vidrec.data.datasets import (
    ARCHIVES,
    OWN_LISTS,
    Annotations,
    effective_options,
    locate,
    prepared,
    read_annotations,
)
from vidrec.data.manifest import Manifest
from vidrec.data.openfiles import Unreadable
from vidrec.data.plan import Plan, ShardPlan, file_safe, make_plan
from vidrec.data.pool import Progress, Tick, run_tasks, usable_cores
from vidrec.data.remote import RemotePath, place
from vidrec.data.shards import describe, write_shard
from vidrec.data.video import read_video
from vidrec.data.workfolder import Skipped
from vidrec.errors import UsageError, VidrecError
from vidrec.labels import ClassList

_QUALITY = 95


def convert(
    dataset: str,
    root: str | os.PathLike[str],
    annotations: str | os.PathLike[str] | None,
    out: str | os.PathLike[str],
    *,
    name: str | None = None,
    workers: int | None = None,
    short_side: int = 256,
    quality: int | None = None,
    codec: str = "jpeg",
    videos_per_shard: int = 64,
    seed: int = 0,
    retry_skipped: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> ConvertReport:
    """Converts videos (files or folders of pictures) to a record folder.

    Videos that are missing or damaged are left out and reported. One that the system does not let be read (for want of
    rights, say, or because a disk is gone) stops it instead, lest it be lost. Called again on a finished folder, it
    does nothing.

    Args:
      dataset: annotation format, one of `datasets.READERS`, or `tfds:NAME` for a data set that tensorflow-datasets
        prepared.
      root: folder that listed paths start from; for HMDB51 also the archive hmdb51_org.rar, or a folder of archives.
      annotations: file or folder of annotations; None for `tfds:NAME`, which has its own.
      out: folder to write.
      name: of the data set; by default that of the annotation format, or of `root` for one's own lists.
      workers: processes; one per core by default.
      short_side: larger videos are made smaller to this short side, in pixels; 0 keeps every size.
      quality: of the codecs jpeg and mp4, 1 to 100; 95 by default.
      codec: one of `schema.CODECS`.
      videos_per_shard: at most so many videos share a file.
      seed: of the order of the records.
      retry_skipped: in a finished folder, makes the shards again in which a skipped video has its place, where that
        video (or a damaged one) is there now.
      progress: called with (videos done, videos in all).
      options: of the annotation format (`split_number`, `label_order`, `classes`).

    Raises:
      UsageError: wrong arguments. VidrecError: wrong annotations, a folder made with other settings, not one readable
        video, no right to read one, no room or no right to write; what is complete by then is kept.
    """
    root, out = _local("--root", root), _local("--out", out)
    annotations = None if annotations is None else _local("--annotations", annotations)
    _check_root(dataset, root)
    root = root.absolute()  # finders return whole paths
    _check_arguments(out, workers, short_side, quality, codec, videos_per_shard, seed)
    root, listed = _list(dataset, root, annotations, options)
    settings = {
        "dataset": dataset,
        **_recorded(effective_options(dataset, options)),
        "short_side": short_side,
        "codec": codec,
        "quality": _QUALITY if quality is None else quality,
        "videos_per_shard": videos_per_shard,
        "seed": seed,
        "image_library": images.BACKEND,  # each encodes JPEG a little differently
    }
    default_name = root.resolve().name if dataset in OWN_LISTS else dataset.removeprefix(prepared.PREFIX)
    plan = make_plan(file_safe(name or default_name), settings, listed)
    try:
        with workfolder.locked(out):
            result, made = _carry_out(plan, root, out, workers or usable_cores(), progress, retry_skipped)
            counts = dict(Counter(entry.split for entry in listed.entries))
            return make_report(out, result, counts, listed.official, made)
    except OSError as error:
        raise VidrecError(_storage_trouble(error, out)) from None


def _local(flag: str, address: str | os.PathLike[str]) -> Path:
    found = place(address)
    if not isinstance(found, RemotePath):
        return found
    if flag == "--out":
        raise UsageError(f"--out {found}: convert writes to local folders; copy the finished folder there")
    raise UsageError(f"{flag} {found}: convert reads local files; copy these here first")


def _list(dataset: str, root: Path, annotations: Path | None, options: dict[str, Any]) -> tuple[Path, Annotations]:
    """The folder that listed paths start from, and what is listed."""
    if dataset.startswith(prepared.PREFIX):
        effective_options(dataset, options)
        if annotations is not None:
            raise UsageError(f"--annotations does not apply to '{dataset}', which has its own; leave it out")
        root = prepared.find_prepared(dataset, root)
        return root, prepared.read_prepared(root)
    if annotations is None:
        raise UsageError(f"--annotations is missing: data set format '{dataset}' needs a file or folder of them")
    return root, read_annotations(dataset, annotations, options)


def _recorded(options: dict[str, Any]) -> dict[str, Any]:
    """Of a file of class names only the name, lest the records depend on where it lies; its content is the classes."""
    if classes := options.get("classes"):
        return options | {"classes": Path(classes).name}
    return {name: value for name, value in options.items() if name != "classes"}


def _check_root(dataset: str, root: Path) -> None:
    if not root.is_dir() and not (dataset in ARCHIVES and root.is_file() and archives.archive_name(root)):
        raise VidrecError(f"folder of videos {root} does not exist; give it with --root")


def _check_arguments(
    out: Path, workers: int | None, short_side: int, quality: int | None, codec: str, videos_per_shard: int, seed: int
) -> None:
    if out.exists() and not out.is_dir():
        raise VidrecError(f"{out} is a file; choose a folder with --out")
    if codec not in schema.CODECS:
        raise UsageError(f"--codec {codec}: choose one of {', '.join(schema.CODECS)}")
    if codec == "raw" and quality is not None:
        raise UsageError("--quality has no effect with --codec raw, which keeps exact pixels; leave one out")
    for flag, value, least, most in (
        ("--workers", 1 if workers is None else workers, 1, 4096),
        ("--short-side", short_side, 0, 1 << 14),
        ("--quality", _QUALITY if quality is None else quality, 1, 100),
        ("--videos-per-shard", videos_per_shard, 1, 1 << 20),
        ("--seed", seed, 0, (1 << 63) - 1),
    ):
        if not least <= value <= most:
            raise UsageError(f"{flag} {value}: should be from {least} to {most}")


def _carry_out(
    plan: Plan, root: Path, out: Path, workers: int, progress: Progress | None, retry_skipped: bool
) -> tuple[Manifest, int]:
    """Makes what is missing; returns the manifest and the number of shards made."""
    finished = workfolder.load_finished(plan, out)
    if finished is not None:
        again = shards_to_retry(plan, finished.skipped, root, out) if retry_skipped else []
        if not again:
            workfolder.clear(out)
            return finished, 0
        workfolder.reopen(plan, out, finished, again)
    notes = workfolder.start(plan, out)
    missing = [shard for shard in plan.shards if shard.file not in notes]
    skipped = [skip for note in notes.values() for skip in note.skipped]
    tasks = [_Task(shard, found) for shard, found in zip(missing, find_videos(plan, missing, root, out), strict=True)]
    work = partial(_convert_shard, root=root, out=out, settings=plan.settings, classes=plan.classes)
    done = plan.videos - sum(len(shard.entries) for shard in missing)
    results = run_tasks(work, tasks, workers=workers, done=done, total=plan.videos, progress=progress)
    skipped = [*skipped, *(skip for result in results for skip in result)]
    skipped.sort(key=lambda skip: (skip["path"], skip["why"]))  # a path may be listed with several pieces
    if len(skipped) == plan.videos:
        workfolder.discard(plan, out)
        first = f"the first is {skipped[0]['path']}: {skipped[0]['why']}"
        raise VidrecError(f"not one of the {plan.videos} listed videos can be read; is --root right? ({first})")
    return workfolder.finish(plan, out, skipped), len(missing)


@dataclass(frozen=True)
class _Task:
    """A shard, and where its videos lie that lie elsewhere than listed: listed path -> file."""

    shard: ShardPlan
    found: dict[str, str]


def _convert_shard(
    task: _Task, tick: Tick, *, root: Path, out: Path, settings: dict[str, Any], classes: ClassList
) -> Skipped:
    """Writes one shard, its index and its note; returns the videos that had to be left out."""
    skipped: Skipped = []
    shard = task.shard

    def payloads() -> Iterator[bytes]:
        """The records of the videos that can be read; notes the others."""
        for entry in shard.entries:
            path = locate(root, task.found.get(entry.path, entry.path))
            in_records = settings["dataset"].startswith(prepared.PREFIX)
            try:
                video = prepared.read_video(root, entry) if in_records else read_video(path)
                record = make_record(entry, video, settings, classes)
            except Unreadable:
                raise
            except VidrecError as error:
                # The path as listed: the manifest does not depend on where the videos lie.
                why = str(error).replace(str(path), entry.path)
                kind = "damaged" if in_records or path.exists() else "missing"
                skipped.append({"path": entry.path, "why": why, "kind": kind, "shard": shard.file})
            else:
                yield schema.write(record)
            tick()

    index = write_shard(out / shard.file, payloads())
    workfolder.write_note(out, workfolder.Note(describe(index, classes), skipped))
    return skipped


def _storage_trouble(error: OSError, out: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no room left in {out} ({error.strerror}); free some and run the same command again, it goes on"
    return f"cannot write in {out} ({error.strerror}); change its rights or choose another --out"
