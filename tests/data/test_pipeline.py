"""The stream of clips: each epoch a permutation, the same for any workers, hosts and restarts; faults by policy."""

import gc
import multiprocessing
import os
import shutil
import signal
import threading
from dataclasses import replace
from functools import partial

import grain
import numpy as np
import pytest

from vidrec.data.clips import ClipSpec, EvalReader, TrainReader, eval_view, read_clip
from vidrec.data.pipeline import Loader, StepIterator, eval_batches, train_plan
from vidrec.data.records import open_records
from vidrec.errors import UsageError, VidrecError

SPEC = ClipSpec(num_frames=4, image_size=16, resize=(16,), crop="multiscale")
BATCH = 8


@pytest.fixture(scope="module")
def source(records):
    return open_records(records, "train")


def take(batches, count, loader=None, step=0):
    with StepIterator(batches, loader or Loader(), SPEC.nbytes * BATCH, step) as iterator:
        return [next(iterator) for _ in range(count)]


def same(a, b):
    return all((x == y).all() for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def stream(source):
    return take(train_plan(source, SPEC, batch_size=BATCH, seed=1).batches, 10)


def test_each_epoch_is_a_permutation(source):
    records = train_plan(source, SPEC, batch_size=BATCH, seed=1).records
    epochs = [[int(records[i + epoch * 26]) for i in range(26)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(26)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_seeds_differ_and_neighbours_share_no_epoch(source):
    def order(seed, epoch):
        records = train_plan(source, SPEC, batch_size=BATCH, seed=seed).records
        return [int(records[i + 26 * epoch]) for i in range(26)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 1) != order(1, 0)


def test_batches_hold_what_the_plan_wants(source, stream):
    plan = train_plan(source, SPEC, batch_size=BATCH, seed=1)
    for step, batch in enumerate(stream):
        assert batch.clips.shape == (BATCH, 4, 16, 16, 3)
        assert batch.clips.dtype == np.uint8
        assert batch.record.tolist() == plan.wanted(step)
        assert (batch.label == source.labels[batch.record]).all()
        assert batch.valid.all()
    assert plan.video_ids(3) == [source.video_id(i) for i in stream[3].record]


@pytest.mark.parametrize("hosts", [2, 4, 8])
def test_host_blocks_side_by_side_are_the_global_batch(hosts, source, stream):
    parts = [
        take(train_plan(source, SPEC, batch_size=BATCH, seed=1, host=h, hosts=hosts).batches, 10) for h in range(hosts)
    ]
    for step, whole in enumerate(stream):
        joined = [np.concatenate(arrays) for arrays in zip(*(part[step] for part in parts), strict=True)]
        assert same(joined, whole)


@pytest.mark.parametrize(
    "loader", [Loader(0, 1), Loader(0, 4), Loader(1, 1), pytest.param(Loader(3, 2), marks=pytest.mark.slow)], ids=str
)
def test_threads_and_processes_change_nothing(loader, source, stream):
    batches = train_plan(source, SPEC, batch_size=BATCH, seed=1).batches
    assert all(map(same, take(batches, 7, loader, step=3), stream[3:]))


class Meeting:
    """Makes an element only together with another one: two threads must be at work at the same time."""

    def __init__(self):
        self._barrier = threading.Barrier(2, timeout=20)

    def __reduce__(self):
        return Meeting, ()

    def __call__(self, number: int) -> int:
        self._barrier.wait()
        return number


@pytest.mark.parametrize("workers", [0, 1])
def test_threads_are_those_of_each_process(workers):
    numbers = grain.MapDataset.range(6).map(Meeting())
    assert take(numbers, 6, Loader(workers, threads=2)) == [*range(6)]


def numbers_until_an_error(iterator, count):
    """The elements that come, and the sentences of the errors of three more calls after them."""
    found, errors = [], []
    while len(found) < count and not errors:
        try:
            found.append(int(next(iterator)))
        except VidrecError as error:
            errors.append(str(error))
    for _ in range(2):
        with pytest.raises(VidrecError) as error:
            next(iterator)
        errors.append(str(error.value))
        del error
    gc.collect()  # what a traceback held of the loader's queues is not to be found later, at the wrong moment
    return found, errors


def number_or_process(number):
    """The first four elements tell which process makes them."""
    return os.getpid() if number < 4 else number


def test_a_killed_loader_process_ends_the_stream():
    numbers = grain.MapDataset.range(100_000).map(number_or_process)
    with StepIterator(numbers, Loader(2, 1), 8) as iterator:
        one, two, *again = [int(next(iterator)) for _ in range(4)]
        assert again == [one, two]
        assert {one, two} == {process.pid for process in multiprocessing.active_children()}
        os.kill(two, signal.SIGKILL)
        found, errors = numbers_until_an_error(iterator, 1000)
        assert not multiprocessing.active_children()  # the other one's elements would be half of the stream
    assert found == [*range(4, 4 + len(found))]
    assert len(set(errors)) == 1
    assert errors[0].startswith("loader process 2 of 2 was killed by SIGKILL: ")
    assert "data.workers" in errors[0]


class Broken:
    """A reader with a slip that shows at one element."""

    def __init__(self, error: Exception):
        self.error = error

    def __call__(self, number: int) -> int:
        if number == 5:
            raise self.error
        return number


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("frames"), "batch 5 cannot be read: KeyError: 'frames'"),
        (OSError(5, "Input/output error"), "batch 5 cannot be read: OSError: [Errno 5] Input/output error"),
        (VidrecError("the shard is gone; convert again"), "the shard is gone; convert again"),
    ],
)
def test_an_error_of_a_reader_is_one_sentence_and_final(workers, error, told):
    numbers = grain.MapDataset.range(9).map(Broken(error))
    with StepIterator(numbers, Loader(workers, 2), 8) as iterator:
        assert numbers_until_an_error(iterator, 9) == ([*range(5)], [told] * 3)
        iterator.set_state({"version": 1, "step": 6})  # which is another matter
        assert [next(iterator) for _ in range(3)] == [6, 7, 8]
        with pytest.raises(StopIteration):
            next(iterator)


class Short(Loader):
    """A loader that stops too early without an error."""

    def iterate(self, batches, batch_bytes):
        return super().iterate(batches[:2], batch_bytes)


def test_a_loader_that_ends_early_is_an_error():
    with StepIterator(grain.MapDataset.range(9), Short(0, 1), 8, step=3) as iterator:
        found, errors = numbers_until_an_error(iterator, 9)
    assert found == [3, 4]
    assert set(errors) == {"the loader ended before batch 5; a run goes on from its checkpoint"}


def test_too_little_shared_memory_is_told_and_threads_read(monkeypatch, caplog, source, stream):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=4 << 20))
    loader = Loader(8, 2)
    with StepIterator(train_plan(source, SPEC, batch_size=BATCH, seed=1).batches, loader, 1 << 20) as iterator:
        assert same(next(iterator), stream[0])
    assert "/dev/shm has 4 MB free, but 8 loader processes need 32 MB: reading with threads instead" in caplog.text
    assert loader.workers == 0


def test_a_restart_goes_on_at_its_clip(source, stream):
    plan = train_plan(source, SPEC, batch_size=BATCH, seed=1, first_step=6, first_clip=48)
    assert all(map(same, take(plan.batches, 4), stream[6:]))
    assert plan.wanted(6) == stream[6].record.tolist()


def test_another_batch_size_goes_on_at_the_same_clip(source, stream):
    plan = train_plan(source, SPEC, batch_size=4, seed=1, first_step=6, first_clip=48)
    halves = take(plan.batches, 2)
    assert same([np.concatenate(arrays) for arrays in zip(*halves, strict=True)], stream[6])


def test_state_is_one_number(source, stream):
    plan = train_plan(source, SPEC, batch_size=BATCH, seed=1)
    with StepIterator(plan.batches, Loader(), 0) as iterator:
        next(iterator)
        assert iterator.get_state() == {"version": 1, "step": 1}
        iterator.set_state({"version": 1, "step": 5})
        assert same(next(iterator), stream[5])


@pytest.mark.parametrize("hosts", [1, 2, 4, 8])
def test_evaluation_reads_every_view_once_in_equal_steps(hosts, records):
    source = open_records(records, "test")
    seen, steps = [], set()
    for host in range(hosts):
        batches = eval_batches(source, SPEC, batch_size=BATCH, clips=2, crops=3, host=host, hosts=hosts)
        steps.add(len(batches))
        for batch in take(batches, len(batches)):
            seen += batch.record[batch.valid].tolist()
            assert (batch.record[~batch.valid] == -1).all()
    assert steps == {9}
    assert sorted(seen) == sorted(list(range(12)) * 6)


def test_test_clips_are_drawn_by_video_and_clip(records):
    source = open_records(records, "test")
    one, two = (take(eval_batches(source, SPEC, batch_size=b, clips=3), 24 // b) for b in (4, 8))
    np.testing.assert_array_equal(np.concatenate([b.clips for b in one]), np.concatenate([b.clips for b in two]))


def test_the_centre_clip_shows_the_stored_pixels(source):
    spec = replace(SPEC, image_size=24, resize=())
    frames = np.array([0, 5, 5, 11])
    clip = read_clip(source, 3, frames, (24, 24), [partial(eval_view, spec=spec)])
    stored = source.decode_frames(3, frames)
    np.testing.assert_array_equal(clip, np.stack(stored)[:, :, 4:28])


def test_a_flip_mirrors_the_picture(source):
    spec = replace(SPEC, crop="center", flip="swap")
    reader = TrainReader(source, spec)
    assert reader.mirror == {0: 1, 1: 0}  # left and right
    plain = TrainReader(source, replace(spec, flip="never"))
    flips = 0
    for seed in range(8):
        a, b = reader(4, np.random.default_rng(seed)), plain(4, np.random.default_rng(seed))
        flipped = a.label != b.label
        flips += flipped
        np.testing.assert_array_equal(a.clips[:, :, ::-1] if flipped else a.clips, b.clips)
    assert 0 < flips < 8


@pytest.fixture
def damaged(records, tmp_path):
    """The records with one byte of one frame of the first training shard flipped; gives (source, bad record)."""
    folder = shutil.copytree(records, tmp_path / "records")
    source = open_records(folder, "train")
    data = source.read_frames(2, range(12))
    shard = sorted(folder.glob("*train*tfrecord-00000*"))[0]
    content = bytearray(shard.read_bytes())
    for frame in data:
        content[content.index(frame) + len(frame) // 2] ^= 1
    shard.write_bytes(content)
    return open_records(folder, "train")


def test_training_replaces_an_unreadable_video_and_says_so(damaged, stream, caplog):
    plan = train_plan(damaged, SPEC, batch_size=BATCH, seed=1)
    for step, batch in enumerate(take(plan.batches, 10)):
        wanted = np.array(plan.wanted(step))
        np.testing.assert_array_equal(batch.record, np.where(wanted == 2, 3, wanted))
        assert same([a[wanted != 2] for a in batch], [a[wanted != 2] for a in stream[step]])
        plan.audit(wanted, batch.record)
    assert plan.replaced == {2}
    assert damaged.video_id(2) in caplog.text


def test_too_many_unreadable_videos_end_training(source, stream):
    plan = train_plan(source, SPEC, batch_size=BATCH, seed=1, max_bad=0.05)
    wanted = plan.wanted(0)
    plan.audit(wanted, stream[0].record[::-1])  # hosts may lie on the devices in another order
    assert not plan.replaced
    plan.audit(wanted, [wanted[1], *wanted[1:]])  # the first always may
    with pytest.raises(VidrecError, match=r"2 of 26 .* data\.max_bad=0\.05"):
        plan.audit(wanted, [wanted[2], wanted[2], *wanted[2:]])


def test_a_restarted_run_remembers_what_it_replaced(source, caplog):
    plan = train_plan(source, SPEC, batch_size=BATCH, seed=1, max_bad=0.05, first_step=1, first_clip=8, replaced=[7])
    wanted = plan.wanted(1)
    plan.audit([7], [8])
    assert not caplog.text  # said before
    with pytest.raises(VidrecError, match="2 of 26"):
        plan.audit(wanted, wanted[1:])


def test_raise_is_a_policy(damaged):
    plan = train_plan(damaged, replace(SPEC, on_bad="raise"), batch_size=BATCH, seed=1)
    with pytest.raises(VidrecError, match=damaged.video_id(2)):
        take(plan.batches, 10)


def test_evaluation_never_replaces(records, tmp_path):
    folder = shutil.copytree(records, tmp_path / "records")
    source = open_records(folder, "test")
    frame = source.read_frames(5, [5])[0]
    shard = next(folder.glob("*test*tfrecord-00000*"))
    content = bytearray(shard.read_bytes())
    content[content.index(frame) + 9] ^= 1
    shard.write_bytes(content)
    source = open_records(folder, "test")
    whole = replace(SPEC, num_frames=12)
    batches = eval_batches(source, whole, batch_size=4)
    bad = [int(r) for batch in take(batches, 3) for r in batch.record[~batch.valid]]
    assert bad == [5]


def test_start_up_errors(source):
    with pytest.raises(UsageError, match="fewer than one batch of 64"):
        train_plan(source, SPEC, batch_size=64, seed=0)
    with pytest.raises(UsageError, match="does not divide over 3 hosts"):
        train_plan(source, SPEC, batch_size=8, seed=0, hosts=3)
    with pytest.raises(UsageError, match=r"data\.sampling"):
        replace(SPEC, sampling="sparse")


def test_views_are_cut_from_the_same_frames(records):
    source = open_records(records, "train")
    spec = replace(SPEC, crop="random", image_size=12, resize=(24,), flip="swap", views=2)
    reader = TrainReader(source, spec)
    differs = 0
    for record in range(8):
        element = reader(record, np.random.default_rng(record))
        one = TrainReader(source, replace(spec, views=1))(record, np.random.default_rng(record))
        first, second = np.split(element.clips, 2)
        np.testing.assert_array_equal(first, one.clips)
        assert element.label == one.label
        assert second.shape == first.shape
        differs += not np.array_equal(first, second)
    assert differs > 4


def test_views_of_mirrored_classes_are_flipped_together(records):
    source = open_records(records, "train")  # "left" and "right" mirror each other
    spec = replace(SPEC, crop="center", image_size=16, resize=(24,), flip="swap", views=2)
    for record in range(8):
        first, second = np.split(TrainReader(source, spec)(record, np.random.default_rng(record)).clips, 2)
        np.testing.assert_array_equal(first, second)


def test_evaluation_pictures_need_not_be_square(records):
    source = open_records(records, "test")
    spec = replace(SPEC, resize=(24, 32), eval_size=(24, 32))
    clip = EvalReader(source, spec, 1, 1)(0).clips
    frames = spec.eval_frames(int(source.num_frames[0]), "", 0, 1)
    np.testing.assert_array_equal(clip, np.stack(source.decode_frames(0, frames)))
    with pytest.raises(UsageError, match=r"eval\.crops=3"):
        EvalReader(source, spec, 1, 3)
    with pytest.raises(UsageError, match=r"eval\.crops is 2"):
        EvalReader(source, spec, 1, 2)


def test_short_sides_are_drawn_per_clip(records):
    source = open_records(records, "train")
    spec = replace(SPEC, crop="center", image_size=16, resize=(), resize_range=(16, 24))
    pictures = {TrainReader(source, spec)(0, np.random.default_rng(seed)).clips[:, 8, 8].tobytes() for seed in range(9)}
    assert len(pictures) > 2


def test_consecutive_frames_need_segments():
    with pytest.raises(UsageError, match=r"data\.sampling"):
        ClipSpec(4, 16, frames_per_segment=5, sampling="dense")
