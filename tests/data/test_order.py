"""Orders of records: decks, classes in turns, exact shares, and the same element wherever one starts to read."""

import zlib
from collections import Counter
from dataclasses import dataclass, field

import grain
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrec.data.order import record_order, take_turns, whole_shares
from vidrec.errors import UsageError, VidrecError


@dataclass
class Records:
    """What an order needs to know of records: here two folders, the second of which has no class 2."""

    labels: np.ndarray = field(default_factory=lambda: np.array([0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 3]))
    member: np.ndarray = field(default_factory=lambda: np.array([0] * 7 + [1] * 5))
    aside: frozenset[int] = frozenset()
    digest: str = "0123456789abcdef"

    def __len__(self) -> int:
        return len(self.labels)


def read(order, count, start=0):
    return [int(order.records[start + place]) for place in range(count)]


def test_the_plain_order_is_one_shuffle_for_ever():
    found = read(record_order(Records(), seed=1), 36)
    deck = grain.MapDataset.range(12).shuffle(seed=zlib.crc32(b"shuffle/1/0123456789abcdef")).repeat(None)
    assert found == [deck[place] for place in range(36)]
    assert found[:12] == [0, 2, 5, 1, 8, 6, 11, 7, 3, 4, 9, 10]  # a run of an older version goes on
    assert all(sorted(found[start : start + 12]) == [*range(12)] for start in (0, 12, 24))


def test_every_block_of_a_balanced_order_shows_each_class_once():
    records = Records()
    order = record_order(records, seed=1, balance="class")
    found = np.array(read(order, 4 * 70)).reshape(70, 4)
    assert (np.sort(records.labels[found], axis=1) == [0, 1, 2, 3]).all()
    assert len({tuple(block) for block in records.labels[found].tolist()}) > 10  # in another order each time
    for label in range(4):
        rows = np.flatnonzero(records.labels == label)
        dealt = found[records.labels[found] == label]
        decks = dealt[: 70 // len(rows) * len(rows)].reshape(-1, len(rows))
        assert (np.sort(decks, axis=1) == rows).all()  # none again before all of its class have come
        assert len(rows) < 3 or len({tuple(deck) for deck in decks.tolist()}) > 2


def test_classes_without_records_have_no_turn():
    order = record_order(Records(labels=np.array([5, 5, 9]), member=np.zeros(3, int)), seed=0, balance="class")
    found = np.array([5, 5, 9])[read(order, 10)].reshape(5, 2)
    assert (np.sort(found, axis=1) == [5, 9]).all()


@pytest.mark.parametrize("mixture", [(3, 1), (1, 4), (0.7, 0.3)])
@pytest.mark.parametrize("balance", ["none", "class"])
def test_each_folder_has_its_share_at_any_moment(mixture, balance):
    records = Records()
    found = np.array(read(record_order(records, seed=1, mixture=mixture, balance=balance), 200))
    first = np.cumsum(records.member[found] == 0)
    assert np.abs(first - np.arange(1, 201) * mixture[0] / sum(mixture)).max() < 1
    own = found[records.member[found] == 1]
    labels, size = (records.labels[own], 3) if balance == "class" else (own, 5)
    whole = labels[: len(labels) // size * size].reshape(-1, size)
    assert (np.sort(whole, axis=1) == np.unique(labels)).all()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_turns_are_never_a_whole_one_early_or_late(shares):
    turns = np.array(take_turns(shares))
    had = (turns[:, None] == np.arange(len(shares))).cumsum(0)
    exact = np.arange(1, len(turns) + 1)[:, None] * np.array(shares) / sum(shares)
    assert np.abs(had - exact).max() < 1
    assert had[-1].tolist() == shares


def test_weights_become_the_smallest_whole_numbers():
    assert whole_shares((3, 1)) == whole_shares((0.75, 0.25)) == whole_shares((6, 2)) == (3, 1)
    assert whole_shares((0.1, 0.2, 0.7)) == (1, 2, 7)
    with pytest.raises(UsageError, match="simpler numbers"):
        whole_shares((0.333333, 1))
    with pytest.raises(UsageError, match="more than 0"):
        whole_shares((1, 0))


@pytest.mark.parametrize(
    ("options", "instead"),
    [
        ({}, {0: 1, 8: 10, 9: 10}),
        ({"mixture": (3, 1)}, {0: 1, 8: 10, 9: 10}),
        ({"balance": "class"}, {0: 1, 8: 1, 9: 1}),  # the next of the class, round its deck
    ],
)
def test_the_next_one_takes_the_place_of_a_record_set_aside(options, instead):
    before = read(record_order(Records(), seed=1, **options), 100)
    after = read(record_order(Records(aside=frozenset(instead)), seed=1, **options), 100)
    assert after == [instead.get(record, record) for record in before]


def test_a_class_that_is_set_aside_leaves_its_turns_to_others():
    records = Records(aside=frozenset({11}))
    assert 11 not in read(record_order(records, seed=0, balance="class"), 100)


def test_start_up_errors():
    with pytest.raises(UsageError, match=r"data\.mixture has 3 weights, but data\.records 2 folders"):
        record_order(Records(), seed=0, mixture=(1, 1, 1))
    with pytest.raises(UsageError, match=r"data\.balance is 'clas'"):
        record_order(Records(), seed=0, balance="clas")
    with pytest.raises(VidrecError, match="all 12 videos of a folder are set aside"):
        record_order(Records(aside=frozenset(range(12))), seed=0)


def test_neighbouring_seeds_share_no_order():
    orders = [tuple(read(record_order(Records(), seed=seed, balance="class"), 40)) for seed in range(5)]
    assert max(Counter(orders).values()) == 1
