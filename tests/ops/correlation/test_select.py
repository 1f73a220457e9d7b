"""Which implementation runs where: decided from names alone, so that every machine can be asked about."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType

from vidrec.ops.correlation import api, match
from vidrec.ops.correlation.select import BATCH_AXES, HOPPER, TPUS, select, split_over
from vidrec.types import BATCH_AXES as BATCH_AXES_OF_TRAINING

SIZE = (28, 28, 64, 15)


def mesh(**axes):
    return AbstractMesh(tuple(axes.values()), tuple(axes), axis_types=(AxisType.Auto,) * len(axes))


def test_pairs_are_split_as_batches_are():
    assert BATCH_AXES == BATCH_AXES_OF_TRAINING


@pytest.mark.parametrize("kind", TPUS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_supported_tpu_takes_its_kernel(kind, dtype):
    assert select("tpu", kind, dtype, *SIZE) == ("pallas_tpu", f"it is made for {kind}")


@pytest.mark.parametrize("kind", ["NVIDIA H100 80GB HBM3", "NVIDIA H200", "NVIDIA GH200 480GB", "NVIDIA H800", "H20"])
def test_every_hopper_gpu_takes_its_kernel(kind):
    assert HOPPER.search(kind)
    assert select("gpu", kind, "bfloat16", *SIZE).name == "pallas_gpu"


@pytest.mark.parametrize(
    ("platform", "kind", "reason"),
    [
        ("cpu", "cpu", "no kernel for a cpu"),
        ("metal", "Apple M3", "no kernel for a metal"),
        ("tpu", "TPU v3", "this is a TPU v3"),
        ("gpu", "NVIDIA A100-SXM4-80GB", "compute capability 9.0"),
        ("gpu", "NVIDIA B200", "this is a NVIDIA B200"),
        ("gpu", "NVIDIA GeForce RTX 4090", "compute capability 9.0"),
        ("gpu", "NVIDIA L20", "compute capability 9.0"),
        ("gpu", "NVIDIA GB200", "compute capability 9.0"),
        ("gpu", "AMD Instinct MI300X", "compute capability 9.0"),
    ],
)
def test_everything_else_takes_plain_operations(platform, kind, reason):
    name, why = select(platform, kind, "bfloat16", *SIZE)
    assert name == "dense"
    assert reason in why


@pytest.mark.parametrize(("platform", "kind"), [("tpu", "TPU v5 lite"), ("gpu", "NVIDIA H200")])
def test_what_kernels_do_not_serve(platform, kind):
    def choose(dtype="bfloat16", **options):
        return select(platform, kind, dtype, *SIZE, **options)

    assert choose(relu=False) == ("dense", f"pallas_{platform} needs relu=True")
    assert choose(relu=False, operation="correlate").name == f"pallas_{platform}"
    assert "float16" in choose("float16").reason
    assert "symbolic" in choose(pairs=jax.export.symbolic_shape("n")[0]).reason
    with jax.enable_x64(True):
        assert "jax_enable_x64 is on" in choose().reason


def test_explicit_axes_are_split_as_the_features_are_whatever_their_names():
    explicit = AbstractMesh((2, 4), ("x", "data"), axis_types=(AxisType.Explicit, AxisType.Auto))
    for own, parts in (((), 4), (("x",), 8)):
        assert split_over(explicit, own) == parts
        assert select("tpu", "TPU v4", "bfloat16", *SIZE, mesh=explicit, pairs=8, own=own).name == "pallas_tpu"
    whole = AbstractMesh((2,), ("x",), axis_types=(AxisType.Explicit,))
    assert select("tpu", "TPU v4", "bfloat16", *SIZE, mesh=whole, pairs=8, own=("x",)).name == "pallas_tpu"


def test_pairs_are_split_over_the_batch_axes_of_a_mesh():
    def choose(mesh, pairs=None, **options):
        return select("tpu", "TPU v5 lite", "bfloat16", *SIZE, mesh=mesh, pairs=pairs, **options)

    assert choose(mesh(data=8), 16).name == "pallas_tpu"
    assert choose(mesh(data=8)).name == "pallas_tpu"
    assert choose(mesh(data=2, fsdp=4, model=2), 16).name == "pallas_tpu"
    assert choose(mesh(data=2, fsdp=4), 12) == ("dense", "12 pairs do not split over 8 devices")
    name, reason = choose(mesh(x=8), 16)
    assert name == "dense"
    assert "none of the mesh's axes ('x',) is called data or fsdp" in reason
    assert "check_vma=False" in reason
    assert choose(mesh(x=1), 7).name == "pallas_tpu"
    inside = AbstractMesh((8,), ("data",), axis_types=(AxisType.Manual,))
    assert choose(inside, 7).name == "pallas_tpu"  # the surrounding shard_map has split the pairs
    assert choose(inside, 7, checked=True) == ("dense", "a kernel runs only in a shard_map with check_vma=False")


@pytest.mark.parametrize(("name", "needs"), [("pallas_tpu", "a TPU"), ("pallas_gpu", "a GPU")])
def test_a_named_kernel_that_cannot_run_is_refused(name, needs):
    f = jnp.ones((1, 4, 4, 8))
    with pytest.raises(ValueError, match=rf"'{name}' cannot run here: {name} needs {needs}, and this is a cpu; None"):
        match(f, f, patch=3, implementation=name)


def test_the_reason_is_told_once(caplog, monkeypatch):
    monkeypatch.setattr(api, "surroundings", lambda *features: ("gpu", "NVIDIA A100", None))
    api.tell.cache_clear()
    f = jnp.ones((1, 4, 4, 8))
    for _ in range(2):
        jax.eval_shape(lambda f: match(f, f, patch=3), f)
    assert [record.message for record in caplog.records] == [
        "correlation runs as plain XLA operations, without a kernel: pallas_gpu needs a Hopper GPU (compute capability "
        "9.0, such as an H100), and this is a NVIDIA A100"
    ]
