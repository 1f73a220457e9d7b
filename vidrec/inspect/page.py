"""A report of trained networks as one HTML file that refers to nothing outside itself."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int
from PIL import Image, ImageSequence

from vidrec.inspect.charts import Point, assign_slots, curves_svg, escape, marker
from vidrec.inspect.page_style import STYLE
from vidrec.inspect.render import DENSITY, confusion_png


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
      title: its heading.
      format: how numbers are written, as for `format()`: ".1%", ",d", ".2f".
      bar: draw numbers, which then are shares in [0, 1], as bars too.
      level: a share marked on those bars, such as the accuracy of chance.
    """

    title: str
    format: str = ""
    bar: bool = False
    level: float | None = None


@dataclass(frozen=True)
class Table:
    """A table: what a row is about, such as a network or a class, in its first cell; None or NaN shows as a dash."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str | float | None]]
    caption: str = ""


@dataclass(frozen=True)
class Curves:
    """A chart of training curves, one line per network; see `charts.curves_svg` for the fields."""

    title: str
    series: Mapping[str, Sequence[Point]]
    x_label: str = "step"
    y_label: str = ""
    y_range: Point | None = None
    levels: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix `[K, K]` of one network (rows: true class), and lines under it, such as what is confused."""

    network: str
    matrix: Int[np.ndarray, "k k"]
    classes: Sequence[str]
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class Prediction:
    """What one network says of a clip.

    Attributes:
      network: its name.
      predicted: a class.
      score: of that class, in [0, 1].
      picture: the clip as the network sees it, animated WebP, GIF or PNG, as from `render.animation`.
    """

    network: str
    predicted: str
    score: float
    picture: bytes


@dataclass(frozen=True)
class ClipCard:
    """A clip: its true class, what networks say of it in the order of the table, and a few words about it."""

    true_class: str
    predictions: Sequence[Prediction]
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Clips, and a sentence above them: which they are, and what is drawn over them."""

    clips: Sequence[ClipCard]
    about: str = ""


@dataclass(frozen=True)
class Footer:
    """How the report was made: the command, the versions of what it ran on, and remarks of one paragraph each."""

    command: str
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def report_page(
    *,
    title: str,
    intro: str,
    table: Table | None = None,
    curves: Sequence[Curves] = (),
    confusions: Sequence[Confusion] = (),
    classes: Table | None = None,
    gallery: Gallery | None = None,
    cards: Table | None = None,
    footer: Footer | None = None,
) -> str:
    """Puts the report together. A part that is empty is left out; a network looks the same in every part.

    Args:
      title: of the document.
      intro: the finding in one sentence, shown as the headline.
      table, curves, confusions, classes, gallery, cards, footer: the parts, top to bottom; `classes` has a row for each
        class, `cards` a column for each run.

    Returns:
      An HTML document with pictures inside; its policy forbids the browser every request.

    Raises:
      UsageError: a confusion matrix that does not fit its classes.
    """
    names = [str(row[0]) for row in table.rows if row] if table else []
    slots = assign_slots([*names, *(name for chart in curves for name in chart.series)])
    parts = [
        _section("Results", _table("Results", table, slots)) if table else "",
        _section("Training", _grid("charts", [_chart(chart, slots) for chart in curves])),
        _section("What is taken for what", _grid("matrices", [_confusion(each, slots) for each in confusions])),
        _section("Each class", _folded(classes, _table("Each class", classes, slots))) if classes else "",
        _section("Clips", _gallery(gallery)) if gallery and gallery.clips else "",
        _section("Runs", _table("Runs", cards, slots)) if cards else "",
        _footer(footer) if footer else "",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header>\n<h1>{escape(title)}</h1>\n<p class="finding">{escape(intro)}</p>\n</header>\n'
        f"<main>\n{''.join(parts[:-1])}</main>\n{parts[-1]}</body>\n</html>\n"
    )


def _section(heading: str, content: str) -> str:
    return f"<section>\n<h2>{heading}</h2>\n{content}\n</section>\n" if content else ""


def _grid(name: str, items: Sequence[str]) -> str:
    return f'<div class="{name}">\n' + "\n".join(items) + "\n</div>" if items else ""


def _table(label: str, table: Table, slots: Mapping[str, int]) -> str:
    head = "".join(_heading(column) for column in table.columns)
    rows = []
    for row in table.rows:
        cells = [_cell(value, column) for value, column in zip(row[1:], table.columns[1:], strict=True)]
        rows.append(f'<tr><th scope="row">{_swatch(str(row[0]), slots)}</th>{"".join(cells)}</tr>')
    caption = f'<p class="caption">{escape(table.caption)}</p>' if table.caption else ""
    return (
        f'<div class="wide" role="region" aria-label="{label}" tabindex="0">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{caption}"
    )


def _folded(table: Table, content: str) -> str:
    """A long table, to be opened by who wants it."""
    if len(table.rows) <= _LONG:
        return content
    return f"<details><summary>{len(table.rows)} rows</summary>{content}</details>"


def _heading(column: Column) -> str:
    kind = ' class="number"' if column.format else ""
    return f'<th scope="col"{kind}>{escape(column.title)}<small>{_level(column)}</small></th>'


def _level(column: Column) -> str:
    return "" if column.level is None else f"chance {escape(format(column.level, column.format))}"


def _cell(value: str | float | None, column: Column) -> str:
    kind = ' class="number"' if column.format else ""
    heading = ", ".join(filter(None, [escape(column.title), _level(column)]))
    kind += f' data-title="{heading}"'  # stands beside the value where narrow screens stack the cells
    if value is None or (not isinstance(value, str) and not math.isfinite(value)):
        return f"<td{kind}>&ndash;</td>"
    if isinstance(value, str):
        return f"<td{kind}>{escape(value)}</td>"
    text = escape(format(value, column.format))
    if not column.bar:
        return f"<td{kind}>{text}</td>"
    level = f'<i style="left:{_percent(column.level)}"></i>' if column.level is not None else ""
    bar = f'<span class="bar" aria-hidden="true"><b style="width:{_percent(value)}"></b>{level}</span>'
    return f"<td{kind}>{text}{bar}</td>"


def _percent(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.1f}%"


def _swatch(name: str, slots: Mapping[str, int]) -> str:
    if name not in slots:
        return escape(name)
    return f'<svg class="swatch" viewBox="-6 -6 12 12" aria-hidden="true">{marker(slots[name])}</svg>{escape(name)}'


def _chart(chart: Curves, slots: Mapping[str, int]) -> str:
    svg = curves_svg(
        chart.series,
        title=chart.title,
        x_label=chart.x_label,
        y_label=chart.y_label,
        y_range=chart.y_range,
        levels=chart.levels,
        slots=slots,
    )
    inline = svg.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)  # HTML knows the name; no address on the page
    return f'<figure class="card">{inline}</figure>'


def _confusion(confusion: Confusion, slots: Mapping[str, int]) -> str:
    light, dark = (confusion_png(confusion.matrix, confusion.classes, theme=t) for t in ("light", "dark"))
    width, height = (side // DENSITY for side in Image.open(io.BytesIO(light)).size)
    lines = "".join(f"<li>{escape(line)}</li>" for line in confusion.lines)
    return (
        f'<figure class="card"><h3>{_swatch(confusion.network, slots)}</h3><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{_data(dark)}">'
        f'<img src="{_data(light)}" width="{width}" height="{height}" alt="{escape(_in_words(confusion))}">'
        f"</picture><figcaption>{f'<ul>{lines}</ul>' if lines else ''}</figcaption></figure>"
    )


def _in_words(confusion: Confusion) -> str:
    """What a reader who does not see the matrix should know of it."""
    matrix, classes = np.asarray(confusion.matrix), confusion.classes
    right, total = int(np.trace(matrix)), int(matrix.sum())
    words = f"Confusion matrix of {confusion.network}: {right} of {total} clips on the diagonal"
    wrong = matrix - np.diag(np.diag(matrix))
    true, predicted = divmod(int(wrong.argmax()), len(classes))
    if wrong.max():
        words += f"; most often {classes[true]} is taken for {classes[predicted]} ({wrong.max()} clips)"
    return words + "."


def _gallery(gallery: Gallery) -> str:
    about = f'<p class="caption">{escape(gallery.about)}</p>\n' if gallery.about else ""
    return about + _HOLD + _grid("clips", [_clip(clip) for clip in gallery.clips])


def _clip(clip: ClipCard) -> str:
    note = f'<p class="note">{escape(clip.note)}</p>' if clip.note else ""
    seen = "".join(_seen(prediction, clip.true_class) for prediction in clip.predictions)
    return f'<article class="card clip"><h3>{escape(clip.true_class)}</h3>{note}<ul>{seen}</ul></article>'


def _seen(prediction: Prediction, true_class: str) -> str:
    """The clip as one network sees it, and what it says."""
    kind, mark = ("right", "✓") if prediction.predicted == true_class else ("wrong", "✗")
    picture, network = Image.open(io.BytesIO(prediction.picture)), escape(prediction.network)
    size, words = f'width="{picture.width}" height="{picture.height}"', f"{escape(true_class)} as {network} sees it"
    return (
        f'<li class="{kind}">'
        f'<img class="still" src="{_data(_still(picture))}" {size} alt="Four frames of a clip of {words}">'
        f'<img class="moving" src="{_data(prediction.picture)}" {size} alt="Clip of {words}" loading="lazy">'
        f'<span class="network">{network}</span> <span class="verdict">{mark} {kind}</span> '
        f'<span>{escape(prediction.predicted)}</span> <span class="score">{prediction.score:.0%}</span></li>'
    )


def _still(picture: Image.Image) -> bytes:
    """Four frames from first to last as a 2 x 2 picture of the same size, for who holds the clips."""
    frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(picture)]
    width, height = picture.size
    sheet = Image.new("RGB", (2 * width, 2 * height))
    for i, at in enumerate(np.linspace(0, len(frames) - 1, 4).round().astype(int)):
        sheet.paste(frames[at], (i % 2 * width, i // 2 * height))
    data = io.BytesIO()
    sheet.save(data, "WEBP", quality=85)
    return data.getvalue()


def _data(picture: bytes) -> str:
    kind = Image.open(io.BytesIO(picture)).get_format_mimetype()
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


def _footer(footer: Footer) -> str:
    versions = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in footer.versions.items())
    notes = "".join(f"<p>{escape(note)}</p>\n" for note in footer.notes)
    return (
        f"<footer>\n<h2>How this was made</h2>\n<pre><code>{escape(footer.command)}</code></pre>\n{notes}"
        + (f"<dl>{versions}</dl>\n" if versions else "")
        + "</footer>\n"
    )


_HOLD = '<label class="hold"><input type="checkbox"> Hold the clips: four frames of each</label>\n'

_LONG = 12  # rows; longer tables are folded

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
