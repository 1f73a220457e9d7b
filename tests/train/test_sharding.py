"""The mesh and what lies where on it; the devices are made up, since a mesh of them computes nothing here."""

import logging
from types import SimpleNamespace
from typing import Any

import jax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from vidrec.config import base
from vidrec.errors import UsageError
from vidrec.models import layout as rules
from vidrec.models.layout import layout
from vidrec.train import sharding
from vidrec.train.sharding import check_batch, check_effect, make_mesh, start_hosts, undivided


def sizes(data=-1, fsdp=1, model=1):
    c = base().mesh
    c.update(data=data, fsdp=fsdp, model=model)
    return c


def devices(count, processes=1):
    """Devices that take turns between the processes, as the rows of a slice do."""
    return [SimpleNamespace(id=i, process_index=i % processes, platform="cpu") for i in range(count)]


def abstract_mesh(data=1, fsdp=1, model=1) -> Any:
    return AbstractMesh((data, fsdp, model), ("data", "fsdp", "model"))


def grids(monkeypatch) -> Any:
    """make_mesh, which then gives the array of devices, since JAX makes no mesh of such."""
    monkeypatch.setattr(sharding, "Mesh", lambda grid, axes, axis_types: grid)
    return make_mesh


def test_all_devices_take_part_unless_fewer_are_asked_for(monkeypatch):
    grid = grids(monkeypatch)
    assert grid(sizes(), devices(8)).shape == (8, 1, 1)
    assert grid(sizes(fsdp=4), devices(8)).shape == (2, 4, 1)
    assert grid(sizes(fsdp=2, model=2), devices(8)).shape == (2, 2, 2)
    assert [d.id for d in grid(sizes(data=2), devices(8)).ravel()] == [0, 1]


def test_a_process_has_one_block_of_the_batch(monkeypatch):
    made = grids(monkeypatch)(sizes(fsdp=2, model=2), devices(16, processes=4))
    owners = [[d.process_index for d in copy] for copy in made.reshape(-1, 2)]
    assert owners == [[0, 0], [0, 0], [1, 1], [1, 1], [2, 2], [2, 2], [3, 3], [3, 3]]


@pytest.mark.parametrize(
    ("asked", "count", "processes", "said"),
    [
        (sizes(data=3), 2, 1, "there are 2 devices"),
        (sizes(data=0), 2, 1, "there are 2 devices"),
        (sizes(fsdp=3), 8, 1, "there are 8 devices"),
        (sizes(fsdp=4), 2, 1, "there are 2 devices"),
        (sizes(data=2), 8, 2, "all 8 take part"),
        (sizes(model=4), 8, 4, "does not divide the 2 devices of a process"),
    ],
)
def test_sizes_that_do_not_fit_are_told(asked, count, processes, said):
    with pytest.raises(UsageError, match=said):
        make_mesh(asked, devices(count, processes))


def test_a_batch_is_split_over_data_and_fsdp():
    check_batch(16, abstract_mesh(4, 2, 2), "train.batch_size")
    with pytest.raises(UsageError, match=r"train\.batch_size is 12, which 8 devices do not divide"):
        check_batch(12, abstract_mesh(4, 2), "train.batch_size")


@pytest.mark.parametrize(
    ("path", "size", "spec"),
    [
        ("params/layer1_0/conv1/kernel", (3, 3, 64, 64), (None, None, None, "fsdp")),
        ("opt_state/1/trace/layer1_0/conv1/kernel", (3, 3, 64, 64), (None, None, None, "fsdp")),
        ("params/layer1_0/bn1/scale", (64,), ()),
        ("fc/kernel", (2048, 174), ("fsdp", None)),
        ("blocks_0/temporal_attn/qkv/kernel", (768, 2304), ("fsdp", "model")),
        ("blocks_0/attn/proj/kernel", (768, 768), ("model", "fsdp")),
        ("blocks_0/mlp/fc1/bias", (3072,), ("model",)),
        ("patch_embed/proj/kernel", (16, 16, 3, 768), (None, None, None, "fsdp")),
        ("step", (), ()),
    ],
)
def test_rules_say_where_an_array_lies(path, size, spec):
    found = layout(path, size, abstract_mesh(2, 4, 2))
    assert tuple(found.spec) + (None,) * (len(size) - len(found.spec)) == spec + (None,) * (len(size) - len(spec))
    assert found.whole == ""


def test_what_does_not_divide_stays_whole_and_is_told():
    mesh = abstract_mesh(2, 4)
    params = {"conv": {"kernel": jax.ShapeDtypeStruct((3, 6), "float32")}}
    assert layout("conv/kernel", (3, 6), mesh).spec == PartitionSpec(None, None)
    assert undivided(params, mesh) == ["conv/kernel [3, 6] stays whole: fsdp=4 does not divide 6"]
    with pytest.raises(UsageError, match=r"mesh\.fsdp is 4, but splits no parameter"):
        check_effect(params, mesh)
    with pytest.raises(UsageError, match=r"mesh\.model is 2, .* only transformers"):
        check_effect(params, abstract_mesh(model=2))
    check_effect(params, abstract_mesh(fsdp=3))


def test_rules_that_use_an_axis_twice_are_refused(monkeypatch):
    monkeypatch.setattr(rules, "RULES", ((r"kernel$", ("features", "features")),))
    with pytest.raises(UsageError, match=r"conv/kernel put two of its dimensions .* on one axis"):
        layout("conv/kernel", (4, 4), abstract_mesh(fsdp=2))


@pytest.mark.parametrize(
    ("given", "environment", "called"),
    [
        (("host:1", 2, 1), {}, ("host:1", 2, 1)),
        ((None, None, None), {"JAX_PLATFORMS": ""}, ()),
        ((None, None, None), {"JAX_PLATFORMS": "tpu,cpu"}, ()),
        ((None, None, None), {"JAX_PLATFORMS": "cpu"}, None),
        ((None, None, None), {"JAX_PLATFORMS": "", "TPU_SKIP_MDS_QUERY": "1"}, None),  # as JAX sets it without a TPU
        (  # a pod of Kubernetes
            (None, None, None),
            {"JAX_PLATFORMS": "", "TPU_SKIP_MDS_QUERY": "true", "TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"},
            (),
        ),
    ],
)
def test_hosts_join_by_flags_or_on_cloud_tpu_by_themselves(given, environment, called, monkeypatch):
    calls = []
    monkeypatch.delenv("TPU_SKIP_MDS_QUERY", raising=False)
    monkeypatch.setattr(sharding.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *arguments: calls.append(arguments))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert start_hosts(*given) == 0
    assert calls == ([] if called is None else [called])


def test_a_process_that_there_is_not():
    with pytest.raises(UsageError, match="--process is 2, but 2 processes have the numbers 0 to 1"):
        start_hosts("host:1", 2, 2)


def test_a_tpu_without_a_slice_runs_alone(monkeypatch, caplog):
    def initialize():
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(sharding, "on_cloud_tpu", lambda: True)
    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with caplog.at_level(logging.WARNING):
        assert start_hosts(None, None, None) == 0
    assert "runs alone: coordinator_address" in caplog.text
