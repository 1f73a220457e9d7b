import pytest

from tests.configs.recipes import network, read, sweep
from vidrec.data.clips import ClipSpec
from vidrec.errors import UsageError

RECIPE = "configs/tefe.py"
SECTIONS = sweep(RECIPE)


def test_tables():
    tables = {title: [network(read(RECIPE, arg)) for arg in args] for title, args in SECTIONS.items()}
    assert next(iter(tables)) == "datasets"
    placements = {(tuple(model.te), tuple(model.fe)) for models in tables.values() for model in models}
    assert len(placements) == 8  # TSN and the seven configurations of Tables 4 and 5
    assert {model.num_frames for title in list(tables)[1:] for model in tables[title]} == {16}


def test_the_paper_s_recipe():
    short, long = read(RECIPE, "ssv1"), read(RECIPE, "jester,frames=16")
    assert (short.model.num_frames, short.train.batch_size, short.train.epochs) == (8, 20, 50.0)
    assert (long.model.num_frames, long.train.batch_size, long.data.records) == (16, 10, "records/jester")
    assert (short.optim.lr, short.optim.weight_decay, short.optim.momentum) == (1e-3, 5e-4, 0.9)
    assert (short.optim.schedule, short.optim.boundaries, short.optim.factor) == ("step", (30, 40, 45), 0.1)
    spec = ClipSpec.from_config(short, 8, 8)
    assert spec.picture == (224, 256)  # whole frames at the end ...
    assert spec.resize == (224, 256)
    assert (spec.resize_range, spec.resize_draw, spec.crop, spec.image_size) == ((256, 320), "uniform", "random", 224)


def test_toy():
    assert read(RECIPE, "toy").model.te == (1, 1, 0, 0)
    assert read(RECIPE, "toy,te=0-0-0-0").model.te == (0, 0, 0, 0)
    assert read(RECIPE, "toy,te=0-0-0-0").model.fe == (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("arg", "named"),
    [
        ("ssv3", "did you mean 'ssv"),
        ("ssv1,te=1-1", "te=1-1: give the blocks"),
        ("ssv1,fe=0-a-5-2", "fe=0-a-5-2"),
        ("toy,frames=16", "toy"),
    ],
)
def test_wrong_arguments(arg, named):
    with pytest.raises(UsageError, match=named):
        read(RECIPE, arg)
