"""The recipe of DirecFormer and TimeSformer says what paper and code say."""

from functools import partial

import jax
import pytest

from tests.configs.recipes import read, sweep
from vidrec.errors import UsageError
from vidrec.train.optim import learning_rate

ROWS = sweep("configs/direcformer.py")
recipe = partial(read, "configs/direcformer.py")


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
    plain = recipe("toy,timesformer")
    assert (plain.model.name, plain.model.num_orders, plain.task.name) == ("timesformer_base", 0, "supervised")
    ordered = recipe("toy,time=cosine,space=cosine,losses=ord,orders=30")
    assert (ordered.model.space_attn, ordered.model.num_orders, ordered.task.guided_weight) == ("cosine", 30, 0.0)


@pytest.mark.parametrize(
    ("slip", "named"),
    [
        ("timesformer,time=cosine", "timesformer"),
        ("time=softmax,losses=ord+self", r"losses=ord\+self"),
        ("losses=self", "losses=self"),
        ("losses=none,orders=30", "orders.*no effect"),
        ("timesformer,orders=30", "orders.*no effect"),
        ("orders=0", "orders=0: give 1 or more"),
        ("jster", "did you mean 'jester'"),
    ],
)
def test_slips(slip, named):
    with pytest.raises(UsageError, match=named):
        recipe(slip)
