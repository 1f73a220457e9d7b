"""Checking a record folder: every byte of every shard and index, and that all the files agree with each other."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vidrec.data import index as index_module
from vidrec.data import manifest, schema, workfolder
from vidrec.data.images import BadFrame
from vidrec.data.index import REPAIR, ShardIndex, index_path
from vidrec.data.manifest import Manifest, Shard
from vidrec.data.pool import Progress
from vidrec.data.shards import describe, describe_split
from vidrec.errors import VidrecError
from vidrec.files import atomic_write
from vidrec.labels import ClassList

CONVERT = "delete it and run the same 'vidrec convert' again, it makes only what is missing"


@dataclass
class Report:
    """What `verify` found.

    Attributes:
      directory: the record folder.
      shards, videos, frames, bytes: how much was checked and is in order.
      problems: what is wrong and the way out, one sentence each; empty when all is well.
      repaired: index files that were built again.
    """

    directory: str
    shards: int = 0
    videos: int = 0
    frames: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self) | {"ok": self.ok}

    def text(self) -> str:
        """The report for people."""
        size = f"{self.shards} shards, {self.videos} videos, {self.frames} frames, {self.bytes / 1e6:.1f} MB"
        lines = [f"{self.directory}: {size} in order", *(f"built again: {name}" for name in self.repaired)]
        lines += [f"problem: {problem}" for problem in self.problems]
        return "\n".join(lines)


def verify(
    directory: str | os.PathLike[str],
    *,
    deep: bool = False,
    repair: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Reads all of a record folder and reports everything that is wrong with it.

    Checked are: that all shards are there and of the size in the manifest; framing and CRCs of every record; that
    each index is, byte for byte, what the shard says; labels within the classes and with the right names; that no
    video is there twice and none is empty; counts and digests of the manifest.

    Args:
      directory: the record folder.
      deep: also decode every frame and compare its size.
      repair: build the index of a sound shard again where it is missing or wrong.
      progress: called with (shards done, shards in all).

    Raises:
      VidrecError: there is no manifest to check against.
    """
    directory = Path(directory)
    info = manifest.load(directory)
    report = Report(str(directory))
    if (directory / workfolder.NAME).exists():
        report.problems.append(f"{directory} is unfinished; run the same 'vidrec convert' again")
    names = [(name, shard) for name, split in info.splits.items() for shard in split.shards]
    sound: dict[str, list[ShardIndex]] = {name: [] for name in info.splits}
    for done, (name, shard) in enumerate(names):
        if progress:
            progress(done, len(names))
        index = _check_shard(directory, shard, info, report, deep=deep, repair=repair)
        if index is not None:
            sound[name].append(index)
    if progress:
        progress(len(names), len(names))
    _check_splits(info, sound, report)
    _check_duplicates([index for indexes in sound.values() for index in indexes], report)
    return report


def _check_shard(
    directory: Path, shard: Shard, info: Manifest, report: Report, *, deep: bool, repair: bool
) -> ShardIndex | None:
    """Returns the index as the shard's content says it should be; None where the shard itself is damaged."""
    path = directory / shard.file
    if not path.is_file():
        report.problems.append(f"shard {shard.file} is missing; run the same 'vidrec convert' again")
        return None
    try:
        right = ShardIndex(path, index_module.build(path, _each_record(info.classes, report, path, deep=deep)))
    except VidrecError as error:
        report.problems.append(str(error))
        return None
    except OSError as error:
        report.problems.append(f"shard {shard.file} cannot be read ({error.strerror}); check its rights and the disk")
        return None
    _check_index(right, report, repair=repair)
    if (found := describe(right, info.classes)) != shard:
        what = f"{found.bytes} bytes, {found.records} records, digest {found.digest}"
        said = f"{shard.bytes}, {shard.records}, {shard.digest}"
        report.problems.append(f"shard {shard.file} ({what}) is not the one in the manifest ({said}); {CONVERT}")
    report.shards += 1
    report.videos += len(right)
    report.frames += len(right.frames)
    report.bytes += right.shard_bytes
    return right


def _check_index(right: ShardIndex, report: Report, *, repair: bool) -> None:
    file = index_path(right.shard)
    problem = ""
    if not file.is_file():
        problem = f"index {file.name} is missing; {REPAIR}"
    elif file.read_bytes() != right.tobytes():
        problem = f"index {file.name} is not what its shard says; {REPAIR}"
    if problem and repair:
        try:
            with atomic_write(file) as out:
                out.write(right.tobytes())
        except OSError as error:
            problem = f"index {file.name} cannot be written ({error.strerror}); check the folder's rights and the disk"
        else:
            report.repaired.append(file.name)
            return
    if problem:
        report.problems.append(problem)


def _each_record(
    classes: ClassList, report: Report, shard: Path, *, deep: bool
) -> Callable[[int, schema.VideoRecord[schema.Span], bytes], None]:
    def check(number: int, record: schema.VideoRecord[schema.Span], payload: bytes) -> None:
        where = f"record {number} of shard {shard.name} (video '{record.video_id}')"
        if not -1 <= record.label < len(classes):
            report.problems.append(f"{where} has label {record.label}, outside 0..{len(classes) - 1}; {CONVERT}")
        elif record.label >= 0 and record.label_text != classes[record.label]:
            said = f"'{record.label_text}', but class {record.label} of the manifest is '{classes[record.label]}'"
            report.problems.append(f"{where} is labelled {said}; {CONVERT}")
        if not record.frames:
            report.problems.append(f"{where} has no frame; {CONVERT}")
        if deep:
            report.problems.extend(f"{where}, {problem}; {CONVERT}" for problem in _bad_frames(record, payload))

    return check


def _bad_frames(record: schema.VideoRecord[schema.Span], payload: bytes) -> list[str]:
    size, problems = (record.height, record.width), []
    for number, span in enumerate(record.frames):
        try:
            shape = schema.decode_frame(payload[slice(*span)], record.codec, *size).shape[:2]
        except BadFrame as error:
            problems.append(f"frame {number}: {error}")
        else:
            if shape != size:
                problems.append(f"frame {number} is {shape[0]}x{shape[1]}, not {size[0]}x{size[1]}")
    return problems


def _check_splits(info: Manifest, sound: dict[str, list[ShardIndex]], report: Report) -> None:
    for name, split in info.splits.items():
        complete = split.shards and len(sound[name]) == len(split.shards)
        if complete and describe_split(sound[name], info.classes) != split:
            report.problems.append(
                f"counts or digest of split '{name}' in {manifest.FILE_NAME} are not those of its shards; "
                f"delete {manifest.FILE_NAME} and run the same 'vidrec convert' again"
            )


def _check_duplicates(indexes: list[ShardIndex], report: Report) -> None:
    seen: dict[str, str] = {}
    for index in indexes:
        for record in range(len(index)):
            video_id = index.video_id(record)
            here = f"record {record} of shard {index.shard.name}"
            if video_id in seen:
                report.problems.append(f"video '{video_id}' is there twice: {seen[video_id]}, {here}; convert again")
            seen[video_id] = here
