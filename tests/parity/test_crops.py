"""Multi-scale and three crops against those of the published code."""

import json

import pytest

from tests.parity.goldens import find
from vidrec.data.augment import fixed_offsets, multiscale_sizes, three_crops

PUBLISHED = json.loads(find("multiscale_crops.json").read_text())
SCALES = (1.0, 0.875, 0.75, 0.66)
THREE = PUBLISHED["_three_crops_left_right_centre"]


def sides(frame: str) -> tuple[int, int]:
    """Width and height of a name like "320x240"."""
    width, height = map(int, frame.split("x"))
    return width, height


@pytest.mark.parametrize(
    "frame", [key for key in PUBLISHED if key[0].isdigit()], ids=lambda frame: f"multiscale_crops-{frame}"
)
def test_multiscale_crops(frame):
    width, height = sides(frame)
    golden = PUBLISHED[frame]
    sizes = multiscale_sizes(height, width, 224, SCALES)
    assert sizes == [tuple(size) for size in golden["size_candidates_wh_in_order"]]
    for size, offsets in golden["offsets_more_fix_by_size"].items():
        w, h = sides(size)
        assert fixed_offsets(height, width, w, h) == [tuple(offset) for offset in offsets]


@pytest.mark.parametrize("case", sorted(THREE), ids=lambda case: f"multiscale_crops-three-{case}")
def test_three_crops(case):
    frame, side = case.split("_crop")
    width, height = sides(frame)
    assert [[box.x, box.y] for box in three_crops(height, width, int(side))] == THREE[case]
