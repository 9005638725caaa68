"""Small studies for tests: stages that are functions of this file, which write what they did."""

from __future__ import annotations

from seit_ray.storage import Folder, StorageError
from seit_ray.studies.study import Study, trial_name
from seit_ray.studies.trials import Stage, Trial, trial_folder

MADE = "made.txt"


class Killed(BaseException):
    """As a kill: nothing that follows is done."""


def make(*, run, text, **hooks):
    """A thing for others."""
    run.write(MADE, text.encode())
    return {"bytes": len(text)}


def measure(*, run, data, seed, fails=False, kills=None, away=None, bug=False, **hooks):
    """A figure of a made thing; counts its calls."""
    calls = int(run.read("calls.txt")) + 1 if run.exists("calls.txt") else 1
    run.write("calls.txt", str(calls).encode())
    if kills is not None and not kills.exists("killed"):
        kills.write("killed", b"")
        raise Killed
    if away is not None and not away.exists("back"):
        raise StorageError("s3://bucket does not answer; expected it to; try again", "unavailable")
    if bug and not bug.exists("mended"):
        raise KeyError("weights\nand more of it")
    if fails and not fails.exists("mended"):
        raise ValueError(f"seed {seed}; expected another; mend it")
    return {"top1": len(data.read(MADE)) / 10 + seed / 100, "test_images": 100, "calls": calls}


def tiny_study(folder: Folder, arms=("a", "bbb"), seeds=(0, 1), decided=None, **more) -> Study:
    """Each arm is made once and measured with every seed; `more` goes to `measure` of the last arm."""
    trials = []
    for arm in arms:
        name = trial_name(f"make {arm}", {"arm": arm})
        stage = Stage("make", f"{__name__}:make", {"run": trial_folder(folder, name).join("data"), "text": arm})
        trials.append(Trial(name, {"arm": arm}, (stage,), cost=0.5))
        for seed in seeds:
            own = trial_name(f"{arm} s{seed}", {"arm": arm, "seed": seed})
            arguments = {"run": trial_folder(folder, own), "data": stage.run, "seed": seed}
            arguments |= more if arm == arms[-1] else {}
            measured = Stage("measure", f"{__name__}:measure", arguments)
            trials.append(Trial(own, {"arm": arm, "seed": seed}, (measured,), needs=(name,)))
    return Study("study_tiny", folder, tuple(trials), decided or {"images": "photos"})
