"""The six data sets in miniature: from their files, as their authors publish them, to an evaluated network.

    python -m experiments.data_sets [--out runs/data_sets] [--json]

Of each layout (UCF101, HMDB51, Something-Something V1 and V2, Jester, Kinetics-400) a few dozen videos are drawn and
written in its containers under its names, with its annotation files; one video is missing and one is cut off. They are
converted, verified frame by frame, trained on for two steps and evaluated. After two steps a network knows nothing: the
accuracies show that it ran.
"""

import argparse
import json
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import jax
import numpy as np
from ml_collections import FrozenConfigDict

from vidrec.data import images, toy_draw
from vidrec.data.convert import convert
from vidrec.data.convert_report import ConvertReport
from vidrec.data.verify import verify
from vidrec.demo import get_config
from vidrec.errors import VidrecError
from vidrec.eval.evaluate import make_evaluator
from vidrec.files import write_json
from vidrec.inspect.results import evaluate_run
from vidrec.train.loop import train

_ACTIONS = (("horiz", 0), ("horiz", 1), ("rot", 0), ("rot", 1))
_PER_CLASS = {"train": 6, "val": 3, "test": 2}
_SIZE, _FPS = 48, 12
_RESULT = "data_sets.json"  # written first of all, too: a folder that has it may be made anew


class Video(NamedTuple):
    """A drawn video: its class, its split (train, val or test), its number among all, its frames `[T, H, W, 3]`."""

    label: int
    split: str
    number: int
    frames: np.ndarray


@dataclass(frozen=True)
class Layout:
    """One data set's way to lay files out.

    Attributes:
      name: of the data set.
      dataset: name of vidrec's format.
      container: of its videos.
      classes: four names, of a move right, a move left, a turn clockwise and one counterclockwise.
      write: writes root and annotations below a folder and returns both, and the file of each video.
    """

    name: str
    dataset: str
    container: str
    classes: tuple[str, str, str, str]
    write: Callable[[Path, "Layout", list[Video]], tuple[Path, Path, list[Path]]]


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    layout: str
    format: str
    videos: int
    classes: int
    skipped: list[str]
    mirror_pairs: list[tuple[str, str]]
    one_sided: list[str]
    frames: int
    top1: float
    seconds: float


def draw(seed: int, splits: tuple[str, ...]) -> list[Video]:
    """Draws the videos of one layout: 16 frames of a moving or turning shape, in 48 x 48 pixels."""
    videos: list[Video] = []
    for label, (family, which) in enumerate(_ACTIONS):
        rng = np.random.default_rng([seed, label])
        splits_of_clips = [split for split in splits for _ in range(_PER_CLASS[split])]
        kind = toy_draw.FAMILIES[family]
        clips = toy_draw.draw(kind, len(splits_of_clips), _SIZE, rng)
        orders = kind.orders(len(clips), rng)[:, which]
        for split, clip, order in zip(splits_of_clips, clips, orders, strict=True):
            videos.append(Video(label, split, len(videos), clip[order].repeat(2, 0)))
    return videos


def write_video(path: Path, frames: np.ndarray) -> None:
    """Writes frames in the container of the path's suffix, or as a folder of JPEG pictures where it has none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.suffix:
        path.mkdir(exist_ok=True)
        for number, frame in enumerate(frames, 1):
            (path / f"{number:05d}.jpg").write_bytes(images.encode_jpeg(frame, 90))
        return
    codec = {".avi": "mpeg4", ".webm": "libvpx-vp9", ".mp4": "libx264"}[path.suffix]
    options = {"deadline": "realtime", "cpu-used": "8"} if path.suffix == ".webm" else {}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=_FPS, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_ucf101(folder: Path, layout: Layout, videos: list[Video]) -> tuple[Path, Path, list[Path]]:
    """Class folders of AVI files; one class is spelt in two ways, test lines have no label."""
    root, lists = folder / "UCF-101", folder / "ucfTrainTestlist"
    _write_lines(lists / "classInd.txt", [f"{label} {name}" for label, name in enumerate(layout.classes, 1)])
    lines: dict[str, list[str]] = {"train": [], "val": []}
    files = []
    for label, split, number, frames in videos:
        name = layout.classes[label]
        path = f"{name}/v_{name.replace('stand', 'Stand')}_g{number + 1:02d}_c01.avi"
        lines[split].append(f"{path} {label + 1}" if split == "train" else path)
        files.append(root / path.replace("Handstand", "HandStand"))
        write_video(files[-1], frames)
    for split_number in (1, 2, 3):
        _write_lines(lists / f"trainlist0{split_number}.txt", lines["train"])
        _write_lines(lists / f"testlist0{split_number}.txt", lines["val"])
    return root, lists, files


def write_hmdb51(folder: Path, layout: Layout, videos: list[Video]) -> tuple[Path, Path, list[Path]]:
    """Class folders of AVI files, one of them in a folder of the same name again, one still in an archive."""
    root, lists = folder / "hmdb51_org", folder / "testTrainMulti_7030_splits"
    lines: dict[str, list[str]] = {name: ["unused_video_0.avi 0 "] for name in layout.classes}
    files = []
    for label, split, number, frames in videos:
        name = layout.classes[label]
        video = f"#{number}_(a)_[b]&_{name}_u_nm_np1_fr_goo_0.avi"
        lines[name].append(f"{video} {1 if split == 'train' else 2} ")
        files.append(root / (f"{name}/{name}" if label == 1 else name) / video)
        write_video(files[-1], frames)
    for name, listed in lines.items():
        for split_number in (1, 2, 3):
            _write_lines(lists / f"{name}_test_split{split_number}.txt", listed)
    return root, lists, files


def write_something(folder: Path, layout: Layout, videos: list[Video]) -> tuple[Path, Path, list[Path]]:
    """Numbered folders of pictures and lists separated by semicolons, of Something-Something V1 and of Jester."""
    prefix = {"ssv1": "something-something-v1", "jester": "jester-v1"}[layout.dataset]
    root, lists = folder / f"20bn-{prefix}", folder / "labels"
    lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    files = []
    for label, split, number, frames in videos:
        clip = str(100 + 7 * number)
        lines[split].append(clip if split == "test" else f"{clip};{layout.classes[label]}")
        files.append(root / clip)
        write_video(files[-1], frames)
    _write_lines(lists / f"{prefix}-labels.csv", list(layout.classes))
    for split, listed in lines.items():
        _write_lines(lists / f"{prefix}-{split.replace('val', 'validation')}.csv", listed)
    return root, lists, files


def write_ssv2(folder: Path, layout: Layout, videos: list[Video]) -> tuple[Path, Path, list[Path]]:
    """WebM files and JSON lists, whose templates have brackets that the names of classes have not."""
    prefix = "something-something-v2"
    root, lists = folder / f"20bn-{prefix}", folder / "labels"
    items: dict[str, list[dict]] = {"train": [], "val": [], "test": []}
    files = []
    for label, split, number, frames in videos:
        item: dict[str, Any] = {"id": str(100 + 7 * number)}
        if split != "test":
            template = layout.classes[label].replace("something", "[something]")
            item |= {"label": template.replace("[something]", "a cup"), "template": template, "placeholders": ["a cup"]}
        items[split].append(item)
        files.append(root / f"{item['id']}.webm")
        write_video(files[-1], frames)
    numbers = {name: str(number) for number, name in enumerate(sorted(layout.classes))}
    _write_lines(lists / f"{prefix}-labels.json", [json.dumps(numbers)])
    for split, listed in items.items():
        _write_lines(lists / f"{prefix}-{split.replace('val', 'validation')}.json", [json.dumps(listed)])
    return root, lists, files


def write_kinetics(folder: Path, layout: Layout, videos: list[Video]) -> tuple[Path, Path, list[Path]]:
    """MP4 files in class folders with underscores and no quotes; quoted CSV lists, of which test has no labels."""
    root, lists = folder / "videos", folder / "lists"
    lines = {split: ['"label","youtube_id","time_start","time_end","split","is_cc"'] for split in ("train", "val")}
    lines["test"] = ['"youtube_id","time_start","time_end","split"']
    files = []
    for label, split, number, frames in videos:
        name, clip, start = layout.classes[label], f"-_{number:02d}abcdef", 3 * number
        times = f'"{clip}","{start}","{start + 10}","{split}"'
        lines[split].append(times if split == "test" else f'"{name}",{times},"0"')
        ending = f"_{start}" if number % 5 == 0 else f"_{start:06d}_{start + 10:06d}"  # as TSM's lists, as published
        class_folder = "test" if split == "test" else f"{split}/{name.replace(' ', '_').replace(chr(39), '')}"
        files.append(root / class_folder / f"{clip}{ending}.mp4")
        write_video(files[-1], frames)
    for split, listed in lines.items():
        _write_lines(lists / f"kinetics_{split}.csv", listed)
    return root, lists, files


_MIRRORED = ("Pushing something from left to right", "Pushing something from right to left")
LAYOUTS = (
    Layout("UCF101", "ucf101", "avi", ("Archery", "HandstandPushups", "Typing", "YoYo"), write_ucf101),
    Layout("HMDB51", "hmdb51", "avi, zip", ("brush_hair", "clap", "turn", "wave"), write_hmdb51),
    Layout(
        "Something-Something V1", "ssv1", "jpg",
        (*_MIRRORED, "Twisting something, then letting it go", "Turning the camera left while filming something"),
        write_something,
    ),
    Layout(
        "Something-Something V2", "ssv2", "webm",
        (*_MIRRORED, "Spinning something so it continues spinning", "Spinning something that quickly stops spinning"),
        write_ssv2,
    ),
    Layout(
        "Jester", "jester", "jpg",
        ("Swiping Right", "Swiping Left", "Turning Hand Clockwise", "Turning Hand Counterclockwise"), write_something,
    ),
    Layout(
        "Kinetics-400", "kinetics400", "mp4",
        ("abseiling", "massaging person's head", "springboard diving", "testifying"), write_kinetics,
    ),
)  # fmt: skip
"""The six layouts."""


def damage(files: list[Path]) -> None:
    """Removes the first video, and cuts the second off."""
    first, second = files[:2]
    shutil.rmtree(first) if first.is_dir() else first.unlink()
    victim = sorted(second.iterdir())[7] if second.is_dir() else second
    content = victim.read_bytes()
    first_frame = max(content.find(b"movi"), 0)  # the header of an AVI is longer than its frames here
    victim.write_bytes(content[: (first_frame + len(content)) // 2])


def run_layout(layout: Layout, out: Path) -> Row:
    """Makes a layout's files, converts, verifies, trains and evaluates; raises VidrecError where verifying fails."""
    started = time.monotonic()
    splits = ("train", "val") if layout.dataset in ("ucf101", "hmdb51") else ("train", "val", "test")
    videos = draw(LAYOUTS.index(layout), splits)
    root, lists, files = layout.write(out / "source", layout, videos)
    damage(files)
    if layout.dataset == "hmdb51":
        _archive(root / layout.classes[3])
    records = out / "records"
    report = convert(layout.dataset, root, lists, records, short_side=32, videos_per_shard=16, workers=1)
    checked = verify(records, deep=True)
    if not checked.ok:
        raise VidrecError(f"{records}: {checked.problems[0]}")
    top1 = _train_and_evaluate(records, out / "run", "val" if "val" in report.videos else "test")
    return _row(layout, report, top1, time.monotonic() - started)


def _archive(folder: Path) -> None:
    with zipfile.ZipFile(folder.with_name(f"{folder.name}.zip"), "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{folder.name}/{file.name}")
    shutil.rmtree(folder)


def _train_and_evaluate(records: Path, run: Path, split: str) -> float:
    config = get_config("tsn")
    config.data.update(records=str(records), eval_split=split, workers=0)
    config.train.update(steps=2, batch_size=8, eval_every=0, checkpoint_every=2, log_every=1)
    config.eval.batch_size = 4
    config.optim.warmup_steps = 0
    train(FrozenConfigDict(config), run, make_evaluator)
    return evaluate_run(run)[0]["top1"]


def _row(layout: Layout, report: ConvertReport, top1: float, seconds: float) -> Row:
    return Row(
        layout=layout.name,
        format=layout.container,
        videos=sum(report.videos.values()),
        classes=report.classes["number"],
        skipped=[f"{skip['kind']}: {skip['why']}" for skip in report.skipped],
        mirror_pairs=report.mirror_pairs,
        one_sided=report.one_sided,
        frames=report.frames,
        top1=top1,
        seconds=round(seconds, 1),
    )


def table(rows: list[Row]) -> str:
    """The table for people; what was skipped and the mirror pairs follow below it."""
    head = ("layout", "format", "videos", "classes", "skipped", "mirror pairs", "frames", "top-1", "seconds")
    cells = [head] + [
        (
            row.layout, row.format, str(row.videos), str(row.classes), str(len(row.skipped)),
            str(len(row.mirror_pairs)), str(row.frames), f"{row.top1:.2f}", f"{row.seconds:.1f}",
        )
        for row in rows
    ]  # fmt: skip
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    for row in rows:
        lines += ["", row.layout, *(f"  skipped, {why}" for why in row.skipped)]
        lines += [f"  mirror pair: {one} <-> {other}" for one, other in row.mirror_pairs]
        lines += [f"  one-sided, never flip: {name}" for name in row.one_sided]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Runs all layouts and prints the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("runs/data_sets"), help="folder to write (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args(argv)
    if args.out.exists() and any(args.out.iterdir()) and not (args.out / _RESULT).exists():
        parser.error(f"{args.out} holds something else; choose another --out")
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    write_json(args.out / _RESULT, [])
    # The networks differ in nothing: one is compiled for all.
    jax.config.update("jax_compilation_cache_dir", str(args.out / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    rows = []
    for layout in LAYOUTS:
        rows.append(run_layout(layout, args.out / layout.dataset))
        print(f"{layout.name}: {rows[-1].seconds} s", file=sys.stderr, flush=True)
    write_json(args.out / _RESULT, [asdict(row) for row in rows])
    print((args.out / _RESULT).read_text() if args.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
