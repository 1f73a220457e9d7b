"""Pictures of maps: every value where it belongs, in the colour it should have."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from vidrec.errors import UsageError
from vidrec.inspect import drawing
from vidrec.inspect.maps import Map, Maps
from vidrec.inspect.panels import SIDE, Panel, film, panels, sheet

FRAMES = np.full((4, 24, 32, 3), 60, np.uint8)
AXES = ("clip", "frame", "row", "column")


def changed(picture, frames):
    return np.abs(picture.astype(int) - frames).sum(-1)


def test_heat_lies_over_its_cell():
    heat = np.zeros((4, 3, 4), np.float32)
    for frame, (row, column) in enumerate([(0, 0), (2, 3), (1, 2), (0, 3)]):
        heat[frame, row, column] = 1
    out = drawing.overlay(FRAMES, heat)
    assert out.shape == FRAMES.shape
    for frame, (row, column) in enumerate([(0, 0), (2, 3), (1, 2), (0, 3)]):
        difference = changed(out[frame], FRAMES[frame])
        y, x = np.unravel_index(difference.argmax(), difference.shape)
        assert (y // 8, x // 8) == (row, column)
    assert not changed(out[0, 16:, 16:], FRAMES[0, 16:, 16:]).any()  # no heat: the frame as it is


def test_segments_show_their_middle_frame():
    frames = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((20, 2, 2, 3), np.uint8)
    assert drawing.shown_frames(frames, 4)[:, 0, 0, 0].tolist() == [2, 7, 12, 17]
    assert len(drawing.shown_frames(frames, 20)) == 20
    with pytest.raises(UsageError, match="maps of 3 frames do not fit 20 frames"):
        drawing.overlay(frames, np.zeros((3, 2, 2)))


def test_colour_wheel():
    moves = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [2, 0], [0.5, 0]], float)
    still, right, left, down, up, far, near = drawing.move_colours(moves, reach=1.0).astype(int)
    assert still.tolist() == [255, 255, 255]
    for one, opposite in ((right, left), (down, up)):
        assert (one + opposite).tolist() == pytest.approx([255] * 3, abs=1)  # complementary
    assert far.tolist() == right.tolist()
    assert near.sum() == pytest.approx((still + right).sum() / 2, abs=2)
    disk = drawing.wheel(21)
    assert disk[10, 10].min() > 250
    assert np.abs(disk[10, 20].astype(int) - right).max() < 20  # x to the right
    assert np.abs(disk[20, 10].astype(int) - down).max() < 20  # y downwards


def test_arrows_go_where_things_went():
    displacement = np.zeros((4, 3, 4, 2), np.float32)
    displacement[1, 1, 0] = (2, 0)  # two cells to the right
    displacement[2, 0, 3] = (0, 2)  # two cells down, not sure at all
    sure = np.ones((4, 3, 4), np.float32)
    sure[2] = 0
    out = drawing.arrows(FRAMES, displacement, sure)
    difference = changed(out, FRAMES)
    assert [int(frame.any()) for frame in difference] == [0, 1, 0, 0]
    rows, columns = np.nonzero(difference[1])
    assert 9 <= rows.min() <= rows.max() <= 15
    assert (columns.min(), columns.max()) == (pytest.approx(4, abs=1), pytest.approx(20, abs=1))


def test_matrix_has_queries_as_rows_and_signs_as_colours():
    values = np.zeros((4, 4))
    values[0, 3], values[3, 0] = 1.0, -0.5
    picture = drawing.matrices(values[None], [""], rows="query", columns="key", width=80).astype(int)
    cells = [picture[34 + 20 * row + 10, 34 + 20 * column + 10] for row, column in ((0, 3), (3, 0), (1, 1))]
    assert cells[0][0] > cells[0][2] + 100  # red
    assert cells[1][2] > cells[1][0] + 60  # blue
    assert cells[2].min() > 240  # white


def test_a_positive_matrix_is_dark_to_bright():
    picture = drawing.matrices(np.array([[[0.0, 1.0]]]), [""], rows="frame", columns="class", width=40).astype(int)
    assert picture[44, 44].sum() < 20 < 600 < picture[44, 64].sum()


def test_matrices_side_by_side_have_one_scale():
    """Of five heads, four abreast: the cell with the largest magnitude of all is the only one in full colour."""
    values = np.zeros((5, 2, 2))
    values[1, 0, 1], values[4, 1, 0] = 0.5, -1.0
    picture = drawing.matrices(values, [f"head {n}" for n in range(5)], rows="query", columns="key", width=80)
    height, across = picture.shape[0] // 2, (picture.shape[1] - 70) // 4

    def colour(head, row, column):
        return picture[head // 4 * height + 54 + 40 * row, head % 4 * across + 54 + 40 * column].tolist()

    assert colour(4, 1, 0) == drawing.signed_colours(np.array(-1.0)).tolist()
    assert colour(1, 0, 1) == drawing.signed_colours(np.array(0.5)).tolist()
    assert colour(0, 0, 0) == colour(1, 1, 0) == colour(4, 0, 0) == drawing.signed_colours(np.array(0.0)).tolist()


def test_bars_are_as_high_as_the_mean_of_a_row():
    values = np.array([[0.2, 0.3], [0.9, 0.7], [0.0, 0.0]])
    tiles = drawing.gauges(values, ["t-1", "t", "t+1"], side=136).astype(int)
    bars = np.abs(tiles[:, 18:119, 50] - tiles[1, 118, 50]).max(-1) == 0  # beside the line in the middle
    assert bars.sum(1).tolist() == [pytest.approx(25, abs=2), pytest.approx(80, abs=2), pytest.approx(0, abs=1)]
    lines = (tiles[:, 18:119, 68].sum(-1) < 150).sum(1)  # 80 % of a range of 0.1 and of 0.2
    assert lines.tolist() == [pytest.approx(8, abs=2), pytest.approx(16, abs=2), pytest.approx(0, abs=1)]


def test_single_heads_and_patches():
    """Values say where they are: 100 rows + 10 columns + heads, for every query and key."""
    where = np.add.outer(np.add.outer([0, 100], [0, 10, 20]), [0, 1]).astype(float)
    time = np.broadcast_to(where[None, ..., None, None], (1, 2, 3, 2, 4, 4)) / 121
    heat = np.zeros((1, 4, 2, 3), np.float32)
    axes = ("clip", "row", "column", "head", "query", "key")
    maps = Maps(
        "attention", {"rollout": Map(heat, AXES, "rollout"), "time": Map(time, axes, "time")}, ("rollout", "time")
    )

    def titles(**chosen):
        return [panel.title for panel in panels(maps, FRAMES, **chosen)]

    assert titles() == [
        "frames",
        "rollout",
        "time, mean over patches, mean over heads",
        "time, mean over patches, each head",
    ]
    assert titles(patch=(1, 2))[2:] == ["time, patch 1,2, mean over heads", "time, patch 1,2, each head"]
    *_, one = panels(maps, FRAMES, head=1, patch=(1, 2))
    assert one.title == "time, patch 1,2, head 1"
    expected = drawing.matrices(np.ones((1, 4, 4)), [""], rows="query", columns="key")
    np.testing.assert_array_equal(one.frames[0], expected)
    *_, mean = panels(maps, FRAMES, head=0)
    expected = drawing.matrices(np.full((1, 4, 4), 60 / 121), [""], rows="query", columns="key")
    np.testing.assert_array_equal(mean.frames[0], expected)
    frames, *_ = panels(maps, FRAMES, patch=(1, 2))
    marked = changed(frames.frames[0], drawing.enlarge(FRAMES, SIDE)[0]) > 0
    rows, columns = np.nonzero(marked)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (48, 95, 85, 127)  # of 96 x 128
    assert not marked[60:80, 95:115].any()
    for chosen, sentence in (({"head": 2}, "no head 2: there are 2"), ({"patch": (2, 0)}, "no row 2: there are 2")):
        with pytest.raises(UsageError, match=sentence):
            panels(maps, FRAMES, **chosen)
    with pytest.raises(UsageError, match="no head to choose"):
        panels(maps_of(cam=(heat, AXES)), FRAMES, head=0)


def maps_of(**arrays):
    return Maps("cam", {name: Map(values, axes, name) for name, (values, axes) in arrays.items()}, tuple(arrays))


def test_sheet_and_film():
    heat = np.zeros((2, 4, 3, 4), np.float32)
    heat[1, 2, 1, 3] = 1
    maps = maps_of(cam=(heat, AXES), weights=(np.eye(4)[None].repeat(2, 0), ("clip", "query", "key")))
    rows = panels(maps, FRAMES, clip=1, title="stm")
    assert [row.title for row in rows] == ["stm: frames", "stm: cam", "stm: weights"]
    assert rows[1].frames.shape == (4, 96, 128, 3)  # four times as large
    assert [int(changed(*pair).any()) for pair in zip(rows[1].frames, rows[0].frames, strict=True)] == [0, 0, 1, 0]
    picture = sheet(rows)
    assert picture.shape[1] == 4 * (SIDE + 6)
    moving = film([*rows, Panel("half as many", rows[0].frames[:2])])
    assert moving.shape[0] == 4
    assert not any(side % 2 for side in moving.shape[1:3])
    assert maps.draw(FRAMES, clip=1).size == (sheet(panels(maps, FRAMES, clip=1)).shape[1::-1])


def test_a_clip_in_another_order():
    frames = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((4, 128, 128, 3), np.uint8)
    (row,) = panels(maps_of(shown=(np.array([[2, 0, 3, 1]]), ("clip", "position"))), frames)
    assert row.frames[:, 0, 0, 0].tolist() == [2, 0, 3, 1]


def test_named_axes(tmp_path):
    one = Map(np.arange(24).reshape(2, 3, 4), ("clip", "head", "query"), "numbers")
    assert one.take(head=1, clip=1).values.tolist() == [16, 17, 18, 19]
    assert one.take(head=1, clip=1).axes == ("query",)
    assert one.mean("head").values.tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]
    with pytest.raises(UsageError, match="has no 'heat' \\(did you mean 'head'"):
        one.take(heat=0)
    with pytest.raises(UsageError, match="there is no head 3: there are 3, from 0"):
        one.take(head=3)
    with pytest.raises(UsageError, match="do not name the axes"):
        Map(np.zeros((2, 3)), ("clip",))
    maps = Maps("features", {"a/b": one}, ("a/b",))
    maps.save(tmp_path / "maps.npz")
    with np.load(tmp_path / "maps.npz") as file:
        assert np.array_equal(file["a/b"], one.values)
        assert json.loads(str(file["axes"])) == {"a/b": ["clip", "head", "query"]}
    with pytest.raises(UsageError, match="no map 'a/c'"):
        maps["a/c"]


def test_pictures_can_be_saved():
    data = io.BytesIO()
    maps_of(cam=(np.eye(3)[None, None], AXES)).draw(FRAMES[:1]).save(data, "PNG")
    assert Image.open(data).size == (SIDE + 6, 2 * (20 + 96 + 6))
