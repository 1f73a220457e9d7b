"""Maps as pictures: heat over frames, displacements as colours and arrows, matrices. Arrays in and out; Pillow."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from vidrec.errors import UsageError

Frames = UInt8[np.ndarray, "t h w 3"]
Picture = UInt8[np.ndarray, "h w 3"]

# Dark to bright, for what is 0 or more; blue over white to red, for what has a sign. Both read with any colour vision.
_HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
_SIGNED = ((5, 70, 160), (110, 165, 215), (247, 247, 247), (230, 130, 95), (165, 10, 35))
_INK, _FAINT, _PAPER = (31, 41, 51), (110, 118, 128), (255, 255, 255)
_TRACK, _BAR, _MARK = (230, 234, 239), (43, 123, 212), (255, 235, 90)
_ABOVE, _ABREAST = 34, 4  # of matrices: pixels above the cells, and how many stand side by side
LEAST_ARROW = 0.35  # cells; shorter moves are drawn as nothing


def heat_colours(values: Float[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n 3"]:
    """Colours of values 0..1, dark to bright."""
    return _ramp(values, _HEAT)


def signed_colours(values: Float[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n 3"]:
    """Colours of values -1..1: blue, white at 0, red."""
    return _ramp((np.asarray(values) + 1) / 2, _SIGNED)


def _ramp(values: np.ndarray, ramp: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    stops, colours = np.linspace(0, 1, len(ramp)), np.array(ramp, float)
    return np.stack([np.interp(values, stops, colours[:, c]) for c in range(3)], -1).round().astype(np.uint8)


def move_colours(displacement: Float[np.ndarray, "*n 2"], reach: float) -> UInt8[np.ndarray, "*n 3"]:
    """The colour wheel: hue tells the direction, (x, y) with y downwards; white is no move, full colour `reach`."""
    x, y = displacement[..., 0], displacement[..., 1]
    angle, size = np.arctan2(y, x), np.clip(np.hypot(x, y) / max(reach, 1e-12), 0, 1)
    hues = 0.5 + 0.5 * np.cos(angle[..., None] - np.array([0, 2, 4]) * np.pi / 3)
    return (255 * (1 - size[..., None] * (1 - hues))).round().astype(np.uint8)


def wheel(side: int) -> Picture:
    """The colours of all moves: the centre of the picture is no move, the rim of the disk the longest."""
    at = (np.arange(side) + 0.5) / side * 2 - 1
    moves = np.stack(np.meshgrid(at, at), -1)
    colours = move_colours(moves, 1.0)
    colours[np.hypot(moves[..., 0], moves[..., 1]) > 1] = _PAPER
    return colours


def shown_frames(frames: Frames, count: int) -> Frames:
    """The frames that `count` frames of a map are about: all, or the middle one of each of `count` equal segments.

    Raises:
      UsageError: the frames do not make so many segments.
    """
    if not count or len(frames) % count:
        raise UsageError(f"maps of {count} frames do not fit {len(frames)} frames of a clip")
    segment = len(frames) // count
    return frames[segment // 2 :: segment]


def enlarge(frames: Frames, side: int) -> Frames:
    """Repeats pixels so often that the longer side is `side` or a little less; larger frames stay."""
    times = max(1, side // max(frames.shape[1:3]))
    return frames.repeat(times, 1).repeat(times, 2)


def resized(maps: Float[np.ndarray, "t h w"], height: int, width: int) -> Float[np.ndarray, "t {height} {width}"]:
    """Maps at the size of the frames; cells have their centres where the pixels they cover have theirs."""
    images = (Image.fromarray(np.ascontiguousarray(one, np.float32)) for one in maps)
    return np.stack([np.asarray(one.resize((width, height), Image.Resampling.BILINEAR)) for one in images])


def overlay(frames: Frames, heat: Float[np.ndarray, "t h w"], *, strength: float = 0.75) -> Frames:
    """Heat over frames: where it is least a frame is as it is, where it is highest it is covered by `strength`.

    Args:
      frames: the clip; with a multiple of the heat's frames, the middle one of each segment is taken.
      heat: one value for each cell, any grid, any range: least and highest are those of the whole clip.

    Returns:
      uint8 `[T, H, W, 3]`, T being the heat's frames.
    """
    frames = shown_frames(frames, len(heat))
    low, high = float(heat.min()), float(heat.max())
    share = np.clip((resized(heat, *frames.shape[1:3]) - low) / max(high - low, 1e-12), 0, 1)
    cover = (strength * share)[..., None]
    return (frames * (1 - cover) + heat_colours(share) * cover).round().astype(np.uint8)


def moves(displacement: Float[np.ndarray, "t h w 2"], confidence: Float[np.ndarray, "t h w"], side: int) -> Frames:
    """Displacements by the colour wheel, the paler the less sure they are; cells are squares, `side` pixels in all."""
    reach = float(np.hypot(displacement[..., 0], displacement[..., 1]).max())
    sure = np.clip(confidence, 0, 1)[..., None]
    colours = move_colours(displacement, reach) * sure + np.array(_PAPER) * (1 - sure)
    return enlarge(colours.round().astype(np.uint8), side)


def arrows(
    frames: Frames, displacement: Float[np.ndarray, "t h w 2"], confidence: Float[np.ndarray, "t h w"]
) -> Frames:
    """Draws each cell's displacement into the frames, from its centre, the fainter the less sure it is.

    Args:
      displacement: in cells, (x, y).
      confidence: 0..1.
    """
    frames = shown_frames(frames, len(displacement))
    rows, columns = displacement.shape[1:3]
    scale = np.array([frames.shape[2] / columns, frames.shape[1] / rows])
    out = []
    for frame, moved, sure in zip(frames, displacement, np.clip(confidence, 0, 1), strict=True):
        picture = Image.fromarray(frame)
        draw = ImageDraw.Draw(picture, "RGBA")
        for row, column in zip(*np.nonzero(np.hypot(moved[..., 0], moved[..., 1]) >= LEAST_ARROW), strict=True):
            start = (np.array([column, row]) + 0.5) * scale
            _arrow(draw, start, start + moved[row, column] * scale, round(255 * float(sure[row, column])))
        out.append(np.asarray(picture))
    return np.stack(out)


def _arrow(draw: ImageDraw.ImageDraw, start: np.ndarray, end: np.ndarray, alpha: int) -> None:
    along = (end - start) / max(float(np.hypot(*(end - start))), 1e-9)
    across, head = np.array([-along[1], along[0]]), 4.0
    draw.line([*start, *end], fill=(255, 235, 90, alpha), width=2)
    points = [end, end - head * along + head / 2 * across, end - head * along - head / 2 * across]
    draw.polygon([(float(x), float(y)) for x, y in points], fill=(255, 235, 90, alpha))


def outlined(frames: Frames, place: tuple[int, int], grid: tuple[int, int]) -> Frames:
    """Frames with a frame around one cell.

    Args:
      place: row and column of the cell.
      grid: how many rows and columns of cells there are.
    """
    ends = [
        (side * at // count, side * (at + 1) // count)
        for side, at, count in zip(frames.shape[1:3], place, grid, strict=True)
    ]
    (top, bottom), (left, right) = ends
    marked = frames.copy()
    marked[:, top:bottom, left:right] = _MARK
    inside = slice(None), slice(top + 2, bottom - 2), slice(left + 2, right - 2)
    marked[inside] = frames[inside]
    return marked


def matrices(
    values: Float[np.ndarray, "n q k"], names: Sequence[str], *, rows: str, columns: str, width: int = 260
) -> Picture:
    """Matrices as coloured cells with one scale; where a value is negative, blue is below zero and red above.

    Args:
      values: finite.
      names: what to write above each.
      rows, columns: what they are; they are numbered from 0.
      width: of the cells of each matrix together, about, in pixels.
    """
    signed = bool((values < 0).any())
    top = float(np.abs(values).max()) or 1.0
    low = -top if signed else 0.0
    colours = signed_colours if signed else heat_colours
    cell = max(1, width // max(values.shape[1:]))
    tiles = [
        _tile(colours(one / top).repeat(cell, 0).repeat(cell, 1), cell, name, rows, columns)
        for name, one in zip(names, values, strict=True)
    ]
    height, across = tiles[0].shape[:2]
    picture = Image.new("RGB", (across * min(len(tiles), _ABREAST) + 70, max(height * -(-len(tiles) // _ABREAST), 130)))
    picture.paste(_PAPER, (0, 0, *picture.size))
    for number, tile in enumerate(tiles):
        picture.paste(Image.fromarray(tile), (number % _ABREAST * across, number // _ABREAST * height))
    left = picture.width - 60
    ramp = np.linspace(1, low / top, 90)
    picture.paste(Image.fromarray(colours(ramp)[:, None].repeat(10, 1)), (left, _ABOVE))
    for value, y, anchor in ((top, _ABOVE, "lt"), (low, _ABOVE + 90, "lb")):
        ImageDraw.Draw(picture).text((left + 14, y), f"{value:.2g}", fill=_FAINT, font=_font(), anchor=anchor)
    return np.asarray(picture)


def _tile(cells: Picture, cell: int, name: str, rows: str, columns: str) -> Picture:
    """The cells of one matrix with its name, and with what is along its sides."""
    height, across = cells.shape[:2]
    left, above = 34, _ABOVE
    picture = Image.new("RGB", (left + max(across, 40) + 10, above + max(height, 40) + 6), _PAPER)
    picture.paste(Image.fromarray(cells), (left, above))
    draw, font = ImageDraw.Draw(picture), _font()
    for place in _ticks(height // cell):
        draw.text((left - 5, above + (place + 0.5) * cell), str(place), fill=_FAINT, font=font, anchor="rm")
    for place in _ticks(across // cell):
        draw.text((left + (place + 0.5) * cell, above - 3), str(place), fill=_FAINT, font=font, anchor="mb")
    turned = Image.new("L", (max(height, 60), 16))
    ImageDraw.Draw(turned).text((turned.width / 2, 8), rows, fill=255, font=font, anchor="mm")
    picture.paste(_INK, (0, max(0, above + height // 2 - turned.width // 2)), turned.rotate(90, expand=True))
    draw.text((left, above - 18), name, fill=_INK, font=font, anchor="lb")
    draw.text((left + across, above - 18), columns, fill=_INK, font=font, anchor="rb")
    return np.asarray(picture)


def gauges(values: Float[np.ndarray, "n c"], names: Sequence[str], *, side: int = 128) -> Frames:
    """A bar for each row of values: their mean, as a number too, and a line from the 10th to the 90th of 100 of them.

    Args:
      values: finite; bars go from 0 to 1, or as far as the values do.
      names: what to write under each.
      side: of each picture, in pixels.
    """
    low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))
    top, bottom, middle = 18, side - 18, side // 2

    def height(value: float) -> float:
        """Where a value lies in the picture."""
        return bottom - (bottom - top) * (value - low) / (high - low)

    tiles = []
    for row, name in zip(values, names, strict=True):
        picture = Image.new("RGB", (side, side), _PAPER)
        draw, mean, (least, most) = ImageDraw.Draw(picture), float(row.mean()), np.quantile(row, (0.1, 0.9))
        draw.rectangle((middle - 20, top, middle + 20, bottom), fill=_TRACK)
        ends = sorted((height(mean), height(0)))
        draw.rectangle((middle - 20, ends[0], middle + 20, ends[1]), fill=_BAR)
        draw.line((middle, height(most), middle, height(least)), fill=_INK, width=2)
        draw.text((middle, 8), f"{mean:.2f}", fill=_INK, font=_font(), anchor="mm")
        draw.text((middle, side - 8), name, fill=_FAINT, font=_font(), anchor="mm")
        tiles.append(np.asarray(picture))
    return np.stack(tiles)


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=11)


def _ticks(count: int) -> range:
    return range(0, count, max(1, count // 8))
