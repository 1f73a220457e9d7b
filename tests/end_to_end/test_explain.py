"""Maps of small trained networks: they hit what moves if the network sees motion, and not if it averages frames."""

import json

import numpy as np
import pytest

from experiments.explain import DIRECTIONS, SQUARE, Clips, cells, draw, explain, hits, main


def test_drawn_clips_are_as_they_say():
    clips = draw(8, DIRECTIONS, np.random.default_rng(0))
    for pixels, label, moving, still in zip(*clips, strict=True):
        assert np.diff(moving, axis=0).tolist() == [[2 * step for step in list(DIRECTIONS.values())[label]]] * 7
        corner = pixels[:, still[0] : still[0] + SQUARE, still[1] : still[1] + SQUARE].astype(int)
        assert np.ptp(corner, axis=0).max() == 0  # it stands, and nothing covers it
        square = [
            frame[row : row + SQUARE, column : column + SQUARE]
            for frame, (row, column) in zip(pixels, moving, strict=True)
        ]
        assert np.ptp(np.stack(square).astype(int), axis=0).max() == 0


def test_hits_are_counted_where_the_squares_are():
    clips = Clips(np.zeros(0, np.uint8), np.zeros(1, int), np.array([[[0, 8], [8, 8]]]), np.array([[24, 16]]))
    assert np.argwhere(cells(np.array([0, 8]), 4, 4)).tolist() == [[0, 1]]
    heat = np.zeros((1, 2, 4, 4))
    heat[0, 0, 0, 1], heat[0, 1, 3, 2] = 1, 1  # on the moving square; on the other
    assert hits(heat, clips) == {"hit": 0.5, "still": 0.5, "chance": 1 / 16}
    assert hits(np.ones_like(heat), clips)["hit"] == 0  # the same everywhere: it says nothing


@pytest.mark.slow
def test_maps_of_a_network_that_sees_motion_hit_what_moves(tmp_path):
    result = explain(tmp_path / "out", networks=("stm",), steps=50, train_clips=256, test_clips=32)
    assert json.loads((tmp_path / "out/explain.json").read_text()) == result
    stm = result["networks"]["stm"]
    assert stm["accuracy"] > 0.6  # of frames alone no more than 0.5
    hit, still = stm["maps"]["cam cam"]["hit"], stm["maps"]["cam cam"]["still"]
    assert hit > 3 * still
    assert hit > 2 * stm["maps"]["cam cam"]["chance"]
    for what in ("cam", "motion"):
        assert (tmp_path / f"out/gallery/{what}.png").stat().st_size > 1000


def test_a_folder_with_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path)])
    assert "holds something else; choose another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
