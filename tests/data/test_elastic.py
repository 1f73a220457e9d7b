"""The same global batches, bit for bit, on any number of hosts and loader processes and after any restart."""

import numpy as np
import pytest

from vidrec.data.clips import ClipSpec
from vidrec.data.pipeline import Loader, StepIterator, eval_batches, train_plan
from vidrec.data.records import open_records

SPEC = ClipSpec(num_frames=2, image_size=12, resize=(16,), flip="swap")
BATCH = 8
ORDERS = {
    "plain": {},
    "balanced": {"balance": "class"},
    "mixture": {"mixture": (3, 1)},
    "balanced mixture": {"balance": "class", "mixture": (3, 1)},
}


@pytest.fixture(scope="module")
def source(records):
    return open_records([records, records], "train")


def plan_of(source, order, **options):
    return train_plan(source, SPEC, **{"batch_size": BATCH, "seed": 3, **ORDERS[order], **options})


def take(batches, count, loader=None, step=0):
    with StepIterator(batches, loader or Loader(0, 1), SPEC.nbytes * BATCH, step) as iterator:
        return [next(iterator) for _ in range(count)]


def joined(parts):
    """Batches laid side by side, or one behind the other."""
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def whole(source):
    """The stream of one host: six global batches of each order."""
    return {order: take(plan_of(source, order).batches, 6) for order in ORDERS}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("hosts", [2, 4, 8])
def test_hosts(hosts, order, source, whole):
    parts = [take(plan_of(source, order, host=host, hosts=hosts).batches, 3) for host in range(hosts)]
    for step in range(3):
        assert_same(joined([part[step] for part in parts]), whole[order][step])


@pytest.mark.slow  # tests/data/test_pipeline.py has quicker ones
@pytest.mark.parametrize(("workers", "host", "order"), [(2, 0, "balanced mixture"), (4, 1, "mixture")])
def test_loader_processes_of_a_host(workers, host, order, source, whole):
    batches = plan_of(source, order, host=host, hosts=2).batches
    for step, batch in enumerate(take(batches, 4, Loader(workers, 2), step=2), start=2):
        assert_same(batch, [np.split(array, 2)[host] for array in whole[order][step]])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("batch", "hosts"), [(8, 4), (4, 1), (4, 4), (16, 8), (2, 2)])
def test_restarts_with_other_batches_on_other_hosts(batch, hosts, order, source, whole):
    """After two steps of eight clips, 32 clips more."""
    old = plan_of(source, order)
    options = {"batch_size": batch, "first_step": 2, "first_clip": old.position(2), "hosts": hosts}
    plans = [plan_of(source, order, host=host, **options) for host in range(hosts)]
    parts = [take(plan.batches, 32 // batch) for plan in plans]
    found = [joined([part[step] for part in parts]) for step in range(32 // batch)]
    assert_same(joined(found), joined(whole[order][2:]))
    wanted = [record for step in range(32 // batch) for record in plans[0].wanted(2 + step)]
    assert wanted == joined(whole[order][2:])[2].tolist()
    assert plans[-1].position(2 + 32 // batch) == old.position(6)


def test_orders_differ(whole):
    assert len({tuple(joined(stream)[2].tolist()) for stream in whole.values()}) == len(ORDERS)


def test_the_shares_of_a_batch(source, whole):
    for order in ("mixture", "balanced mixture"):
        for batch in whole[order]:
            assert np.bincount(source.member[batch.record]).tolist() == [6, 2]
    for batch in whole["balanced"]:
        assert np.bincount(source.labels[batch.record]).tolist() == [4, 4]


@pytest.mark.parametrize(("clips", "crops"), [(1, 5), (2, 5), (2, 3)])
def test_every_evaluation_covers_each_view_once_in_equal_steps(clips, crops, records):
    source, spec = open_records(records, "test"), SPEC
    whole = take(
        eval_batches(source, spec, batch_size=BATCH, clips=clips, crops=crops), -(-12 * clips * crops // BATCH)
    )
    assert joined(whole)[2][joined(whole)[3]].tolist() == [r for r in range(12) for _ in range(clips * crops)]
    for hosts in (2, 4, 8):
        hosted = [
            eval_batches(source, spec, batch_size=BATCH, clips=clips, crops=crops, host=host, hosts=hosts)
            for host in range(hosts)
        ]
        assert {len(batches) for batches in hosted} == {len(whole)}
        parts = [take(batches, len(batches)) for batches in hosted]
        assert_same(joined([joined(side) for side in zip(*parts, strict=True)]), joined(whole))


def test_what_is_set_aside_changes_no_other_clip(source, whole, records):
    repaired = open_records([records, records], "train")
    bad = whole["plain"][0].record[:2].tolist()
    repaired.aside = frozenset(bad)
    plan = plan_of(repaired, "plain", max_bad=0.0)
    for step, batch in enumerate(take(plan.batches, 3)):
        kept = ~np.isin(whole["plain"][step].record, bad)
        assert_same([array[kept] for array in batch], [array[kept] for array in whole["plain"][step]])
        assert not set(batch.record.tolist()) & set(bad)
        plan.audit(plan.wanted(step), batch.record)  # not counted as replaced
    assert not plan.replaced
