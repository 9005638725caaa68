"""One command for a machine with a GPU: what has to hold there, and how fast it is, as one JSON. No Ray.

python tests/gpu/check.py [--device cuda|cpu] [--form gpu|small] [--minutes 7] [--only tests,MTM,...] [--renew]

Needs torch, timm, pyarrow and numpy, with what these bring (safetensors, Pillow); neither ray nor pydantic nor pytest.
First the cases of tests/gpu/cases.py, then the measures of tests/gpu/measures.py; one for which no time is left is
skipped, and says so. Figures are compared with tests/benchmarks/baselines/<device>.json, which is written where there
is none, or with --renew. Progress goes to stderr, the JSON to stdout. Ends with 1 when a case or a measure fails.

On a CPU the small form shows that all of it runs; its figures say nothing of a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from tests.gpu import baselines
from tests.gpu.cases import CASES
from tests.gpu.measures import GOALS, MEASURES, SMALL, Figures, Form

NO_TIME = "skipped: no time is left"


def device_name(device: torch.device) -> str:
    """That of the chip; of a CPU with its threads, since they decide its figures."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{(names or [platform.machine()])[0]}, {torch.get_num_threads()} threads"


def about(device: torch.device, form: str) -> dict[str, Any]:
    """Where, when and with what this was measured."""
    import numpy
    import pyarrow
    import timm

    packages = {"torch": torch, "timm": timm, "numpy": numpy, "pyarrow": pyarrow}
    versions = {"python": platform.python_version(), **{name: str(m.__version__) for name, m in packages.items()}}
    if device.type == "cuda":
        versions["cuda"] = str(torch.version.cuda)
    return {
        "device": device_name(device),
        "form": form,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "load": [round(x, 1) for x in os.getloadavg()],
        "versions": versions,
    }


def tried(work: Callable[[], Any]) -> tuple[Any, str]:
    """(what it gives, ''), or (None, why it failed): one that fails leaves the others their turn."""
    try:
        return work(), ""
    except Exception as error:
        traceback.print_exc()
        return None, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def run_cases(device: torch.device, left_s: Callable[[], float]) -> dict[str, str]:
    """Case -> passed, or what is wrong."""
    found = {}
    for name, case in CASES.items():
        if left_s() < 0:
            found[name] = NO_TIME
            continue
        began = time.perf_counter()
        failed = tried(lambda case=case: case(device))[1]
        found[name] = failed or "passed"
        print(f"{name}: {found[name]} ({time.perf_counter() - began:.1f} s)", file=sys.stderr, flush=True)
    return found


def run_measures(
    device: torch.device, form: Form, names: Sequence[str], left_s: Callable[[], float]
) -> tuple[Figures, dict[str, str]]:
    """('measure / figure' -> figure, measure -> why it has none)."""
    figures: Figures = {}
    without: dict[str, str] = {}
    for name in names:
        measure, needed_s = MEASURES[name]
        if left_s() < (needed_s if device.type == "cuda" else 0):
            without[name] = NO_TIME
            continue
        began = time.perf_counter()
        found, failed = tried(lambda measure=measure: measure(device, form))
        if failed:
            without[name] = failed
        figures |= {f"{name} / {key}": value for key, value in (found or {}).items()}
        print(f"{name}: {time.perf_counter() - began:.1f} s {failed}", file=sys.stderr, flush=True)
    return figures, without


def goals_of(figures: Figures) -> dict[str, dict[str, Any]]:
    """Figure -> its goal, what was found, and whether that is enough."""
    found = {}
    for name, (goal, is_most) in GOALS.items():
        if name in figures:
            value = figures[name]["mean"]
            found[name] = {"goal": goal, "found": value, "met": value <= goal if is_most else value >= goal}
    return found


def rounded(value: Any) -> Any:
    """Numbers as they are read."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def checked(device: torch.device, form: str, chosen: Sequence[str], minutes: float, *, renew: bool) -> dict[str, Any]:
    """All that is found."""
    end = time.monotonic() + 60 * minutes
    began = time.monotonic()

    def left_s() -> float:
        return end - time.monotonic()

    known = about(device, form)
    found: dict[str, Any] = {**known, "measured_on_gpu": device.type == "cuda" and form == "gpu"}
    if not found["measured_on_gpu"]:
        found["note"] = "unmeasured on a GPU: the small form shows that all of it runs, no more"
    if "tests" in chosen:
        found["tests"] = run_cases(device, left_s)
    names = [name for name in MEASURES if name in chosen]
    figures, found["without_figures"] = run_measures(device, SMALL if form == "small" else Form(), names, left_s)
    found["figures"] = rounded(figures)
    if found["measured_on_gpu"]:
        found["goals"] = rounded(goals_of(figures))
    if figures:
        path = baselines.path_of(known["device"], small=form == "small")
        found["baseline"] = baselines.against(path, known, found["figures"], renew=renew)
    return {**found, "seconds": round(time.monotonic() - began, 1)}


def has_failed(found: dict[str, Any]) -> bool:
    """Whether a case does not hold, or a measure has ended in an error."""
    cases = [result for result in found.get("tests", {}).values() if result not in ("passed", NO_TIME)]
    return bool(cases or [reason for reason in found["without_figures"].values() if reason != NO_TIME])


def main() -> int:
    """Print the JSON; 1 when something fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--form", choices=("gpu", "small"), help="default: gpu on a GPU, small on a CPU")
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--only", default=",".join(["tests", *MEASURES]))
    parser.add_argument("--renew", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    chosen = options.only.split(",")
    unknown = set(chosen) - {"tests", *MEASURES}
    if unknown:
        parser.error(f"--only {sorted(unknown)}; expected some of tests, {', '.join(MEASURES)}")
    form = options.form or ("gpu" if device.type == "cuda" else "small")
    found = checked(device, form, chosen, options.minutes, renew=options.renew)
    print(json.dumps(found, indent=1))
    return int(has_failed(found))


if __name__ == "__main__":
    sys.exit(main())
