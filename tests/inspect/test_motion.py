"""Maps of motion and of features on an object that moves a known way."""

import jax.numpy as jnp
import numpy as np
import pytest

import vidrec.inspect
from tests.inspect.objects import RESNET, make, peaks, pointwise, squares
from vidrec.errors import UsageError

HEIGHT, WIDTH, STEP = 24, 32, 2  # one cell of stage 3 has two pixels
TEXTURE = np.random.default_rng(0).uniform(0.2, 1, (8, 8, 3)).astype(np.float32)


def moving(start, step):
    """Top left corners of an object in four frames, in pixels."""
    return np.array(start) + STEP * np.arange(4)[:, None] * np.array(step)


TEFE = {**RESNET, "bottleneck": False, "te": (1, 0), "fe": (0, 0)}
RIGHT, UP = moving((8, 6), (0, 1)), moving((14, 12), (-1, 0))
CLIPS = squares(np.stack([RIGHT, UP]), HEIGHT, WIDTH, 8, TEXTURE)


@pytest.fixture(scope="module")
def tcm():
    """TCM-Net that shifts no channel before the module: features move as the object does, a cell for two pixels."""
    fields = {**RESNET, "stage_sizes": (1, 1, 1), "widths": (8, 8, 16), "strides": (1, 2, 1), "shift_div": 16}
    return make("tcm_resnet18", HEIGHT, WIDTH, **fields, tcm_patch=7, tcm_reduction=32)


def test_displacement_is_in_cells_and_x_before_y(tcm):
    maps = vidrec.inspect.motion(*tcm, CLIPS)
    fast, sure = maps["tcm3/fast/displacement"], maps["tcm3/fast/confidence"]
    assert fast.axes == ("clip", "frame", "row", "column", "xy")
    assert sure.axes == ("clip", "frame", "row", "column")
    assert fast.values.shape == (2, 4, 12, 16, 2)
    for clip, (path, step) in enumerate(((RIGHT, (1, 0)), (UP, (0, -1)))):
        for frame in range(3):
            row, column = path[frame] // STEP + 1
            on = clip, frame, slice(row, row + 2), slice(column, column + 2)
            np.testing.assert_allclose(fast.values[on], np.broadcast_to(step, (2, 2, 2)), atol=0.2)
            assert sure.values[on].min() > 0.9
    assert sure.values[:, :, 0, 0].max() == 0  # black: nothing to match


def test_slow_tempo_counts_from_the_first_frame(tcm):
    slow = vidrec.inspect.motion(*tcm, CLIPS)["tcm3/slow/displacement"].values
    row, column = RIGHT[0] // STEP + 1
    for frame in range(3):
        found = slow[0, frame, row : row + 2, column : column + 2].mean((0, 1))
        np.testing.assert_allclose(found, (frame + 1, 0), atol=0.3)
    np.testing.assert_array_equal(slow[:, 3], slow[:, 2])


def test_cmm_sees_what_moves_and_nothing_else():
    """With the plain difference of frames: zero where nothing changes, and in the last frame."""
    model, variables = make("stm_resnet18", HEIGHT, WIDTH, **RESNET, reduction=4, degenerate=True, modules="cmm")
    still = np.broadcast_to(RIGHT[:1], RIGHT.shape)
    clips = squares(np.stack([RIGHT, still]), HEIGHT, WIDTH, 4)
    maps = vidrec.inspect.motion(model, pointwise(variables), clips)
    change = maps["layer1_0/difference"]
    assert change.axes == ("clip", "frame", "row", "column")
    assert not change.values[1].any()
    assert not change.values[0, 3].any()
    for frame in range(3):
        (top, left), (_, after) = RIGHT[frame], RIGHT[frame + 1]
        rows, columns = np.nonzero(change.values[0, frame])
        assert set(rows) == set(range(top, top + 4))
        assert set(columns) == {*range(left, after), *range(left + 4, after + 4)}


def test_features_peak_on_the_object():
    model, variables = make("tefe_resnet50", HEIGHT, WIDTH, **TEFE)
    cells = np.array([[(1, 2), (4, 7), (10, 3), (7, 14)], [(0, 0), (9, 9), (2, 12), (5, 5)]])
    maps = vidrec.inspect.features(model, pointwise(variables), squares(2 * cells, HEIGHT, WIDTH, 2))
    places = [[tuple(cell) for cell in clip] for clip in cells.tolist()]
    assert peaks(maps["stage3"].values) == places
    assert peaks(maps["stem"].values[:, :, ::2, ::2]) == places
    assert maps.axes == {
        "frame_logits": ("clip", "frame", "class"),
        "layer1_0/te/activation": ("clip", "frame", "channel"),
        "layer1_0/te/taps": ("clip", "tap", "channel"),
        **dict.fromkeys(("stage2", "stage3", "stem"), ("clip", "frame", "row", "column")),
    }
    np.testing.assert_allclose(maps["layer1_0/te/taps"].values.sum(1), 1, rtol=1e-5)
    assert maps.drawn[:3] == ("stage3", "stage2", "stem")


def test_a_network_without_motion_says_what_it_has():
    with pytest.raises(UsageError, match="no motion to look at; it has cam, features"):
        vidrec.inspect.motion(*make("tsn_resnet18", 8, 8, **RESNET), jnp.zeros((1, 4, 8, 8, 3)))
