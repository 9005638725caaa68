"""The page as a reader sees it: on a phone and on a desk, in light and dark. Skipped where no browser is found."""

import numpy as np
import pytest

from seit_ray.report.curves import line_chart
from seit_ray.report.heat import confusion_chart
from seit_ray.report.page import Page
from seit_ray.report.pictures import contact_sheet
from tests.report.browser import overflows, screenshot

WIDTHS = (400, 1400)


def long_page():
    """Every kind of section, with words that are long."""
    rng = np.random.default_rng(0)
    page = Page("What tokens are worth", "seit_ray quickstart on /a/folder/with_a_very_long_name/" + "photos" * 20)
    rows = [("all images, as tokens, transformer", "267 kB", "8,000", "85.1%"), ("fewer", "4.06 MB", "12,345", "-")]
    page.add_table("The same bytes, the same classifier", ("stored to train on", "bytes", "images", "top-1"), rows, "x")
    page.add_table("Classes", ("class", "top-1"), [("a_class_whose_name_does_not_end_" * 2, "1.0%")])
    pictures = rng.integers(0, 255, (8, 3, 28, 28)).astype(np.uint8)
    page.add_picture("What tokens keep", contact_sheet([pictures, pictures], ["original", "decoded"]), "held out")
    series = {f"all images, at 6x6 pixels of {i} bits": ([i], [0.7 + i / 50]) for i in range(7)}
    page.add_chart("Bytes", line_chart(series, "Higher is better, further left is cheaper", "kB", "top-1"), "points")
    counts = rng.integers(0, 900, (12, 12))
    page.add_chart("Mistakes", confusion_chart(counts, ["Ankle boot, brown"] * 12, "c"), "rows are true")
    page.add_commands(
        "Next", [("Step by step:", "seit-ray tokenize_images images=/data/" + "long" * 30 + " \\\n  output=a")]
    )
    page.add_text("Reading", "first\n\nhttps://example.org/" + "path/" * 40)
    page.add_details("Settings", "key: value " * 60)
    return page.html()


def test_nothing_sticks_out_of_the_screen(tmp_path):
    wrong = overflows(long_page(), tmp_path, WIDTHS)
    assert wrong == {width: [] for width in WIDTHS}


def test_what_sticks_out_is_found(tmp_path):
    page = Page("Too wide")
    page.add_table("", ["a"], [("x",)])
    broken = page.html().replace("<table>", '<div style="width: 700px">y</div><table style="width: 800px">')
    broken = broken.replace('class="wide"', "")
    wrong = overflows(broken, tmp_path, WIDTHS)
    assert wrong[1400] == []
    assert any("sticks out DIV: y" in line for line in wrong[400])
    assert any("scrolls TABLE" in line for line in wrong[400])


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_text_is_told_from_the_page(tmp_path, width, dark):
    pixels = screenshot(long_page(), tmp_path, width, dark=dark).astype(int).mean(2)
    assert pixels.shape[1] == width
    page = np.median(pixels)
    assert (page < 60) if dark else (page > 240)
    heading = pixels[:160]
    strongest = heading.max() if dark else heading.min()
    assert abs(strongest - page) > 150
    # margins are free, and the text is in the middle of a wide screen
    columns = np.flatnonzero((abs(pixels - page) > 60).any(0))
    assert columns.min() >= 10
    assert columns.max() <= width - 8
