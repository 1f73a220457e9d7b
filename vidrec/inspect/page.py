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
from vidrec.inspect.render import DENSITY, confusion_png


@dataclass(frozen=True)
class Column:
    """A column of the result table.

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
    """The result table: one row per network, its name in the first cell; None or NaN shows as a dash."""

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
    """The confusion matrix `[K, K]` of one network (rows: true class), and a sentence under it."""

    network: str
    matrix: Int[np.ndarray, "k k"]
    classes: Sequence[str]
    caption: str = ""


@dataclass(frozen=True)
class Prediction:
    """What one network says about a clip: a class, and its score in [0, 1]."""

    network: str
    predicted: str
    score: float


@dataclass(frozen=True)
class ClipCard:
    """A clip in the gallery.

    Attributes:
      picture: animated WebP, GIF or PNG, as from `render.animation` (scale 1 is enough: the page enlarges it).
      true_class: its class.
      predictions: by network, in the order of the table.
      note: a few words about the clip.
    """

    picture: bytes
    true_class: str
    predictions: Sequence[Prediction]
    note: str = ""


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
    clips: Sequence[ClipCard] = (),
    cards: Table | None = None,
    footer: Footer | None = None,
) -> str:
    """Puts the report together. A part that is empty is left out; a network looks the same in every part.

    Args:
      title: of the document.
      intro: the finding in one sentence, shown as the headline.
      table, curves, confusions, clips, cards, footer: the parts, top to bottom; `cards` has a column for each run.

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
        _section("Clips", _HOLD + _grid("clips", [_clip(clip) for clip in clips])) if clips else "",
        _section("Runs", _table("Runs", cards, slots)) if cards else "",
        _footer(footer) if footer else "",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
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
    caption = f"<p>{escape(confusion.caption)}</p>" if confusion.caption else ""
    return (
        f'<figure class="card"><h3>{_swatch(confusion.network, slots)}</h3><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{_data(dark)}">'
        f'<img src="{_data(light)}" width="{width}" height="{height}" alt="{escape(_in_words(confusion))}">'
        f"</picture><figcaption>{caption}</figcaption></figure>"
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


def _clip(clip: ClipCard) -> str:
    picture = Image.open(io.BytesIO(clip.picture))
    size, words = f'width="{picture.width}" height="{picture.height}"', escape(clip.true_class)
    note = f'<p class="note">{escape(clip.note)}</p>' if clip.note else ""
    verdicts = "".join(_verdict(prediction, clip.true_class) for prediction in clip.predictions)
    return (
        '<article class="card clip"><div class="pictures">'
        f'<img class="still" src="{_data(_still(picture))}" {size} alt="Four frames of a clip of {words}">'
        f'<img class="moving" src="{_data(clip.picture)}" {size} alt="Clip of {words}" loading="lazy"></div>'
        f"<div><h3>{escape(clip.true_class)}</h3>{note}</div><ul>{verdicts}</ul></article>"
    )


def _verdict(prediction: Prediction, true_class: str) -> str:
    kind, mark = ("right", "✓") if prediction.predicted == true_class else ("wrong", "✗")
    return (
        f'<li class="{kind}"><span class="verdict">{mark} {kind}</span> <span class="network">'
        f"{escape(prediction.network)}</span> <span>{escape(prediction.predicted)}</span> "
        f'<span class="score">{prediction.score:.0%}</span></li>'
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

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1f2933; --faint: #5b6470; --line: #dfe3e8;
  --bar: #2b7bd4; --track: #e6eaef; --right: #0b6b53; --right-bg: #e1f3ed; --wrong: #a33b06; --wrong-bg: #fdebdf; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0e1217; --card: #161b22; --ink: #dee4ec; --faint: #9aa4b2; --line: #2a323c;
    --bar: #4a94e6; --track: #2a323c; --right: #63d3b0; --right-bg: #12332b; --wrong: #ffa873; --wrong-bg: #3d2415; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 40px 24px 64px; max-width: 1128px; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0; font-size: 15px; font-weight: 600; color: var(--faint); }
.finding { margin: 8px 0 0; max-width: 34em; font-size: clamp(21px, 3.2vw, 29px); line-height: 1.28; font-weight: 600;
  letter-spacing: -.012em; text-wrap: balance; }
h2 { margin: 48px 0 14px; font-size: 19px; }
h3 { margin: 0; font-size: 16px; overflow-wrap: anywhere; }
figure, figcaption p, ul, dl, dd { margin: 0; padding: 0; }
img { display: block; max-width: 100%; }
.card, .wide { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.card { padding: 18px; min-width: 0; }
.card > svg { display: block; width: 100%; max-width: 560px; height: auto; }
.wide { overflow-x: auto; padding: 4px 18px; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
.caption { margin: 12px 2px 0; max-width: 60em; font-size: 14px; color: var(--faint); }
th, td { padding: 11px 0 11px 28px; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
th:first-child { padding-left: 0; }
td { min-width: 11em; }
thead th { border: 0; font-size: 14px; font-weight: 600; color: var(--faint); vertical-align: bottom; }
th small { display: block; font-size: 13px; font-weight: 400; }
tbody th { font-weight: 600; white-space: nowrap; }
td.number { min-width: 0; }
.number { text-align: right; white-space: nowrap; }
.bar { display: block; position: relative; min-width: 88px; height: 5px; margin-top: 5px; border-radius: 3px;
  background: var(--track); }
.bar b { display: block; height: 100%; border-radius: 3px; background: var(--bar); }
.bar i { position: absolute; top: -3px; width: 2px; height: 11px; background: var(--ink); }
.swatch { width: 13px; height: 13px; margin-right: 8px; vertical-align: -1px; }
.charts, .matrices, .clips { display: grid; gap: 18px; }
.charts, .matrices { grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); }
.charts > :only-child, .matrices > :only-child { max-width: 680px; }
.clips { grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); }
.matrices picture { display: block; margin: 12px 0 0; }
.matrices img { height: auto; }
figcaption { color: var(--faint); font-size: 14px; }
figcaption p { margin-top: 12px; }
.clip { display: grid; grid-template-columns: 128px minmax(0, 1fr); gap: 14px; align-content: start; }
.clip img { width: 128px; height: auto; border-radius: 6px; image-rendering: pixelated; }
.still, section:has(.hold :checked) .moving { display: none; }
section:has(.hold :checked) .still { display: block; }
.hold { display: inline-block; margin-bottom: 12px; font-size: 14px; color: var(--faint); }
@media (prefers-reduced-motion: reduce) { .still { display: block; } .moving, .hold { display: none; } }
.note { margin: 2px 0 0; overflow-wrap: anywhere; font-size: 14px; color: var(--faint); }
.clip ul { grid-column: 1 / -1; display: grid; column-gap: 10px;
  grid-template-columns: auto fit-content(38%) minmax(0, 1fr) auto; list-style: none; font-size: 14px; }
.clip li { grid-column: 1 / -1; display: grid; grid-template-columns: subgrid; padding: 7px 0; align-items: baseline;
  border-top: 1px solid var(--line); overflow-wrap: anywhere; }
.clip li:last-child { padding-bottom: 0; }
.verdict { justify-self: start; padding: 1px 7px; border-radius: 5px; font-size: 13px; font-weight: 600;
  white-space: nowrap; }
.right .verdict { color: var(--right); background: var(--right-bg); }
.wrong .verdict { color: var(--wrong); background: var(--wrong-bg); }
.network { color: var(--faint); }
.score { font-variant-numeric: tabular-nums; }
footer { margin-top: 56px; padding-top: 24px; border-top: 1px solid var(--line); font-size: 14px; color: var(--faint); }
footer h2 { margin-top: 0; font-size: 16px; color: var(--ink); }
footer p { max-width: 46em; }
pre { margin: 0 0 14px; padding: 12px 16px; overflow-x: auto; border-radius: 8px; background: var(--card);
  border: 1px solid var(--line); color: var(--ink); font: 13px/1.5 ui-monospace, Consolas, monospace; }
dl { display: flex; flex-wrap: wrap; gap: 2px 22px; }
dl div { display: flex; gap: 6px; }
dd { color: var(--ink); }
@media (max-width: 600px) {
  thead { position: absolute; clip-path: inset(50%); height: 1px; overflow: hidden; }
  table, tbody, tr, tbody th, td { display: block; }
  tbody th { padding: 12px 0 2px; }
  td { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 16px; padding: 3px 0; border: 0; }
  td::before { content: attr(data-title); color: var(--faint); }
  td.number { text-align: left; white-space: normal; }
  td.number::before { flex: 1 1 0; }
  tr:first-child th { border: 0; }
  .bar { flex-basis: 100%; margin: 2px 0 6px; }
  tr:last-child td:last-child { padding-bottom: 12px; } }
@media (max-width: 520px) { body { padding: 24px 14px 48px; } .card { padding: 14px; } .wide { padding: 4px 14px; } }
@media print { .card, .wide { break-inside: avoid; } }
"""
