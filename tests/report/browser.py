"""A page in a real browser, where one is found: what sticks out at a width, and screenshots."""

from __future__ import annotations

import html
import io
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell", "headless_shell")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
    "--no-first-run",
)
# Each frame is a screen of its width; what lies in a box that scrolls may be wider than it.
MEASURE = """
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, wide = page.documentElement.clientWidth, out = [];
    const name = e => e.tagName + ": " + e.textContent.trim().slice(0, 40);
    const scrolls = e => e && (getComputedStyle(e).overflowX === "auto" || scrolls(e.parentElement));
    for (const e of page.body.querySelectorAll("*")) {
      const box = e.getBoundingClientRect();
      if (box.width && (box.right > wide + 1 || box.left < -1) && !scrolls(e)) out.push("sticks out " + name(e));
      const frame = e.ownerSVGElement && e.ownerSVGElement.getBoundingClientRect();
      if (frame && (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 ||
          box.bottom > frame.bottom + 1)) out.push("cut off " + name(e));
      if (e.tagName === "TABLE" && box.width > e.parentElement.clientWidth + 1) out.push("scrolls " + name(e));
    }
    return {asked: frame.width, width: wide, content: page.documentElement.scrollWidth, out};
  });
  document.body.insertAdjacentText("beforeend", "FOUND" + JSON.stringify(found) + "END");
});
"""


def browser():
    """The command of a browser; the test is skipped where there is none."""
    found = os.environ.get("SEIT_RAY_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} on the path; name one in SEIT_RAY_BROWSER")
    return found


def run(folder, *flags):
    """What the browser printed; its profile lies in the folder."""
    command = [browser(), *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def overflows(page, folder, widths):
    """{width: what sticks out of the screen, is cut off by its chart, or is a table that has to be scrolled}."""
    page = re.sub(r"<meta http-equiv[^>]*>", "", page)  # its policy would not let it be measured
    frames = "".join(f'<iframe width="{w}" height="900" srcdoc="{html.escape(page)}"></iframe>' for w in widths)
    file = folder / "frames.html"
    file.write_text(f"<!doctype html><body>{frames}<script>{MEASURE}</script></body>", encoding="utf-8")
    printed = run(folder, "--virtual-time-budget=20000", "--dump-dom", file.as_uri())
    found = json.loads(html.unescape(re.search(r"FOUND(\[.*\])END", printed)[1]))
    assert [int(screen["asked"]) for screen in found] == list(widths)
    wrong = {}
    for width, screen in zip(widths, found, strict=True):
        too_wide = [f"content {screen['content']} of {screen['width']}"] if screen["content"] > screen["width"] else []
        wrong[width] = [*too_wide, *screen["out"]]
    return wrong


def screenshot(page, folder, width, *, dark=False, height=1200):
    """RGB pixels [height,width,3] of the top of a page, as it comes."""
    file, picture = folder / "page.html", folder / f"{width}-{'dark' if dark else 'light'}.png"
    file.write_text(page, encoding="utf-8")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    run(folder, scheme, f"--window-size={width},{height}", f"--screenshot={picture}", file.as_uri())
    return np.asarray(Image.open(io.BytesIO(picture.read_bytes())).convert("RGB"))
