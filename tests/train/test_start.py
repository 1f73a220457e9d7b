"""Where a run goes on, and what it takes from the records."""

from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict

from vidrec.config import base
from vidrec.data.clips import ClipSpec
from vidrec.errors import UsageError
from vidrec.train.start import (
    build_model,
    evaluation_steps,
    mesh_for,
    open_training_records,
    training_stream,
    with_class_weights,
)


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


class Labels(SimpleNamespace):
    def __len__(self):
        return len(self.labels)


def labelled(labels, classes=("a", "b", "c", "d"), member=None, aside=()):
    member = np.zeros(len(labels), np.int32) if member is None else np.array(member)
    return Labels(labels=np.array(labels), classes=classes, member=member, aside=frozenset(aside))


def balanced(source, **data):
    config = base()
    config.train.class_weights = ("balanced",)
    config.data.update(data)
    return np.array(with_class_weights(config, source).train.class_weights)


def test_balanced_class_weights_are_1_on_average_over_the_videos():
    source = labelled([0, 0, 0, 0, 0, 0, 2, 2, 3])
    config = base()
    assert with_class_weights(config, source) is config
    config.train.class_weights = ("balanced",)
    weights = np.array(with_class_weights(config, source).train.class_weights)
    assert weights.tolist() == pytest.approx([0.5, 1.0, 1.5, 3.0])  # as 1/6, 1/2, 1; there is no b
    assert weights[source.labels].mean() == pytest.approx(1)
    assert config.train.class_weights == ("balanced",)  # what a checkpoint says
    assert balanced(labelled([0, 0, 0, 2, 3], aside=[1, 2])).tolist() == pytest.approx([1, 1, 1, 1])


def test_balanced_class_weights_follow_the_mixture():
    source = labelled([0, 0, 0, 1, 0, 1], ("a", "b"), member=[0, 0, 0, 0, 1, 1])
    assert balanced(source).tolist() == pytest.approx([6 / (2 * 4), 6 / (2 * 2)])
    draws = np.array([1 / 4 * 3 / 4 + 3 / 4 / 2, 1 / 4 * 1 / 4 + 3 / 4 / 2])  # one in four is of the first folder
    weights = balanced(source, records="one,two", mixture=(1, 3))
    assert weights.tolist() == pytest.approx(1 / (2 * draws))
    assert draws @ weights == pytest.approx(1)


def test_balanced_class_weights_follow_the_labels_that_a_flip_exchanges():
    classes = ("Moving left", "Moving right", "Jumping", "Sitting left")  # the last has no mirror class
    source = labelled([0, 0, 0, 0, 0, 1, 2, 3, 3, 3], classes)
    assert balanced(source, flip="skip").tolist() == pytest.approx([10 / (4 * n) for n in (5, 1, 1, 3)])
    assert balanced(source, flip="swap").tolist() == pytest.approx([10 / (4 * n) for n in (3, 3, 1, 3)])
    one_side = balanced(labelled([0, 0, 2, 2], classes), flip="swap")  # right is seen only in the mirror
    assert one_side.tolist() == pytest.approx([4 / 3, 4 / 3, 2 / 3, 1])


def test_a_network_is_built_for_balanced_weights(tiny_config):
    config = tiny_config(train__class_weights=("balanced",))
    assert build_model(config, ("left", "right")).num_classes == 2
    with pytest.raises(UsageError, match="3 values for 2 classes"):
        build_model(tiny_config(train__class_weights=(1.0, 1.0, 2.0)), ("left", "right"))


def test_folders_are_joined_and_mixed(tiny_config, records):
    config = ConfigDict(tiny_config(data__balance="class"))
    config.data.update(records=f"{records},{records}", mixture=(1, 3))
    source = open_training_records(config)
    assert (len(source), source.classes) == (52, ("left", "right"))
    spec = ClipSpec.from_config(config, 4, 4)
    plan, batches = training_stream(config, source, spec, {"step": 0, "clip": 0})
    wanted = np.array(plan.wanted(0))
    with batches:
        assert next(batches).record.tolist() == wanted.tolist()
    assert (wanted >= 26).sum() == 6
    assert source.labels[wanted[wanted < 26]].tolist() in ([0, 1], [1, 0])
