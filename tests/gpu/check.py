"""One command for a machine with a GPU: what has to hold there, and how fast it is, as one JSON. No Ray.

python tests/gpu/check.py [--device cuda|cpu] [--form gpu|small] [--minutes 7] [--only tests,MTM,...] [--renew]
                          [--output FILE]

Needs torch, timm, pyarrow and numpy, with what these bring (safetensors, Pillow); neither ray nor pydantic nor pytest.
First the cases of tests/gpu/cases.py, then the measures of tests/gpu/measures.py; one for which no time is left is
skipped, and says so; one that takes twice its time, or more than is left, is ended. Figures are compared with
tests/benchmarks/baselines/<device>.json, which is written where there is none, or with --renew. Progress goes to
stderr, the JSON to stdout, and what is found so far to FILE after each part, for whoever is cut off. Ends with 1 when a
case or a measure fails.

On a CPU the small form shows that all of it runs; its figures say nothing of a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from tests.gpu import baselines
from tests.gpu.cases import CASES
from tests.gpu.measures import GOALS, MEASURES, SMALL, Figures, Form

NO_TIME = "skipped: no time is left"
Save = Callable[[], None]


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


@contextlib.contextmanager
def within(limit_s: float) -> Iterator[None]:
    """A block that a TimeoutError ends after so many seconds, as far as Python has its turn; of the main thread."""

    def late(number: int, frame: Any) -> None:
        raise TimeoutError(f"it took more than {limit_s:.3g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, max(limit_s, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def tried(work: Callable[[], Any], limit_s: float) -> tuple[Any, str]:
    """(what it gives, ''), or (None, why it failed): one that fails, or is too slow, leaves the others their turn."""
    try:
        with within(limit_s):
            return work(), ""
    except Exception as error:
        traceback.print_exc()
        return None, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def run_cases(device: torch.device, left_s: Callable[[], float], found: dict[str, str], save: Save) -> None:
    """Case -> passed, or what is wrong, into `found`."""
    for name, case in CASES.items():
        if left_s() < 0:
            found[name] = NO_TIME
            continue
        began = time.perf_counter()
        failed = tried(lambda case=case: case(device), left_s())[1]
        found[name] = failed or "passed"
        print(f"{name}: {found[name]} ({time.perf_counter() - began:.1f} s)", file=sys.stderr, flush=True)
        save()


def run_measures(
    device: torch.device,
    form: Form,
    names: Sequence[str],
    left_s: Callable[[], float],
    figures: Figures,
    without: dict[str, str],
    save: Save,
) -> None:
    """'measure / figure' -> figure into `figures`, measure -> why it has none into `without`."""
    for name in names:
        measure, needed_s = MEASURES[name]
        if left_s() < (needed_s if device.type == "cuda" else 0):
            without[name] = NO_TIME
            continue
        began, most_s = time.perf_counter(), 2 * needed_s if device.type == "cuda" else math.inf
        found, failed = tried(lambda measure=measure: measure(device, form), min(left_s(), most_s))
        if failed:
            without[name] = failed
        figures.update({f"{name} / {key}": value for key, value in (found or {}).items()})
        print(f"{name}: {time.perf_counter() - began:.1f} s {failed}", file=sys.stderr, flush=True)
        save()


def goals_of(figures: Figures) -> dict[str, dict[str, Any]]:
    """Figure -> its goal, what was found, and whether that is enough."""
    found = {}
    for name, (goal, is_most) in GOALS.items():
        if name in figures:
            value = figures[name]["mean"]
            met = (value <= goal if is_most else value >= goal) if math.isfinite(value) else None
            found[name] = {"goal": goal, "found": value, "met": met}
    return found


def rounded(value: Any) -> Any:
    """Numbers as they are read; null for what is unknown, such as the share of the peak rate of an unknown chip."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if not isinstance(value, float):
        return value
    return float(f"{value:.4g}") if math.isfinite(value) else None


def checked(
    device: torch.device,
    form: str,
    chosen: Sequence[str],
    minutes: float,
    *,
    renew: bool,
    output: Path | None = None,
) -> dict[str, Any]:
    """All that is found; what is found so far is in the file `output` after each part."""
    end = time.monotonic() + 60 * minutes
    began = time.monotonic()

    def left_s() -> float:
        return end - time.monotonic()

    known = about(device, form)
    found: dict[str, Any] = {**known, "measured_on_gpu": device.type == "cuda" and form == "gpu"}
    if not found["measured_on_gpu"]:
        found["note"] = "unmeasured on a GPU: the small form shows that all of it runs, no more"
    figures: Figures = {}

    def save() -> None:
        if output is not None:
            output.write_text(json.dumps({**found, "figures": rounded(figures)}, indent=1) + "\n")

    if "tests" in chosen:
        run_cases(device, left_s, found.setdefault("tests", {}), save)
    names, sizes = [name for name in MEASURES if name in chosen], SMALL if form == "small" else Form()
    run_measures(device, sizes, names, left_s, figures, found.setdefault("without_figures", {}), save)
    found["figures"] = rounded(figures)
    if found["measured_on_gpu"]:
        found["goals"] = rounded(goals_of(figures))
    if figures:
        path = baselines.path_of(known["device"], small=form == "small")
        found["baseline"] = baselines.against(path, known, found["figures"], renew=renew)
    found["seconds"] = round(time.monotonic() - began, 1)
    save()
    return found


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
    parser.add_argument("--output", type=Path, default=Path(tempfile.gettempdir(), "seit_ray_gpu_check.json"))
    options = parser.parse_args()
    device = torch.device(options.device)
    chosen = options.only.split(",")
    unknown = set(chosen) - {"tests", *MEASURES}
    if unknown:
        parser.error(f"--only {sorted(unknown)}; expected some of tests, {', '.join(MEASURES)}")
    form = options.form or ("gpu" if device.type == "cuda" else "small")
    print(f"what is found so far: {options.output}", file=sys.stderr, flush=True)
    found = checked(device, form, chosen, options.minutes, renew=options.renew, output=options.output)
    print(json.dumps(found, indent=1))
    return int(has_failed(found))


if __name__ == "__main__":
    sys.exit(main())
