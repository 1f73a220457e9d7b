"""Names of slices."""

import pytest

from vidrec.errors import UsageError
from vidrec.launch import topology


@pytest.mark.parametrize(
    ("name", "chip", "shape", "chips", "devices"),
    [
        ("v5e:16x16", "v5e", (16, 16), 256, 256),
        ("v5p:4x4x8", "v5p", (4, 4, 8), 128, 128),
        ("tpu7x:2x2x1", "tpu7x", (2, 2, 1), 4, 8),
        ("h200", "h200", (1,), 1, 1),
        ("h100:8", "h100", (8,), 8, 8),
    ],
)
def test_names(name, chip, shape, chips, devices):
    read = topology.parse(name)
    assert (read.chip, read.shape, read.chips, read.devices) == (chip, shape, chips, devices)


@pytest.mark.parametrize("name", ["v5litepod-256", "v9:2x2", "v5e", "", "v5e:", "b200:8", "v5e:2*4", "v5e:16x16x"])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(UsageError, match=r"v4: 1x1x1, .*v5e: 1x1, .*16x16.*h200") as error:
        topology.parse(name)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize(("name", "sides"), [("v5e:4x4x4", 2), ("v4:4x4", 3), ("v5e:0x4", 2), ("h200:2x4", 1)])
def test_shapes_have_as_many_sides_as_the_chips(name, sides):
    with pytest.raises(UsageError, match=f"has {sides} sides"):
        topology.parse(name)


def test_gpus_of_one_machine():
    with pytest.raises(UsageError, match="at most 8"):
        topology.parse("h200:16")


def test_without_the_compilers_their_errors_say_how_to_get_them(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(topology.VidrecError, match="pip install libtpu"):
        topology.devices_of(topology.parse("v5e:2x2"))
    with pytest.raises(topology.VidrecError, match="jax-cuda13-plugin"):
        topology.devices_of(topology.parse("h200"))


def test_every_usual_shape_can_be_read():
    for chip, of in topology.TPUS.items():
        for shape in of.shapes:
            assert topology.parse(f"{chip}:{shape}").grid == shape
