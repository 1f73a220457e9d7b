"""Which frames a test clip shows and what is cut of them."""

from dataclasses import replace

import numpy as np
import pytest

from vidrec.data.augment import resized_box, to_stored
from vidrec.data.clips import ClipSpec, EvalReader, TrainReader, eval_view
from vidrec.data.records import open_records
from vidrec.data.sampling import dense_indices, segment_indices, strided_indices
from vidrec.errors import UsageError

SPEC = ClipSpec(num_frames=4, image_size=16, resize=(24,))


@pytest.fixture(scope="module")
def source(records):
    return open_records(records, "test")


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("frames", [1, 3, 8, 9, 50])
def test_the_two_clips_of_twice_are_the_centres_and_the_starts(frames, length):
    spec = replace(SPEC, eval_sampling="twice", frames_per_segment=length)
    both = segment_indices(frames, 4, mode="twice", frames_per_segment=length)
    found = [spec.eval_frames(frames, "video", clip, 2) for clip in range(2)]
    np.testing.assert_array_equal(np.concatenate(found), both)
    assert len(found[0]) == len(found[1]) == 4 * length


def test_val_keeps_to_the_first_frame_of_a_short_video():
    assert replace(SPEC, eval_sampling="val").eval_frames(4, "video", 0, 1).tolist() == [0] * 4
    assert replace(SPEC, eval_sampling="val", short="clamp").eval_frames(3, "video", 0, 1).tolist() == [0, 1, 2, 2]
    assert SPEC.eval_frames(4, "video", 0, 1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("sampling", ["segment", "dense", "even", "strided"])
def test_random_clips_are_drawn_by_video_and_clip_as_in_training(sampling):
    spec = replace(SPEC, sampling=sampling, stride=3, eval_sampling="random")
    drawn = [spec.eval_frames(200, video, clip, 2).tolist() for video in ("a", "b") for clip in range(2)]
    assert drawn == [spec.eval_frames(200, video, clip, 5).tolist() for video in ("a", "b") for clip in range(2)]
    assert len({tuple(frames) for frames in drawn}) == 4
    one = replace(spec, eval_sampling="test").eval_frames(200, "a", 0, 1).tolist()
    assert one not in drawn


def test_dense_and_strided_clips_start_at_even_distances():
    dense, strided = replace(SPEC, sampling="dense"), replace(SPEC, sampling="strided", stride=5)
    found = np.concatenate([dense.eval_frames(300, "", clip, 10) for clip in range(10)])
    np.testing.assert_array_equal(found, dense_indices(300, 4, clips=10))
    found = np.concatenate([strided.eval_frames(300, "", clip, 3) for clip in range(3)])
    np.testing.assert_array_equal(found, strided_indices(300, 4, 5, clips=3))


def test_clips_that_a_sampling_does_not_have(source):
    for sampling, clips in (("twice", 1), ("twice", 3), ("val", 2)):
        with pytest.raises(UsageError, match=rf"eval\.sampling={sampling} has no {clips} clips"):
            EvalReader(source, replace(SPEC, eval_sampling=sampling), clips, 1)
    for sampling in ("twice", "val"):
        with pytest.raises(UsageError, match=r"is for data\.sampling=segment, not dense"):
            replace(SPEC, sampling="dense", eval_sampling=sampling)


def test_five_crops_show_corners_and_centre(source):
    reader = EvalReader(source, replace(SPEC, resize=()), 2, 5)  # stored frames are 24 x 32
    for clip in range(2):
        numbers = reader.spec.eval_frames(int(source.num_frames[3]), source.video_id(3), clip, 2)
        frames = np.stack(source.decode_frames(3, numbers))
        corners = [(0, 0), (0, 16), (8, 0), (8, 16), (4, 8)]
        for crop, (y, x) in enumerate(corners):
            found = reader(3 * 10 + clip * 5 + crop)
            np.testing.assert_array_equal(found.clips, frames[:, y : y + 16, x : x + 16])
            assert (int(found.record), int(found.label), bool(found.valid)) == (3, int(source.labels[3]), True)


def test_full_resolution_shows_squares_of_the_short_side_unresized(source):
    spec = replace(SPEC, full_resolution=True)
    assert spec.picture == (24, 24)
    assert spec.nbytes == 4 * 3 * 24 * 24
    frames = np.stack(source.decode_frames(0, spec.eval_frames(12, "", 0, 1)))
    for crop, x in enumerate((0, 8, 4)):
        np.testing.assert_array_equal(EvalReader(source, spec, 1, 3)(crop).clips, frames[:, :, x : x + 24])
    np.testing.assert_array_equal(EvalReader(source, spec, 1, 1)(0).clips, frames[:, :, 4:28])
    with pytest.raises(UsageError, match=r"eval\.full_resolution"):
        replace(spec, eval_size=(24, 32))
    with pytest.raises(UsageError, match=r"eval\.full_resolution"):
        replace(spec, resize=())


def test_mirror_images_are_not_the_readers(source):
    with pytest.raises(UsageError, match="on the device"):
        EvalReader(source, SPEC, 1, 10)


def test_a_resized_crop_is_the_same_for_all_frames(source):
    spec = replace(SPEC, crop="resized", crop_area=(0.2, 0.6), crop_aspect=(0.5, 2.0))
    found = TrainReader(source, spec)(2, np.random.default_rng(5)).clips
    rng = np.random.default_rng(5)
    numbers = spec.training_frames(12, rng)
    rng.random()  # the flip
    box = resized_box(24, 32, (0.2, 0.6), (0.5, 2.0), rng)
    assert to_stored(box, (24, 32), (24, 32)) == box != (0, 0, 32, 24)
    frames = source.decode_frames(2, numbers)
    for picture, frame in zip(found, frames, strict=True):
        part = frame[box.y : box.y + box.height, box.x : box.x + box.width]
        assert abs(picture.mean() - part.mean()) < 4
        assert np.abs(picture[0, 0].astype(int) - part[0, 0]).max() < 40


def test_records_set_aside_are_blank_in_evaluation_and_replaced_in_training(records):
    source = open_records(records, "test")
    source.aside = frozenset({3, 4})
    blank, whole = EvalReader(source, SPEC, 1, 1)(3), EvalReader(source, SPEC, 1, 1)(5)
    assert (int(blank.record), bool(blank.valid), blank.clips.max()) == (3, False, 0)
    assert whole.valid
    assert TrainReader(source, SPEC)(3, np.random.default_rng(0)).record == 5


def test_a_view_in_a_small_frame_is_cut_there():
    assert eval_view(10, 40, spec=replace(SPEC, resize=()), crop=1, crops=5).box == (24, 0, 16, 10)
