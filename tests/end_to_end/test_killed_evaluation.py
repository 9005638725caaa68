"""An evaluation under corruptions that is killed: the same command goes on, and ends in the same figures."""

import json
import subprocess
import sys
import time

from seit_ray.config import Evaluate
from seit_ray.storage import Folder
from seit_ray.verbs.evaluate import evaluate
from tests.end_to_end.processes import ROOT
from tests.tiny_classifiers import write_classifier
from tests.tiny_images import image_files, write_files, write_tokenizer
from tests.warm import processes as warm

ASKED = {"split": "train", "corruptions": ["fog", "zoom_blur"], "severities": [1, 3]}


def test_a_killed_evaluation_goes_on(tmp_path):
    place = Folder(tmp_path)
    write_files(place.join("images"), image_files(520, classes=("cat", "dog", "emu")))
    write_tokenizer(place.join("tokens", "tokenizer"))
    write_classifier(place.join("run"), place.join("tokens"))
    words = ["evaluate", f"images={place.uri_of('images')}", f"run={place.uri_of('run')}", "split=train"]
    command = [sys.executable, "-m", "seit_ray", *words, "corruptions=[fog,zoom_blur]", "severities=[1,3]"]
    output, parts = tmp_path / "figures.json", tmp_path / "_figures.work" / "parts"
    with warm.Popen([*command, f"output={output}"], cwd=ROOT, stderr=subprocess.PIPE, text=True) as first:
        ends = time.monotonic() + 240
        while not list(parts.glob("[!.]*")) and first.poll() is None and time.monotonic() < ends:
            time.sleep(0.02)
        first.kill()
        first.communicate()
    assert list(parts.glob("[!.]*"))
    assert not output.exists()
    assert (tmp_path / "_figures.lock").exists()
    notes = []
    for name in ("figures", "whole"):
        keys = {"images": place.uri_of("images"), "run": place.uri_of("run"), "output": place.uri_of(f"{name}.json")}
        evaluate(Evaluate(**keys, **ASKED), lambda *state: notes.append(state[3] if len(state) > 3 else ""))
    assert any("which has ended" in note for note in notes)  # the lock is taken over
    assert json.loads(output.read_text()) == json.loads((tmp_path / "whole.json").read_text())
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("_")]
