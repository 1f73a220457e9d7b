"""What a run compiles: a batch in parts, the average of the weights, memory that is used again, one compilation."""

import functools
import logging
import re
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from vidrec.config import base
from vidrec.data.feed import to_devices
from vidrec.errors import UsageError
from vidrec.eval.evaluate import make_evaluator
from vidrec.eval.predict import load
from vidrec.train.loop import train
from vidrec.train.program import abstract_batch, abstract_state, make_program
from vidrec.train.sharding import batch_sharded, make_mesh
from vidrec.train.tasks import task_fields
from vidrec.types import Batch

CLASSES = ("a", "b", "c")
NETWORK = {"num_frames": 2, "stem": "small", "stem_width": 4, "widths": (4,), "stage_sizes": (1,), "strides": (1,)}


def settings(bn="group:2", task="supervised", **fields):
    c = base()
    c.model.update(name="tsn_resnet18", bn=bn, dropout=0.0, **NETWORK)
    c.task.update(name=task, **task_fields(task))
    c.data.image_size = 8
    c.optim.update(lr=1.0, clip_norm=0.0)
    c.train.update(batch_size=8, steps=4, **fields)
    return FrozenConfigDict(c)


def program(config):
    return make_program(config, make_mesh(config.mesh, jax.devices()[:1]), CLASSES, 32)


def batch(rows=range(8)):
    rng = np.random.default_rng(0)
    clips, label = rng.integers(0, 256, (8, 2, 8, 8, 3), dtype=np.uint8), rng.integers(0, 3, 8).astype(np.int32)
    return Batch(*(array[list(rows)] for array in (clips, label, np.arange(8, dtype=np.int32), np.ones(8, bool))))


@functools.cache
def run(config, rows=tuple(range(8))):
    """The states before the first step and after each of two, and the last metrics."""
    made = program(config)
    states, metrics = [], {}
    with jax.set_mesh(made.mesh):
        state = made.make_state(jax.random.key(0))
        states.append(jax.device_get(state))
        on_device = to_devices(batch(rows), batch_sharded(made.mesh))
        with jax.transfer_guard("disallow"):
            for _ in range(2):
                state, metrics, _ = made.train_step(state, on_device)
                states.append(jax.device_get(state))
    assert made.train_step._cache_size() == 1  # compiled for the first step alone
    return states, jax.device_get(metrics)


def close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)


@pytest.mark.parametrize("parts", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_batch_in_parts_gives_what_it_gives_whole(parts):
    whole, in_parts = run(settings()), run(settings(accumulate=parts))
    assert np.abs(whole[0][0].params["fc"]["kernel"] - whole[0][1].params["fc"]["kernel"]).max() > 0.05
    close(whole, in_parts)


@pytest.mark.slow
def test_with_global_statistics_a_part_is_a_group():
    dealt = run(settings(bn="global", accumulate=2))
    groups = run(settings(bn="group:4"), rows=(0, 2, 4, 6, 1, 3, 5, 7))
    close(dealt, groups)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (settings(accumulate=3), r"8, which cannot be taken in train\.accumulate=3 parts of whole groups of 2 clips"),
        (settings("global", accumulate=3), r"8, which cannot be taken in train\.accumulate=3 parts$"),
        (settings("group:4", accumulate=4), r"accumulate=4 parts of whole groups of 4 clips"),
        (settings(task="twins", accumulate=2), r"task\.name=twins compares the clips of the whole batch"),
    ],
)
def test_parts_that_would_give_something_else_are_refused(config, said):
    with pytest.raises(UsageError, match=said):
        program(config)


def test_the_average_follows_the_weights_and_is_what_is_evaluated():
    (start, first, second), _ = run(settings(ema=0.75))
    close(start.average, start.params)
    expected = jax.tree.map(
        lambda a, b, c: 0.75 * (0.75 * a + 0.25 * b) + 0.25 * c, *(s.params for s in (start, first, second))
    )
    close(second.average, expected)
    assert second.variables["params"] is second.average
    plain, _ = run(settings())
    close(plain[-1].params, second.params)  # the optimizer goes on with the raw ones
    again = first.filled(second.step, second.variables, second.continuation)
    jax.tree.map(np.testing.assert_array_equal, again, second)


@pytest.mark.slow
def test_a_run_with_an_average_goes_on_where_it_stopped(tiny_config, tmp_path):
    once = train(tiny_config(train__ema=0.9), tmp_path / "once", make_evaluator)
    train(tiny_config(train__ema=0.9, train__steps=5), tmp_path / "twice", make_evaluator)
    again = train(tiny_config(train__ema=0.9), tmp_path / "twice", make_evaluator)
    assert (once.step, once.metrics) == (again.step, again.metrics)
    saved, same = load(tmp_path / "once").variables, load(tmp_path / "twice").variables
    jax.tree.map(np.testing.assert_array_equal, saved, same)
    with pytest.raises(UsageError, match=r"train\.ema: 0\.9 -> 0\.5"):
        train(tiny_config(train__ema=0.5), tmp_path / "once", make_evaluator)


def test_the_memory_of_the_old_state_is_used_again():
    made = program(settings(ema=0.75))
    state = abstract_state(made)
    with jax.set_mesh(made.mesh):
        compiled = made.train_step.lower(state, abstract_batch(made, 8)).compile()
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert compiled.memory_analysis().alias_size_in_bytes >= size


@pytest.mark.slow
def test_a_run_compiles_each_step_once(tiny_config, tmp_path, caplog):
    """Also where a run goes on from a checkpoint, whose arrays come from elsewhere."""
    compiled = re.compile(r"Compiling jit\((train_step|eval_step|draw)\)")
    for steps, made in ((4, ["draw", "train_step", "eval_step"]), (8, ["train_step", "eval_step"])):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):  # a command may have raised it
            train(tiny_config("tsn_resnet18", train__steps=steps), tmp_path / "run", make_evaluator)
        assert compiled.findall(caplog.text) == made


def test_a_network_that_the_model_axis_does_not_split_is_told():
    config = ConfigDict(settings())
    config.mesh.model = 2
    mesh: Any = jax.sharding.AbstractMesh((1, 1, 2), ("data", "fsdp", "model"))
    with pytest.raises(UsageError, match=r"mesh\.model is 2, but splits no parameter"):
        make_program(FrozenConfigDict(config), mesh, CLASSES, 32)


def test_abstract_arrays_are_those_of_a_run():
    made = program(settings(ema=0.75))
    with jax.set_mesh(made.mesh):
        state = made.make_state(jax.random.key(0))
    real = jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), abstract_state(made)) == real
