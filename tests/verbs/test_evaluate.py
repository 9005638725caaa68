"""evaluate on tokens: figures say of what they are, and others do not take their place."""

import json

import pytest

from seit_ray.config import Evaluate, load
from seit_ray.storage import Folder
from seit_ray.verbs.evaluate import check, evaluate
from tests.tiny_classifiers import write_classifier
from tests.tiny_dataset import NUM_CLASSES, write_dataset

NAMES = [f"class {i}" for i in range(NUM_CLASSES)]


@pytest.fixture
def place(tmp_path):
    """tokens/, others/ of the same tokenizer, and run/, with three sorts of weights."""
    place = Folder(tmp_path)
    for name in ("tokens", "others"):
        write_dataset(tmp_path / name)
    run = write_classifier(place.join("run"), place.join("tokens"), class_names=NAMES, ema_seed=1)
    run.write("best.safetensors", run.read("ema.safetensors"))
    return place


def config_of(place, *more, dataset="tokens"):
    return load(Evaluate, [], [f"dataset={place.uri}/{dataset}", f"run={place.uri}/run", *more])


def test_figures_of_other_weights_have_a_file_of_their_own(place):
    for weights, name in (("model", "evaluate-val"), ("ema", "evaluate-val-ema"), ("best", "evaluate-val-best")):
        rows = dict(evaluate(config_of(place, f"weights={weights}")))
        assert rows["figures"] == place.uri_of(f"run/{name}.json")
        figures = json.loads(place.read(f"run/{name}.json"))
        assert figures["weights"] == weights
        assert (figures["run"], figures["data"]) == (place.uri_of("run"), place.uri_of("tokens"))
        assert figures["tokenizer"] == json.loads(place.read("tokens/dataset.json"))["tokenizer"]


@pytest.mark.parametrize("more", [[], ["occlusion=[0.5]"]])
def test_figures_of_other_data_do_not_take_their_place(place, more):
    evaluate(config_of(place, *more))
    evaluate(config_of(place, *more))  # the same again
    other = config_of(place, *more, dataset="others")
    for asked in (check, evaluate):
        with pytest.raises(ValueError, match=r"val.json holds figures of data .*tokens.; expected .*; set output=FILE"):
            asked(other)
    evaluate(other.model_copy(update={"output": place.uri_of("elsewhere.json")}))
    assert json.loads(place.read("elsewhere.json"))["data"] == place.uri_of("others")
