"""The check of a GPU, on a CPU and in small: its cases hold, its measures give figures, its baselines compare."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from seit_ray.training.agreement import LAG_STEPS
from tests.gpu import baselines, cases, check, measures
from tests.gpu.cases import CASES

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
BARE = """
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ray", "pydantic", "pytest", "simplejpeg", "s3fs", "tensorboard", "rich"):
            raise ImportError(f"{name} is not on a bare machine")


sys.meta_path.insert(0, Blocker())
sys.argv = ["check.py", "--device", "cpu", "--only", "JPEG,augmentation", "--renew"]
from tests.gpu import baselines, check, measures
from pathlib import Path

baselines.FOLDER = Path(FOLDER)
sys.exit(check.main())
"""


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, which it hides itself
@pytest.mark.parametrize("name", CASES)
def test_a_case_holds_on_a_cpu(name):
    CASES[name](CPU)


def test_a_run_is_stopped_where_flags_come_late_too(monkeypatch):
    """As they do on a GPU, where this cannot be seen from here."""
    plain = cases.trainer

    def late(*given, **settings):
        made = plain(*given, **settings)
        made.agreement.lag = LAG_STEPS
        return made

    monkeypatch.setattr(cases, "trainer", late)
    cases.resume(CPU)


def test_it_runs_on_a_machine_that_has_little_installed(tmp_path):
    code = BARE.replace("FOLDER)", f"{str(tmp_path)!r})")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not found["measured_on_gpu"]
    assert found["note"].startswith("unmeasured on a GPU")
    assert found["without_figures"] == {}
    assert found["figures"]["JPEG / pillow: images_per_s"]["mean"] > 0
    assert "JPEG / exact: images_per_s" not in found["figures"]  # which needs simplejpeg
    assert found["figures"]["augmentation / samples_per_s"]["n"] == measures.SMALL.rounds
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("-small.json")
    assert json.loads(path.read_text())["versions"]["torch"] == torch.__version__


def test_what_fails_leaves_the_others_their_turn(monkeypatch, tmp_path):
    def broken(device, form):
        raise ValueError("no such thing")

    monkeypatch.setattr(baselines, "FOLDER", tmp_path)
    monkeypatch.setitem(check.MEASURES, "MTM", (broken, 0))
    monkeypatch.setitem(check.MEASURES, "ViT", (lambda device, form: {"a": measures.figure([1.0, 3.0], "x/s")}, 0))
    monkeypatch.setattr(check, "CASES", {"good": lambda device: None, "bad": lambda device: 1 / 0})
    found = check.checked(CPU, "small", ["tests", "MTM", "ViT"], 1.0, renew=False)
    assert found["tests"] == {"good": "passed", "bad": "ZeroDivisionError: division by zero"}
    assert found["without_figures"] == {"MTM": "ValueError: no such thing"}
    assert found["figures"] == {"ViT / a": {"mean": 2.0, "spread": 1.414, "n": 2, "unit": "x/s"}}
    assert check.has_failed(found)
    late = check.checked(CPU, "small", ["tests", "ViT"], -1.0, renew=False)
    assert set(late["tests"].values()) == {check.NO_TIME}
    assert late["without_figures"] == {"ViT": check.NO_TIME}
    assert not check.has_failed(late)


def test_what_is_found_so_far_is_in_the_file(monkeypatch, tmp_path):
    """Whatever ends the check from outside."""
    seen, path = [], tmp_path / "found.json"

    def look(device, form=None):
        seen.append(json.loads(path.read_text()) if path.exists() else None)
        return {"a": measures.figure([math.nan], "share")}

    monkeypatch.setattr(baselines, "FOLDER", tmp_path / "baselines")
    monkeypatch.setattr(check, "CASES", {"first": look, "second": look})
    monkeypatch.setattr(check, "MEASURES", {"one": (look, 0), "other": (look, 0)})
    found = check.checked(CPU, "small", ["tests", "one", "other"], 1.0, renew=False, output=path)
    assert seen[0] is None
    assert seen[1]["tests"] == {"first": "passed"}
    assert seen[2]["tests"] == {"first": "passed", "second": "passed"}
    assert list(seen[3]["figures"]) == ["one / a"]
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == found  # no NaN is among it
    assert found["figures"]["one / a"]["mean"] is None


def test_what_takes_too_long_leaves_the_others_their_turn():
    began = time.monotonic()
    assert check.tried(lambda: time.sleep(30), 0.1) == (None, "TimeoutError: it took more than 0.1 s")
    assert check.tried(lambda: 3, 30) == (3, "")
    assert time.monotonic() - began < 15


def test_an_unknown_chip_meets_no_goal_and_misses_none():
    found = check.rounded(check.goals_of({"MTM / mfu": {"mean": math.nan}}))
    assert found == {"MTM / mfu": {"goal": 0.45, "found": None, "met": None}}


def test_goals_are_met_from_their_side():
    figures = {"MTM / mfu": {"mean": 0.45}, "k-means / fit_s": {"mean": 15.1}, "other": {"mean": 1}}
    assert {name: goal["met"] for name, goal in check.goals_of(figures).items()} == {
        "MTM / mfu": True,
        "k-means / fit_s": False,
    }


def test_a_baseline_is_written_once_and_compared_with(tmp_path):
    def figures(rate, seconds, spread=0.0):
        named = {"rate": (rate, "samples/s"), "fit": (seconds, "s"), "share": (0.5, "share")}
        return {name: {"mean": m, "spread": spread, "n": 3, "unit": unit} for name, (m, unit) in named.items()}

    path, about = tmp_path / "device.json", {"date": "2026-01-01", "versions": {"torch": "2"}}
    first = baselines.against(path, about, figures(100.0, 10.0), renew=False)
    assert first["written"]
    assert "changes" not in first
    found = baselines.against(path, about, figures(120.0, 12.0), renew=False)
    assert "written" not in found
    assert found["changes"] == {"rate": {"ratio": 1.2, "is": "faster"}, "fit": {"ratio": 0.833, "is": "slower"}}
    noisy = baselines.against(path, about, figures(120.0, 12.0, spread=20.0), renew=True)
    assert {change["is"] for change in noisy["changes"].values()} == {"same"}
    assert json.loads(path.read_text())["figures"]["rate"]["mean"] == 120.0
    assert baselines.path_of("NVIDIA H200", small=False).name == "nvidia-h200.json"
    assert baselines.path_of("AMD EPYC, 2 threads", small=True).name == "amd-epyc-2-threads-small.json"
