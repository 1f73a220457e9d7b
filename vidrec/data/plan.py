"""The plan of a conversion: which video goes to which place of which shard. Equal plans give equal record folders."""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vidrec.data.datasets import Annotations, Entry
from vidrec.data.shards import shard_name
from vidrec.errors import VidrecError
from vidrec.labels import ClassList


@dataclass(frozen=True)
class ShardPlan:
    """One shard: its file name, its split, and its videos in order."""

    file: str
    split: str
    entries: list[Entry]


@dataclass(frozen=True)
class Plan:
    """All that decides the bytes of a record folder.

    Attributes:
      name: of the data set.
      settings: options of the conversion.
      classes: in label order.
      shards: in order, split by split.
    """

    name: str
    settings: dict[str, Any]
    classes: ClassList
    shards: list[ShardPlan]

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that stand for all of the plan."""
        shards = [(shard.file, shard.split, shard.entries) for shard in self.shards]
        content = json.dumps([self.name, self.settings, self.classes, shards], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def videos(self) -> int:
        """Number of listed videos."""
        return sum(len(shard.entries) for shard in self.shards)


def make_plan(name: str, settings: dict[str, Any], listed: Annotations) -> Plan:
    """Gives every listed video its place, in an order drawn once from `settings["seed"]`.

    Args:
      name: of the data set; becomes part of file names.
      settings: of the conversion; `seed` and `videos_per_shard` are used here.
      listed: classes and videos.

    Raises:
      VidrecError: a split's name cannot be part of a file name.
    """
    shards = []
    for split in sorted({entry.split for entry in listed.entries}):
        if not re.fullmatch(r"[A-Za-z]\w*", split):
            raise VidrecError(f"'{split}' cannot be the name of a split; use letters, digits and underscores")
        entries = [entry for entry in listed.entries if entry.split == split]
        order = np.random.default_rng([settings["seed"], *split.encode()]).permutation(len(entries))
        # Shards of nearly equal size rather than full ones and a rest.
        parts = np.array_split(order, -(-len(entries) // settings["videos_per_shard"]))
        for number, part in enumerate(parts):
            file = shard_name(name, split, number, len(parts))
            shards.append(ShardPlan(file, split, [entries[place] for place in part]))
    return Plan(name, settings, listed.classes, shards)


def file_safe(name: str) -> str:
    """Makes a data set name of any text: lower-case letters, digits and underscores, a letter first."""
    safe = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return safe if safe[:1].isalpha() else f"videos_{safe}".rstrip("_")


def difference(plan: Plan, name: str, settings: dict[str, Any]) -> str:
    """Says in which settings another conversion differs from a plan; where in none, the annotations do."""
    there, here = {"name": name} | settings, {"name": plan.name} | plan.settings
    names = [name for name in there | here if there.get(name) != here.get(name)]
    if not names:
        return "the annotations have changed since"
    return ", ".join(f"{name} is {there.get(name)} there and {here.get(name)} now" for name in names)
