"""Proof, on a record folder of the user's own, that training goes on exactly where it was stopped."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vidrec.data.clips import ClipSpec
from vidrec.data.pipeline import Loader, StepIterator, TrainPlan, train_plan
from vidrec.data.records import TFRecordSource, open_records
from vidrec.data.remote import Address
from vidrec.data.verify import Findings
from vidrec.types import Batch

_SEED = 0
_SPEC = ClipSpec(num_frames=4, image_size=32, resize=(32,))


@dataclass
class ResumeReport(Findings):
    """What `verify_resume` compared.

    Attributes:
      directory, split: the records.
      batches, batch_size: how many training batches were read, of how many clips.
      stopped_after: batches read before the stop.
      same: ways of reading that gave the same clips, bit for bit.
      problems: those that did not.
    """

    directory: str
    split: str
    batches: int
    batch_size: int
    stopped_after: int
    same: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The report for people."""
        clips = self.batches * self.batch_size
        lines = [f"{self.directory}, {self.split}: {self.batches} training batches of {self.batch_size}, {clips} clips"]
        lines += [f"the same bit for bit: {way}" for way in self.same]
        return "\n".join([*lines, *(f"problem: {problem}" for problem in self.problems)])


def verify_resume(directory: Address, split: str = "train", *, batches: int = 6, batch_size: int = 8) -> ResumeReport:
    """Reads some training batches in one go, and again in every way that must give the same.

    These are: stopped in the middle and gone on from the saved state; by another number of loader processes, likewise;
    by two hosts, each its part; and gone on with batches of half the size, at the same clip.

    Args:
      directory, split: records, as of `open_records`.
      batches: how many are read.
      batch_size: clips of each; fewer where there are fewer records.

    Raises:
      VidrecError: the records cannot be opened, or too many of them cannot be read.
    """
    source = open_records(directory, split)
    if len(source) < batch_size:
        batch_size = max(1, len(source) // 2 * 2)
    half = batches // 2
    report = ResumeReport(str(directory), split, batches, batch_size, half)
    whole = _read(_plan(source, batch_size), 0, batches)
    ways = {
        f"stopped after {half} batches and gone on from the saved state": _stopped(source, batch_size, half, batches)
    }
    ways["by 1 loader process instead of none, likewise"] = _stopped(source, batch_size, half, batches, workers=1)
    if batch_size % 2 == 0:
        hosts = [_read(_plan(source, batch_size, host=host, hosts=2), 0, batches) for host in range(2)]
        ways["by 2 hosts, their parts side by side"] = [one + two for one, two in zip(*hosts, strict=True)]
        smaller = _plan(source, batch_size // 2, first_step=half, first_clip=half * batch_size)
        rest = _read(smaller, 0, 2 * (batches - half))
        joined = [one + two for one, two in zip(rest[::2], rest[1::2], strict=True)]
        ways[f"gone on after {half} batches with batches of {batch_size // 2}"] = whole[:half] + joined
    for way, read in ways.items():
        _compare(report, way, whole, read)
    return report


def _plan(source: TFRecordSource, batch_size: int, **options: Any) -> TrainPlan:
    return train_plan(source, _SPEC, batch_size=batch_size, seed=_SEED, **options)


def _read(plan: TrainPlan, first: int, stop: int, workers: int = 0) -> list[list[str]]:
    """Digest of each clip of some batches, with its label and record."""
    with StepIterator(plan.batches, Loader(workers), _SPEC.nbytes * plan.batch_size, first) as steps:
        return [_digests(next(steps)) for _ in range(first, stop)]


def _stopped(source: TFRecordSource, batch_size: int, half: int, batches: int, workers: int = 0) -> list[list[str]]:
    loader, nbytes = Loader(workers), _SPEC.nbytes * batch_size
    with StepIterator(_plan(source, batch_size).batches, loader, nbytes) as steps:
        before = [_digests(next(steps)) for _ in range(half)]
        state = steps.get_state()
    with StepIterator(_plan(source, batch_size).batches, loader, nbytes) as steps:
        steps.set_state(state)
        return before + [_digests(next(steps)) for _ in range(half, batches)]


def _digests(batch: Batch) -> list[str]:
    return [
        hashlib.blake2b(b"".join(np.ascontiguousarray(part).tobytes() for part in clip), digest_size=16).hexdigest()
        for clip in zip(*batch, strict=True)
    ]


def _compare(report: ResumeReport, way: str, whole: Sequence[list[str]], read: Sequence[list[str]]) -> None:
    wrong = [number for number, pair in enumerate(zip(whole, read, strict=True)) if pair[0] != pair[1]]
    if wrong:
        report.problems.append(f"{way}: batch {wrong[0]} is another one, {len(wrong)} of {len(whole)} differ")
    else:
        report.same.append(way)
