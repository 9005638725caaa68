"""The HTML page: complete, escaped, closed to the outside."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from seit_ray.report.curves import line_chart
from seit_ray.report.page import Page
from seit_ray.report.pictures import contact_sheet

VOID = {"meta", "img", "br"}


class Outline(HTMLParser):
    """Tags with their attributes, text by tag, and whether every element was closed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.text.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def texts(self, tag):
        return [text for name, text in self.text if name == tag]


PNG = contact_sheet([np.zeros((2, 3, 8, 8), np.uint8)], ["x"])


def full_page():
    page = Page("Quickstart", "10,000 images")
    page.add_table("Result", ["measure", "value"], [("top-1", "83.1 %"), ("PSNR", "24 dB")], note="held out")
    page.add_picture("Tokens", PNG, "originals above")
    page.add_chart("Training", line_chart({"loss": ([0, 1], [1, 0])}, "Loss", "epoch", "nats"), "falls")
    page.add_text("Reading", "first\nparagraph\n\n\nsecond")
    page.add_details("Config", "seed: 0\nname: x")
    return page


def test_every_section_is_there_in_order_and_well_nested():
    outline = Outline(full_page().html())
    assert outline.open == []
    assert outline.texts("h1") == ["Quickstart"]
    assert outline.texts("h2") == ["Result", "Tokens", "Training", "Reading"]
    assert outline.texts("td") == ["top-1", "83.1 %", "PSNR", "24 dB"]
    assert outline.texts("p") == [
        "10,000 images",
        "held out",
        "originals above",
        "falls",
        "first\nparagraph",
        "second",
    ]
    assert outline.texts("summary") == ["Config"]
    assert outline.texts("pre") == ["seed: 0\nname: x"]
    assert "open" not in outline.all("details")[0]


def test_the_picture_is_inside_the_page():
    (image,) = Outline(full_page().html()).all("img")
    head, data = image["src"].split(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data) == PNG
    assert image["alt"] == "originals above"


def test_nothing_is_fetched_or_run():
    html = full_page().html()
    tags = {tag for tag, _ in Outline(html).tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert set(re.findall(r"https?://[^\s\"'<>]+", html)) <= {"http://www.w3.org/2000/svg"}  # a name, not fetched
    assert "url(" not in html
    assert "@import" not in html
    assert any("default-src 'none'" in meta.get("content", "") for meta in Outline(html).all("meta"))


def test_light_dark_and_phones_are_served():
    html = full_page().html()
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    style = html.split("<style>")[1].split("</style>")[0]
    used, defined = set(re.findall(r"var\((--\w+)\)", style)), set(re.findall(r"(--\w+):", style))
    assert used == defined


def test_all_text_is_escaped():
    hostile = "<script>alert(1)</script>&\"'"
    page = Page(hostile, hostile)
    page.add_table(hostile, [hostile], [(hostile,)], note=hostile)
    page.add_picture(hostile, PNG, hostile)
    page.add_text(hostile, hostile)
    page.add_details(hostile, hostile)
    outline = Outline(page.html())
    assert outline.all("script") == []
    assert outline.open == []
    assert outline.texts("h1") == [hostile]
    assert outline.texts("td") == [hostile]
    assert outline.texts("pre") == [hostile]
    assert outline.all("img")[0]["alt"] == hostile


def test_columns_of_figures_are_flush_right():
    page = Page("t")
    rows = [
        ("tokens", "1,155", "12.2 %", "per image"),
        ("source", "-3.5e-07", "-", "8 bits"),
        (3, 4, 5.5, ""),
    ]
    page.add_table("", ["what", "bytes", "share", "note"], rows)
    classes = [attrs.get("class") for attrs in Outline(page.html()).all("td")]
    assert classes == [None, "number", "number", None] * 3


def test_an_empty_table_still_shows_its_header():
    page = Page("t")
    page.add_table("Rejected", ["key", "reason"], [])
    assert Outline(page.html()).texts("th") == ["key", "reason"]


def test_what_is_no_table_picture_or_chart_is_refused():
    page = Page("t")
    with pytest.raises(ValueError, match="row 1 of table 'x' with 1 cells; expected 2"):
        page.add_table("x", ["a", "b"], [(1, 2), (1,)])
    with pytest.raises(ValueError, match="expected PNG bytes"):
        page.add_picture("x", b"\xff\xd8\xff", "a JPEG")
    with pytest.raises(ValueError, match="expected <svg"):
        page.add_chart("x", "<script>", "no chart")
    assert "<section>" not in page.html()
