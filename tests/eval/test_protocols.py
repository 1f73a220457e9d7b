"""Each named protocol is what its paper says, and every view of it is produced once."""

import re

import jax
import numpy as np
import pytest

from tests.models.families import CLASSES, IMAGE_SIZE, make
from vidrec.data.clips import ClipSpec, EvalReader
from vidrec.data.records import open_records
from vidrec.errors import UsageError
from vidrec.eval.evaluate import view_names
from vidrec.eval.predict import Recognizer
from vidrec.eval.protocols import PROTOCOLS, find_protocol
from vidrec.inspect.prepared import Prepared, changed_config
from vidrec.inspect.results import check_protocol
from vidrec.train.state import initial_variables

SEGMENT, DENSE, EVEN, STRIDED = ("segment", 0), ("dense", 0), ("even", 0), ("strided", 32)
# As the papers have them, for a network on pictures of 224 pixels: which frames make a clip (and their distance); clips
# and how they are chosen; crops; resizing; the pictures that are seen; what is averaged over the views.
PUBLISHED = {
    "stm30": (SEGMENT, 10, "random", 3, (256,), (224, 224), "softmax"),
    "stm_center": (SEGMENT, 1, "test", 1, (256,), (224, 224), "softmax"),
    "tcm_center": (SEGMENT, 1, "test", 1, (240, 320), (224, 224), "logits"),
    "tcm_10x3": (SEGMENT, 10, "random", 3, (240, 320), (240, 240), "logits"),
    "tcm_kinetics": (DENSE, 10, "test", 3, (256,), (256, 256), "logits"),
    "tcm_kinetics_10": (DENSE, 10, "test", 1, (256,), (224, 224), "logits"),
    "tcm_ucf": (SEGMENT, 2, "twice", 1, (256,), (224, 224), "logits"),
    "tsm_center": (SEGMENT, 1, "test", 1, (256,), (224, 224), "logits"),
    "tsm_something": (SEGMENT, 2, "twice", 3, (256,), (256, 256), "logits"),
    "tsm_kinetics": (DENSE, 10, "test", 3, (256,), (256, 256), "logits"),
    "tefe": (SEGMENT, 1, "test", 1, (224, 256), (224, 256), "softmax"),
    "tefe_random": (SEGMENT, 1, "random", 1, (224, 256), (224, 256), "softmax"),
    "ttsn": (SEGMENT, 1, "test", 1, (256,), (224, 224), "softmax"),
    "tdn30": (SEGMENT, 10, "random", 3, (256,), (256, 256), "softmax"),
    "timesformer": (EVEN, 1, "test", 3, (224,), (224, 224), "logits"),
    "timesformer_kinetics": (STRIDED, 1, "test", 3, (224,), (224, 224), "logits"),
    "direcformer": (EVEN, 1, "test", 3, (224,), (224, 224), "logits"),
    "direcformer_kinetics": (STRIDED, 1, "test", 3, (224,), (224, 224), "logits"),
}
# Of runs that were trained, and are otherwise evaluated, in another way.
TRAINED = {
    "dense": {"data__sampling": "dense", "eval__average": "logits", "eval__clips": 10},
    "strided": {"data__sampling": "strided", "data__stride": 3, "data__resize": (300,), "eval__crops": 5},
    "segments": {"data__short": "loop", "eval__sampling": "val", "eval__image_size": (96, 128)},
}


def configured(tiny_config, name, **fields):
    config = tiny_config(**fields)
    return changed_config(config, "run", find_protocol(name, {}).fields(config.data.image_size))


def test_every_protocol_is_checked_here():
    assert PUBLISHED.keys() == PROTOCOLS.keys()


@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_protocol_sets_what_its_paper_says(name, trained, tiny_config):
    config = configured(tiny_config, name, data__image_size=224, **TRAINED[trained])
    (frames, stride), clips, sampling, crops, resize, picture, average = PUBLISHED[name]
    data, views = config.data, config.eval
    assert (data.sampling, data.stride if stride else 0) == (frames, stride)
    assert (views.clips, views.sampling, views.crops) == (clips, sampling, crops)
    spec = ClipSpec.from_config(config, 4, 4)
    assert (data.resize, spec.picture, views.average, data.short) == (resize, picture, average, "first")


def test_which_frames_are_seen_does_not_depend_on_the_training(tiny_config):
    """The frames of a video of 200, by the rules of the papers, whatever the run was trained on."""
    expected = {
        "stm_center": [25 + 50 * i for i in range(4)],
        "tcm_kinetics": [16 * i for i in range(4)],  # of a window of 64 frames at the start
        "timesformer": [25, 75, 124, 174],  # middles of the spans between 0, 50, 100, 149 and 199
        "timesformer_kinetics": [36 + 32 * i for i in range(4)],  # 128 frames in the middle
    }
    for name, frames in expected.items():
        for fields in TRAINED.values():
            config = configured(tiny_config, name, **fields)
            spec = ClipSpec.from_config(config, 4, 4)
            assert spec.eval_frames(200, "video", 0, config.eval.clips).tolist() == frames


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_view_is_produced_once(name, tiny_config, records):
    """Views of a long video differ, are as many as named, and are the same when they are cut again."""
    config = configured(tiny_config, name)
    source = open_records(records, "test")
    reader = EvalReader(source, ClipSpec.from_config(config, 4, 4), config.eval.clips, config.eval.crops)
    names = view_names(config.eval.clips, config.eval.crops)
    views = [reader(position) for position in range(len(names), 2 * len(names))]  # those of the second video
    assert {int(view.record) for view in views} == {1}
    assert all(view.valid for view in views)
    assert len(set(names)) == len(names) == config.eval.clips * config.eval.crops
    again = [reader(position).clips for position in range(len(names), 2 * len(names))]
    np.testing.assert_array_equal([view.clips for view in views], again)
    if config.data.sampling != "dense":  # 12 frames hold one window of 64 only
        crops = [views[number].clips for number in range(config.eval.crops)]
        assert len({crop.tobytes() for crop in crops}) == config.eval.crops


def test_sizes_follow_the_network_s_pictures(tiny_config):
    config = configured(tiny_config, "tcm_10x3", data__image_size=112)
    assert config.data.resize == (120, 160)
    whole = configured(tiny_config, "tefe")
    assert whole.data.resize == whole.eval.image_size == (16, 18)
    assert configured(tiny_config, "stm30").eval.image_size == ()


def test_slips():
    with pytest.raises(UsageError, match="did you mean 'stm30'"):
        find_protocol("stm3", {})
    told = "clips=5 is not protocol stm30 (STM with Twins Training, accurate tests), whose clips is 10"
    with pytest.raises(UsageError, match=re.escape(told)):
        find_protocol("stm30", {"clips": 5})
    with pytest.raises(UsageError, match="full_resolution=True"):
        find_protocol("stm_center", {"full_resolution": True})
    assert find_protocol("stm30", {"clips": 10, "crops": 3}) == PROTOCOLS["stm30"]


@pytest.mark.parametrize(
    ("family", "name", "told"),
    [
        ("tdn", "tsm_kinetics", r"protocol tsm_kinetics cannot be had for this network: .* 5 consecutive frames"),
        ("ttsn-tsn", "tsm_something", r"protocol tsm_something cannot be had for this network: ETT's position codes"),
    ],
)
def test_networks_that_have_no_such_protocol(family, name, told, tiny_config, records):
    model = make(family)
    config = configured(tiny_config, name, data__image_size=IMAGE_SIZE)
    shapes = jax.eval_shape(lambda: initial_variables(model, jax.random.key(0), IMAGE_SIZE))
    classes = tuple(map(str, range(CLASSES)))
    recognizer = Recognizer(model, shapes, classes, tiny_config(data__image_size=IMAGE_SIZE), 3)
    with pytest.raises(UsageError, match=told):
        check_protocol(name, Prepared(recognizer, config, open_records(records, "test")))
