"""One HTML file that holds all it shows: tables, pictures, charts, text. No script, nothing fetched."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Even a picture or chart made elsewhere cannot load anything or run anything on this page.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

STYLE = """
:root { color-scheme: light dark; --text: #22262d; --soft: #5d6470; --line: #e2e5ea; --page: #ffffff;
  --panel: #f6f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --text: #dfe2e7; --soft: #9aa1ad; --line: #31353d; --page: #17191d; --panel: #1f2227; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 56rem; margin: 0 auto; padding: clamp(1.25rem, 5vw, 3.5rem) clamp(1rem, 4vw, 2rem); }
header { margin-bottom: 2.5rem; }
h1 { font-size: clamp(1.6rem, 5vw, 2.1rem); line-height: 1.2; font-weight: 650; letter-spacing: -0.015em;
  margin: 0 0 0.4rem; }
h2 { font-size: 1.15rem; line-height: 1.3; font-weight: 620; margin: 0 0 0.75rem; }
section { margin: 0 0 2.75rem; }
p { margin: 0 0 0.8rem; max-width: 44rem; overflow-wrap: break-word; text-wrap: pretty; }
.soft { color: var(--soft); }
.note { color: var(--soft); font-size: 0.9rem; line-height: 1.5; margin: 0.6rem 0 0; }
.wide { overflow-x: auto; }
.wide > img, .wide > svg { display: block; height: auto; max-width: max(100%, 22rem); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; min-width: min(100%, 24rem); }
th, td { padding: 0.4rem 1.5rem 0.4rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; font-size: 0.9rem; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
td { min-width: 7.5rem; }
.number { text-align: right; white-space: nowrap; min-width: 0; }
.command { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 0 1.1rem; }
section:has(details) { margin: 0; }
details { border-top: 1px solid var(--line); padding: 0.8rem 0; }
summary { cursor: pointer; font-weight: 620; }
pre { background: var(--panel); border-radius: 6px; padding: 1rem; overflow-x: auto; margin: 0.9rem 0 0;
  font: 0.82rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media (max-width: 36rem) {
  th, td { padding-right: 0.7rem; }
  th { white-space: normal; }
  td { min-width: 0; overflow-wrap: anywhere; }
  td.number { overflow-wrap: normal; } }
@media print { section { break-inside: avoid; } }
"""

# A figure with an optional sign and unit ("82.3 %", "-1,155 B", "4.5 dB"), or the sign of a missing one.
NUMBER = re.compile(r"[-+\u2212\u00b1~]?\s?\d[\d,.]*(e[-+]?\d+)?\s?[%\w/]{0,6}|inf|nan|-|\u2013|")


class Page:
    """A report that is put together section by section and then written as one HTML file.

    All text is escaped; sections come out in the order in which they were added.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._sections: list[str] = []

    def add_table(
        self, title: str, header: Sequence[object], rows: Sequence[Sequence[object]], note: str | None = None
    ) -> None:
        """A table of str(cell); columns of figures are flush right. ValueError for a row of another width."""
        cells = [[str(cell) for cell in row] for row in rows]
        for i, row in enumerate(cells):
            if len(row) != len(header):
                raise ValueError(
                    f"row {i} of table {title!r} with {len(row)} cells; expected {len(header)} as above; "
                    "fill missing cells with '-'"
                )
        figures = [bool(cells) and all(NUMBER.fullmatch(row[i]) for row in cells) for i in range(len(header))]
        lines = [_table_row("th", [str(name) for name in header], figures)]
        lines += [_table_row("td", row, figures) for row in cells]
        self._add(title, f'<div class="wide"><table>{"".join(lines)}</table></div>', note)

    def add_picture(self, title: str, png_bytes: bytes, caption: str) -> None:
        """A PNG, stored inside the page; the caption is also what a screen reader says."""
        if not png_bytes.startswith(PNG_SIGNATURE):
            raise ValueError(
                f"picture {title!r} starting with {bytes(png_bytes[:8])!r}; expected PNG bytes; "
                "save the image as PNG first"
            )
        data = base64.b64encode(png_bytes).decode("ascii")
        image = f'<img src="data:image/png;base64,{data}" alt="{escape(caption)}">'
        self._add(title, f'<div class="wide">{image}</div>', caption)

    def add_chart(self, title: str, svg: str, caption: str) -> None:
        """An SVG, such as curves.line_chart makes; it becomes part of the page as it is."""
        if not svg.lstrip().startswith("<svg"):
            raise ValueError(f"chart {title!r} starting with {svg[:20]!r}; expected <svg ...>; use line_chart")
        self._add(title, f'<div class="wide">{svg}</div>', caption)

    def add_text(self, title: str, text: str) -> None:
        """Paragraphs, parted by empty lines."""
        paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
        self._add(title, "".join(f"<p>{escape(part)}</p>" for part in paragraphs), None)

    def add_commands(self, title: str, commands: Sequence[tuple[str, str]], note: str | None = None) -> None:
        """(what it does, command) each: a line of text and the command below it, wrapped where the screen ends."""
        parts = [f'<p>{escape(text)}</p><pre class="command">{escape(command)}</pre>' for text, command in commands]
        self._add(title, "".join(parts), note)

    def add_details(self, title: str, text: str) -> None:
        """Preformatted text (a config, versions), folded away until its title is pressed."""
        self._sections.append(
            f"<section><details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details></section>"
        )

    def html(self) -> str:
        """The whole page, to be written as UTF-8."""
        subtitle = f'<p class="soft">{escape(self.subtitle)}</p>' if self.subtitle else ""
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
            f"<header><h1>{escape(self.title)}</h1>{subtitle}</header>\n"
            + "\n".join(self._sections)
            + "\n</main>\n</body>\n</html>\n"
        )

    def _add(self, title: str, content: str, note: str | None) -> None:
        heading = f"<h2>{escape(title)}</h2>" if title else ""
        below = f'<p class="note">{escape(note)}</p>' if note else ""
        self._sections.append(f"<section>{heading}{content}{below}</section>")


def _table_row(tag: str, cells: Sequence[str], figures: Sequence[bool]) -> str:
    inner = "".join(
        f'<{tag} class="number">{escape(cell)}</{tag}>' if figure else f"<{tag}>{escape(cell)}</{tag}>"
        for cell, figure in zip(cells, figures, strict=True)
    )
    return f"<tr>{inner}</tr>"
