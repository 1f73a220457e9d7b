"""How fast clips are read, beside a pipeline of Pillow and PyTorch's DataLoader on the same clips in the same run.

Other work on the machine moves seconds far more than processor time, so that is what is compared: everything takes
turns, round by round, and the median counts. `peers` holds what is compared with.
"""

import json
import os
import random
import re
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float32

from vidrec.data import images
from vidrec.data.clips import ClipSpec, TrainReader
from vidrec.data.feed import DeviceFeed, normalize
from vidrec.data.pipeline import Loader, StepIterator, train_plan
from vidrec.data.pool import usable_cores
from vidrec.data.records import TFRecordSource, open_records
from vidrec.errors import UsageError
from vidrec.inspect import peers
from vidrec.inspect.bench_beside import Tell, said_by, with_torch
from vidrec.inspect.bench_videos import VIDEOS, make_records, unpack

BATCHES = 8  # timed at least: those that a loader has read ahead must not count for much


class Setting(NamedTuple):
    """What is measured.

    Attributes:
      records: folders of records; () makes one.
      split: its first `VIDEOS` are read; of an expression, those of the first split that it names.
      spec: how records become clips; its number of frames is replaced by each of `frames`.
      frames: clips of so many frames each.
      batch_size: clips.
      workers: loader processes of the comparison with processes.
      threads: of each process.
      clips: timed in each round, rounded up to whole batches, at least `BATCHES` of them.
      rounds: how often everything takes its turn.
      batches: length of the run that shows whether memory grows, at least 10.
      torch_python: interpreter with PyTorch and Pillow, "" for this one.
    """

    records: tuple[str, ...] = ()
    split: str = "train"
    spec: ClipSpec = ClipSpec(num_frames=8, image_size=224, flip="swap")
    frames: tuple[int, ...] = (8, 16)
    batch_size: int = 8
    workers: int = 2
    threads: int = 2
    clips: int = 64
    rounds: int = 3
    batches: int = 100
    torch_python: str = ""


def measure(setting: Setting, tell: Tell = lambda line: None) -> dict[str, Any]:
    """Measures vidrec's pipeline and what it is compared with.

    Returns:
      `setting`; `start`, seconds to the first batch when reading with threads; `rows`, one of each pipeline
      and number of frames: clips per second of processor time and of the clock, processor time, and how many times as
      many clips per processor second as Pillow's pipeline with that number of frames, and for processes as PyTorch's;
      `stages`, for each number of frames milliseconds of processor time per clip; `waiting`, the share of the time that
      a consumer waits which only normalises the clips; `memory`, megabytes.

    Raises:
      UsageError: numbers that cannot be. VidrecError: records that cannot be opened; the given interpreter fails.
    """
    if min(setting.batch_size, setting.clips, setting.rounds, setting.threads, *setting.frames) < 1:
        raise UsageError("frames, batch size, clips, rounds and threads of the benchmark are at least 1")
    if setting.batches < 10 or setting.workers < 0:
        raise UsageError("--batches is at least 10, --workers at least 0")
    torch_python = with_torch(setting.torch_python)
    if torch_python:
        said_by(torch_python, "-c", "import numpy, PIL, torch")
    with tempfile.TemporaryDirectory(prefix="vidrec-bench-") as work:
        if not setting.records:
            tell("drawing videos")
        folders = setting.records or (make_records(Path(work)),)
        setting = setting._replace(split=f"{re.split(r'[+\[]', setting.split)[0].strip()}[:{VIDEOS}]")
        source = open_records(folders, setting.split)
        if setting.batch_size > len(source):
            raise UsageError(f"--batch-size {setting.batch_size} is more than the {len(source)} videos that are read")
        tell(f"unpacking {len(source)} videos for the comparison")
        pictures = unpack(source, Path(work) / "pictures")
        rows = []
        for frames in setting.frames:
            tell(f"clips of {frames} frames")
            rows += compare(source, pictures, replace(setting.spec, num_frames=frames), setting, torch_python)
        spec = replace(setting.spec, num_frames=setting.frames[0])
        tell("start, stages, memory")
        return {
            "setting": setting._asdict() | {"spec": asdict(setting.spec)},
            "cores": usable_cores(),
            "decoder": images.BACKEND,
            "start": start(folders, setting, spec),
            "rows": rows,
            "stages": [stages(source, replace(setting.spec, num_frames=n), setting) for n in setting.frames],
            "waiting": waiting(source, spec, setting),
            "memory": [memory(source, spec, loader, setting) for loader in loaders(setting)],
        }


def text(report: dict[str, Any]) -> str:
    """The report for people."""
    head = f"{'pipeline':<26}{'frames':>7}{'ms of CPU/clip':>16}{'clips/CPU s':>13}{'clips/s':>9}{'times Pillow':>14}"
    lines = [f"{report['cores']} cores, frames decoded by {report['decoder']}", head + f"{'times PyTorch':>15}"]
    if not any(row["pipeline"].startswith("PyTorch") for row in report["rows"]):
        lines[0] += "; without PyTorch, which --torch-python would add"
    for row in report["rows"]:
        ratios = [f"{row[key]:.2f}" if row.get(key) else "" for key in ("times_pillow", "times_torch")]
        lines.append(
            f"{row['pipeline']:<26}{row['frames']:>7}{_number(row['cpu_ms_per_clip']):>16}"
            f"{_number(row['clips_per_cpu_second']):>13}{row['clips_per_second']:>9.1f}{ratios[0]:>14}{ratios[1]:>15}"
        )
    for stage in report["stages"]:
        parts = ", ".join(f"{name} {stage[name]:.2f}" for name in ("read", "decode", "crop_resize", "gather"))
        lines.append(f"{stage['frames']} frames, ms of CPU a clip: {parts}; {stage['bytes'] / 1e6:.2f} MB read")
    start = report["start"]
    lines += [
        f"first batch {start['first_batch_s']:.2f} s after opening the records, with Python's start and all imports "
        f"{start['with_imports_s']:.1f} s",
        f"a consumer that only normalises the clips waits {report['waiting']:.0%} of the time",
        *(
            f"memory, {row['loader']}: {row['first_mb']:.0f} MB after {row['first']} batches, {row['last_mb']:.0f} MB "
            f"after {row['last']}"
            for row in report["memory"]
        ),
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


# Pipelines


def compare(
    source: TFRecordSource, folders: list[tuple[str, int]], spec: ClipSpec, setting: Setting, torch_python: str
) -> list[dict[str, Any]]:
    """One row of each pipeline, for clips of one number of frames."""
    runs: dict[str, Callable[[], tuple[float, float]]] = {
        "vidrec": lambda: ours(source, spec, Loader(0, 1), setting),
        "Pillow": lambda: pillow(folders, spec, setting),
    }
    if setting.threads > 1:
        runs[f"vidrec, {setting.threads} threads"] = lambda: ours(source, spec, Loader(0, setting.threads), setting)
    if torch_python:
        runs["PyTorch"] = lambda: torch_loader(torch_python, folders, spec, 0, setting)
    if setting.workers:
        there, name = Loader(setting.workers, setting.threads), f", {setting.workers} processes"
        runs["vidrec" + name] = lambda: ours(source, spec, there, setting)
        if torch_python:
            runs["PyTorch" + name] = lambda: torch_loader(torch_python, folders, spec, setting.workers, setting)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(setting.rounds):
        for name, run in runs.items():
            taken[name].append(run())
    medians = {
        name: [statistics.median(times) for times in zip(*values, strict=True)] for name, values in taken.items()
    }
    return [_row(name, spec.num_frames, medians) for name in runs]


def _row(name: str, frames: int, medians: dict[str, list[float]]) -> dict[str, Any]:
    wall, cpu = medians[name]
    known = cpu == cpu  # where there is no /proc, not for processes
    row = {
        "pipeline": name,
        "frames": frames,
        "clips_per_second": 1 / wall,
        "clips_per_cpu_second": 1 / cpu if known else None,
        "cpu_ms_per_clip": cpu * 1000 if known else None,
        "times_pillow": medians["Pillow"][1] / cpu if known else None,
    }
    peer = None if name == "Pillow" else medians.get(name.replace("vidrec", "PyTorch"))
    if peer is not None and peer[1] == peer[1] and known:
        row["times_torch"] = peer[1] / cpu
    return row


def ours(source: TFRecordSource, spec: ClipSpec, loader: Loader, setting: Setting) -> tuple[float, float]:
    """Seconds of the clock and of the processor for each clip."""
    with stream(source, spec, loader, setting) as batches:
        return timed(lambda: next(batches), setting)


def stream(source: TFRecordSource, spec: ClipSpec, loader: Loader, setting: Setting) -> StepIterator:
    """The batches of a training run."""
    plan = train_plan(source, spec, batch_size=setting.batch_size, seed=0)
    return StepIterator(plan.batches, loader, setting.batch_size * spec.nbytes)


def pillow(folders: list[tuple[str, int]], spec: ClipSpec, setting: Setting) -> tuple[float, float]:
    """The same of the pipeline of Pillow, in a plain loop."""
    draw = random.Random(0)

    def batch() -> Float32[np.ndarray, "b c h w"]:
        """Clips of folders drawn at random."""
        chosen = [draw.choice(folders) for _ in range(setting.batch_size)]
        return np.stack([peers.clip(*folder, spec.frames, spec.image_size, draw) for folder in chosen])

    return timed(batch, setting)


def timed(batch: Callable[[], Any], setting: Setting) -> tuple[float, float]:
    """`peers.timed` of as many batches as a round has."""
    return peers.timed(batch, steps(setting), setting.batch_size)


def steps(setting: Setting) -> int:
    """Batches of one round."""
    return max(BATCHES, -(-setting.clips // setting.batch_size))


def torch_loader(
    python: str, folders: list[tuple[str, int]], spec: ClipSpec, workers: int, setting: Setting
) -> tuple[float, float]:
    """The same of PyTorch's DataLoader, by an interpreter that has PyTorch."""
    task = {"folders": folders, "frames": spec.frames, "size": spec.image_size, "workers": workers}
    task |= {"batch_size": setting.batch_size, "steps": steps(setting)}
    found = json.loads(said_by(python, peers.__file__, told=json.dumps(task)))
    return found["seconds"], found["cpu_seconds"]


# Where the time goes, and the memory


def stages(source: TFRecordSource, spec: ClipSpec, setting: Setting) -> dict[str, float]:
    """Milliseconds of processor time for each clip in reading bytes, decoding, cropping with resizing, and gathering.

    Each is the difference between doing the work up to there and up to the stage before, for the same clips, the least
    of all rounds.
    """
    plan = train_plan(source, spec, batch_size=1, seed=0)
    positions = range(min(setting.clips, len(source)))
    wanted = [plan.wanted(step)[0] for step in positions]
    draws = [np.random.default_rng(position) for position in positions]
    numbers = [spec.training_frames(int(source.num_frames[i]), rng) for i, rng in zip(wanted, draws, strict=True)]
    reader = TrainReader(source, spec)
    work: list[Callable[[int], Any]] = [
        lambda place: source.read_frames(wanted[place], numbers[place]),
        lambda place: source.decode_frames(wanted[place], numbers[place]),
        lambda place: reader(wanted[place], np.random.default_rng(place)),
        lambda place: plan.batches[place],
    ]
    spent = [[_milliseconds(one, positions) for one in work] for _ in range(setting.rounds)]
    read, decoded, cut, gathered = (min(times) for times in zip(*spent, strict=True))
    size = statistics.mean(sum(map(len, set(work[0](place)))) for place in positions)
    parts = {"read": read, "decode": decoded - read, "crop_resize": cut - decoded, "gather": gathered - cut}
    return {"frames": spec.num_frames, "bytes": size, **parts}


def _milliseconds(work: Callable[[int], Any], places: range) -> float:
    """Processor time for each place, on average."""
    start = time.process_time()
    for place in places:
        work(place)
    return (time.process_time() - start) / len(places) * 1000


def waiting(source: TFRecordSource, spec: ClipSpec, setting: Setting) -> float:
    """The share of the time that a consumer waits for clips which only normalises them on the device."""
    step = jax.jit(lambda clips: normalize(clips, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)).sum())
    mesh = jax.make_mesh((1,), ("data",), devices=jax.local_devices()[:1])
    with stream(source, spec, Loader(0, setting.threads), setting) as batches:
        feed = DeviceFeed(batches, mesh)
        step(next(feed).clips).block_until_ready()
        start, before = time.perf_counter(), feed.waited
        for _ in range(steps(setting)):
            step(next(feed).clips).block_until_ready()
        return (feed.waited - before) / (time.perf_counter() - start)


def loaders(setting: Setting) -> list[Loader]:
    """Reading by threads, and by processes where there are any."""
    return [Loader(workers, setting.threads) for workers in sorted({0, setting.workers})]


def memory(source: TFRecordSource, spec: ClipSpec, loader: Loader, setting: Setting) -> dict[str, Any]:
    """Megabytes of this process and those that it started, after a tenth of the batches and after all."""
    name = f"{loader.workers} processes" if loader.workers else f"{loader.threads} threads"
    last = setting.batches
    first, sizes = last // 10, {}
    with stream(source, spec, loader, setting) as batches:
        for number in range(1, last + 1):
            next(batches)
            if number in (first, last):
                sizes[number] = resident() / 1e6
    return {"loader": name, "first": first, "first_mb": sizes[first], "last": last, "last_mb": sizes[last]}


def resident() -> int:
    """Bytes of memory that this process and those it started have now; without /proc, the most that this one had."""
    if not Path("/proc/self/statm").is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    processes = (os.getpid(), *peers.descendants(os.getpid()))
    pages = [peers.words(f"/proc/{process}/statm") for process in processes]
    return sum(int(sizes[1]) for sizes in pages if sizes) * os.sysconf("SC_PAGE_SIZE")


START = """
import sys, time
from vidrec.inspect.bench_input import Setting, stream
from vidrec.data.clips import ClipSpec
from vidrec.data.pipeline import Loader
from vidrec.data.records import open_records

split, frames, size, batch_size, threads, *folders = sys.argv[1:]
setting = Setting(batch_size=int(batch_size))
spec = ClipSpec(num_frames=int(frames), image_size=int(size))
start = time.perf_counter()
with stream(open_records(folders, split), spec, Loader(0, int(threads)), setting) as batches:
    next(batches)
    print(time.perf_counter() - start)
"""


def start(folders: tuple[str, ...], setting: Setting, spec: ClipSpec) -> dict[str, float]:
    """Seconds to the first batch from opening the records, and from starting Python, in a process of its own."""
    arguments = [setting.split, spec.num_frames, spec.image_size, setting.batch_size, setting.threads, *folders]
    began = time.perf_counter()
    first_batch = float(said_by(sys.executable, "-c", START, *map(str, arguments)))
    return {"first_batch_s": first_batch, "with_imports_s": time.perf_counter() - began}
