"""Which record each position of the training stream reads: one shuffle, class by class, or a mixture of record sets.

Every order is endless and random access: record number = order[position], whatever was read before, so that a run may
start at any position. Numbers come round as shuffled decks: none comes a second time before all of its deck came once.
"""

import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import Any

import grain
import numpy as np
from jaxtyping import Int

from vidrec.data.records import TFRecordSource
from vidrec.errors import UsageError, VidrecError
from vidrec.ranges import check_choice

_LONGEST_PERIOD = 10_000  # clips after which a mixture's shares repeat


@dataclass(frozen=True)
class RecordOrder:
    """The order of a training stream.

    Attributes:
      records: position -> record number, never of a record set aside.
      following: of each record the one that takes its place when it cannot be read, `[N]`: round its own deck, which is
        its class, its set, or the whole.
      aside: record numbers that are never read.
    """

    records: grain.MapDataset
    following: Int[np.ndarray, " n"]
    aside: frozenset[int]


def record_order(
    source: TFRecordSource, *, seed: int, balance: str = "none", mixture: Sequence[float] = ()
) -> RecordOrder:
    """The order of a run.

    Args:
      seed: of the run; the order also depends on the records' content, so that neighbouring seeds share no epoch.
      balance: "none": each record once per deck; "class": every K clips show each of the K classes that have records.
      mixture: () joins the records of all folders; else one weight per folder, and of the clips drawn by any moment
        each folder has its share to within one clip.

    Raises:
      UsageError: weights that do not fit the folders, or another word for `balance`.
      VidrecError: all records are set aside, or all of a folder's.
    """
    check_choice("data.balance", balance)
    member = source.member if mixture else np.zeros(len(source), np.int32)
    folders = int(member.max()) + 1
    if mixture and folders != len(mixture):
        raise UsageError(f"data.mixture has {len(mixture)} weights, but data.records {folders} folders: one for each")
    sets = [np.flatnonzero(member == number) for number in range(folders)]
    decks = [[rows] if balance == "none" else _by_class(rows, source.labels) for rows in sets]
    streams = [_stream(kinds, seed, source, number) for number, kinds in enumerate(decks)]
    following = np.zeros(len(source), np.int64)
    for deck in (deck for kinds in decks for deck in kinds):
        following[deck] = np.roll(deck, -1)
    records = Mixture(streams, whole_shares(mixture)) if mixture else streams[0]
    if source.aside:
        _check_left(source, sets)
        records = records.map(_Instead(following, source.aside))
    return RecordOrder(records, following, source.aside)


def candidates(record: int, following: Int[np.ndarray, " n"], aside: frozenset[int]) -> Iterator[int]:
    """The record itself, the rest of its deck, then all others, without those set aside; each at least once."""
    start, last = record, len(following)
    while True:
        if record not in aside:
            yield record
        record = int(following[record])
        if record == start:
            break
    yield from (number % last for number in range(start + 1, start + last) if number % last not in aside)


def whole_shares(weights: Sequence[float]) -> tuple[int, ...]:
    """The smallest whole numbers in the ratio of `weights`: (0.75, 0.25) is (3, 1).

    Raises:
      UsageError: a weight that is not above 0, or numbers too large for the shares to be exact within an epoch.
    """
    if min(weights) <= 0:
        raise UsageError(f"data.mixture is {tuple(weights)}: each weight must be more than 0; leave out the folder")
    exact = [Fraction(str(weight)) for weight in weights]
    scale = lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * scale) for weight in exact]
    shares = tuple(share // gcd(*whole) for share in whole)
    if sum(shares) > _LONGEST_PERIOD:
        raise UsageError(f"data.mixture={tuple(weights)} is exact after {sum(shares)} clips only: use simpler numbers")
    return shares


def take_turns(shares: Sequence[int]) -> list[int]:
    """Who comes at each of `sum(shares)` places, each as often as its share and never a whole turn early or late.

    This is Tijdeman's solution of the chairman assignment problem: after any number of places, what each has had
    differs from its exact share by less than one.
    """
    total, slack = sum(shares), max(2 * len(shares) - 2, 1)
    had, turns = [0] * len(shares), []
    for place in range(1, total + 1):
        due = [place * share - total * count for share, count in zip(shares, had, strict=True)]
        ready = [number for number, late in enumerate(due) if slack * late >= total]
        chosen = min(ready, key=lambda number: Fraction((slack - 1) * total - slack * due[number], shares[number]))
        had[chosen] += 1
        turns.append(chosen)
    return turns


class Deck(grain.MapDataset):
    """Record numbers, shuffled anew for each time round."""

    def __init__(self, numbers: Sequence[int] | Int[np.ndarray, " n"], seed: int):
        super().__init__()
        self._numbers, self._seed = np.asarray(numbers), seed
        self._dealt = (-1, self._numbers)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        time, place = divmod(index, len(self._numbers))
        dealt = self._dealt
        if dealt[0] != time:
            draws = np.random.Philox(key=np.array([self._seed, time], np.uint64)).random_raw(len(self._numbers))
            self._dealt = dealt = (time, self._numbers[np.argsort(draws, kind="stable")])
        return int(dealt[1][place])

    def __str__(self) -> str:
        return f"Deck({len(self._numbers)})"


class ClassBalanced(grain.MapDataset):
    """Every block of K positions is a random order of the K classes; each class deals its own deck."""

    def __init__(self, decks: Sequence[grain.MapDataset], seed: int):
        super().__init__(decks)
        self._classes, self._decks = Deck(range(len(decks)), seed), list(decks)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        return self._decks[self._classes[index]][index // len(self._decks)]

    def __str__(self) -> str:
        return f"ClassBalanced({len(self._decks)} classes)"


class Mixture(grain.MapDataset):
    """Endless streams take turns in proportion to whole shares."""

    def __init__(self, streams: Sequence[grain.MapDataset], shares: Sequence[int]):
        super().__init__(streams)
        self._streams, self._shares = list(streams), tuple(shares)
        self._turns = take_turns(shares)
        before = np.cumsum(np.eye(len(shares), dtype=np.int64)[self._turns], axis=0) - 1
        self._draw = before[np.arange(len(self._turns)), self._turns].tolist()

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        period, place = divmod(index, len(self._turns))
        turn = self._turns[place]
        return self._streams[turn][period * self._shares[turn] + self._draw[place]]

    def __str__(self) -> str:
        return f"Mixture({':'.join(map(str, self._shares))})"


@dataclass(frozen=True)
class _Instead:
    following: Int[np.ndarray, " n"]
    aside: frozenset[int]

    def __call__(self, record: int) -> int:
        return next(candidates(int(record), self.following, self.aside))


def seed_of(purpose: str, seed: int, digest: str) -> int:
    """A seed of 32 bits for one use of a run's seed on these records."""
    return zlib.crc32(f"{purpose}/{seed}/{digest}".encode())


def _by_class(rows: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " m"]]:
    return [rows[labels[rows] == label] for label in np.unique(labels[rows])]


def _stream(kinds: Sequence[Int[np.ndarray, " m"]], seed: int, source: TFRecordSource, number: int) -> grain.MapDataset:
    """One deck, or those of the classes in turns."""
    if len(kinds) == 1 and len(kinds[0]) == len(source):  # as runs of older versions were drawn
        return grain.MapDataset.range(len(source)).shuffle(seed=seed_of("shuffle", seed, source.digest)).repeat(None)
    seeds = [seed_of(f"deck {number}.{kind}", seed, source.digest) for kind in range(len(kinds))]
    decks = [Deck(rows, own) for rows, own in zip(kinds, seeds, strict=True)]
    return decks[0] if len(decks) == 1 else ClassBalanced(decks, seed_of(f"classes {number}", seed, source.digest))


def _check_left(source: TFRecordSource, sets: Sequence[Int[np.ndarray, " m"]]) -> None:
    for rows in sets:
        if all(int(row) in source.aside for row in rows):
            raise VidrecError(f"all {len(rows)} videos of a folder are set aside in {source!r}: convert it again")
