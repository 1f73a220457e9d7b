"""Pictures of the papers' folders: what the seeds of each row came to, curves, and what trained networks look at."""

import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from experiments.claims import MOST_SEEDS, Verdict, values
from experiments.grid import Scale, Study, measured_by, point, trained
from experiments.results import Results
from vidrec.eval.predict import Recognizer, load
from vidrec.files import atomic_write
from vidrec.inspect.charts import PALETTE, Axis, as_file, curves_svg, escape
from vidrec.inspect.looking import maps_of
from vidrec.inspect.panels import Panel, panels, sheet
from vidrec.inspect.render import confusion_png
from vidrec.inspect.results import evaluate_recognizer

MARGIN, PLOT, LINE = 200, 330, 19  # least width of the names, width of the plot, height of a line, in user units
LETTER = 7.2  # width of one in a name, with room for wide ones
COLOURS = {"holds": PALETTE[0], "reversed": PALETTE[1], "first ahead": PALETTE[0], "second ahead": PALETTE[1]}
GREY = PALETTE[5]
TO_THE_RIGHT = "videos-{size}/test/move_right/0000.mp4"  # a disk that moves so, which most looks are at


class Look(NamedTuple):
    """A picture of trained networks.

    Attributes:
      file: its name, .png.
      study: whose rows are shown.
      rows: of which the first seed is shown; "confusion" is of one.
      what: as of `vidrec inspect --what`, or "confusion".
      video: that they are shown, below the folder of videos and runs; {size} stands for the size of the videos.
    """

    file: str
    study: str
    rows: tuple[str, ...]
    what: str
    video: str = ""


class Mark(NamedTuple):
    """One line of a picture.

    Attributes:
      name: at the left.
      centre: a mean.
      spread: half of the interval around it; 0: none is drawn.
      points: that it is the mean of.
      colour: of all.
      note: at the right.
    """

    name: str
    centre: float
    spread: float = 0.0
    points: tuple[float, ...] = ()
    colour: str = PALETTE[0]
    note: str = ""


def draw(
    studies: Mapping[str, Study], looks: Sequence[Look], scale: Scale, results: Results, out: Path, folder: Path
) -> None:
    """Draws rows.svg, a curve of each study that has one, and the looks, into a folder.

    Networks that a look is at are trained where that was not done.
    """
    for file, picture in drawings(studies, scale, results).items():
        write(folder / file, picture)
    for look in looks:
        study = studies[look.study]
        points = {row: point(study, study.rows[row], scale, 0) for row in look.rows}
        runs = {row: trained(study, one, scale, out) for row, one in points.items()}
        write(folder / look.file, look_png(look, runs, out / look.video.replace("{size}", str(scale.size))))


def drawings(studies: Mapping[str, Study], scale: Scale, results: Results) -> dict[str, str]:
    """File name -> picture of what the results say."""
    charts: dict[str, dict[str, list[Mark]]] = defaultdict(dict)
    for study in studies.values():
        marks = row_marks(values(study, scale, results))
        for name, row in study.rows_at(scale).items():
            if name in marks:
                charts[f"{measured_by(study, scale, row)}, %"].setdefault(study.title, []).append(marks[name])
    drawn = {"rows.svg": marks_svg(charts, title="Each row and its seeds")}
    for name, study in studies.items():
        if study.curve and any(curves(study, scale, results).values()):
            drawn[f"{name}.svg"] = curve_svg(study, scale, results)
    return drawn


def write(path: Path, picture: str | bytes) -> None:
    """By rename; SVG as a file of its own."""
    with atomic_write(path) as file:
        file.write(as_file(picture).encode() if isinstance(picture, str) else picture)


def row_marks(found: Mapping[str, Mapping[int, float]]) -> dict[str, Mark]:
    """A mark of each row that has results."""
    measured = {name: tuple(seeds.values()) for name, seeds in found.items() if seeds}
    return {
        name: Mark(name, float(np.mean(each)), points=each, note=f"{np.mean(each):.1f}")
        for name, each in measured.items()
    }


def claim_mark(one: Verdict) -> Mark:
    """The difference of a claim's rows with its interval, coloured by what became of it."""
    return Mark(one.name_and_measure, one.difference, one.spread, colour=COLOURS.get(one.word, GREY), note=one.word)


def marks_svg(charts: Mapping[str, Mapping[str, Sequence[Mark]]], *, title: str, level: float | None = None) -> str:
    """Draws marks below each other, of each chart on an axis of its own.

    Args:
      charts: label of the axis -> heading -> its marks; what has none is left out.
      title: text.
      level: where a vertical line stands.
    """
    shown = {label: {of: marks for of, marks in groups.items() if marks} for label, groups in charts.items()}
    names = [mark.name for groups in shown.values() for marks in groups.values() for mark in marks]
    left = max([MARGIN, *(12 + LETTER * len(name) for name in names)])
    y, body = 30.0, []
    for label, groups in shown.items():
        if groups:
            drawn, y = _chart(label, groups, left, y, level)
            body += drawn
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + PLOT + 110:.0f} {y:.0f}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12"><title>{escape(title)}</title>'
        f'<text y="16" fill="currentColor" font-size="14" font-weight="600">{escape(title)}</text>'
        f"{''.join(body)}</svg>"
    )


def _chart(
    label: str, groups: Mapping[str, Sequence[Mark]], left: float, y: float, level: float | None
) -> tuple[list[str], float]:
    """The elements of one axis and its marks, which begin at a height; and where they end."""
    ends = [end for marks in groups.values() for mark in marks for end in _ends(mark)]
    axis = Axis.over([*ends, *([] if level is None else [level])], whole_steps=True)
    top, lines, body = y + 4, [], []
    for heading, marks in groups.items():
        y += LINE + 4
        body.append(f'<text y="{y}" fill="currentColor" font-weight="600">{escape(heading)}</text>')
        for mark in marks:
            y += LINE
            lines.append(_mark(mark, y, left, lambda value: left + PLOT * axis.place(value)))
    bottom = y + 10
    for tick in axis.ticks():
        x, strong = left + PLOT * axis.place(tick), ".55" if tick == level else ".13"
        body.append(
            f'<path d="M{x:.1f} {top}V{bottom}" stroke="currentColor" stroke-opacity="{strong}"/>'
            f'<text x="{x:.1f}" y="{bottom + 16}" fill="currentColor" fill-opacity=".7" text-anchor="middle">'
            f"{escape(axis.name(tick))}</text>"
        )
    body.append(
        f'<text x="{left + PLOT:.1f}" y="{bottom + 34}" fill="currentColor" fill-opacity=".7" text-anchor="end">'
        f"{escape(label)}</text>"
    )
    return body + lines, bottom + 42


def _ends(mark: Mark) -> tuple[float, ...]:
    return (mark.centre - mark.spread, mark.centre + mark.spread, *mark.points)


def _mark(mark: Mark, y: float, left: float, place: Callable[[float], float]) -> str:
    middle, x = y - 4, place(mark.centre)
    low, high = place(mark.centre - mark.spread), place(mark.centre + mark.spread)
    dots = "".join(f'<circle cx="{place(one):.1f}" cy="{middle}" r="4" fill-opacity=".45"/>' for one in mark.points)
    centre = f'<path d="M{x - 1.2:.1f} {middle - 7}h2.4v14h-2.4Z"/>' if mark.points else ""
    interval = (
        f'<path d="M{low:.1f} {middle - 1}H{high:.1f}v2H{low:.1f}Z"/><circle cx="{x:.1f}" cy="{middle}" r="4.5"/>'
    )
    return (
        f'<text x="{left - 12:.1f}" y="{y}" fill="currentColor" text-anchor="end">{escape(mark.name)}</text>'
        f'<g fill="{mark.colour}">{dots}{centre or interval}</g>'
        f'<text x="{left + PLOT + 12:.1f}" y="{y}" fill="currentColor" fill-opacity=".7">{escape(mark.note)}</text>'
    )


def curve_svg(study: Study, scale: Scale, results: Results) -> str:
    """The curves of a study."""
    shown = curves(study, scale, results)
    return curves_svg(shown, title=study.title, y_label="top-1", x_label=study.along, y_range=(0, 1))


def curves(study: Study, scale: Scale, results: Results) -> dict[str, list[tuple[float, float]]]:
    """Of each row the measures that are its curve, means over the seeds; one with a measure of its own has none."""
    found = {}
    for name, row in study.rows_at(scale).items():
        if row.measure:
            continue
        one, line = point(study, row, scale, 0), defaultdict(list)
        for seed in range(MOST_SEEDS):
            for measure, value in (results.measures(one._replace(seed=seed).key) or {}).items():
                if measure.startswith(f"{study.curve} "):
                    line[float(measure.removeprefix(study.curve))].append(value)
        found[name] = [(x, float(np.mean(each))) for x, each in sorted(line.items())]
    return found


def look_png(look: Look, runs: Mapping[str, Path], video: Path) -> bytes:
    """A look at runs, by the rows that they are of."""
    networks = {row: load(run) for row, run in runs.items()}
    if look.what == "confusion":
        (recognizer,) = networks.values()
        return confusion_png(evaluate_recognizer(recognizer, recognizer.config).confusion(), recognizer.classes)
    titles = {row: row if len(networks) > 1 else "" for row in networks}
    shown = [panel for row, one in networks.items() for panel in seen(one, video, look.what, titles[row])]
    picture = io.BytesIO()
    Image.fromarray(sheet(shown)).save(picture, "PNG", optimize=True)
    return picture.getvalue()


def seen(recognizer: Recognizer, video: Path, what: str, title: str) -> list[Panel]:
    """What a network looks at in a video."""
    frames = recognizer.clip(video)
    return panels(maps_of(recognizer, frames[None], what), frames, title=title)
