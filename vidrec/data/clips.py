"""From one record to one clip: which frames, which part of them, decoded once, cut and resized in one go."""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int

from vidrec.data import augment, images, sampling
from vidrec.data.buffers import Buffers
from vidrec.data.order import candidates
from vidrec.data.records import TFRecordSource
from vidrec.data.tfrecord import BadRecord
from vidrec.errors import UsageError, VidrecError
from vidrec.labels import mirror_pairs, one_sided
from vidrec.ranges import check_choice
from vidrec.types import Batch

# (height, width) of a frame -> the part of it to take.
ViewOf = Callable[[int, int], augment.View]


@dataclass(frozen=True)
class ClipSpec:
    """How a record becomes a clip; all fields not listed are those of `config.data` of the same name.

    Attributes:
      num_frames: segments T; `frames_per_segment` consecutive frames are read from each.
      views: training clips cut from the same frames, each with its own crop and flip, one behind the other.
      eval_size: (height, width) of evaluation pictures; () is image_size both ways.
      eval_sampling, full_resolution: `sampling` and `full_resolution` of `config.eval`.
    """

    num_frames: int
    image_size: int
    frames_per_segment: int = 1
    sampling: str = "segment"
    short: str = "first"
    resize: tuple[int, ...] = (256,)
    crop: str = "multiscale"
    crop_scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    crop_area: tuple[float, ...] = (0.08, 1.0)
    crop_aspect: tuple[float, ...] = (3 / 4, 4 / 3)
    flip: str = "never"
    on_bad: str = "replace"
    stride: int = 32
    resize_range: tuple[int, ...] = ()
    resize_draw: str = "uniform"
    views: int = 1
    eval_size: tuple[int, ...] = ()
    eval_sampling: str = "test"
    full_resolution: bool = False

    def __post_init__(self) -> None:
        for name in ("sampling", "short", "crop", "flip", "on_bad", "resize_draw"):
            check_choice(f"data.{name}", getattr(self, name))
        check_choice("eval.sampling", self.eval_sampling)
        if self.sampling != "segment" and self.frames_per_segment > 1:
            raise UsageError(
                f"data.sampling is {self.sampling!r}, but this network reads {self.frames_per_segment} consecutive "
                "frames at each place, which only segment does"
            )
        if self.sampling != "segment" and self.eval_sampling in ("val", "twice"):
            raise UsageError(f"eval.sampling={self.eval_sampling} is for data.sampling=segment, not {self.sampling}")
        if self.full_resolution and (not self.resize or self.eval_size):
            raise UsageError("eval.full_resolution shows crops as large as data.resize: set it, not eval.image_size")
        if len(self.resize_range) not in (0, 2) or len(self.eval_size) not in (0, 2):
            raise UsageError("data.resize_range is () or (shortest, longest), eval.image_size () or (height, width)")

    @property
    def picture(self) -> tuple[int, int]:
        """Height and width of an evaluation picture."""
        if self.full_resolution:
            return min(self.resize), min(self.resize)
        height, width = self.eval_size or (self.image_size, self.image_size)
        return height, width

    @property
    def frames(self) -> int:
        """Frames of one clip."""
        return self.num_frames * self.frames_per_segment

    @property
    def nbytes(self) -> int:
        """Bytes of one decoded element, in training or evaluation, whichever is larger."""
        return self.frames * 3 * max(self.views * self.image_size**2, self.picture[0] * self.picture[1])

    @classmethod
    def from_config(cls, config: Any, num_frames: int, clip_length: int, views: int = 1) -> "ClipSpec":
        """Takes the fields out of `config`; num_frames and clip_length are the network's, views the task's."""
        names = ("image_size", "sampling", "short", "resize", "crop", "crop_scales", "flip", "on_bad")
        names += ("stride", "resize_range", "resize_draw", "crop_area", "crop_aspect")
        fields = {name: config.data[name] for name in names}
        return cls(
            num_frames=num_frames,
            frames_per_segment=clip_length // num_frames,
            views=views,
            eval_size=config.eval.image_size,
            eval_sampling=config.eval.sampling,
            full_resolution=config.eval.full_resolution,
            **fields,
        )

    def training_frames(self, num_frames: int, rng: np.random.Generator) -> np.ndarray:
        """Frame numbers of a training clip of a video of `num_frames` frames."""
        if self.sampling == "dense":
            return sampling.dense_indices(num_frames, self.num_frames, rng=rng)
        if self.sampling == "even":
            return sampling.even_indices(num_frames, self.num_frames, rng=rng)
        if self.sampling == "strided":
            return sampling.strided_indices(num_frames, self.num_frames, self.stride, rng=rng)
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
        if self.eval_sampling == "random" or (self.sampling in ("segment", "even") and clips > 1 and not self._twice):
            return self.training_frames(num_frames, np.random.default_rng([zlib.crc32(video_id.encode()), clip]))
        if self.sampling == "dense":
            return sampling.dense_indices(num_frames, self.num_frames, clips=clips).reshape(clips, -1)[clip]
        if self.sampling == "strided":
            numbers = sampling.strided_indices(num_frames, self.num_frames, self.stride, clips=clips)
            return numbers.reshape(clips, -1)[clip]
        if self.sampling == "even":
            return sampling.even_indices(num_frames, self.num_frames)
        frames = sampling.segment_indices(
            num_frames,
            self.num_frames,
            mode=self.eval_sampling,  # pyright: ignore[reportArgumentType]  one of its modes
            frames_per_segment=self.frames_per_segment,
            short=self.short,  # pyright: ignore[reportArgumentType]  checked at construction
        )
        return frames[clip * self.frames :][: self.frames]

    @property
    def _twice(self) -> bool:
        return self.eval_sampling == "twice"


class TrainReader:
    """Record number and generator -> one training element; unreadable records are replaced by the next readable one.

    The next one is what `following` says (vidrec.data.order), by default the next number; never one set aside.
    """

    def __init__(self, source: TFRecordSource, spec: ClipSpec, following: Int[np.ndarray, " n"] | None = None):
        self.source = source
        self.spec = spec
        self.following = (np.arange(len(source)) + 1) % len(source) if following is None else following
        self.mirror = mirror_pairs(source.classes)
        self.one_sided = frozenset(one_sided(source.classes))
        self._buffers = Buffers()

    def __call__(self, record: int, rng: np.random.Generator) -> Batch:
        """Returns one element of a Batch (no leading axis)."""
        for candidate in candidates(int(record), self.following, self.source.aside):
            try:
                return self._read(candidate, rng)
            except BadRecord:
                if self.spec.on_bad == "raise":
                    raise
        raise VidrecError(f"no record of {self.source!r} can be read; run `vidrec verify` on the folder")

    def _read(self, record: int, rng: np.random.Generator) -> Batch:
        numbers = self.spec.training_frames(int(self.source.num_frames[record]), rng)
        own = int(self.source.labels[record])
        flip, label = self._flip(own, rng)

        def view(number: int, height: int, width: int) -> augment.View:
            """Draws one of the views; where a flip changes the label, all of them are flipped, or none."""
            again = number > 0 and own not in self.mirror
            return self._view(height, width, flip=self._flip(own, rng)[0] if again else flip, rng=rng)

        views = [partial(view, number) for number in range(self.spec.views)]
        size = (self.spec.image_size, self.spec.image_size)
        clip = read_clip(self.source, record, numbers, size, views, self._buffers)
        return Batch(clip, np.int32(label), np.int32(record), np.bool_(True))

    def _flip(self, label: int, rng: np.random.Generator) -> tuple[bool, int]:
        return augment.flip_label(label, self.spec.flip, self.mirror, rng, self.one_sided)

    def _view(self, height: int, width: int, *, flip: bool, rng: np.random.Generator) -> augment.View:
        spec = self.spec
        resize = spec.resize
        if spec.resize_range:
            resize = (augment.short_side(spec.resize_range, spec.resize_draw, rng),)
        shape = augment.resized_shape(height, width, resize)
        if spec.crop == "resized":
            box = augment.resized_box(*shape, spec.crop_area, spec.crop_aspect, rng)
        else:
            box = augment.random_box(*shape, spec.image_size, spec.crop, spec.crop_scales, rng)
        return augment.View(augment.to_stored(box, shape, (height, width)), flip)


class EvalReader:
    """Position in an evaluation -> one element: view `position % views` of record `position // views`.

    Positions past the last record are padding (record -1). A record that is set aside or cannot be read keeps its
    number, but is not valid; nothing takes its place.
    """

    def __init__(self, source: TFRecordSource, spec: ClipSpec, clips: int, crops: int):
        self.source = source
        self.spec = spec
        self.clips = clips
        self.crops = crops
        if crops not in (1, 3, 5):
            raise UsageError(
                f"eval.crops is {crops}, but readers cut 1, 3 or 5 crops; the ten of eval.crops=10 are these five and "
                "their mirror images, which vidrec.eval.evaluate makes on the device"
            )
        if spec.eval_sampling in ("val", "twice") and clips != (2 if spec.eval_sampling == "twice" else 1):
            raise UsageError(
                f"eval.sampling={spec.eval_sampling} has no {clips} clips: twice has 2, val has 1, and test and random "
                "have any number; set eval.clips"
            )
        if crops == 3 and spec.picture[0] != spec.picture[1]:
            raise UsageError("eval.crops=3 cuts squares: set eval.image_size to a square, or eval.crops=1")
        self._buffers = Buffers()

    def __call__(self, position: int) -> Batch:
        """Returns one element of a Batch (no leading axis)."""
        record, view = divmod(int(position), self.clips * self.crops)
        if record >= len(self.source):
            return self._blank(-1, -1)
        label = int(self.source.labels[record])
        if record in self.source.aside:
            return self._blank(record, label)
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
        return read_clip(self.source, record, frames, spec.picture, [view], self._buffers)

    def _blank(self, record: int, label: int) -> Batch:
        clip = np.zeros((self.spec.frames, *self.spec.picture, 3), np.uint8)
        return Batch(clip, np.int32(label), np.int32(record), np.bool_(False))


def eval_view(height: int, width: int, *, spec: ClipSpec, crop: int = 0, crops: int = 1) -> augment.View:
    """The test crop: the centre or one of five places, as large as the picture, or of three squares of the short side.

    The three are seen as large as the picture, which they are already with `full_resolution`.
    """
    shape = augment.resized_shape(height, width, spec.resize)
    if crops == 3:
        box = augment.three_crops(*shape, min(shape))[crop]
    elif crops == 5:
        box = augment.five_crops(*shape, spec.picture)[crop]
    else:
        box = augment.center_box(*shape, spec.picture)
    return augment.View(augment.to_stored(box, shape, (height, width)))


def read_clip(
    source: TFRecordSource,
    record: int,
    frames: np.ndarray,
    size: tuple[int, int],
    views: Sequence[ViewOf],
    buffers: Buffers | None = None,
) -> np.ndarray:
    """Reads, decodes, cuts and resizes the chosen frames of one record; each distinct frame once.

    Args:
      frames: frame numbers, shape `[T]`, repetitions allowed.
      size, views, buffers: as of `cut_and_resize`.

    Returns:
      uint8 `[V T, height, width, 3]`.
    """
    distinct = list(dict.fromkeys(frames.tolist()))
    decoded = source.decode(record, source.read_frames(record, distinct))
    return cut_and_resize(decoded, [distinct.index(number) for number in frames], size, views, buffers)


def cut_and_resize(
    frames: Iterable[np.ndarray],
    places: Sequence[int],
    size: tuple[int, int],
    views: Sequence[ViewOf],
    buffers: Buffers | None = None,
) -> np.ndarray:
    """Clips of some frames, one behind the other: a clip of each view.

    A frame may be decoded when its turn comes: it is cut before the next is asked for, while the processor still has it
    at hand.

    Args:
      frames: distinct ones `[H, W, 3]`; those of another size than the first are cut at the same part.
      places: which of them each frame of a clip is, shape `[T]`.
      size: (height, width) of the pictures in pixels.
      views: functions of (height, width) of the first frame -> View, called in this order.
      buffers: gives the memory of the result.

    Returns:
      uint8 `[V T, height, width, 3]`.
    """
    out = (buffers or Buffers()).empty((len(views), len(places), *size, 3))
    chosen: list[augment.View] = []
    shape = (0, 0)
    for number, frame in enumerate(frames):
        if not chosen:
            shape = frame.shape[:2]
            chosen = [view(*shape) for view in views]
        first, *others = (place for place, wanted in enumerate(places) if wanted == number)
        for clip, (box, flip) in zip(out, chosen, strict=True):
            own = augment.to_stored(box, shape, frame.shape[:2])
            part = frame[own.y : own.y + own.height, own.x : own.x + own.width]
            images.resize_into(clip[first], part, mirrored=flip)
            for place in others:
                clip[place] = clip[first]
    return out.reshape(-1, *size, 3)
