"""Frame sampling against the published index lists."""

import json

import numpy as np
import pytest

from tests.parity.goldens import find, load
from vidrec.data.sampling import dense_indices, segment_indices

PUBLISHED = json.loads(find("frame_sampling.json").read_text())
TDN = json.loads(find("frame_sampling_tdn.json").read_text())["val_and_test"]


class LegacyRandom:
    """numpy's legacy global generator behind the newer method's name, as the published code drew."""

    def __init__(self, seed):
        self.state = np.random.RandomState(seed)

    def integers(self, high, size):
        return self.state.randint(high, size=size)


def draw(kind: str, frames: int, segments: int) -> np.ndarray:
    """The indices that a list of the published ones is about."""
    if kind == "test_dense10":
        return dense_indices(frames, segments, clips=10)
    if kind == "train_random_seed0":
        return segment_indices(frames, segments, mode="train", rng=LegacyRandom(0))
    return segment_indices(frames, segments, mode={"val": "val", "test_twice": "twice"}.get(kind, "test"))


def cases(table):
    for key, indices in table.items():
        segments, frames = (int(part[1:]) for part in key.split("_"))
        yield segments, frames, np.array(indices) - 1


KINDS = ["val", "test_uniform", "test_twice", "test_dense10", "train_random_seed0"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"frame_sampling-{kind}")
def test_frame_sampling(kind):
    table = PUBLISHED[kind]
    assert table
    for segments, frames, expected in cases(table):
        np.testing.assert_array_equal(draw(kind, frames, segments), expected, f"{segments} of {frames}")


@pytest.mark.parametrize("mode", ["val", "test"])
def test_frame_sampling_tdn(mode):
    """Segments of five frames; the lists name the first of each."""
    assert TDN
    for segments, frames, expected in cases(TDN):
        indices = segment_indices(frames, segments, mode=mode, frames_per_segment=5)
        assert indices.shape == (5 * segments,)
        np.testing.assert_array_equal(indices[::5], expected, f"{segments} of {frames}")


@pytest.mark.parametrize("kind", ["val", "test", "test_twice", "test_dense10"])
@pytest.mark.parametrize("segments", [8, 16], ids=lambda segments: f"tsm_frame_indices-T{segments}")
def test_tsm_lists(kind, segments):
    golden = load("tsm_frame_indices")
    found = [draw(kind, int(frames), segments) + 1 for frames in golden["num_frames"]]
    np.testing.assert_array_equal(found, golden[f"{kind}_T{segments}"])
