"""Where a run goes on."""

import pytest

from vidrec.data.clips import ClipSpec
from vidrec.errors import UsageError
from vidrec.train.start import build_model, evaluation_steps, mesh_for, open_training_records, training_stream


def test_a_position_says_where_the_stream_goes_on(tiny_config):
    config = tiny_config()
    source = open_training_records(config)
    model = build_model(config, source.classes)
    spec = ClipSpec.from_config(config, model.num_frames, model.clip_length)
    position = {"version": 1, "step": 3, "clip": 24}  # as older checkpoints have it, without "replaced"
    old, _ = training_stream(config, source, spec, position)
    new, batches = training_stream(config, source, spec, {**position, "replaced": [5]})
    assert (old.replaced, new.replaced) == (set(), {5})
    with batches:
        assert next(batches).record.tolist() == new.wanted(3) == old.wanted(3)
    assert new.position(4) == 32


def test_evaluation_is_due_at_each_epochs_end_and_the_last_step(tiny_config):
    assert evaluation_steps(tiny_config(train__eval_every=0), 8, 26 / 8) == {4, 7, 8}
    assert evaluation_steps(tiny_config(train__eval_every=3), 8, 26 / 8) == {3, 6, 8}


def test_a_batch_must_divide_over_the_devices(tiny_config):
    with pytest.raises(UsageError, match="there are 1 devices"):
        mesh_for(tiny_config(mesh__data=2))
