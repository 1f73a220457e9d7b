"""Line charts as SVG text. They take the colour of the text around them and so read on light and on dark pages."""

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

type Point = tuple[float, float]

# Each at least 3:1 against white and against a dark page. The first two differ for any colour vision; from the
# third on, the end markers tell apart what colour alone may not.
PALETTE = ("#2b7bd4", "#d9601a", "#0b9797", "#c12d84", "#a87a14", "#7a7f8c", "#7c5fe0", "#d6384f")
WIDTH = 420  # of a chart in user units, in which text is 12 high
_PLOT_HEIGHT = 190
_GLYPH = 6.8  # a generous mean width of a letter
_FAINT = 'fill="currentColor" fill-opacity=".7"'
_MARKERS = (
    '<circle r="4"/>',
    '<rect x="-3.6" y="-3.6" width="7.2" height="7.2"/>',
    '<path d="M0-4.8 4.5 3.6H-4.5Z"/>',
    '<path d="M0-5 5 0 0 5-5 0Z"/>',
)


@dataclass(frozen=True)
class Axis:
    """A linear axis: its ends and its ticks, which are multiples of `step`."""

    low: float
    high: float
    step: float

    @classmethod
    def over(cls, values: Iterable[float], *, whole_steps: bool) -> Self:
        """Spans finite `values` (0 to 1 if there are none), with about five round steps.

        With `whole_steps` the ends are ticks. A single value gets room on both sides.
        """
        values = list(values) or [0.0, 1.0]
        low, high = min(values), max(values)
        size = max(abs(low), abs(high))
        if high / 2 - low / 2 <= 1e-9 * max(size, 1e-290):  # halves, because the difference may overflow
            room = size / 2 if size > 1e-290 else 0.5
            low, high = max(low - room, 0.0) if low >= 0 else _finite(low - room), _finite(high + room)
        rough = (high / 2 - low / 2) / 2.5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10, 20) if m * power >= rough * 0.999)
        if whole_steps:
            low, high = (_finite(f(v / step) * step) for f, v in ((math.floor, low), (math.ceil, high)))
        return cls(low, high, step)

    def place(self, value: float) -> float:
        """Where `value` lies between the ends, from 0 to 1."""
        part = (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return min(1.0, max(0.0, part))

    def ticks(self) -> list[float]:
        """The multiples of `step` from end to end."""
        slack = 1e-6
        first, last = math.ceil(self.low / self.step - slack), math.floor(self.high / self.step + slack)
        return [i * self.step for i in range(first, last + 1)]

    def name(self, tick: float) -> str:
        """A tick's text, with the digits that tell it from its neighbours."""
        size = max(abs(self.low), abs(self.high))
        if self.step >= 1e-4 and size < 1e8:
            return f"{tick:,.{max(0, -math.floor(math.log10(self.step) + 1e-9))}f}"
        return f"{tick:.{min(17, max(1, math.ceil(math.log10(size / self.step))) + 1)}g}"


@dataclass(frozen=True)
class Decades(Axis):
    """A logarithmic axis, in exponents of ten: from one power of ten to another, with ticks at powers of ten."""

    @classmethod
    def over(cls, values: Iterable[float], *, whole_steps: bool) -> Self:
        """Spans finite exponents (0 to 1 if there are none), always by whole decades."""
        values = list(values) or [0.0, 1.0]
        low, high = math.floor(min(values)), math.ceil(max(values))
        return cls(low, max(high, low + 1), max(1, (high - low) // 6))

    def name(self, tick: float) -> str:
        """The power of ten, in figures."""
        return f"{10.0**tick:,g}"


@dataclass(frozen=True)
class _Frame:
    """The rectangle that is drawn in, and the axes along it."""

    left: float
    top: float
    width: float
    x: Axis
    y: Axis

    def at(self, x: float, y: float) -> Point:
        """Where a point lies in the picture."""
        return self.left + self.width * self.x.place(x), self.top + _PLOT_HEIGHT * (1 - self.y.place(y))


def curves_svg(
    series: Mapping[str, Sequence[Point]],
    *,
    title: str,
    y_label: str,
    x_label: str,
    y_range: Point | None = None,
    levels: Mapping[str, float] | None = None,
    slots: Mapping[str, int] | None = None,
    log: bool = False,
) -> str:
    """Draws lines over common axes, with a legend that repeats each line's colour and end marker.

    Args:
      series: points (x, y) by name, joined in the order given; a point that is not finite leaves a gap.
      title, y_label, x_label: texts.
      y_range: values that the vertical axis shows at least, such as (0, 1).
      levels: named horizontal lines, such as {"chance": 0.5}.
      slots: the colour and marker of a name, as from `assign_slots`, so that it looks the same in every chart.
      log: both axes are logarithmic; a point that is not positive leaves a gap, and levels and `y_range` are positive.

    Returns:
      An SVG document that refers to nothing outside.
    """
    levels, slots, axis = levels or {}, assign_slots([*(slots or {}), *series]), Axis
    if log:
        axis, y_range = Decades, y_range and (_exponent(y_range[0]), _exponent(y_range[1]))
        levels = {name: _exponent(value) for name, value in levels.items()}
        series = {name: [(_exponent(x), _exponent(y)) for x, y in line] for name, line in series.items()}
    points = [point for line in series.values() for point in line if _drawn(point)]
    legend, top = _legend(series, slots)
    x = axis.over((x for x, _ in points), whole_steps=False)
    y = axis.over([y for _, y in points] + [*levels.values(), *(y_range or ())], whole_steps=True)
    left = 10 + _GLYPH * max(len(y.name(tick)) for tick in y.ticks())
    frame = _Frame(left, top + 26, WIDTH - left - 8 - _GLYPH / 2 * len(x.name(x.high)), x, y)
    body = [
        _text(0, 14, title, 'fill="currentColor" font-size="14" font-weight="600"'),
        legend,
        _text(0, top + 10, y_label, _FAINT),
        _axes(frame, x_label),
        *(_level(frame, name, value) for name, value in levels.items()),
        *(_line(frame, name, line, slots[name]) for name, line in series.items()),
    ]
    if not points:
        middle = left + frame.width / 2, frame.top + _PLOT_HEIGHT / 2
        body.append(_text(*middle, "no values yet", f'{_FAINT} text-anchor="middle"'))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {_round(frame.top + _PLOT_HEIGHT + 42)}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="12">'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )


def as_file(svg: str) -> str:
    """A chart with colours of its own, for a file: dark on white, or light on dark on pages that are dark."""
    light, dark = "svg{color:#1f2933;background:#fff}", "svg{color:#dee4ec;background:#161b22}"
    return svg.replace(">", f"><style>{light}@media (prefers-color-scheme:dark){{{dark}}}</style>", 1)


def assign_slots(names: Iterable[str]) -> dict[str, int]:
    """Numbers the distinct names from 0 in the order of their first appearance."""
    return {name: slot for slot, name in enumerate(dict.fromkeys(names))}


def marker(slot: int) -> str:
    """The filled end marker of a slot, around the origin and 10 units high, as an SVG fragment."""
    return f'<g fill="{PALETTE[slot % len(PALETTE)]}">{_MARKERS[slot % len(_MARKERS)]}</g>'


def escape(text: object) -> str:
    """Text for HTML and XML, in an element or in quotes; characters that XML cannot hold become U+FFFD."""
    allowed = re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", str(text))
    return html.escape(allowed)


def _drawn(point: Point) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _exponent(value: float) -> float:
    return math.log10(value) if value > 0 else math.nan


def _finite(value: float) -> float:
    limit = 1.7e308
    return min(limit, max(-limit, value))


def _round(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _text(x: float, y: float, text: str, attributes: str) -> str:
    return f'<text x="{_round(x)}" y="{_round(y)}" {attributes}>{escape(text)}</text>'


def _dash(slot: int) -> str:
    return ' stroke-dasharray="6 4"' if slot // len(PALETTE) % 2 else ""  # colours are used up: the second round


def _legend(names: Iterable[str], slots: Mapping[str, int]) -> tuple[str, float]:
    """Returns the legend and the y at which it ends; entries flow into as many lines as they need."""
    x, y, entries = 0.0, 38.0, []
    for name in names:
        short = name if len(name) <= 48 else name[:47] + "…"
        width = 26 + _GLYPH * sum(1 if ord(letter) < 0x1100 else 2 for letter in short)
        if x and x + width > WIDTH:
            x, y = 0.0, y + 19
        colour = PALETTE[slots[name] % len(PALETTE)]
        entries.append(
            f'<g transform="translate({_round(x + 9)} {_round(y - 4)})">'
            f'<path d="M-9 0H9" stroke="{colour}" stroke-width="2"{_dash(slots[name])}/>{marker(slots[name])}</g>'
            + _text(x + 24, y, short, 'fill="currentColor"')
        )
        x += width + 10
    return "".join(entries), y + 12 if entries else 22


def _axes(frame: _Frame, x_label: str) -> str:
    right, bottom = frame.left + frame.width, frame.top + _PLOT_HEIGHT
    parts = []
    for tick in frame.y.ticks():
        y = frame.at(frame.x.low, tick)[1]
        parts.append(f'<path d="M{_round(frame.left)} {_round(y)}H{_round(right)}" stroke="currentColor" ')
        parts.append('stroke-opacity=".13"/>')
        parts.append(_text(frame.left - 7, y + 4, frame.y.name(tick), f'{_FAINT} text-anchor="end"'))
    ticks = frame.x.ticks()
    widest = _GLYPH * max(len(frame.x.name(tick)) for tick in ticks) + 10
    for tick in ticks[:: 1 + int(widest * len(ticks) / frame.width)]:
        x = frame.at(tick, frame.y.low)[0]
        parts.append(f'<path d="M{_round(x)} {_round(bottom)}v5" stroke="currentColor" stroke-opacity=".4"/>')
        parts.append(_text(x, bottom + 18, frame.x.name(tick), f'{_FAINT} text-anchor="middle"'))
    parts.append(f'<path d="M{_round(frame.left)} {_round(bottom)}H{_round(right)}" stroke="currentColor" ')
    parts.append('stroke-opacity=".4"/>')
    parts.append(_text(right, bottom + 35, x_label, f'{_FAINT} text-anchor="end"'))
    return "".join(parts)


def _level(frame: _Frame, name: str, value: float) -> str:
    right, y = frame.left + frame.width, frame.at(frame.x.low, value)[1]
    label = _text(right, y - 5, name, f'{_FAINT} text-anchor="end"')
    path = f'<path d="M{_round(frame.left)} {_round(y)}H{_round(right)}" stroke="currentColor" '
    return f'{path}stroke-opacity=".55" stroke-dasharray="2 4"/>{label}'


def _line(frame: _Frame, name: str, line: Sequence[Point], slot: int) -> str:
    path, pen, last = [], "M", None
    for point in line:
        if not _drawn(point):
            pen = "M"
            continue
        last = x, y = frame.at(*point)
        # "h0": a point between two gaps still shows, as the round end of a line without length
        path.append(f"{pen}{_round(x)} {_round(y)}" + ("h0" if pen == "M" else ""))
        pen = "L"
    if last is None:
        return ""
    colour = PALETTE[slot % len(PALETTE)]
    return (
        f'<g><title>{escape(name)}</title><path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="2" '
        f'stroke-linecap="round" stroke-linejoin="round"{_dash(slot)}/>'
        f'<g transform="translate({_round(last[0])} {_round(last[1])})">{marker(slot)}</g></g>'
    )
