"""From records to per-host batches: grain's random-access pipeline with one integer, the global step, as its position.

    records -> order (shuffled, repeated) -> read (sample, decode, crop, flip) -> host block -> batch -> step

Everything random depends on the global position only, so the stream is the same, bit for bit, for any number of loader
processes, for any number of hosts, and after a restart at any step. Each host reads a contiguous block of the global
batch, so the blocks laid side by side are the single-host batch.
"""

import atexit
import copy
import functools
import gc
import logging
import re
import shutil
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import grain
import numpy as np
from absl import flags
from grain._src.python.ipc.shared_memory_array import SharedMemoryArray

from vidrec.data.buffers import Buffers
from vidrec.data.clips import ClipSpec, EvalReader, TrainReader
from vidrec.data.order import record_order, seed_of
from vidrec.data.records import TFRecordSource
from vidrec.errors import UsageError, VidrecError
from vidrec.types import Batch

logger = logging.getLogger(__name__)

_BUFFERED_BATCHES = 2  # per loader process; grain's default of 500 elements would hold gigabytes of clips

_WAYS_OUT: dict[int, str] = {
    signal.SIGKILL: "memory may have run out, so lower data.workers or data.threads",
    signal.SIGBUS: "/dev/shm is full, so give the container more (docker --shm-size) or set data.workers=0",
}


class HostBlocks(grain.MapDataset):
    """The elements of one host: block `host` of each global batch, contiguous, in order."""

    def __init__(self, parent: grain.MapDataset, batch_size: int, host: int, hosts: int):
        super().__init__(parent)
        if batch_size % hosts:
            raise UsageError(f"a batch of {batch_size} clips does not divide over {hosts} hosts; change the batch size")
        self._global, self._local, self._host = batch_size, batch_size // hosts, host

    def __len__(self) -> int:
        return len(self._parent) // self._global * self._local

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        batch, place = divmod(index, self._local)
        return self._parent[batch * self._global + self._host * self._local + place]

    def __str__(self) -> str:
        return f"HostBlocks({self._local} of {self._global}, host {self._host})"


@dataclass
class Loader:
    """Where batches are read: by `threads` threads in each of `workers` processes, or with 0 in this process.

    Each thread makes a batch of its own, so it costs the memory of one more; the order of batches never changes.
    """

    workers: int = 0
    threads: int = 2

    def iterate(self, batches: grain.MapDataset, batch_bytes: int) -> grain.DatasetIterator:
        """Starts reading `batches` in order."""
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain reads absl flags, which a notebook or a test never parses
        if self.workers and not _shared_memory_suffices(self.workers, batch_bytes):
            self.workers = 0
        if not self.workers:
            return iter(batches.to_iter_dataset(grain.ReadOptions(self.threads, max(self.threads, _BUFFERED_BATCHES))))
        _free_shared_memory_at_exit()
        dataset = batches.to_iter_dataset(grain.ReadOptions(self.threads, self.threads))
        options = grain.MultiprocessingOptions(num_workers=self.workers, per_worker_buffer_size=_BUFFERED_BATCHES)
        return iter(dataset.mp_prefetch(options, worker_init_fn=_ignore_interrupts))


class StepIterator(grain.DatasetIterator):
    """Iterates over batches from any one on; its whole state is `{"version": 1, "step": k}`.

    Use it as a context manager: leaving it ends the loader processes and frees their shared memory. An error is final:
    every later call raises it again, as what grain would give then leaves out batches without a word.
    """

    def __init__(self, batches: grain.MapDataset, loader: Loader, batch_bytes: int, step: int = 0):
        super().__init__()
        self._batches, self._loader, self._batch_bytes = batches, loader, batch_bytes
        self._step, self._iterator = step, None
        self._first = step  # of the iterator
        self._error: VidrecError | None = None

    def __next__(self) -> Batch:
        if self._error is not None:
            raise self._error
        if self._step >= len(self._batches):
            raise StopIteration
        try:
            batch = self._read()
        except VidrecError as error:
            self._end_with(error)
            raise
        except Exception as error:
            explained = self._explained(error)
            self._end_with(explained)
            raise explained from error
        self._step += 1
        return batch

    def _read(self) -> Batch:
        if self._iterator is None:
            self._first = self._step
            self._iterator = self._loader.iterate(self._batches[self._step :], self._batch_bytes)
        return next(self._iterator)

    def _end_with(self, error: VidrecError) -> None:
        self._error = copy.copy(error)  # without its traceback, whose frames hold the loader's queues
        self.close()

    def _explained(self, error: Exception) -> VidrecError:
        """One sentence about what is no error of vidrec's own."""
        if isinstance(error, StopIteration):
            return VidrecError(f"the loader ended before batch {self._step}; a run goes on from its checkpoint")
        workers = self._loader.workers
        status = re.search(r"terminated unexpectedly with exit code (-?\d+)", str(error)) if workers else None
        if status is None:
            return VidrecError(f"batch {self._step} cannot be read: {type(error).__name__}: {error}")
        code = int(status[1])
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        advice = _WAYS_OUT.get(-code, "what it said stands above")
        number = (self._step - self._first) % workers + 1  # batches come from the processes in turns
        return VidrecError(f"loader process {number} of {workers} {how}: {advice}; a run goes on from its checkpoint")

    def get_state(self) -> dict[str, int]:
        """The position: the step whose batch comes next."""
        return {"version": 1, "step": self._step}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Moves to the step of `state`."""
        self.close()
        self._step, self._error = state["step"], None

    def close(self) -> None:
        """Ends the loader processes and threads; the next batch would start new ones."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class TrainPlan:
    """Which record each global position reads, and the batches made of them.

    Attributes:
      records: position -> record number wanted there (vidrec.data.order).
      batches: step - first_step -> this host's part of the global batch.
      replaced: record numbers that could not be read since the beginning of the run, as noticed by `audit`.
    """

    source: TFRecordSource
    records: grain.MapDataset
    batches: grain.MapDataset
    batch_size: int
    host: int
    max_bad: float
    first_step: int
    first_clip: int
    replaced: set[int]

    def position(self, step: int) -> int:
        """Global position of the first clip of the batch of `step`: clips drawn since the beginning of the run."""
        return self.first_clip + (step - self.first_step) * self.batch_size

    def wanted(self, step: int) -> list[int]:
        """Record numbers of the global batch of `step`, before any replacement."""
        first = self.position(step)
        return [int(record) for place in range(self.batch_size) if (record := self.records[first + place]) is not None]

    def video_ids(self, step: int) -> list[str]:
        """Ids of the videos of the global batch of `step`."""
        return [self.source.video_id(record) for record in self.wanted(step)]

    def audit(self, wanted: Iterable[int], read: Iterable[int]) -> None:
        """Notices which records were replaced; raises when the run has more of them than `max_bad` allows.

        Args:
          wanted: record numbers of a batch as planned.
          read: those it is made of, in any order. With the whole global batch, all hosts come to the same end.
        """
        new = set(wanted) - set(read) - self.replaced
        for record in sorted(new) if self.host == 0 else ():
            logger.warning(
                "Video %r cannot be read; the next one takes its place. Run `vidrec verify` on the records.",
                self.source.video_id(record),
            )
        self.replaced |= new
        if new and len(self.replaced) > max(1, self.max_bad * len(self.source)):
            raise VidrecError(
                f"{len(self.replaced)} of {len(self.source)} videos cannot be read, more than data.max_bad="
                f"{self.max_bad} allows, such as {self.source.video_id(max(new))!r}; run `vidrec verify` on the records"
            )


def train_plan(
    source: TFRecordSource,
    spec: ClipSpec,
    *,
    batch_size: int,
    seed: int,
    max_bad: float = 0.001,
    balance: str = "none",
    mixture: Sequence[float] = (),
    first_step: int = 0,
    first_clip: int = 0,
    replaced: Iterable[int] = (),
    host: int = 0,
    hosts: int = 1,
) -> TrainPlan:
    """The endless training stream of one host; an epoch is as many clips as there are records, however ordered.

    Args:
      batch_size: clips of the global batch.
      seed: of the run.
      balance, mixture: of the order (vidrec.data.order.record_order).
      first_step, first_clip, replaced: where a restarted run goes on: the step, the clips drawn and the records
        replaced until then.
      host: number of this host among `hosts`.

    Raises:
      UsageError: fewer records than one global batch, or a batch that does not divide over the hosts.
    """
    if len(source) < batch_size:
        raise UsageError(
            f"the split has {len(source)} records, fewer than one batch of {batch_size}: lower train.batch_size"
        )
    order = record_order(source, seed=seed, balance=balance, mixture=mixture)
    reader = TrainReader(source, spec, order.following)
    clips = order.records.random_map(reader, seed=seed_of("clips", seed, source.digest))
    batches = _batches(HostBlocks(clips[first_clip:], batch_size, host, hosts), batch_size // hosts)
    return TrainPlan(source, order.records, batches, batch_size, host, max_bad, first_step, first_clip, set(replaced))


def eval_batches(
    source: TFRecordSource,
    spec: ClipSpec,
    *,
    batch_size: int,
    clips: int = 1,
    crops: int = 1,
    host: int = 0,
    hosts: int = 1,
) -> grain.MapDataset:
    """Every view of every record exactly once, padded so that all hosts take the same number of equal steps."""
    views = len(source) * clips * crops
    padded = -(-views // batch_size) * batch_size
    elements = grain.MapDataset.range(padded).map(EvalReader(source, spec, clips, crops))
    return _batches(HostBlocks(elements, batch_size, host, hosts), batch_size // hosts)


def _batches(elements: grain.MapDataset, size: int) -> grain.MapDataset:
    return elements.batch(size, drop_remainder=True, batch_fn=Stack())


class Stack:
    """Elements -> one Batch, whose clips lie in memory that was a batch's before."""

    def __init__(self) -> None:
        self._buffers = Buffers()

    def __call__(self, elements: Sequence[Batch]) -> Batch:
        clips, *others = zip(*elements, strict=True)
        room = self._buffers.empty((len(clips), *clips[0].shape))
        return Batch(np.stack(clips, out=room), *map(np.stack, others))


def _ignore_interrupts(worker: int, workers: int) -> None:
    """Ctrl-C and many supervisors signal the whole process group; only the parent acts, and then ends its workers."""
    del worker, workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@functools.cache
def _free_shared_memory_at_exit() -> None:
    """Lets grain finish freeing batches: it does so on a thread of its own, which would die with the interpreter."""

    def finish() -> None:
        """Frees what nobody holds, then waits for grain's threads."""
        gc.collect()
        pool, SharedMemoryArray._del_thread_pool = SharedMemoryArray._del_thread_pool, None
        if pool is not None:
            pool.close()
            pool.join()

    atexit.register(finish)


def _shared_memory_suffices(workers: int, batch_bytes: int) -> bool:
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        return True  # no such file system to fill on this platform
    needed = workers * (_BUFFERED_BATCHES + 2) * batch_bytes
    if free < needed:
        logger.warning(
            "/dev/shm has %d MB free, but %d loader processes need %d MB: reading with threads instead. "
            "Give the container more shared memory (docker --shm-size) or set data.workers=0.",
            free >> 20,
            workers,
            needed >> 20,
        )
    return free >= needed
