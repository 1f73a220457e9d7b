"""Checking a record folder: every byte of every shard and index, and that all the files agree with each other."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidrec.data import aside as aside_module
from vidrec.data import index as index_module
from vidrec.data import manifest, salvage, schema, workfolder
from vidrec.data.aside import AsideList, CutShard, SetAside
from vidrec.data.folder import is_foreign
from vidrec.data.images import BadFrame
from vidrec.data.index import REPAIR, ShardIndex, index_path
from vidrec.data.leakage import find_leakage
from vidrec.data.manifest import Manifest, Shard
from vidrec.data.openfiles import reading
from vidrec.data.pool import Progress
from vidrec.data.remote import Address, place
from vidrec.data.shards import describe, describe_split
from vidrec.data.tfrecord import BadRecord
from vidrec.errors import VidrecError
from vidrec.files import atomic_write

CONVERT = "delete it and run the same 'vidrec convert' again, it makes only what is missing"
SET_ASIDE = "'vidrec verify --repair' sets aside what cannot be read"


@dataclass(kw_only=True)
class Findings:
    """What a check found wrong: `problems`, one sentence each; empty when all is well."""

    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self) | {"ok": self.ok}


@dataclass
class Report(Findings):
    """What `verify` found.

    Attributes:
      directory: the record folder.
      shards, bytes: those that are whole.
      videos, frames: those that are in order, in damaged shards, too.
      problems: what is wrong and the way out, one sentence each; empty when all is well.
      notes: what may be meant so: videos that a split has twice, under two names and one label.
      repaired: index files that were built again.
      aside: records that are set aside, in set_aside.json; they are no problems.
      videos_aside: how many videos that are.
    """

    directory: str
    shards: int = 0
    videos: int = 0
    frames: int = 0
    bytes: int = 0
    notes: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    videos_aside: int = 0

    def text(self) -> str:
        """The report for people."""
        sound = f"{self.videos} videos ({self.frames} frames) are in order"
        whole = f"{self.shards} shards ({self.bytes / 1e6:.1f} MB) are whole"
        lines = [f"{self.directory}: {sound}, {whole}", *(f"built again: {name}" for name in self.repaired)]
        if self.aside:
            lines.append(
                f"{self.videos_aside} videos are set aside ({aside_module.FILE_NAME}), training leaves them out:"
            )
            lines += [f"set aside: {one}" for one in self.aside]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"problem: {problem}" for problem in self.problems]
        return "\n".join(lines)


@dataclass
class _Checks:
    """One run of `verify`: what it was asked, what was set aside before it and what is now, what it found."""

    directory: Path
    info: Manifest
    report: Report
    before: AsideList
    deep: bool
    repair: bool
    now: AsideList = field(default_factory=AsideList)

    def problem(self, sentence: str) -> None:
        """Adds one to the report."""
        self.report.problems.append(sentence)

    def unseen(self, shard: Shard, sentence: str) -> None:
        """A problem that leaves open what can be read of a shard: what was set aside of it stays so."""
        self.problem(sentence)
        self.now.records += [one for one in self.before.records if one.shard == shard.file]
        self.now.cut += [one for one in self.before.cut if one.shard.file == shard.file]


def verify(
    directory: Address,
    *,
    deep: bool = False,
    repair: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Reads all of a record folder and reports everything that is wrong with it.

    Checked are: that all shards are there and of the size in the manifest; framing and CRCs of every record; that
    each index is, byte for byte, what the shard says; labels within the classes and with the right names; that no
    name is there twice and no video is empty; that no split has videos of another (the same frames under another name,
    or, by UCF101's names, of the same group) nor the same frames under two labels; counts and digests of the manifest.
    That a split has the same frames under two names and one label is noted, but no problem: published sets have such.

    Args:
      directory: the record folder.
      deep: also decode every frame and compare its size.
      repair: build the index of a sound shard again where it is missing or wrong, and set aside the records that
        cannot be read: they are listed in set_aside.json, and training leaves them out.
      progress: called with (shards done, shards in all).

    Raises:
      VidrecError: there is no manifest to check against; the folder is a remote one, or not ours; the system does not
        let a damaged shard be read a second time.
    """
    folder = place(directory)
    if not isinstance(folder, Path):
        raise VidrecError(f"{folder} is a remote address; verify the records where they were made, then copy them")
    if is_foreign(folder):
        raise VidrecError(
            f"{folder} was prepared by tensorflow-datasets and has nothing to verify it against; damaged records are "
            "told when it is read, and 'vidrec convert --dataset tfds:NAME' makes a folder of ours of it"
        )
    info = manifest.load(folder)
    checks = _Checks(folder, info, Report(str(folder)), aside_module.load(folder), deep, repair)
    if (folder / workfolder.NAME).exists():
        checks.problem(f"{folder} is unfinished; run the same 'vidrec convert' again")
    names = [(name, shard) for name, split in info.splits.items() for shard in split.shards]
    found: dict[str, list[ShardIndex]] = {name: [] for name in info.splits}
    for done, (name, shard) in enumerate(names):
        if progress:
            progress(done, len(names))
        index = _check_shard(checks, shard)
        if index is not None:
            found[name].append(index)
    if progress:
        progress(len(names), len(names))
    _check_splits(checks, found)
    leakage = find_leakage(found)
    checks.report.problems += leakage.problems
    checks.report.notes += leakage.notes
    _finish_aside(checks)
    return checks.report


def _check_shard(checks: _Checks, shard: Shard) -> ShardIndex | None:
    """Returns the index as it should be; None where neither the shard nor its index says."""
    path = checks.directory / shard.file
    if not path.is_file():
        checks.unseen(shard, f"shard {shard.file} is missing; run the same 'vidrec convert' again")
        return None
    look = _Look(checks, shard)
    try:
        right = ShardIndex(path, index_module.build(path, look))
    except BadRecord as error:
        return _check_damaged(checks, shard, str(error), error.record)
    except VidrecError as error:
        checks.unseen(shard, str(error))
        return None
    except OSError as error:
        checks.unseen(shard, f"shard {shard.file} cannot be read ({error.strerror}); check its rights and the disk")
        return None
    if (found := describe(right, checks.info.classes)) != shard:
        what = f"{found.bytes} bytes, {found.records} records, digest {found.digest}"
        said = f"{shard.bytes}, {shard.records}, {shard.digest}"
        sentence = f"shard {shard.file} ({what}) is not the one in the manifest ({said}); {CONVERT}"
        if salvage.sound_index(path, shard, checks.info.classes):
            return _check_damaged(checks, shard, sentence, found.records)
        checks.problem(sentence)
    _check_index(checks, right)
    checks.report.problems += look.problems
    for record, why in look.bad.items():
        _set_aside(checks, SetAside(shard.file, record, right.video_id(record), why))
    _count(checks.report, right, look.bad.keys())
    checks.report.shards += 1
    checks.report.bytes += right.shard_bytes
    return right


def _check_damaged(checks: _Checks, shard: Shard, sentence: str, sound: int) -> ShardIndex | None:
    """Checks a damaged shard, of which the first `sound` records can be read, by its index where that is sound."""
    path = checks.directory / shard.file
    index = salvage.sound_index(path, shard, checks.info.classes)
    look, bad = _Look(checks, shard), {}
    with reading(path):
        if index is None:
            _cut(checks, shard, sentence, sound)
            return None
        for record, fields, payload in salvage.read_by_index(path, index):
            if isinstance(fields, str):
                bad[record] = fields
            else:
                look(record, fields, payload)
    new = set() if checks.repair else bad.keys() - checks.before.of(shard.file)
    if not bad:
        checks.problem(sentence)  # bytes behind the last record, say
    elif new:
        checks.problem(f"{sentence}; {len(bad)} of its {len(index)} records cannot be read: {SET_ASIDE}")
    for record, why in (bad | look.bad).items():
        if record not in new:
            _set_aside(checks, SetAside(shard.file, record, index.video_id(record), why))
    checks.report.problems += look.problems
    _count(checks.report, index, bad.keys() | look.bad.keys())
    return index


def _cut(checks: _Checks, shard: Shard, sentence: str, sound: int) -> None:
    """Sets aside a shard from its first damaged record on: where that and the index are damaged, nothing says more."""
    path = checks.directory / shard.file
    beginning = salvage.index_beginning(path, sound)
    cut = CutShard(describe(beginning, checks.info.classes), shard.records - sound, sentence.partition(";")[0])
    nothing_lost = cut.lost <= 0  # there are bytes behind the last record
    if nothing_lost or (not checks.repair and cut not in checks.before.cut):
        checks.unseen(shard, sentence)
        return
    _check_index(checks, beginning)
    checks.now.cut.append(cut)
    _count(checks.report, beginning, ())


def _set_aside(checks: _Checks, one: SetAside) -> None:
    if checks.repair or one.record in checks.before.of(one.shard):
        checks.now.records.append(one)
    else:
        checks.problem(f"{one}; {CONVERT}, or set it aside with 'vidrec verify --deep --repair'")


def _finish_aside(checks: _Checks) -> None:
    """Writes the list of what is set aside, or compares it with the one that is there."""
    now, before = checks.now, checks.before
    if checks.repair and now != before:
        try:
            now.save(checks.directory)
        except OSError as error:
            checks.problem(
                f"{aside_module.FILE_NAME} cannot be written ({error.strerror}); check the folder's rights and the disk"
            )
    elif not checks.repair:
        there = {(one.shard, one.record) for one in now.records}
        for one in before.records:
            if (one.shard, one.record) not in there:
                checks.problem(
                    f"{one} is set aside, but can be read now; 'vidrec verify --repair' takes it off the list"
                )
        for cut in before.cut:
            if cut not in now.cut:
                checks.problem(f"{cut} are set aside, which is not so now; 'vidrec verify --repair' renews the list")
    checks.report.aside = [str(one) for one in (*now.records, *now.cut)]
    checks.report.videos_aside = now.count


def _count(report: Report, index: ShardIndex, bad: Collection[int]) -> None:
    sound = np.delete(index.records["num_frames"], list(bad))
    report.videos += len(sound)
    report.frames += int(sound.sum())


def _check_index(checks: _Checks, right: ShardIndex) -> None:
    file = index_path(checks.directory / right.shard.name)
    problem = ""
    if not file.is_file():
        problem = f"index {file.name} is missing; {REPAIR}"
    elif file.read_bytes() != right.tobytes():
        problem = f"index {file.name} is not what its shard says; {REPAIR}"
    if problem and checks.repair:
        try:
            with atomic_write(file) as out:
                out.write(right.tobytes())
        except OSError as error:
            problem = f"index {file.name} cannot be written ({error.strerror}); check the folder's rights and the disk"
        else:
            checks.report.repaired.append(file.name)
            return
    if problem:
        checks.problem(problem)


class _Look:
    """Checks the records of a shard one by one; collects problems, and what is wrong with frames by record number."""

    def __init__(self, checks: _Checks, shard: Shard) -> None:
        self.problems: list[str] = []
        self.bad: dict[int, str] = {}
        self._classes, self._deep, self._shard = checks.info.classes, checks.deep, shard.file
        self._listed = checks.before.of(shard.file)

    def __call__(self, number: int, record: schema.VideoRecord[schema.Span], payload: bytes) -> None:
        where, classes = f"record {number} of shard {self._shard} (video '{record.video_id}')", self._classes
        if not -1 <= record.label < len(classes):
            self.problems.append(f"{where} has label {record.label}, outside 0..{len(classes) - 1}; {CONVERT}")
        elif record.label >= 0 and record.label_text != classes[record.label]:
            said = f"'{record.label_text}', but class {record.label} of the manifest is '{classes[record.label]}'"
            self.problems.append(f"{where} is labelled {said}; {CONVERT}")
        if not record.frames:
            self.problems.append(f"{where} has no frame; {CONVERT}")
        if (self._deep or number in self._listed) and (wrong := _bad_frames(record, payload)):
            self.bad[number] = wrong[0] + (f" (and {len(wrong) - 1} frames more)" if len(wrong) > 1 else "")


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


def _check_splits(checks: _Checks, found: dict[str, list[ShardIndex]]) -> None:
    for name, split in checks.info.splits.items():
        complete = split.shards and len(found[name]) == len(split.shards)
        if complete and describe_split(found[name], checks.info.classes) != split:
            checks.problem(
                f"counts or digest of split '{name}' in {manifest.FILE_NAME} are not those of its shards; "
                f"delete {manifest.FILE_NAME} and run the same 'vidrec convert' again"
            )
