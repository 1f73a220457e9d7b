import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vidrec.inspect.charts import PALETTE, Axis, as_file, assign_slots, curves_svg, escape

SVG = "{http://www.w3.org/2000/svg}"
LABELS = {"title": "Loss", "x_label": "step", "y_label": "nats"}
numbers = st.floats(allow_nan=True, allow_infinity=True)
lines = st.lists(st.tuples(numbers, numbers), max_size=12)


def parse(svg: str) -> ET.Element:
    root = ET.fromstring(svg)
    assert root.tag == SVG + "svg"
    return root


def drawn(root: ET.Element) -> list[list[tuple[float, float]]]:
    """Per series line, its points in the order drawn."""
    paths = [g.find(SVG + "path") for g in root.findall(SVG + "g") if g.find(SVG + "title") is not None]
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML](\S+?) ([-\d.]+)", p.attrib["d"])] for p in paths]


def paths(root: ET.Element) -> list[str]:
    return [g.find(SVG + "path").attrib["d"] for g in root.findall(SVG + "g") if g.find(SVG + "title") is not None]


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(SVG + "text")]


@given(st.dictionaries(st.text(max_size=60), lines, max_size=9))
@example({})
@example({"none": []})
@example({"constant": [(0, 3.5), (1, 3.5)]})
@example({"one point": [(7, -2)]})
@example({"nothing finite": [(0, math.nan), (math.inf, 1)]})
@example({"widest": [(-1.7976931348623157e308, 1.7976931348623157e308), (1.7976931348623157e308, -1e308)]})
@example({"narrowest": [(5e-324, 1.0), (1e-323, 1.0000000000000002)]})
def test_every_point_lies_inside_the_view_box(series):
    root = parse(curves_svg(series, **LABELS))
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    finite = [[p for p in line if all(map(math.isfinite, p))] for line in series.values()]
    shown = drawn(root)
    assert [len(line) for line in shown] == [len(line) for line in finite if line]
    for x, y in [point for line in shown for point in line]:
        assert left <= x <= left + width
        assert top <= y <= top + height
    for text in root.iter(SVG + "text"):
        assert left <= float(text.attrib["x"]) <= left + width
        assert top <= float(text.attrib["y"]) <= top + height
    if "no values yet" not in series:  # which would name it in the legend
        assert ("no values yet" in texts(root)) == (not any(finite))


def test_points_stand_where_their_values_say():
    root = parse(curves_svg({"a": [(0, 0), (5, 0.25), (10, 1)]}, **LABELS, y_range=(0, 1)))
    (x0, y0), (x1, y1), (x2, y2) = drawn(root)[0]
    assert x1 - x0 == pytest.approx((x2 - x0) / 2, abs=0.1)
    assert y0 - y1 == pytest.approx((y0 - y2) / 4, abs=0.1)
    assert y2 < y0  # upwards is more


def test_a_value_that_is_not_finite_leaves_a_gap_and_a_lone_point_still_shows():
    values = [1.0, 2.0, math.nan, 4.0, math.inf, 5.0, 6.0]
    (path,) = paths(parse(curves_svg({"a": list(enumerate(values))}, **LABELS)))
    assert re.sub(r"[\d. ]", "", path) == "MhLMhMhL"


def test_legend_names_every_series_and_wraps_instead_of_leaving_the_picture():
    series = {f"network number {i} with a long name": [(0, i), (1, i)] for i in range(10)}
    root = parse(curves_svg(series, **LABELS))
    shown = [t for t in root.iter(SVG + "text") if (t.text or "").startswith("network number")]
    assert [t.text for t in shown] == list(series)
    assert len({t.attrib["y"] for t in shown}) > 1
    colours = [
        g.find(SVG + "path").attrib["stroke"] for g in root.findall(SVG + "g") if g.find(SVG + "title") is not None
    ]
    assert colours[:8] == list(PALETTE)
    dashed = [
        g.find(SVG + "path").get("stroke-dasharray")
        for g in root.findall(SVG + "g")
        if g.find(SVG + "title") is not None
    ]
    assert dashed[0] is None
    assert dashed[8] is not None  # the colours start again, the line is another


def test_a_name_keeps_its_colour_in_a_chart_without_the_others():
    slots = assign_slots(["tsn", "tsm", "tsn"])
    assert slots == {"tsn": 0, "tsm": 1}
    both = curves_svg({"tsn": [(0, 1)], "tsm": [(0, 1)]}, **LABELS, slots=slots)
    one = curves_svg({"tsm": [(0, 1)]}, **LABELS, slots=slots)
    assert PALETTE[1] in one
    assert PALETTE[0] not in one
    assert PALETTE[0] in both
    new = curves_svg({"new": [(0, 1)]}, **LABELS, slots=slots)
    assert PALETTE[2] in new


def test_range_and_levels_are_shown_even_where_no_point_is():
    root = parse(curves_svg({"a": [(0, 0.4)]}, **LABELS, y_range=(0, 1), levels={"chance": 1.4}))
    assert {"0.0", "1.0", "1.5", "chance"} <= set(texts(root))


def test_colours_follow_the_page_except_for_the_series():
    svg = curves_svg({"a": [(0, 1), (1, 2)]}, **LABELS)
    assert set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg)) == {"currentColor", "none", PALETTE[0]}


@pytest.mark.parametrize("page", [(255, 255, 255), (22, 27, 34)], ids=["light", "dark"])
def test_series_colours_stand_out_on_both_pages(page):
    def luminance(rgb):
        unit = np.array(rgb) / 255
        return np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    for colour in PALETTE:
        low, high = sorted([luminance(page), luminance([int(colour[i : i + 2], 16) for i in (1, 3, 5)])])
        assert (high + 0.05) / (low + 0.05) >= 3, colour  # WCAG 2.2, 1.4.11 non-text contrast


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.booleans())
def test_axis_holds_its_values_and_has_a_readable_number_of_distinct_ticks(values, whole_steps):
    axis = Axis.over(values, whole_steps=whole_steps)
    assert axis.low <= min(values)
    assert max(values) <= axis.high
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 9
    assert len({axis.name(tick) for tick in ticks}) == len(ticks)
    if whole_steps:
        assert axis.place(ticks[0]) == pytest.approx(0, abs=1e-6)
        assert axis.place(ticks[-1]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([0, 1], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0, 100], ["0", "20", "40", "60", "80", "100"]),
        ([0, 25_000], ["0", "5,000", "10,000", "15,000", "20,000", "25,000"]),
        ([-1.0, 1.0], ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
        ([0.5, 0.5], ["0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8"]),
        ([0, 2e-7], ["0", "5e-08", "1e-07", "1.5e-07", "2e-07"]),
        ([], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    ],
    ids=str,
)
def test_ticks_are_round_numbers(values, names):
    axis = Axis.over(values, whole_steps=True)
    assert [axis.name(tick) for tick in axis.ticks()] == names


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_becomes_valid_and_harmless_xml(text):
    root = ET.fromstring(f'<a b="{escape(text)}">{escape(text)}</a>'.encode())
    assert len(root) == 0
    if text.isprintable():
        assert root.text == (text or None)
        assert root.attrib["b"] == text


def test_logarithmic_axes_show_whole_decades():
    """Steps of ten are as long as each other; what has no logarithm leaves a gap."""
    root = parse(curves_svg({"a": [(1, 20), (10, 200), (0, 5), (100, 2000)]}, **LABELS, log=True, y_range=(1, 10)))
    ((first, second, last),) = drawn(root)
    assert second[0] - first[0] == pytest.approx(last[0] - second[0], abs=0.2)
    assert first[1] - second[1] == pytest.approx(second[1] - last[1], abs=0.2)
    assert {"1", "10", "100", "1,000", "10,000"} <= {*texts(root)}
    assert paths(root)[0].count("M") == 2


def test_a_file_has_colours_of_its_own():
    """Where nothing around it gives a colour, and for pages of both kinds; else it is the same chart."""
    chart = curves_svg({"<b>": [(0, 1)]}, **LABELS)
    root = parse(as_file(chart))
    style = root.find(SVG + "style")
    assert style.text.count("color:#") == 2
    assert "prefers-color-scheme:dark" in style.text
    root.remove(style)
    assert ET.tostring(root) == ET.tostring(parse(chart))
