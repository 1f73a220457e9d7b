"""Whether processes agree; that they do it together, in tests/end_to_end/test_hosts.py."""

import copy

import jax
import pytest

from vidrec.config import base, to_dict
from vidrec.train.hosts import agree, disagreement, from_lead, gather


@pytest.fixture
def entries():
    """What three processes are about to do, all the same."""
    one = {
        "config": to_dict(base()),
        "data": {"train": {"digest": "12"}, "eval": {"digest": "34"}},
        "labels": {"digest": "56"},
        "versions": {"jax": "0.12.0"},
        "devices": {"here": 4},
        "started": "",
        "git": None,
    }
    return [{**copy.deepcopy(one), "host": f"worker-{number}"} for number in range(3)]


def test_those_that_do_the_same_agree(entries):
    entries[1]["config"]["data"].update(records="/another/disk", workers=8)  # a host's own affair
    entries[2]["started"] = "later"
    assert disagreement(entries) == ""


def test_who_differs_in_what_is_told(entries):
    entries[1]["config"]["optim"]["lr"] = 0.5
    for number in (0, 2):
        entries[number]["devices"]["here"] = 8
    entries[1]["data"]["train"]["digest"] = "99"
    told = disagreement(entries)
    assert "process 0 (on worker-0) -> process 1 (on worker-1): " in told
    assert "optim.lr: 0.01 -> 0.5" in told
    assert "(data).train.digest: 12 -> 99" in told
    assert "(devices).here: 8 -> 4" in told
    assert "worker-2" not in told


def test_processes_with_the_same_difference_are_told_once(entries):
    for number in (1, 2):
        entries[number]["versions"]["jax"] = "0.11.2"
    told = disagreement(entries)
    assert told.count("(versions).jax: 0.12.0 -> 0.11.2") == 1
    assert "processes 1, 2 (on worker-1, worker-2)" in told


def test_a_single_process_agrees_with_itself(entries):
    assert agree(entries[0]) == ["worker-0"]
    assert from_lead([1.5, None]) == [1.5, None]


def test_values_come_back_as_they_were():
    assert jax.process_count() == 1
    value = {"text": "ä" * 1000, "numbers": [0.1, 1e300, None]}
    assert gather(value) == [value]
