"""The recipe of DirecFormer and TimeSformer says what paper and code say."""

import runpy

import jax
import pytest

from vidrec.config import load
from vidrec.errors import UsageError
from vidrec.models.registry import create_model, model_fields
from vidrec.train.optim import learning_rate
from vidrec.train.tasks import make_task, task_fields

ROWS = runpy.run_path("configs/direcformer.py")["sweep"]()


def recipe(arg):
    return load(f"configs/direcformer.py:{arg}", model_fields=model_fields, task_fields=task_fields)


@pytest.mark.parametrize("arg", sorted({arg for rows in ROWS.values() for arg in rows}))
def test_every_row_of_the_tables_can_be_run(arg):
    config = recipe(arg)
    model = create_model(config.model.name, **{key: value for key, value in config.model.items() if key != "name"})
    make_task(model, config)
    assert model.image_size == config.data.image_size


def test_rows_differ_and_datasets_come_first():
    assert next(iter(ROWS)) == "datasets"
    for rows in ROWS.values():
        assert len({str(recipe(arg).to_dict()) for arg in rows}) == len(rows)


@pytest.mark.parametrize(
    ("arg", "time", "space", "orders", "guided"),
    [
        ("jester", "cosine", "softmax", 1000, 1.0),
        ("jester,losses=ord", "cosine", "softmax", 1000, 0.0),
        ("jester,losses=none", "cosine", "softmax", 0, None),
        ("jester,time=softmax,space=cosine", "softmax", "cosine", 1000, 0.0),
        ("jester,timesformer", "softmax", "softmax", 0, None),
        ("jester,timesformer,losses=ord,orders=30", "softmax", "softmax", 30, 0.0),
    ],
)
def test_arguments(arg, time, space, orders, guided):
    config = recipe(arg)
    assert (config.model.time_attn, config.model.space_attn, config.model.num_orders) == (time, space, orders)
    assert config.task.get("guided_weight") == guided


def test_schedules():
    for dataset, epochs in (("jester", 30.0), ("ssv2", 15.0), ("kinetics400", 15.0)):
        config = recipe(dataset)
        rate = learning_rate(config.optim, total_steps=100 * int(epochs), steps_per_epoch=100)
        rates = jax.tree.map(float, [rate(100 * epoch) for epoch in (0, 10, 11, 13, 14)])
        assert rates == pytest.approx([5e-3, 5e-3, 5e-4, 5e-4, 5e-5])
        assert (config.train.epochs, config.train.batch_size, config.optim.nesterov) == (epochs, 64, True)
    assert recipe("kinetics400").data.flip == "swap"
    assert recipe("ssv2").data.flip == "never"


def test_toy_networks():
    assert recipe("toy").model.name == "direcformer_base"
    assert recipe("toy,timesformer").model.name == "timesformer_base"


@pytest.mark.parametrize(
    "slip", ["timesformer,time=cosine", "time=softmax,losses=ord+self", "losses=self", "toy,orders=3", "jster"]
)
def test_slips(slip):
    with pytest.raises(UsageError):
        recipe(slip)
