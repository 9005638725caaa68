"""The table that ends a command."""

from seit_ray.report.terminal import table


def test_columns_are_aligned_under_an_underlined_title():
    text = table([("images", "10,000"), ("bytes an image", "511 -> 62")], "quickstart")
    assert text.splitlines() == [
        "quickstart",
        "-------------------------",
        "images          10,000",
        "bytes an image  511 -> 62",
    ]


def test_only_ascii_on_one_line_a_row_and_no_trailing_blanks():
    text = table([("folder", "/data/\u00e9t\u00e9"), ("two\nlines", "a\tb"), ("empty", "")], "caf\u00e9")
    assert text.isascii()
    assert text.splitlines()[2:] == ["folder     /data/\\xe9t\\xe9", "two lines  a b", "empty"]
    assert all(line == line.rstrip() for line in text.splitlines())


def test_without_rows_the_title_remains():
    assert table([], "nothing").splitlines() == ["nothing", "-------"]
