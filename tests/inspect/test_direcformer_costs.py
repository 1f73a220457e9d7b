"""Costs of DirecFormer and TimeSformer, as counted on the authors' torch code for clips of 8 x 224 x 224."""

import pytest

from vidrec.inspect.summary import summarize
from vidrec.models.registry import create_model

PARAMETERS = [
    ("timesformer_base", 400, None, 121_566_352),
    ("timesformer_base", 174, None, 121_392_558),
    ("timesformer_base", 27, None, 121_279_515),
    ("direcformer_base", 27, 0, 121_279_515),
    ("direcformer_base", 27, 30, 121_279_515 + 23_839),
    ("direcformer_base", 27, 1000, 121_279_515 + 769_769),
]


@pytest.mark.parametrize(("name", "classes", "orders", "params"), PARAMETERS)
def test_parameters(name, classes, orders, params):
    fields = {} if orders is None else {"num_orders": orders}
    summary = summarize(create_model(name, num_classes=classes, **fields), image_size=224)
    assert summary.params == sum(row.params for row in summary.stages) == params
    assert summary.macs / 1e9 == pytest.approx(189.876 + 5.954, rel=1e-4)  # with the products of attention


def test_products_of_attention_are_counted_for_both_kinds_and_the_extra_key():
    """Time: N rows of T queries and T keys; space: T frames of 1 + N; two products each."""
    shape = {"image_size": 16, "patch_size": 8, "num_frames": 3, "dim": 12, "depth": 1, "heads": 2, "num_orders": 0}
    costs = {
        key: summarize(create_model("direcformer_base", num_classes=2, **shape, **fields), image_size=16).macs
        for key, fields in {"plain": {}, "softmax": {"time_attn": "softmax"}, "key": {"time_cls_key": True}}.items()
    }
    pixels, dense, hidden = 4 * 3 * 192 * 12, 12 * 12, 4 * 12 * 12
    linear = 4 * 3 * 5 * dense + 3 * 5 * 4 * dense + (1 + 4 * 3) * 2 * hidden + 2 * 12
    products = 2 * 12 * (4 * 3 * 3 + 3 * 5 * 5)
    assert costs["plain"] == costs["softmax"] == pixels + linear + products
    assert costs["key"] == costs["plain"] + 2 * 12 * 4 * 3 + 3 * dense  # one key more, of one more token
