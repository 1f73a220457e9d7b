"""Weights to start from, for networks with other heads."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from tests.quick import jit
from vidrec import config as configuration
from vidrec.config import base
from vidrec.errors import UsageError
from vidrec.train.checkpoint import Checkpoints, Snapshot
from vidrec.train.sharding import make_mesh
from vidrec.train.start import build_model, frozen_paths, with_weights
from vidrec.train.state import TrainState, initial_variables

TRANSFORMER = {"num_frames": 2, "image_size": 16, "patch_size": 8, "dim": 8, "depth": 1, "heads": 2}
RESNET = {"num_frames": 2, "stem": "small", "stem_width": 4, "widths": (4,), "stage_sizes": (1,), "strides": (1,)}


def settings(name, init="", **fields) -> FrozenConfigDict:
    c = base()
    c.model.update(name=name, **({**RESNET} if "resnet" in name else TRANSFORMER), **fields)
    c.data.image_size = 16
    c.train.init = str(init)
    return FrozenConfigDict(ConfigDict(c))


def drawn(config, classes, seed) -> TrainState:
    model = build_model(config, classes)
    variables = jit(lambda key: initial_variables(model, key, 16))(jax.random.key(seed))
    return TrainState(np.int32(0), variables["params"], variables["batch_stats"], None)


def saved(config, classes, folder):
    """Writes a checkpoint of freshly drawn weights; gives them."""
    state = drawn(config, classes, seed=1)
    with Checkpoints(folder / "checkpoints", writer=True) as checkpoints:
        values = configuration.to_dict(config)
        checkpoints.save(0, Snapshot(state.variables, None, {"version": 1, "step": 0, "clip": 0}, values, classes))
    return state.params


def same(one, other) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


@pytest.mark.parametrize(("name", "head"), [("tsn_resnet18", "fc"), ("timesformer_base", "head")])
def test_a_classifier_of_other_classes_stays_as_drawn(name, head, tmp_path):
    old = saved(settings(name), ["a", "b"], tmp_path)
    config = settings(name, tmp_path)
    state = drawn(config, ["a", "c", "d"], seed=2)
    started = with_weights(state, config, ("a", "c", "d"), make_mesh(base().mesh)).params
    assert same(started[head], state.params[head])
    assert same({**started, head: 0}, {**old, head: 0})
    again = with_weights(drawn(config, ["a", "b"], seed=2), config, ("a", "b"), make_mesh(base().mesh)).params
    assert same(again, old)


@pytest.mark.parametrize(("before", "after"), [(0, 3), (3, 5), (3, 0), (3, 3)])
def test_an_order_head_is_taken_where_it_fits(before, after, tmp_path):
    old = saved(settings("direcformer_base", num_orders=before), ["a", "b"], tmp_path)
    config = settings("direcformer_base", tmp_path, num_orders=after)
    state = drawn(config, ["a", "b"], seed=2)
    started = with_weights(state, config, ("a", "b"), make_mesh(base().mesh)).params
    assert started.keys() == state.params.keys()
    assert same(started["head"], old["head"])
    if after:
        assert same(started["order"], (old if before == after else state.params)["order"])


def test_another_network_is_refused(tmp_path):
    saved(settings("timesformer_base"), ["a", "b"], tmp_path)
    config = settings("timesformer_base", tmp_path, mlp_ratio=2.0)
    with pytest.raises(UsageError, match="another network"):
        with_weights(drawn(config, ["a", "b"], seed=2), config, ("a", "b"), make_mesh(base().mesh))


def test_networks_without_a_policy_for_norms_keep_nothing_fixed():
    frozen = build_model(settings("tsn_resnet18", bn="frozen"), ["a"])
    assert {path.rpartition("/")[0] for path in frozen_paths(frozen, 16)} >= {"bn1", "layer1_0/bn1"}
    assert frozen_paths(build_model(settings("timesformer_base"), ["a"]), 16) == frozenset()


@pytest.mark.parametrize(
    ("before", "ett_fits", "order_fits"),
    [
        ({"name": "tsn_resnet18"}, False, False),
        ({"ett_ratio": 2}, False, True),
        ({"ett_ratio": 4, "tss": "aa"}, True, False),
        ({"ett": False}, False, True),
    ],
)
def test_ttsn_starts_from_its_backbone_and_from_its_variants(before, ett_fits, order_fits, tmp_path):
    ttsn = {"name": "ttsn_resnet50", "backbone": "tsn", "bottleneck": False}
    old = saved(settings(**(before if "name" in before else ttsn | before)), ["a", "b"], tmp_path)
    config = settings(**ttsn, init=tmp_path, ett_ratio=4)
    state = drawn(config, ["a", "b"], seed=2)
    started = with_weights(state, config, ("a", "b"), make_mesh(base().mesh)).params
    assert same(started["layer1_0"], old["layer1_0"])
    assert same(started["ett"], (old if ett_fits else state.params)["ett"])
    assert same(started["order"], (old if order_fits else state.params)["order"])
