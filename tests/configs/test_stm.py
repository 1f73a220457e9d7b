import pytest

from tests.configs.recipes import read, sweep
from vidrec.config import to_dict
from vidrec.errors import UsageError

RECIPE = "configs/stm.py"
SECTIONS = sweep(RECIPE)


def test_rows_of_a_table_differ():
    assert next(iter(SECTIONS)) == "datasets"
    for args in SECTIONS.values():
        configs = [str(to_dict(read(RECIPE, arg))) for arg in args]
        assert len(set(configs)) == len(args)


@pytest.mark.parametrize("backbone", ["stm", "tsm", "tsn"])
@pytest.mark.parametrize("dataset", ["ssv1", "toy"])
def test_twins_training(dataset, backbone):
    off, on = (read(RECIPE, f"{dataset},network={backbone}{twins}") for twins in ("", ",twins"))
    assert on.task.to_dict() == {"name": "twins", "weight": 0.01, "beta": 0.0039, "center": False}
    assert off.task.name == "supervised"
    assert on.data.color_jitter == (0.4, 0.4, 0.2, 0.1)
    assert (on.data.color_jitter_probability, on.data.grayscale_probability) == (0.8, 0.2)
    assert (off.data.color_jitter, off.data.grayscale_probability) == ((), 0.0)
    assert on.model == off.model
    assert on.model.name.startswith(f"{backbone}_resnet")


@pytest.mark.parametrize(
    ("arg", "named"),
    [
        ("ssv1,network=tsm,modules=cmm", "modules is of STM"),
        ("ssv1,network=tsn,degenerate", "degenerate is of STM"),
        ("ssv1,placement=6", "placement"),
        ("toy,depth=18", "depth"),
        ("toy,frames=16", "frames"),
        ("toy,views=1", "views"),
        ("ssv1,views=3", "views=3"),
        ("ssv1,center", "center"),
    ],
)
def test_arguments_that_are_wrong_or_have_no_effect(arg, named):
    with pytest.raises(UsageError, match=named):
        read(RECIPE, arg)
