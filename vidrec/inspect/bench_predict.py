"""How fast a network predicts on the device that is here: clips, a video file, and frame by frame; beside PyTorch.

The network has random weights and is used as `vidrec.load` gives it. Clips are random pixels on the device; beside
PyTorch, both sides take turns, round by round, and medians count.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from vidrec.data.images import Frame
from vidrec.data.video import import_av, write_mp4
from vidrec.errors import UsageError, VidrecError
from vidrec.eval.online import Online
from vidrec.eval.predict import Recognizer, chosen_frames
from vidrec.inspect import bench_beside, bench_videos
from vidrec.inspect.bench_beside import WARM_UP, Tell
from vidrec.inspect.flops import matrix_flops
from vidrec.inspect.steps import class_names
from vidrec.models.registry import init_options
from vidrec.text import aligned
from vidrec.train.start import build_model
from vidrec.train.state import count_parameters, initial_variables

BATCHES = (1, 8)
PASSES = 5  # of each kind in a round
LENGTH, FPS = 48, 12.0  # of the video: four seconds


def measure(
    config: FrozenConfigDict,
    *,
    batch_sizes: Sequence[int] = BATCHES,
    rounds: int = 3,
    torch_python: str = "",
    tell: Tell = lambda line: None,
) -> dict[str, Any]:
    """Times predictions.

    Args:
      config: as from vidrec.config.load, with model.num_classes.
      batch_sizes: clips that are predicted together.
      rounds: in which all take their turns; in each, `PASSES` of everything.
      torch_python: interpreter with PyTorch, "" for this one if it has it.

    Returns:
      `model`, `dtype`, `device` and `rows`: for each batch size of vidrec, and of PyTorch where it has the network,
      `batch_size`, `clips_per_second`, `ms`, `mfu` (None where the device's limit is not known), and of vidrec
      `compile_s`, `flops` and `times_torch`; `video` (None without PyAV) and `online`, see `of_video` and `of_stream`;
      `without_torch` and `without_video`, why not.

    Raises:
      UsageError: numbers that cannot be; an interpreter is named for a network that PyTorch's side does not have.
      VidrecError: that interpreter fails, or its network is another.
    """
    if min(rounds, len(batch_sizes), *batch_sizes) < 1:
        raise UsageError("batch sizes, their number and the rounds of the benchmark are at least 1")
    python, lacking = bench_beside.find_peer(bench_beside.without_network(config), torch_python)
    network = fresh(config)
    rows = []
    for clips in dict.fromkeys(batch_sizes):
        rows += of_clips(network, clips, rounds, python, tell)
    frames = list(bench_videos.draw(np.random.default_rng(0), LENGTH))
    no_video = without_video()
    tell("frame by frame" if no_video else "a video file, and frame by frame")
    return {
        "model": config.model.name,
        "dtype": str(config.model.get("dtype", "float32")),
        "device": jax.local_devices()[0].device_kind,
        "rows": rows,
        "video": None if no_video else of_video(network, frames, rounds),
        "online": of_stream(network, frames, rounds),
        "without_torch": lacking,
        "without_video": no_video,
    }


def without_video() -> str:
    """Why no video file can be written and read here, in a clause; "" if one can."""
    try:
        import_av("writing and reading one needs PyAV")
    except VidrecError as error:
        return str(error)
    return ""


def fresh(config: FrozenConfigDict) -> Recognizer:
    """A network with random weights, as `vidrec.load` gives a trained one.

    Raises:
      UsageError: model.num_classes is 0.
    """
    classes = class_names(config)
    model = build_model(config, classes)
    draw = jax.jit(lambda key: initial_variables(model, key, config.data.image_size), compiler_options=init_options())
    return Recognizer(model, draw(jax.random.key(0)), classes, config, 0)


def of_clips(network: Recognizer, clips: int, rounds: int, python: str, tell: Tell) -> list[dict[str, Any]]:
    """The rows of one batch size: of vidrec, and of PyTorch where there is an interpreter for it."""
    tell(f"compiling the prediction of {clips} clips")
    own = Forward(network, clips)
    task = bench_beside.network_task(network.config, clips, network.spec.picture) if python else {}
    ours, theirs = bench_beside.in_turns(own.run, PASSES, rounds, python, task, tell)
    most = bench_beside.limit(jax.local_devices()[:1])
    row = bench_beside.row("vidrec", ours, clips, own.flops, most)
    rows = [{**row, "batch_size": clips, "compile_s": own.compile_s, "flops": own.flops}]
    if theirs:
        count = count_parameters(network.variables["params"])
        peer = bench_beside.peer_row(count, theirs, clips, own.flops, most)
        rows[0]["times_torch"] = peer["ms"] / row["ms"]
        rows.append({**peer, "batch_size": clips})
    return rows


class Forward:
    """The prediction of a batch of random clips, compiled."""

    def __init__(self, network: Recognizer, clips: int):
        spec = network.spec
        pixels = np.random.default_rng(0).integers(0, 256, (clips, spec.frames, *spec.picture, 3), np.uint8)
        self._arguments = network.variables, jnp.asarray(pixels)
        began = time.perf_counter()
        traced = jax.jit(network.scores).trace(*self._arguments)
        self._compiled = traced.lower().compile()
        self.compile_s = time.perf_counter() - began
        self.flops = sum(matrix_flops(traced.jaxpr).values())
        for _ in range(WARM_UP):
            self.run()

    def run(self) -> float:
        """Predicts once, to scores on the host, as PyTorch's side does; returns the seconds."""
        return seconds(lambda: jax.device_get(self._compiled(*self._arguments)))


def of_video(network: Recognizer, frames: Sequence[Frame], rounds: int) -> dict[str, float]:
    """Milliseconds from a video file of `frames` to its scores.

    Returns:
      `frames`; `ms` from the file to the scores; `decode_ms` to the frames that are needed, `clip_ms` to the clip that
      is cut from them, `network_ms` from the clip to the scores; `decode_share`, of decoding in the whole.
    """
    with tempfile.TemporaryDirectory(prefix="vidrec-bench-") as work:
        video = Path(work) / "video.mp4"
        write_mp4(video, np.stack(frames), FPS)
        clip = network.clip(video)[None]
        calls: dict[str, Callable[[], Any]] = {
            "ms": lambda: network.predict(video),
            "decode_ms": lambda: chosen_frames(video, network.spec, lambda frame: frame),
            "clip_ms": lambda: network.clip(video),
            "network_ms": lambda: network.predict_clips(clip),
        }
        network.predict(video)  # compiles
        turns = [{name: seconds(call) for name, call in calls.items()} for _ in range(rounds * PASSES)]
    found = {name: 1000 * statistics.median(turn[name] for turn in turns) for name in calls}
    return {"frames": len(frames), **found, "decode_share": found["decode_ms"] / found["ms"]}


def of_stream(network: Recognizer, frames: Sequence[Frame], rounds: int) -> dict[str, Any]:
    """Milliseconds of each frame of a stream.

    Returns:
      `ms` from a frame's arrival to its scores, `frames_per_second`, and `kept`: the part of the network that is
      computed once for a frame, in words ("": none).
    """
    online = Online(network)
    shown = islice(cycle(frames), WARM_UP + rounds * PASSES)
    taken = [moment.seconds for moment in online.watch(shown)][WARM_UP:]
    median = statistics.median(taken)
    return {"ms": 1000 * median, "frames_per_second": 1 / median, "kept": online.halves.kept}


def seconds(call: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def text(report: dict[str, Any]) -> str:
    """The report for people."""
    rows = [("", "batch", "clips/s", "ms a batch", "MFU", "times PyTorch")]
    for row in report["rows"]:
        used = "" if row["mfu"] is None else f"{row['mfu']:.1%}"
        faster = f"{row['times_torch']:.2f}" if "times_torch" in row else ""
        speed = f"{row['clips_per_second']:.2f}"
        rows.append((row["name"], str(row["batch_size"]), speed, f"{row['ms']:.1f}", used, faster))
    lines = [
        f"{report['model']}, {report['dtype']}, random weights, on {report['device']}",
        aligned(rows, left=1),
    ]
    video, online = report["video"], report["online"]
    kept = f"{online['kept']} computed once" if online["kept"] else "the whole window computed for each"
    if video:
        lines.append(
            f"a video file of {video['frames']} frames to its scores: {video['ms']:.1f} ms; to its frames "
            f"{video['decode_ms']:.1f} ({video['decode_share']:.0%}), to its clip {video['clip_ms']:.1f}, from there "
            f"{video['network_ms']:.1f}"
        )
    lines.append(
        f"frame by frame, {kept}: {online['ms']:.1f} ms a frame, {online['frames_per_second']:.1f} frames a second"
    )
    if report["without_torch"]:
        lines.append(f"Not beside PyTorch: {report['without_torch']}.")
    if report["without_video"]:
        lines.append(f"Not of a video file: {report['without_video']}.")
    return "\n".join(line.rstrip() for line in lines)
