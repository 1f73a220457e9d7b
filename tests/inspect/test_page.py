import base64
import html.parser
import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vidrec.inspect.charts import PALETTE
from vidrec.inspect.page import (
    ClipCard,
    Column,
    Confusion,
    Curves,
    Footer,
    Gallery,
    Prediction,
    Table,
    report_page,
)
from vidrec.inspect.render import animation

VOID = {"meta", "link", "img", "source", "br", "input"}


class Document(html.parser.HTMLParser):
    """Checks nesting; keeps elements as (tag, attributes) and the text inside each tag name."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append((self.open[-1], data))

    @property
    def text(self) -> str:
        return " ".join(" ".join(data for _, data in self.texts).split())

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def clip(seed: int = 0, frames: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (frames, 8, 10, 3), dtype=np.uint8)


MOVING = animation(clip(), fps=8, scale=1)


def report(evil: str = "left") -> str:
    matrix, classes = np.array([[7, 3], [1, 9]]), [evil, "right"]
    return report_page(
        title=f"report {evil}",
        intro=f"the finding {evil}",
        table=Table(
            [
                Column("network"),
                Column(f"how {evil}"),
                Column("accuracy", ".1%", bar=True, level=0.5),
                Column("steps", ",d"),
            ],
            [
                ["tsn", evil, 0.5, 1200],
                [f"tsm {evil}", "shifts", np.float32(0.975), None],
                ["new", "", float("nan"), 5],
            ],
            caption=f"caption {evil}",
        ),
        curves=[Curves(f"loss {evil}", {"tsn": [(0, 2.0), (9, 1.0)], f"tsm {evil}": [(0, 2.0)]}, levels={evil: 1.5})],
        confusions=[Confusion("tsn", matrix, classes, [f"guesses {evil}"]), Confusion(f"tsm {evil}", matrix, classes)],
        gallery=Gallery(
            [
                ClipCard(
                    evil,
                    [Prediction("tsn", "right", 0.51, MOVING), Prediction(f"tsm {evil}", evil, 0.98, MOVING)],
                    note=f"note {evil}",
                )
            ],
            f"chosen {evil}",
        ),
        footer=Footer(f"vidrec demo {evil}", {"jax": "0.12", evil: evil}, [f"remark {evil}"]),
    )


def test_every_part_is_there():
    document = Document(report())
    headings = [text for tag, text in document.texts if tag == "h2"]
    assert headings == ["Results", "Training", "What is taken for what", "Clips", "How this was made"]
    assert [text for tag, text in document.texts if tag == "title"] == ["report left", "loss left", "tsn", "tsm left"]
    for text in (
        "the finding left",
        "caption left",
        "loss left",
        "guesses left",
        "remark left",
        "chosen left",
        "vidrec demo left",
    ):
        assert text in document.text
    assert len(document.all("svg")) == 1 + 3 + 2  # chart, and swatches in table and over matrices
    assert ("h1", "report left") in document.texts


def test_numbers_are_formatted_and_what_is_missing_is_a_dash():
    document = Document(report())
    cells = [text.strip() for tag, text in document.texts if tag == "td"]
    assert [c for c in cells if c] == ["left", "50.0%", "1,200", "shifts", "97.5%", "\u2013", "\u2013", "5"]
    assert [b["style"] for b in document.all("b")] == ["width:50.0%", "width:97.5%"]
    assert [i["style"] for i in document.all("i")] == ["left:50.0%"] * 2
    assert "chance 50.0%" in document.text


def test_verdicts_are_told_in_words_and_by_class():
    document = Document(report())
    assert [li["class"] for li in document.all("li") if li] == ["wrong", "right"]
    assert "tsn ✗ wrong right 51%" in document.text
    assert "tsm left ✓ right left 98%" in document.text


def test_a_network_has_one_colour_throughout():
    document = report()
    rows = re.findall(r'<tr><th scope="row">.*?</tr>', document)
    charts = re.findall(r"<g><title>(.*?)</title><path [^>]*stroke=\"(.*?)\"", document)
    assert [PALETTE[0] in rows[0], PALETTE[1] in rows[1]] == [True, True]
    assert charts == [("tsn", PALETTE[0]), ("tsm left", PALETTE[1])]
    swatches = re.findall(r'<h3><svg class="swatch".*?fill="(.*?)"', document)
    assert swatches == [PALETTE[0], PALETTE[1]]


def test_nothing_is_fetched_from_outside():
    page = report()
    assert not re.search(r"https?:|//\w|@import|url\(", re.sub(r"base64,[\w+/=]+", "", page).replace("<!doctype", ""))
    document = Document(page)
    for tag, attributes in document.elements:
        assert tag not in ("script", "iframe", "object", "embed")
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    policy = next(m["content"] for m in document.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_pictures_are_the_ones_given_with_words_for_those_who_do_not_see_them():
    document = Document(report())
    for attributes in [*document.all("img"), *document.all("source")]:
        kind, data = re.fullmatch(
            r"data:(image/\w+);base64,(.*)", attributes.get("src") or attributes["srcset"]
        ).groups()
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert picture.get_format_mimetype() == kind
        picture.load()
    *matrices, _, _, _, animated = document.all("img")
    assert base64.b64decode(animated["src"].split(",")[1]) == MOVING
    assert (animated["width"], animated["height"]) == ("10", "8")
    assert animated["alt"] == "Clip of left as tsm left sees it"
    assert matrices[0]["alt"] == (
        "Confusion matrix of tsn: 16 of 20 clips on the diagonal; most often left is taken for right (3 clips)."
    )
    media = [source["media"] for source in document.all("source")]
    assert media == ["(prefers-color-scheme: dark)"] * 2


def test_a_reader_who_wants_no_motion_sees_the_order_of_the_frames():
    shades = [0, 0, 80, 80, 160, 160, 240, 240]
    frames = np.stack([np.full((16, 16, 3), shade, np.uint8) for shade in shades])
    card = ClipCard("brighten", [Prediction("tsn", "brighten", 0.9, animation(frames, fps=8, scale=1))])
    page = report_page(title="t", intro="i", gallery=Gallery([card]))
    source = next(image for image in Document(page).all("img") if image["class"] == "still")["src"]
    still = Image.open(io.BytesIO(base64.b64decode(source.split(",")[1])))
    assert getattr(still, "n_frames", 1) == 1
    assert still.size == (32, 32)
    quarters = [int(np.asarray(still.convert("L"))[y, x]) for y, x in ((8, 8), (8, 24), (24, 8), (24, 24))]
    np.testing.assert_allclose(quarters, [0, 80, 160, 240], atol=6)


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", "\"onload='x'", "</style></svg>&amp;<!--"])
def test_names_are_text_and_never_markup(evil):
    page = report(evil)
    document, harmless = Document(page), Document(report("left"))
    assert [tag for tag, _ in document.elements] == [tag for tag, _ in harmless.elements]
    assert [sorted(a) for _, a in document.elements] == [sorted(a) for _, a in harmless.elements]
    assert " ".join(evil.split()) in document.text
    assert evil not in page.replace("alert(1)", "")


@settings(max_examples=25)
@given(st.text(st.characters(exclude_categories=[]), max_size=20))
def test_any_text_gives_a_page_that_can_be_written(evil):
    page = report_page(
        title=evil,
        intro=evil,
        curves=[Curves(evil, {evil: [(0, 1)]})],
        confusions=[Confusion(evil, np.eye(2, dtype=int), [evil, evil], [evil])],
        footer=Footer(evil, {evil: evil}),
    )
    Document(page.encode().decode())


def test_parts_that_are_empty_are_left_out():
    document = Document(report_page(title="t", intro="i"))
    assert not document.all("h2")
    assert not document.all("footer")
    assert not document.all("section")
    bare = Document(report_page(title="t", intro="i", table=Table([Column("network")], [])))
    assert len(bare.all("table")) == 1


def test_runs_have_a_column_each():
    cards = Table([Column(""), Column("a"), Column("b <i>")], [["optim.lr", "0.1", "0.2"], ["seed", "0", None]])
    document = Document(report_page(title="t", intro="i", cards=cards))
    assert "Runs a b <i> optim.lr 0.1 0.2 seed 0 " in document.text
    assert document.all("div")[0]["aria-label"] == "Runs"


def test_long_tables_are_folded():
    columns = [Column("class"), Column("a", ".1%", bar=True)]
    short, long = (Table(columns, [[f"class {k}", 0.5] for k in range(count)]) for count in (12, 13))
    assert not Document(report_page(title="t", intro="i", classes=short)).all("details")
    folded = Document(report_page(title="t", intro="i", classes=long))
    assert ("summary", "13 rows") in folded.texts
    assert "Each class 13 rows class a class 0 50.0%" in folded.text


def test_styles_answer_to_dark_mode_narrow_screens_and_print():
    page = report()
    for query in ("prefers-color-scheme: dark", "max-width: 600px", "print"):
        assert f"@media ({query})" in page or f"@media {query}" in page
    used = set(re.findall(r"var\((--[\w-]+)\)", page))
    light, dark = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    assert used <= set(re.findall(r"(--[\w-]+):", light))
    assert set(re.findall(r"(--[\w-]+):", dark)) == set(re.findall(r"(--[\w-]+):", light))
