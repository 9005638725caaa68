"""Figures of a device in a file of its own, to compare later ones with: tests/benchmarks/baselines/<device>.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "benchmarks" / "baselines"
LEAST_CHANGE = 0.1  # as a share of a figure: less is noise, whatever the rounds of one call say
SPREADS = 3.0  # standard deviations of both together that a change has to exceed


def path_of(device: str, *, small: bool) -> Path:
    """The file of a device; that of the small form is another."""
    name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return FOLDER / f"{name}{'-small' if small else ''}.json"


def change_of(now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """ratio of two figures (more is better), and what to call it: same, faster or slower; of seconds less is better."""
    ratio = now["mean"] / before["mean"]
    noise = SPREADS * (now["spread"] ** 2 + (before["spread"] * ratio) ** 2) ** 0.5 / max(now["mean"], 1e-12)
    if now["unit"] == "s":
        ratio = 1 / ratio
    least = max(LEAST_CHANGE, noise)
    word = "faster" if ratio > 1 + least else "slower" if ratio < 1 - least else "same"
    return {"ratio": round(ratio, 3), "is": word}


def compare(figures: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Name -> change, of the figures that both have as rates or seconds; shares have goals, not rivals."""
    before = known["figures"]
    timed = [name for name in figures if figures[name]["unit"] == "s" or figures[name]["unit"].endswith("/s")]
    both = [name for name in timed if name in before]
    return {name: change_of(figures[name], before[name]) for name in both if before[name]["mean"]}


def against(path: Path, about: dict[str, Any], figures: dict[str, Any], *, renew: bool) -> dict[str, Any]:
    """What the baseline says of the figures; it is written where there is none, or where it is to be renewed."""
    found: dict[str, Any] = {"file": str(path)}
    if path.exists():
        known = json.loads(path.read_text())
        found |= {"of": known["date"], "versions": known["versions"], "changes": compare(figures, known)}
    if renew or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**about, "figures": figures}, indent=1) + "\n")
        found["written"] = True
    return found
