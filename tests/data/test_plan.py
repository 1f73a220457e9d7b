"""The plan of a conversion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrec.data.datasets import Annotations, Entry
from vidrec.data.plan import difference, file_safe, make_plan
from vidrec.labels import ClassList

CLASSES = ClassList(["a", "b"])


def listed(train: int, test: int) -> Annotations:
    entries = [Entry(f"{n}.mp4", n % 2, "train" if n < train else "test", str(n)) for n in range(train + test)]
    return Annotations(CLASSES, entries)


@given(train=st.integers(1, 60), test=st.integers(0, 20), per_shard=st.integers(1, 25), seed=st.integers(0, 99))
def test_every_video_has_one_place(train: int, test: int, per_shard: int, seed: int):
    annotations = listed(train, test)
    plan = make_plan("x", {"seed": seed, "videos_per_shard": per_shard}, annotations)
    placed = [entry for shard in plan.shards for entry in shard.entries]
    assert sorted(placed) == sorted(annotations.entries)
    assert plan.videos == train + test
    assert all(entry.split == shard.split for shard in plan.shards for entry in shard.entries)
    sizes = [len(shard.entries) for shard in plan.shards if shard.split == "train"]
    assert max(sizes) <= per_shard
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-train // per_shard)
    assert len({shard.file for shard in plan.shards}) == len(plan.shards)


def test_digest_stands_for_all_of_it():
    settings = {"seed": 0, "videos_per_shard": 5}
    plans = [
        make_plan("x", settings, listed(20, 5)),
        make_plan("y", settings, listed(20, 5)),
        make_plan("x", settings | {"seed": 1}, listed(20, 5)),
        make_plan("x", settings | {"other": 1}, listed(20, 5)),
        make_plan("x", settings, listed(20, 6)),
        make_plan("x", settings, Annotations(ClassList(["a", "c"]), listed(20, 5).entries)),
    ]
    assert len({plan.digest for plan in plans}) == len(plans)
    assert make_plan("x", settings, listed(20, 5)).digest == plans[0].digest


def test_differences_are_named():
    plan = make_plan("x", {"seed": 0, "videos_per_shard": 5}, listed(4, 0))
    assert difference(plan, "x", plan.settings) == "the annotations have changed since"
    assert difference(plan, "y", {"seed": 0}) == ("name is y there and x now, videos_per_shard is None there and 5 now")


@pytest.mark.parametrize(
    ("name", "safe"),
    [("UCF-101", "ucf_101"), ("my videos!", "my_videos"), ("20bn", "videos_20bn"), ("...", "videos"), ("ok_1", "ok_1")],
)
def test_names_become_parts_of_file_names(name: str, safe: str):
    assert file_safe(name) == safe
