"""Videos that are there twice, and splits that share what they must not share."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from vidrec.data.index import ShardIndex
from vidrec.data.tfrecord import BadRecord

_GROUP = re.compile(r"(v_\w+_g\d+)_c\d+$")  # UCF101's names: videos of one group are cut from one recording
_EXAMPLES = 3


@dataclass
class Leakage:
    """Videos that are there several times.

    Attributes:
      problems: a sentence for each video of the same name as another, for each two splits that have videos of the same
        frames or, by UCF101's names, of the same groups, and for each split that has the same frames under two labels.
      notes: a sentence for each split that has the same frames under two names, but not under two labels.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_leakage(splits: dict[str, list[ShardIndex]]) -> Leakage:
    """Looks for the same video in several places of a data set.

    Args:
      splits: the indexes of the shards of each split.
    """
    found = Leakage()
    names: dict[str, str] = {}
    groups: dict[str, str] = {}
    same_group: dict[tuple[str, str], set[str]] = {}
    for split, index, record in _records(splits):
        video_id = index.video_id(record)
        here = f"record {record} of shard {index.shard.name}"
        if video_id in names:
            found.problems.append(f"video '{video_id}' is there twice: {names[video_id]}, {here}; convert again")
        names[video_id] = here
        if match := _GROUP.search(video_id):
            other = groups.setdefault(match[1], split)
            if other != split:
                same_group.setdefault((other, split), set()).add(match[1])
    _compare_frames(splits, found)
    for (one, two), shared in same_group.items():
        found.problems.append(
            f"splits '{one}' and '{two}' share {len(shared)} groups of videos, {_some(sorted(shared))}; {_FAIR}"
        )
    return found


def _compare_frames(splits: dict[str, list[ShardIndex]], found: Leakage) -> None:
    seen: dict[bytes, dict[str, tuple[str, int]]] = {}  # content -> split -> (name, label) of the first there
    shared: dict[tuple[str, str], list[str]] = {}
    unlike: dict[str, list[str]] = {}
    for split, index, record in _records(splits):
        video_id, label = index.video_id(record), int(index.records["label"][record])
        copies = seen.setdefault(_content(index, record), {})
        for other, (twin, its_label) in copies.items():
            if twin == video_id:
                continue  # found by its name
            pairs = shared.setdefault((other, split), [])
            if other == split and label != its_label and -1 not in (label, its_label):
                pairs = unlike.setdefault(split, [])
            pairs.append(f"'{twin}' and '{video_id}'")
        copies.setdefault(split, (video_id, label))
    for (one, two), pairs in shared.items():
        if one != two:
            found.problems.append(f"splits '{one}' and '{two}' share {len(pairs)} videos, {_some(pairs)}; {_FAIR}")
        elif pairs:
            found.notes.append(f"split '{one}' has {len(pairs)} videos twice under other names, {_some(pairs)}")
    for split, pairs in unlike.items():
        found.problems.append(
            f"split '{split}' has {len(pairs)} videos twice under other names and labels, {_some(pairs)}; leave out "
            "the wrong ones in the annotations and convert again"
        )


_FAIR = "a test on them is not a fair one: leave them out of one split's annotations and convert again"


def _records(splits: dict[str, list[ShardIndex]]) -> Iterator[tuple[str, ShardIndex, int]]:
    for split, indexes in splits.items():
        for index in indexes:
            for record in range(len(index)):
                yield split, index, record


def _content(index: ShardIndex, record: int) -> bytes:
    """A digest of a video's frames: of their lengths and CRCs."""
    try:
        _, lengths, crcs = index.frame_table(record)
    except BadRecord:  # told elsewhere
        lengths = crcs = np.empty(0, np.uint32)
    if not len(lengths):
        return f"{index.shard.name} {record}".encode()  # like no other
    return hashlib.blake2b(lengths.tobytes() + crcs.tobytes(), digest_size=16).digest()


def _some(found: list[str]) -> str:
    return "such as " + ", ".join(found[:_EXAMPLES])
