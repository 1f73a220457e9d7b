"""From one record to one clip: which frames, which part of them, decoded once, cut and resized in one go."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from vidrec.data import augment, images, sampling
from vidrec.data.records import TFRecordSource
from vidrec.data.tfrecord import BadRecord
from vidrec.errors import UsageError, VidrecError
from vidrec.labels import mirror_pairs, one_sided
from vidrec.types import Batch

# (height, width) of a frame -> the part of it to take.
ViewOf = Callable[[int, int], augment.View]


@dataclass(frozen=True)
class ClipSpec:
    """How a record becomes a clip; all fields are those of `config.data` of the same name.

    Attributes:
      num_frames: segments T; `frames_per_segment` consecutive frames are read from each.
    """

    num_frames: int
    image_size: int
    frames_per_segment: int = 1
    sampling: str = "segment"
    short: str = "first"
    resize: tuple[int, ...] = (256,)
    crop: str = "multiscale"
    crop_scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    flip: str = "never"
    on_bad: str = "replace"

    def __post_init__(self) -> None:
        _choice("data.sampling", self.sampling, ("segment", "dense"))
        _choice("data.short", self.short, ("first", "loop", "clamp"))
        _choice("data.crop", self.crop, ("multiscale", "random", "center"))
        _choice("data.flip", self.flip, ("swap", "skip", "never"))
        _choice("data.on_bad", self.on_bad, ("replace", "raise"))

    @property
    def nbytes(self) -> int:
        """Bytes of one decoded clip."""
        return self.num_frames * self.frames_per_segment * self.image_size**2 * 3

    @classmethod
    def from_config(cls, data: Any, num_frames: int, clip_length: int) -> "ClipSpec":
        """Takes the fields out of `config.data`; num_frames and clip_length are the network's."""
        names = ("image_size", "sampling", "short", "resize", "crop", "crop_scales", "flip", "on_bad")
        fields = {name: data[name] for name in names}
        return cls(num_frames=num_frames, frames_per_segment=clip_length // num_frames, **fields)

    def training_frames(self, num_frames: int, rng: np.random.Generator) -> np.ndarray:
        """Frame numbers of a training clip of a video of `num_frames` frames."""
        if self.sampling == "dense":
            return sampling.dense_indices(num_frames, self.num_frames, rng=rng)
        return sampling.segment_indices(
            num_frames,
            self.num_frames,
            mode="train",
            frames_per_segment=self.frames_per_segment,
            rng=rng,
            short=self.short,  # pyright: ignore[reportArgumentType]  checked at construction
        )

    def eval_frames(self, num_frames: int, video_id: str, clip: int, clips: int) -> np.ndarray:
        """Frame numbers of test clip number `clip` of `clips`; draws depend on the video and the clip only."""
        if self.sampling == "dense":
            return sampling.dense_indices(num_frames, self.num_frames, clips=clips).reshape(clips, -1)[clip]
        if clips == 1:
            return sampling.segment_indices(num_frames, self.num_frames, frames_per_segment=self.frames_per_segment)
        rng = np.random.default_rng([zlib.crc32(video_id.encode()), clip])
        return self.training_frames(num_frames, rng)


class TrainReader:
    """Record number and generator -> one training element; unreadable records are replaced by the next readable one."""

    def __init__(self, source: TFRecordSource, spec: ClipSpec):
        self.source = source
        self.spec = spec
        self.mirror = mirror_pairs(source.classes)
        self.one_sided = frozenset(one_sided(source.classes))

    def __call__(self, record: int, rng: np.random.Generator) -> Batch:
        """Returns one element of a Batch (no leading axis)."""
        record = int(record)
        for _ in range(len(self.source)):
            try:
                return self._read(record, rng)
            except BadRecord:
                if self.spec.on_bad == "raise":
                    raise
                record = (record + 1) % len(self.source)
        raise VidrecError(f"no record of {self.source!r} can be read; run `vidrec verify` on the folder")

    def _read(self, record: int, rng: np.random.Generator) -> Batch:
        frames = self.spec.training_frames(int(self.source.num_frames[record]), rng)
        spec = self.spec
        flip, label = augment.flip_label(int(self.source.labels[record]), spec.flip, self.mirror, rng, self.one_sided)

        def view(height: int, width: int) -> augment.View:
            shape = augment.resized_shape(height, width, spec.resize)
            box = augment.random_box(*shape, spec.image_size, spec.crop, spec.crop_scales, rng)
            return augment.View(augment.to_stored(box, shape, (height, width)), flip)

        clip = read_clip(self.source, record, frames, spec.image_size, view)
        return Batch(clip, np.int32(label), np.int32(record), np.bool_(True))


class EvalReader:
    """Position in an evaluation -> one element: view `position % views` of record `position // views`.

    Positions past the last record are padding (record -1). A record that cannot be read keeps its number, but is not
    valid; nothing takes its place.
    """

    def __init__(self, source: TFRecordSource, spec: ClipSpec, clips: int, crops: int):
        self.source = source
        self.spec = spec
        self.clips = clips
        self.crops = crops
        augment.center_crops(4, 4, 4, crops)  # a wrong number is told before any work

    def __call__(self, position: int) -> Batch:
        """Returns one element of a Batch (no leading axis)."""
        record, view = divmod(int(position), self.clips * self.crops)
        if record >= len(self.source):
            return self._blank(-1, -1)
        label = int(self.source.labels[record])
        try:
            clip = self._read(record, *divmod(view, self.crops))
        except BadRecord:
            return self._blank(record, label)
        return Batch(clip, np.int32(label), np.int32(record), np.bool_(True))

    def _read(self, record: int, clip: int, crop: int) -> np.ndarray:
        spec = self.spec
        video_id = self.source.video_id(record)
        frames = spec.eval_frames(int(self.source.num_frames[record]), video_id, clip, self.clips)
        view = partial(eval_view, spec=spec, crop=crop, crops=self.crops)
        return read_clip(self.source, record, frames, spec.image_size, view)

    def _blank(self, record: int, label: int) -> Batch:
        frames = self.spec.num_frames * self.spec.frames_per_segment
        clip = np.zeros((frames, self.spec.image_size, self.spec.image_size, 3), np.uint8)
        return Batch(clip, np.int32(label), np.int32(record), np.bool_(False))


def eval_view(height: int, width: int, *, spec: ClipSpec, crop: int = 0, crops: int = 1) -> augment.View:
    """The test crop: one picture-sized square of the centre, or one of three full-height squares."""
    shape = augment.resized_shape(height, width, spec.resize)
    side = spec.image_size if crops == 1 else min(shape)
    box = augment.center_crops(*shape, side, crops)[crop]
    return augment.View(augment.to_stored(box, shape, (height, width)))


def read_clip(source: TFRecordSource, record: int, frames: np.ndarray, size: int, view: ViewOf) -> np.ndarray:
    """Reads, decodes, cuts and resizes the chosen frames of one record; each distinct frame once.

    Args:
      frames: frame numbers, shape `[T]`, repetitions allowed.
      size: side of the pictures in pixels.
      view: function of (height, width) of the first frame -> View.

    Returns:
      uint8 `[T, size, size, 3]`.
    """
    distinct, place = np.unique(frames, return_inverse=True)
    return cut_and_resize(source.decode_frames(record, distinct), size, view)[place]


def cut_and_resize(frames: Sequence[np.ndarray], size: int, view: ViewOf) -> np.ndarray:
    """Applies one view to all frames `[H, W, 3]`; frames of another size than the first are cut at the same part."""
    shape = frames[0].shape[:2]
    chosen = view(*shape)
    out = np.empty((len(frames), size, size, 3), np.uint8)
    for picture, frame in zip(out, frames, strict=True):
        box = augment.to_stored(chosen.box, shape, frame.shape[:2])
        part = images.resize(frame[box.y : box.y + box.height, box.x : box.x + box.width], size, size)
        picture[:] = part[:, ::-1] if chosen.flip else part
    return out


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{name} is {value!r}, but must be one of {', '.join(choices)}")
