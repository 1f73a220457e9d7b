"""The laws of frame sampling; tests/parity compares it with the published lists."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrec.data.sampling import even_indices, segment_indices, strided_indices
from vidrec.errors import UsageError


@given(
    frames=st.integers(1, 400),
    segments=st.integers(1, 32),
    length=st.sampled_from([1, 5]),
    mode=st.sampled_from(["train", "val", "test", "twice"]),
    short=st.sampled_from(["first", "loop", "clamp"]),
    seed=st.integers(0, 2**32),
)
def test_indices_lie_in_the_video(frames, segments, length, mode, short, seed):
    rng = np.random.default_rng(seed)
    kind = {"mode": mode, "frames_per_segment": length, "short": short}
    indices = segment_indices(frames, segments, rng=rng, **kind)
    assert indices.shape == (segments * length * (2 if mode == "twice" else 1),)
    assert indices.min() >= 0
    assert indices.max() < frames
    if short != "loop" and mode != "twice" and length == 1:
        assert (np.diff(indices) >= 0).all()


@given(frames=st.integers(8, 300), seed=st.integers(0, 2**32))
def test_training_draws_one_frame_of_each_part(frames, seed):
    indices = segment_indices(frames, 8, mode="train", rng=np.random.default_rng(seed))
    np.testing.assert_array_equal(indices // (frames // 8), np.arange(8))


@pytest.mark.parametrize(
    ("short", "expected"), [("first", [0, 0, 0, 0]), ("loop", [0, 1, 2, 0]), ("clamp", [0, 1, 2, 2])]
)
def test_short_videos(short, expected):
    indices = segment_indices(3, 4, mode="train", rng=np.random.default_rng(0), short=short)
    np.testing.assert_array_equal(indices, expected)


def test_training_needs_a_generator():
    with pytest.raises(UsageError, match="rng"):
        segment_indices(30, 8, mode="train")


@given(st.integers(1, 300), st.integers(1, 20), st.integers(0, 9))
def test_even_takes_one_frame_of_each_span(frames, segments, seed):
    middle, drawn = even_indices(frames, segments), even_indices(frames, segments, rng=np.random.default_rng(seed))
    ends = [round((frames - 1) * i / segments) for i in range(segments + 1)]  # Python, too, rounds half to even
    for numbers in (middle, drawn):
        assert all(low <= number <= high for low, number, high in zip(ends, numbers, ends[1:], strict=False))
    assert middle.tolist() == [(low + high) // 2 for low, high in pairwise(ends)]


@given(st.integers(1, 400), st.integers(1, 16), st.integers(1, 40), st.integers(0, 9))
def test_strided_frames_are_stride_apart_or_the_last(frames, segments, stride, seed):
    for numbers in (
        strided_indices(frames, segments, stride),
        strided_indices(frames, segments, stride, rng=np.random.default_rng(seed)),
    ):
        steps = np.diff(numbers)
        assert ((steps == stride) | (numbers[1:] == frames - 1)).all()
        assert 0 <= numbers[0] <= numbers[-1] < frames
    clips = strided_indices(frames, segments, stride, clips=3).reshape(3, -1)
    assert (clips[0, 0], clips[2, 0]) == (0, max(frames - stride * segments, 0))


def test_the_single_strided_clip_is_the_middle():
    assert strided_indices(300, 8, 32).tolist() == [22 + 32 * i for i in range(8)]
