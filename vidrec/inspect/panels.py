"""Several maps in one picture: panels in time, put together as a sheet or as a film."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vidrec.errors import UsageError
from vidrec.inspect import drawing
from vidrec.inspect.drawing import Frames, Picture
from vidrec.inspect.maps import Map, Maps

SIDE = 128  # of a frame, in pixels, at most where it is enlarged
_GAP, _LINE = 6, 20
_PAPER, _INK = (255, 255, 255), (31, 41, 51)


class Panel(NamedTuple):
    """A row of a sheet: frames `[T, H, W, 3]` in time, one if it is a still picture, and what they show."""

    title: str
    frames: Frames


def panels(
    maps: Maps,
    frames: Frames,
    *,
    clip: int = 0,
    title: str = "",
    head: int | None = None,
    patch: tuple[int, int] | None = None,
) -> list[Panel]:
    """What `maps.drawn` shows of a clip, below its frames.

    Axes decide how a map is drawn: over the frames (row and column), as arrows and colour wheel (xy), as the frames
    in another order (position), as bars (channel), as matrices (query and key), of single heads beside their mean.

    Args:
      frames: of the clip, as the network got them.
      title: what to put before the titles, such as the network's name.
      head: of attention: the one that is drawn, of all patches.
      patch: of attention: row and column of the one that is drawn, which is marked on the frames; None: their mean.

    Raises:
      UsageError: there is no such head or patch.
    """
    large = drawing.enlarge(frames, SIDE)
    shown = [maps[name] for name in maps.drawn]
    places = chosen(shown, head, patch)
    lengths = [one.values.shape[one.axis("frame")] for one in shown if {"frame", "row"} <= set(one.axes)]
    found = []
    if lengths:
        plain = drawing.shown_frames(large, max(lengths))
        grid = next(
            (one.values.shape[one.axis("row") :][:2] for one in shown if {"row", "query"} <= set(one.axes)), None
        )
        found = [Panel("frames", plain if patch is None or grid is None else drawing.outlined(plain, patch, grid))]
    for name in maps.drawn:
        found += _panels_of(name, maps, large, clip, places)
    return [Panel(f"{title}: {panel.title}" if title else panel.title, panel.frames) for panel in found]


def chosen(shown: Sequence[Map], head: int | None, patch: tuple[int, int] | None) -> dict[str, int]:
    """Axis -> place of what is chosen; raises UsageError where no attention among these maps has such an axis."""
    places = {} if head is None else {"head": head}
    places |= {} if patch is None else dict(zip(("row", "column"), patch, strict=True))
    attention = {axis for one in shown if "query" in one.axes for axis in one.axes}
    for axis in places:
        if axis not in attention:
            raise UsageError(f"there is no {axis} to choose: what is drawn is not of heads and patches")
    return places


def _panels_of(name: str, maps: Maps, frames: Frames, clip: int, places: Mapping[str, int]) -> list[Panel]:
    one = maps[name].take(clip=clip)
    if "query" in one.axes:
        return _attention(one, places)
    if one.axes == ("frame", "row", "column"):
        return [Panel(one.about, drawing.overlay(frames, one.values))]
    if one.axes == ("frame", "row", "column", "xy"):
        sure = maps[name.replace("displacement", "confidence")].take(clip=clip).values
        return [
            Panel(f"{one.about}, as arrows", drawing.arrows(frames, one.values, sure)),
            Panel(f"{one.about}, by the colour wheel", _with_wheel(drawing.moves(one.values, sure, SIDE))),
        ]
    if one.axes == ("position",):
        return [Panel(one.about, drawing.shown_frames(frames, len(one.values))[one.values])]
    if one.axes == ("frame", "channel"):
        bars = drawing.gauges(one.values, [f"frame {t}" for t in range(len(one.values))], side=SIDE)
        return [Panel(f"{one.about}: mean, and where 80 % of the channels lie", bars)]
    if one.axes == ("tap", "channel"):
        bars = drawing.gauges(one.values, ["t-1", "t", "t+1"], side=SIDE)
        return [Panel(f"{one.about}: mean, and where 80 % of the channels lie", np.concatenate([*bars], 1)[None])]
    return [Panel(one.about, _matrices(one.values[None], [""], one.axes))]


def _attention(one: Map, places: Mapping[str, int]) -> list[Panel]:
    """Frames against frames: of all patches or one, of the mean over heads and of each head, or of one head."""
    one = one.take(**{axis: place for axis, place in places.items() if axis in one.axes})
    about = [one.about]
    if "row" in places:
        about.append(f"patch {places['row']},{places['column']}")
    if "head" in places:
        about.append(f"head {places['head']}")
    if "row" in one.axes:
        one, about = one.mean("row", "column"), [*about, "mean over patches"]
    if "head" not in one.axes:
        return [Panel(", ".join(about), _matrices(one.values[None], [""], one.axes))]
    mean = Panel(", ".join([*about, "mean over heads"]), _matrices(one.mean("head").values[None], [""], one.axes[1:]))
    names = [f"head {number}" for number in range(len(one.values))]
    return [mean, Panel(", ".join([*about, "each head"]), _matrices(one.values, names, one.axes[1:], width=128))]


def _matrices(values: np.ndarray, names: Sequence[str], axes: Sequence[str], width: int = 260) -> Frames:
    rows, columns = axes
    return drawing.matrices(values, names, rows=rows, columns=columns, width=width)[None]


def _with_wheel(frames: Frames) -> Frames:
    """Puts the legend into the corner of the first frame."""
    legend = drawing.wheel(max(24, frames.shape[1] // 4))
    frames = frames.copy()
    frames[0, : len(legend), : len(legend)] = legend[: frames.shape[1], : frames.shape[2]]
    return frames


def sheet(rows: Sequence[Panel]) -> Picture:
    """All panels below each other, each with its title above it and time to the right."""
    strips = [np.concatenate([_padded(frame, right=_GAP) for frame in panel.frames], 1) for panel in rows]
    width = max(*(strip.shape[1] for strip in strips), *(_title_width(panel.title) for panel in rows))
    parts = []
    for panel, strip in zip(rows, strips, strict=True):
        parts += [_title(panel.title, width), _padded(strip, below=_GAP, right=width - strip.shape[1])]
    return np.concatenate(parts)


def film(shown: Sequence[Panel]) -> Frames:
    """All panels side by side in time; one with fewer frames shows each of them longer, stills stay. Sides are even."""
    length = max(len(panel.frames) for panel in shown)
    columns = []
    for panel in shown:
        frames = panel.frames[np.arange(length) * len(panel.frames) // length]
        width = max(frames.shape[2], _title_width(panel.title))
        title = _title(panel.title, width)
        columns.append([np.concatenate([title, _padded(frame, right=width - frame.shape[1])]) for frame in frames])
    height = max(len(column[0]) for column in columns)
    height += height % 2
    pictures = []
    for moment in zip(*columns, strict=True):
        parts = [_padded(part, below=height - len(part), right=_GAP) for part in moment]
        picture = np.concatenate(parts, 1)
        pictures.append(_padded(picture, right=picture.shape[1] % 2))
    return np.stack(pictures)


def _padded(picture: Picture, *, below: int = 0, right: int = 0) -> Picture:
    return np.pad(picture, ((0, below), (0, right), (0, 0)), constant_values=_PAPER[0])


def _title(text: str, width: int) -> Picture:
    strip = Image.new("RGB", (width, _LINE), _PAPER)
    ImageDraw.Draw(strip).text((0, _LINE // 2), text, fill=_INK, font=ImageFont.load_default(size=12), anchor="lm")
    return np.asarray(strip)


def _title_width(text: str) -> int:
    return int(ImageFont.load_default(size=12).getlength(text)) + 1
