"""An evaluation under corruptions on two workers of Ray Train: the figures of one process, to the last digit."""

import json

import pytest

from seit_ray.config import Evaluate
from seit_ray.runs import evaluate_corruptions as module
from seit_ray.storage import Folder
from seit_ray.verbs.evaluate import evaluate
from tests.tiny_classifiers import write_classifier
from tests.tiny_images import image_files, write_files, write_tokenizer

NUM = 2 * module.ROWS_PER_PART + 9  # three parts: one worker has two of them
ASKED = {"corruptions": ["gaussian_noise", "fog"], "severities": [4], "split": "train"}


@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_find_what_one_process_finds(tmp_path):
    place = Folder(tmp_path)
    write_files(place.join("images"), image_files(NUM, classes=("cat", "dog", "emu"), side=8))
    write_tokenizer(place.join("tokens", "tokenizer"), image_size=8)
    write_classifier(place.join("run"), place.join("tokens"), seed=2)
    found, shown = [], []
    for num_workers in (0, 2):
        workers = {"num_workers": num_workers}
        output = place.uri_of(f"{num_workers}/figures.json")
        config = Evaluate(
            images=place.uri_of("images"), run=place.uri_of("run"), output=output, workers=workers, **ASKED
        )
        evaluate(config, lambda *state: shown.append(state))
        found.append(json.loads(place.read(f"{num_workers}/figures.json")))
    assert found[0] == found[1]
    assert found[0]["samples"] == NUM
    assert found[0]["clean"]["top1"] > found[0]["corruptions"]["fog"]["top1"] > 0
    assert shown[-1][:3] == ("evaluate", NUM, NUM)
