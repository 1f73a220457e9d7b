"""Each named protocol is what its paper says, and every view of it is produced once."""

import re

import numpy as np
import pytest
from ml_collections import ConfigDict

from vidrec.data.clips import ClipSpec, EvalReader
from vidrec.data.records import open_records
from vidrec.errors import UsageError
from vidrec.eval.evaluate import view_names
from vidrec.eval.protocols import PROTOCOLS, find_protocol
from vidrec.inspect.results import changed

# Clips, crops, and the pictures that a network for 224 pixels sees, as the papers have them.
PUBLISHED = {
    "stm30": (10, 3, (224, 224)),
    "stm_center": (1, 1, (224, 224)),
    "tcm_center": (1, 1, (224, 224)),
    "tcm_10x3": (10, 3, (240, 240)),
    "tcm_kinetics": (10, 3, (256, 256)),
    "tcm_kinetics_10": (10, 1, (224, 224)),
    "tcm_ucf": (2, 1, (224, 224)),
    "tsm_center": (1, 1, (224, 224)),
    "tsm_something": (2, 3, (256, 256)),
    "tsm_kinetics": (10, 3, (256, 256)),
    "tefe": (1, 1, (224, 256)),
    "tefe_random": (1, 1, (224, 256)),
    "ttsn": (1, 1, (224, 224)),
    "tdn30": (10, 3, (256, 256)),
    "timesformer": (1, 3, (224, 224)),
    "direcformer": (1, 3, (224, 224)),
}


def configured(tiny_config, name, **fields):
    config = ConfigDict(tiny_config())
    config.data.update(fields)
    return changed(config, "run", find_protocol(name, {}).fields(config.data.image_size))


def test_every_protocol_is_checked_here():
    assert PUBLISHED.keys() == PROTOCOLS.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_protocol_sets_what_its_paper_says(name, tiny_config):
    config = configured(tiny_config, name, image_size=224)
    clips, crops, picture = PUBLISHED[name]
    assert (config.eval.clips, config.eval.crops) == (clips, crops)
    assert ClipSpec.from_config(config, 4, 4).picture == picture


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
    config = configured(tiny_config, "tcm_10x3", image_size=112)
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
