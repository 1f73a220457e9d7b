"""Pictures of results: a confusion matrix as PNG or CSV, a clip as an animated picture. numpy and Pillow."""

import csv
import io
import math
import unicodedata
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont

from vidrec.errors import UsageError

type Colour = tuple[int, int, int]
type Box = tuple[int, int, int, int]

DENSITY = 2  # pixels per point: pictures are drawn for screens of double density
NAME_POINTS = 150  # longer class names are clipped
MIN_NAMED_CELL = 10  # points; in smaller cells classes are numbered along the axes instead of named

# One hue from paper to ink, so that it reads the same with any colour vision and in print.
_RAMPS: dict[str, tuple[Colour, ...]] = {
    "light": ((240, 243, 247), (189, 214, 238), (108, 166, 217), (38, 108, 176), (10, 48, 101)),
    "dark": ((33, 40, 50), (26, 66, 110), (44, 113, 183), (118, 178, 232), (226, 241, 255)),
}
_PAPER: dict[str, Colour] = {"light": (255, 255, 255), "dark": (22, 27, 34)}
_INK: dict[str, Colour] = {"light": (31, 41, 51), "dark": (222, 228, 236)}
_FAINT_INK: dict[str, Colour] = {"light": (91, 100, 112), "dark": (154, 164, 178)}
_STRIP, _STRIP_INK, _STRIP_BAR = (22, 27, 34), (240, 243, 247), (86, 156, 226)


def confusion_png(
    matrix: Int[np.ndarray, "k k"],
    classes: Sequence[str],
    *,
    notes: Sequence[str] = (),
    theme: Literal["light", "dark"] = "light",
) -> bytes:
    """Draws a confusion matrix as a PNG of `DENSITY` pixels per point.

    Colour is the share of the row, so a row reads "of the clips of this class, which part was called what";
    any cell above zero is visibly tinted. Cells hold their counts where these fit, zeros stay empty, and the
    row of a class without clips is blank. Up to 56 classes are named; more carry class numbers (from 0).

    Args:
      matrix: number of clips by true class (rows) and predicted class (columns), `[K, K]`.
      classes: the K class names.
      notes: lines of text below, such as the classes most confused; clipped to the width.
      theme: `light` (dark ink on white) or `dark`.

    Raises:
      UsageError: the matrix is not square, has negative counts, or does not fit the class names.
    """
    matrix = _checked(matrix, classes)
    cell = min(44, max(2, 560 // len(classes))) * DENSITY
    rows, columns = _axis_labels(classes, cell)
    left = 32 * DENSITY + max(image.width for image in rows)
    top, side, scale_height = (
        10 * DENSITY,
        cell * len(classes),
        max(60, min(120, cell * len(classes) // DENSITY)),
    )
    below = max(image.height for image in columns) + 30 * DENSITY
    size = left + side + 66 * DENSITY, top + max(side + below, (scale_height + 30) * DENSITY)
    picture = Image.new("RGB", size, _PAPER[theme])
    cells = _cell_colours(matrix, theme)
    picture.paste(Image.fromarray(_grid(cells, cell, _PAPER[theme])), (left, top))
    _draw_axes(picture, rows, columns, (left, top, cell, side), theme)
    _draw_counts(picture, matrix, cells, (left, top, cell, side))
    scale = left + side + 16 * DENSITY, top, 10 * DENSITY, scale_height * DENSITY
    _draw_scale(picture, scale, theme)
    return _png(_with_notes(picture, notes, theme) if notes else picture)


def confusion_csv(matrix: Int[np.ndarray, "k k"], classes: Sequence[str]) -> str:
    """Writes the same matrix as comma-separated text: predicted classes in the header, then a row per true class.

    Names are quoted, counts are not. Raises UsageError as `confusion_png` does.
    """
    matrix = _checked(matrix, classes)
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(["true class", *classes])
    writer.writerows([name, *row] for name, row in zip(classes, matrix.tolist(), strict=True))
    return text.getvalue()


def animation(
    frames: UInt8[np.ndarray, "t h w 3"],
    *,
    fps: float,
    scale: int | None = None,
    format: Literal["webp", "gif", "png"] = "webp",
    caption: str = "",
    quality: int | None = None,
) -> bytes:
    """Makes an endless animated picture of RGB frames.

    `webp` (without a `quality`) and `png` keep every pixel; `gif` shares one palette of 256 colours between the
    frames. Times are rounded so that errors do not add up. Equal frames in a row are stored as one, shown for their
    whole time.

    Args:
      frames: uint8 `[T, H, W, 3]`.
      fps: frames per second.
      scale: factor by which pixels are repeated; None: the least that makes the longer side 128 or more.
      format: `webp`, `gif` or `png` (animated PNG).
      caption: one line under the picture, with a bar that shows the place in the clip; clipped to the width.
      quality: of webp, 0 to 100: smaller files whose pixels are nearly those of the frames.

    Raises:
      UsageError: no frames, another type or shape, a scale below 1, a rate the format cannot show, or a quality of
        another format than webp.
    """
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        got = f"{frames.dtype} {list(frames.shape)}"
        raise UsageError(f"an animation needs uint8 frames [T, H, W, 3], not {got}")
    fastest = 50 if format == "gif" else 1000  # players slow a GIF down that asks for less than 20 ms a frame
    if not 0 < fps <= fastest:
        raise UsageError(f"fps={fps}: {format} shows more than 0 and at most {fastest} frames a second")
    scale = max(1, math.ceil(128 / max(frames.shape[1:3]))) if scale is None else scale
    if scale < 1:
        raise UsageError(f"scale={scale}: pixels are repeated a whole number of times, at least once")
    if quality is not None and format != "webp":
        raise UsageError(f"quality={quality}: {format} has none, webp has")
    frames = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    if caption:
        frames = np.concatenate([frames, _caption_strips(frames.shape[0], frames.shape[2], caption)], axis=1)
    return _encode_animation(frames, fps, format, quality)


def _checked(matrix: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    matrix = np.asarray(matrix)
    if not classes or matrix.shape != (len(classes), len(classes)):
        raise UsageError(f"a confusion matrix of {len(classes)} classes is square, not {list(matrix.shape)}")
    if not np.issubdtype(matrix.dtype, np.integer) or matrix.min() < 0:
        raise UsageError("a confusion matrix holds whole, non-negative numbers of clips")
    return matrix


def _shade(share: np.ndarray, theme: str) -> np.ndarray:
    """Colours `[..., 3]` of shares in [0, 1]; anything above zero starts a visible step away from zero."""
    place = np.where(share > 0, 0.07 + 0.93 * share, 0)
    ramp = np.array(_RAMPS[theme], float)
    stops = np.linspace(0, 1, len(ramp))
    return np.stack([np.interp(place, stops, ramp[:, c]) for c in range(3)], -1).round().astype(np.uint8)


def _cell_colours(matrix: np.ndarray, theme: str) -> np.ndarray:
    total = matrix.sum(1, keepdims=True)
    colours = _shade(matrix / np.maximum(total, 1), theme)
    colours[total[:, 0] == 0] = _PAPER[theme]
    return colours


def _grid(colours: np.ndarray, cell: int, gap_colour: Colour) -> np.ndarray:
    pixels = colours.repeat(cell, axis=0).repeat(cell, axis=1)
    if cell >= MIN_NAMED_CELL * DENSITY:  # hairlines between cells that are large enough to spare them
        for edge in range(DENSITY // 2):
            pixels[edge::cell], pixels[:, edge::cell] = gap_colour, gap_colour
            pixels[cell - 1 - edge :: cell], pixels[:, cell - 1 - edge :: cell] = gap_colour, gap_colour
    return pixels


def _font(points: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=points * DENSITY)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


def _clip_text(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    text = _drawable(" ".join(text.split()), font)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _drawable(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Takes the accents off letters that the bundled font lacks; other scripts stay empty boxes."""
    box = _text_image("\U0010ffff", font).tobytes()
    letters = []
    for letter in text:
        plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
        absent = not letter.isascii() and _text_image(letter, font).tobytes() == box
        letters.append(plain if absent and plain else letter)
    return "".join(letters)


def _text_image(text: str, font: ImageFont.FreeTypeFont, angle: float = 0) -> Image.Image:
    """A mask of one line of text, turned counter-clockwise; its height does not depend on the letters."""
    ascent, descent = font.getmetrics()
    image = Image.new("L", (max(1, math.ceil(font.getlength(text))), ascent + descent))
    ImageDraw.Draw(image).text((0, 0), text, fill=255, font=font)
    return image.rotate(angle, resample=Image.Resampling.BICUBIC, expand=True) if angle else image


def _axis_labels(classes: Sequence[str], cell: int) -> tuple[list[Image.Image], list[Image.Image]]:
    """Masks of row labels and of column labels; columns are turned as far as the cell's width demands."""
    points = cell / DENSITY
    if points < MIN_NAMED_CELL:
        font, step = _font(10), next(n for n in (10, 20, 25, 50, 100, 200, 500) if n * points >= 40)
        numbers = [_text_image(str(i) if i % step == 0 else "", font) for i in range(len(classes))]
        return numbers, numbers
    font = _font(min(13.0, max(8.5, 0.8 * points)))
    names = [_clip_text(name, font, NAME_POINTS * DENSITY) for name in classes]
    widest = max(font.getlength(name) for name in names)
    angle = 0 if widest < cell - 4 * DENSITY else 45 if points >= 20 else 90
    return [_text_image(name, font) for name in names], [_text_image(name, font, angle) for name in names]


def _draw_axes(
    picture: Image.Image, rows: list[Image.Image], columns: list[Image.Image], place: Box, theme: str
) -> None:
    left, top, cell, side = place
    ink, faint = _INK[theme], _FAINT_INK[theme]
    slanted = any(image.height > rows[0].height and image.width > rows[0].height for image in columns)
    for i, (row, column) in enumerate(zip(rows, columns, strict=True)):
        middle = i * cell + cell // 2
        picture.paste(ink, (left - 6 * DENSITY - row.width, top + middle - row.height // 2), row)
        # A slanted name ends under the middle of its column; others are centred on it.
        offset = column.width - 5 * DENSITY if slanted else column.width // 2
        picture.paste(ink, (max(0, left + middle - offset), top + side + 5 * DENSITY), column)
    true, predicted = _text_image("true class", _font(12), 90), _text_image("predicted class", _font(12))
    bottom = picture.height - predicted.height - 2 * DENSITY
    picture.paste(faint, (0, max(0, top + side // 2 - true.height // 2)), true)
    picture.paste(faint, (max(0, left + side // 2 - predicted.width // 2), bottom), predicted)


def _draw_counts(picture: Image.Image, matrix: np.ndarray, cells: np.ndarray, place: Box) -> None:
    left, top, cell, _ = place
    sizes = [size for size in (14, 12, 10.5, 9, 8) if size <= 0.7 * cell / DENSITY]
    widest = str(matrix.max())
    size = next((s for s in sizes if _font(s).getlength(widest) <= cell - 5 * DENSITY), None)
    if size is None:
        return
    font, draw = _font(size), ImageDraw.Draw(picture)
    light = _luminance(cells) > 0.2
    for i, j in zip(*np.nonzero(matrix), strict=True):
        ink = (16, 24, 32) if light[i, j] else (255, 255, 255)
        centre = left + j * cell + cell / 2, top + i * cell + cell / 2
        draw.text(centre, str(matrix[i, j]), fill=ink, font=font, anchor="mm")


def _luminance(colours: UInt8[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n"]:
    """Relative luminance of sRGB colours (WCAG 2.2, definition of relative luminance)."""
    unit = colours / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def _draw_scale(picture: Image.Image, place: Box, theme: str) -> None:
    left, top, width, height = place
    ramp = _shade(np.linspace(1, 0, height), theme)
    picture.paste(Image.fromarray(ramp[:, None].repeat(width, axis=1)), (left, top))
    draw, font = ImageDraw.Draw(picture), _font(10)
    ink = _FAINT_INK[theme]
    x = left + width + 4 * DENSITY
    draw.text((x, top), "100 %", fill=ink, font=font, anchor="lt")
    draw.text((x, top + height), "0 %", fill=ink, font=font, anchor="lb")
    draw.text((left, top + height + 7 * DENSITY), "of the row", fill=ink, font=font, anchor="lt")


def _with_notes(picture: Image.Image, notes: Sequence[str], theme: str) -> Image.Image:
    """The picture with lines of text below it, wide enough for two long names."""
    font, margin = _font(11), 10 * DENSITY
    lines = [_drawable(" ".join(note.split()), font) for note in notes]
    longest = min(max(font.getlength(line) for line in lines), 4 * NAME_POINTS * DENSITY)
    width, height = max(picture.width, math.ceil(longest) + 2 * margin), sum(font.getmetrics()) + 2 * DENSITY
    taller = Image.new("RGB", (width, picture.height + height * len(lines) + 2 * margin), _PAPER[theme])
    taller.paste(picture, (0, 0))
    for number, line in enumerate(lines):
        text = _text_image(_clip_text(line, font, width - 2 * margin), font)
        taller.paste(_INK[theme], (margin, picture.height + margin + number * height), text)
    return taller


def _png(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    indexed = picture.quantize(256, dither=Image.Dither.NONE)  # a third of the size, for the edges of letters
    indexed.save(data, "PNG", optimize=True, dpi=(72 * DENSITY, 72 * DENSITY))
    return data.getvalue()


def _caption_strips(count: int, width: int, caption: str) -> UInt8[np.ndarray, "t h w 3"]:
    font = ImageFont.load_default(size=13)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    strip = Image.new("RGB", (width, 22), _STRIP)
    text = _clip_text(caption, font, width - 12)
    ImageDraw.Draw(strip).text((6, 13), text, fill=_STRIP_INK, font=font, anchor="lm")
    strips = np.asarray(strip)[None].repeat(count, axis=0)
    passed: Bool[np.ndarray, "t w"] = np.arange(width) < np.arange(1, count + 1)[:, None] * width / count
    strips[:, :2] = np.where(passed[:, None, :, None], _STRIP_BAR, _STRIP)
    return strips


def _encode_animation(frames: np.ndarray, fps: float, format: str, quality: int | None) -> bytes:
    unit = 10 if format == "gif" else 1  # milliseconds; GIF counts hundredths of a second
    ends = np.round(np.arange(len(frames) + 1) * (1000 / fps / unit)).astype(int) * unit
    if format == "gif":  # one palette for all frames: colours do not flicker
        tall = Image.fromarray(frames.reshape(-1, *frames.shape[2:])).quantize(256, dither=Image.Dither.NONE)
        height = frames.shape[1]
        images = [tall.crop((0, i * height, tall.width, (i + 1) * height)) for i in range(len(frames))]
    else:
        images = [Image.fromarray(frame) for frame in frames]
    webp = {"lossless": True, "quality": 60} if quality is None else {"quality": quality}
    options = {"webp": webp, "gif": {"disposal": 1}, "png": {}}[format]
    options |= {"save_all": True, "append_images": images[1:], "duration": np.diff(ends).tolist(), "loop": 0}
    data = io.BytesIO()
    images[0].save(data, format, **options)
    return data.getvalue()
