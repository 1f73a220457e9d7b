"""Videos that are there twice, and splits that share what they must not share."""

import hashlib
import re
from collections.abc import Iterator

from vidrec.data.index import ShardIndex
from vidrec.data.tfrecord import BadRecord

_GROUP = re.compile(r"(v_\w+_g\d+)_c\d+$")  # UCF101's names: videos of one group are cut from one recording
_EXAMPLES = 3


def find_leakage(splits: dict[str, list[ShardIndex]]) -> list[str]:
    """Looks for the same video in several places of a data set.

    Args:
      splits: the indexes of the shards of each split.

    Returns:
      A sentence for each video of the same name as another, and for each two splits that have videos of the same
      frames or, by UCF101's names, of the same groups.
    """
    problems: list[str] = []
    names: dict[str, str] = {}
    contents: dict[bytes, tuple[str, str]] = {}
    groups: dict[str, str] = {}
    same_frames: dict[tuple[str, str], list[str]] = {}
    same_group: dict[tuple[str, str], set[str]] = {}
    for split, index, record in _records(splits):
        video_id = index.video_id(record)
        here = f"record {record} of shard {index.shard.name}"
        if video_id in names:
            problems.append(f"video '{video_id}' is there twice: {names[video_id]}, {here}; convert again")
        names[video_id] = here
        other, twin = contents.setdefault(_content(index, record), (split, video_id))
        if other != split and twin != video_id:
            same_frames.setdefault((other, split), []).append(f"'{twin}' and '{video_id}'")
        if match := _GROUP.search(video_id):
            other = groups.setdefault(match[1], split)
            if other != split:
                same_group.setdefault((other, split), set()).add(match[1])
    for (one, two), found in same_frames.items():
        problems.append(f"splits '{one}' and '{two}' share {len(found)} videos, {_some(found)}; {_FAIR}")
    for (one, two), found in same_group.items():
        problems.append(
            f"splits '{one}' and '{two}' share {len(found)} groups of videos, {_some(sorted(found))}; {_FAIR}"
        )
    return problems


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
    except BadRecord:  # told elsewhere; like no other
        return f"{index.shard.name} {record}".encode()
    return hashlib.blake2b(lengths.tobytes() + crcs.tobytes(), digest_size=16).digest()


def _some(found: list[str]) -> str:
    return "such as " + ", ".join(found[:_EXAMPLES])
