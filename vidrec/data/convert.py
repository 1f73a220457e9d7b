"""Videos to record folders: one task per shard, on several processes; killed at any moment, the next call goes on.

The plan (`plan.py`) fixes what every shard will hold, the work folder (`workfolder.py`) knows which are complete; so
the next call makes only what is missing, and the result does not depend on how often it was stopped.

Equal videos, annotations and settings give equal bytes: on any number of workers, in any folder, whenever it is run.
That holds for one version of the libraries that decode videos (PyAV with its FFmpeg) and encode frames (OpenCV, or
else Pillow: which one is a setting of the plan, so a folder begun with one is not gone on with by the other).
"""

import errno
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vidrec.data import images, manifest, schema, workfolder
from vidrec.data.datasets import Entry, effective_options, locate, read_annotations
from vidrec.data.manifest import Manifest
from vidrec.data.openfiles import Unreadable
from vidrec.data.plan import Plan, ShardPlan, file_safe, make_plan
from vidrec.data.pool import Progress, Tick, run_tasks, usable_cores
from vidrec.data.schema import VideoRecord
from vidrec.data.shards import describe, write_shard
from vidrec.data.video import read_video
from vidrec.data.workfolder import Skipped
from vidrec.errors import UsageError, VidrecError
from vidrec.labels import ClassList


@dataclass
class ConvertReport:
    """What `convert` did.

    Attributes:
      out: the record folder.
      name: of the data set.
      digest: of its content.
      videos: number of videos in the records, by split.
      frames: number of frames in the records.
      skipped: `path`, `why` and `shard` of each listed video that is not in the records.
      made: number of shards written by this call; 0 where everything was there.
    """

    out: str
    name: str
    digest: str
    videos: dict[str, int]
    frames: int
    skipped: Skipped
    made: int

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    def text(self) -> str:
        """The report for people, with the first skipped videos."""
        splits = ", ".join(f"{split} {videos}" for split, videos in self.videos.items())
        content = f"{sum(self.videos.values())} videos ({splits}), {self.frames} frames, {len(self.skipped)} skipped"
        if not self.made:
            return f"{self.out} is done already, nothing to do: {content}"
        lines = [f"{self.out}: {content}", *(f"skipped {skip['path']}: {skip['why']}" for skip in self.skipped[:10])]
        if len(self.skipped) > 10:
            lines.append(f"... and {len(self.skipped) - 10} more, listed in {manifest.FILE_NAME}")
        return "\n".join(lines)


def convert(
    dataset: str,
    root: str | os.PathLike[str],
    annotations: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    name: str | None = None,
    workers: int | None = None,
    short_side: int = 256,
    quality: int = 95,
    codec: str = "jpeg",
    videos_per_shard: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> ConvertReport:
    """Converts videos (files or folders of pictures) to a record folder.

    Videos that are missing or damaged are left out and reported. One that the system does not let be read (for want of
    rights, say, or because a disk is gone) stops it instead, lest it be lost. Called again on a finished folder, it
    does nothing.

    Args:
      dataset: annotation format, one of `datasets.READERS`.
      root: folder that listed paths start from.
      annotations: file or folder of annotations.
      out: folder to write.
      name: of the data set; by default that of the annotation format, or of `root` for the format "list".
      workers: processes; one per core by default.
      short_side: larger videos are made smaller to this short side, in pixels; 0 keeps every size.
      quality: of JPEG frames, 1 to 100.
      codec: one of `schema.CODECS`.
      videos_per_shard: at most so many videos share a file.
      seed: of the order of the records.
      progress: called with (videos done, videos in all).
      options: of the annotation format (`split_number`, `label_order`).

    Raises:
      UsageError: wrong arguments. VidrecError: wrong annotations, a folder made with other settings, not one readable
        video, no right to read one, no room or no right to write; what is complete by then is kept.
    """
    root, annotations, out = Path(root), Path(annotations), Path(out)
    _check_arguments(root, out, workers, short_side, quality, codec, videos_per_shard)
    listed = read_annotations(dataset, annotations, options)
    settings = {
        "dataset": dataset,
        **effective_options(dataset, options),
        "short_side": short_side,
        "codec": codec,
        "quality": quality,
        "videos_per_shard": videos_per_shard,
        "seed": seed,
        "image_library": images.BACKEND,  # each encodes JPEG a little differently
    }
    default_name = root.resolve().name if dataset == "list" else dataset
    plan = make_plan(file_safe(name or default_name), settings, listed)
    try:
        with workfolder.locked(out):
            return _carry_out(plan, root, out, workers or usable_cores(), progress)
    except OSError as error:
        raise VidrecError(_storage_trouble(error, out)) from None


def _check_arguments(
    root: Path, out: Path, workers: int | None, short_side: int, quality: int, codec: str, videos_per_shard: int
) -> None:
    if not root.is_dir():
        raise VidrecError(f"folder of videos {root} does not exist; give it with --root")
    if out.exists() and not out.is_dir():
        raise VidrecError(f"{out} is a file; choose a folder with --out")
    if codec not in schema.CODECS:
        raise UsageError(f"--codec {codec}: choose one of {', '.join(schema.CODECS)}")
    for flag, value, least, most in (
        ("--workers", 1 if workers is None else workers, 1, 4096),
        ("--short-side", short_side, 0, 1 << 14),
        ("--quality", quality, 1, 100),
        ("--videos-per-shard", videos_per_shard, 1, 1 << 20),
    ):
        if not least <= value <= most:
            raise UsageError(f"{flag} {value}: should be from {least} to {most}")


def _carry_out(plan: Plan, root: Path, out: Path, workers: int, progress: Progress | None) -> ConvertReport:
    done = workfolder.load_finished(plan, out)
    if done is not None:
        return _report(out, done, made=0)
    notes = workfolder.start(plan, out)
    missing = [shard for shard in plan.shards if shard.file not in notes]
    skipped = [skip for note in notes.values() for skip in note.skipped]
    task = partial(_convert_shard, root=root, out=out, settings=plan.settings, classes=plan.classes)
    videos_left = sum(len(shard.entries) for shard in missing)
    results = run_tasks(
        task, missing, workers=workers, done=plan.videos - videos_left, total=plan.videos, progress=progress
    )
    skipped = sorted([*skipped, *(skip for result in results for skip in result)], key=lambda skip: skip["path"])
    if len(skipped) == plan.videos:
        workfolder.discard(plan, out)
        first = f"the first is {skipped[0]['path']}: {skipped[0]['why']}"
        raise VidrecError(f"not one of the {plan.videos} listed videos can be read; is --root right? ({first})")
    return _report(out, workfolder.finish(plan, out, skipped), made=len(missing))


def _report(out: Path, result: Manifest, *, made: int) -> ConvertReport:
    videos = {name: split.videos for name, split in result.splits.items()}
    frames = sum(split.frames for split in result.splits.values())
    return ConvertReport(str(out), result.name, result.digest, videos, frames, result.skipped, made)


def _convert_shard(
    shard: ShardPlan, tick: Tick, *, root: Path, out: Path, settings: dict[str, Any], classes: ClassList
) -> Skipped:
    """Writes one shard, its index and its note; returns the videos that had to be left out."""
    skipped: Skipped = []

    def payloads() -> Iterator[bytes]:
        for entry in shard.entries:
            path = locate(root, entry.path)
            try:
                record = make_record(entry, path, settings, classes)
            except Unreadable:
                raise
            except VidrecError as error:
                # The path as listed: the manifest does not depend on where the videos lie.
                skipped.append(
                    {"path": entry.path, "why": str(error).replace(str(path), entry.path), "shard": shard.file}
                )
            else:
                yield schema.write(record)
            tick()

    index = write_shard(out / shard.file, payloads())
    workfolder.write_note(out, workfolder.Note(describe(index, classes), skipped))
    return skipped


def make_record(entry: Entry, path: Path, settings: dict[str, Any], classes: ClassList) -> VideoRecord[bytes]:
    """Reads one video and makes its record.

    Args:
      entry: what the annotations say of it.
      path: where it is.
      settings: `short_side`, `codec` and `quality`, as of `convert`.
      classes: for the label's text.

    Raises:
      VidrecError: it does not exist or cannot be decoded to its end; Unreadable: the system refuses to read it.
    """
    short_side, codec, quality = (settings[name] for name in ("short_side", "codec", "quality"))
    video, size, frames = read_video(path), (0, 0), []
    for frame in video:
        size = size if frames else _stored_size(frame, short_side)
        frames.append(schema.encode_frame(images.resize(frame, *size), codec, quality))
    return VideoRecord(
        frames=frames,
        codec=codec,
        label=entry.label,
        label_text=classes[entry.label],
        video_id=entry.video_id,
        source=entry.path,
        height=size[0],
        width=size[1],
        fps=video.fps,
    )


def _stored_size(frame: images.Frame, short_side: int) -> tuple[int, int]:
    """Height and width after the short side was made smaller, never larger, to `short_side`."""
    height, width = frame.shape[:2]
    scale = min(1.0, (short_side or min(height, width)) / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _storage_trouble(error: OSError, out: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no room left in {out} ({error.strerror}); free some and run the same command again, it goes on"
    return f"cannot write in {out} ({error.strerror}); change its rights or choose another --out"
