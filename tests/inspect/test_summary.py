import json

import pytest

from vidrec.errors import VidrecError
from vidrec.inspect.summary import summarize
from vidrec.models.registry import create_model

STM, TSN, CSTM, CMM = "stm_resnet50", "tsn_resnet50", {"modules": "cstm"}, {"modules": "cmm"}

# Parameters, and G multiply-adds without and with 2 per BatchNorm output, for clips of 224x224 and 174 classes, as
# counted on public torch code; rounded they are the papers' own tables where those can be reproduced.
COSTS = [
    (TSN, {}, 23_864_558, 32.700, 32.878),
    (STM, CSTM, 23_875_886, 32.746, 32.924),
    (STM, CMM, 24_024_338, 33.030, 33.209),
    (STM, {**CMM, "cmm_conv": "ordinary"}, 24_066_422, 33.111, 33.291),
    (STM, {**CSTM, "cstm_conv": "channelwise_2d"}, 12_592_622, 18.048, 18.225),
    (STM, {**CSTM, "cstm_conv": "ordinary"}, 27_636_974, 40.407, 40.585),
    (STM, {}, 24_035_666, 33.075, 33.255),
    (STM, {"num_frames": 16}, 24_035_666, 66.151, 66.510),
    (STM, {"modules": "none"}, 23_864_558, 32.700, 32.878),
    ("stm_resnet18", {}, 11_359_894, 14.633, 14.674),
    ("stm_resnet34", {}, 21_545_042, 29.552, 29.613),
    ("tsm_resnet18", {}, 11_265_774, 14.509, 14.549),
    ("tsm_resnet50", {}, 23_864_558, 32.700, 32.878),
    ("tsm_resnet101", {}, 42_856_686, 62.398, 62.657),
]


@pytest.mark.parametrize(("name", "fields", "params", "gmac", "gmac_with_bn"), COSTS)
def test_costs_of_the_papers(name, fields, params, gmac, gmac_with_bn):
    summary = summarize(create_model(name, num_classes=174, **fields), image_size=224)
    assert summary.params == params
    assert round(summary.macs / 1e9, 3) == gmac
    assert round((summary.macs + summary.bn_macs) / 1e9, 3) == gmac_with_bn


@pytest.mark.parametrize(
    ("fields", "params"),
    [({"fusion": "concat"}, 26_550_610), ({"num_classes": 400}, 24_498_740), ({"degenerate": True}, 24_022_214)],
)
def test_parameters_of_other_variants(fields, params):
    assert summarize(create_model(STM, **{"num_classes": 174, **fields}), image_size=64).params == params


SMALL = {
    "num_classes": 5,
    "num_frames": 4,
    "widths": (8, 16),
    "stage_sizes": (1, 2),
    "strides": (1, 2),
    "stem_width": 8,
}


def test_stages():
    summary = summarize(create_model("stm_resnet18", **SMALL), image_size=(64, 96), batch=2)
    assert summary.input_shape == (2, 4, 64, 96, 3)
    rows = {row.name: row for row in summary.stages}
    assert list(rows) == ["stem", "stage2", "stage3", "head"]
    assert rows["stem"].shape == (2, 4, 16, 24, 8)  # after the pooling
    assert rows["stage3"].shape == (2, 4, 8, 12, 16)
    assert rows["head"].params == 16 * 5 + 5
    assert rows["head"].macs == 2 * 4 * 16 * 5
    assert rows["stem"].macs == 2 * 4 * 32 * 48 * 8 * 7 * 7 * 3
    assert rows["stem"].bn_macs == 2 * 2 * 4 * 32 * 48 * 8
    for figure in ("params", "macs", "bn_macs", "activations"):
        assert sum(getattr(row, figure) for row in summary.stages) == getattr(summary, figure)


def test_costs_grow_with_the_batch_and_not_with_recomputation():
    one, three, remat = (
        summarize(create_model("tsm_resnet50", **SMALL, remat=remat), image_size=64, batch=batch)
        for batch, remat in ((1, "none"), (3, "none"), (1, "block"))
    )
    assert (three.macs, three.params) == (3 * one.macs, one.params)
    assert remat == one


def test_text_is_a_table_and_the_dictionary_is_json():
    summary = summarize(create_model("tsn_resnet18", **SMALL), image_size=64)
    lines = summary.text().splitlines()
    assert lines[0].split()[:3] == ["stage", "output", "params"]
    assert len({len(line) for line in lines[:-1]}) == 1  # aligned
    assert f"{summary.params:,}" in lines[-1]
    assert json.loads(json.dumps(summary.as_dict()))["stages"][0]["name"] == "stem"


def test_nothing_is_allocated():
    summary = summarize(create_model(TSN, num_classes=174), image_size=2240, batch=64)
    assert summary.macs > 10**14


def test_pictures_of_odd_size():
    with pytest.raises(VidrecError, match="image_size"):
        summarize(create_model(STM, num_classes=2), image_size=200)
