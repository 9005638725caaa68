"""Evaluation with units removed or shuffled: clean as the plain evaluation, the same for any ranks and batches."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from seit_ray.runs.evaluate_tokens import evaluate_tokens
from seit_ray.runs.evaluate_units import evaluate_units
from seit_ray.storage import Folder
from seit_ray.training.world import World
from tests.tiny_classifiers import write_classifier
from tests.tiny_dataset import NUM_CLASSES, write_dataset
from tests.warm import processes as warm

ROOT = Path(__file__).parents[2]
CPU = World(device=torch.device("cpu"))
ALONE = {"split": "val", "batch_size": 7, "occlusion": (0.5, 0.25), "shuffle": (1.0,)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """tokens/ and run/."""
    place = Folder(tmp_path_factory.mktemp("place"))
    write_dataset(place.uri_of("tokens"), sizes={"train": 8, "val": 40})
    write_classifier(place.join("run"), place.join("tokens"), class_names=[f"class {i}" for i in range(NUM_CLASSES)])
    return place


def evaluated(place, world=CPU, **settings):
    """Figures of the val split."""
    where = {"dataset": place.join("tokens"), "run": place.join("run")}
    return evaluate_units(world=world, **where | ALONE | settings)


def main(folder, size, rank):
    """One of several processes that evaluate together."""
    patience = timedelta(seconds=120)
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", patience, size, rank)
    place = Folder(folder)
    place.write(f"{rank}.json", json.dumps(evaluated(place, World(rank, size, torch.device("cpu")))).encode())
    torch.distributed.destroy_process_group()


def test_clean_is_the_plain_evaluation(place):
    found = evaluated(place)
    plain = evaluate_tokens(dataset=place.join("tokens"), run=place.join("run"), split="val", batch_size=40, world=CPU)
    assert found["samples"] == plain["samples"] == 40
    assert found["clean"]["top1"] == plain["top1"]
    assert found["clean"]["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    assert found["per_class_top1"] == plain["per_class_top1"]
    assert list(found["corruptions"]) == ["occlusion", "shuffle"]
    assert list(found["corruptions"]["occlusion"]["severities"]) == ["0.25", "0.5"]
    assert found["units"] == 16
    losses = [
        found["clean"]["loss"],
        *(c["loss"] for o in found["corruptions"].values() for c in o["severities"].values()),
    ]
    assert len(set(losses)) == 4


def test_other_batches_find_the_same(place):
    found, other = evaluated(place), evaluated(place, batch_size=40)
    for name, one in found["corruptions"].items():
        assert one["top1"] == other["corruptions"][name]["top1"]


def test_two_processes_find_what_one_finds(place):
    code = "import sys, tests.runs.test_evaluate_units as t; t.main(sys.argv[1], 2, 1)"
    with warm.Popen([sys.executable, "-c", code, place.uri], cwd=ROOT, stderr=subprocess.PIPE, text=True) as second:
        main(place.uri, 2, 0)
        errors = second.communicate(timeout=120)[1]
    assert second.returncode == 0, errors
    found = [json.loads(place.read(f"{rank}.json")) for rank in range(2)]
    assert found == [json.loads(json.dumps(evaluated(place)))] * 2


def test_a_share_that_leaves_nothing(place):
    with pytest.raises(ValueError, match=r"occlusion 0\.99 of 16 units; expected one to be left"):
        evaluated(place, occlusion=(0.99,))


@pytest.mark.parametrize("more", [{"standardize": True}, {"standardize": True, "stem_layers": 1, "stem_width": 8}])
def test_clean_is_the_plain_evaluation_of_rows_of_a_codebook_too(place, more):
    names = [f"class {i}" for i in range(NUM_CLASSES)]
    write_classifier(place.join("rows"), place.join("tokens"), class_names=names, rows=True, **more)
    found = evaluated(place, run=place.join("rows"))
    where = {"dataset": place.join("tokens"), "run": place.join("rows")}
    plain = evaluate_tokens(**where, split="val", batch_size=40, world=CPU)
    assert found["clean"]["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    assert found["clean"]["top1"] == plain["top1"]


def test_an_encoder_of_beit_is_refused_in_one_line(place):
    names = [f"class {i}" for i in range(NUM_CLASSES)]
    write_classifier(place.join("beit"), place.join("tokens"), class_names=names, rows=True, encoder="beit")
    with pytest.raises(ValueError, match="whose encoder is BEiT; expected one of ViT"):
        evaluated(place, run=place.join("beit"))
