"""Weights under the names of CCViT, DTM and timm's BEiT become runs that go on."""

import pytest
import torch

from seit_ray.config import load
from seit_ray.evaluation.image_classifier import ImageClassifier
from seit_ray.models.beit_transfer import as_timm
from seit_ray.models.build import build_model
from seit_ray.models.exports import import_model
from seit_ray.models.variants import Size
from seit_ray.models.weights import save_tensors
from seit_ray.storage import Folder
from seit_ray.verbs.command.arguments import VERBS
from seit_ray.verbs.finetune import check as check_finetune
from seit_ray.verbs.finetune import finetune
from seit_ray.verbs.import_weights import import_weights
from tests.tiny_dataset import NUM_CLASSES, write_dataset
from tests.tiny_images import image_files, write_files

SIZE = Size(32, 2, 2, 32, 2, 2)
SHARED = {"size": SIZE, "grid": (16, 16), "kernel": 8, "inputs": "pixels"}
MODELS = {
    "ccvit": {**SHARED, "num_codes": 16, "code_dim": 48, "unit": 2, "head_layers": 1},
    "dtm": {**SHARED, "output_dim": 6, "own_bias": True},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """4x4 tokens of 4x4 pixels; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes={"train": 24, "val": 8}, patch_size=4)


def imported(place, dataset, state):
    place.write("weights.safetensors", save_tensors(state))
    words = [f"weights={place.uri}/weights.safetensors", f"dataset={dataset.uri}", f"run={place.uri}/run"]
    rows = dict(import_weights(load(VERBS["import_weights"], [], words)))
    return place.join("run"), rows


@pytest.mark.parametrize("kind", MODELS)
def test_a_pretrained_model_is_fine_tuned_on_pixels(dataset, kind, tmp_path):
    torch.manual_seed(0)
    model = build_model(kind, **MODELS[kind])
    run, rows = imported(Folder(tmp_path), dataset, model.state_dict())
    assert rows["model"].startswith(f"{kind}, 32 wide, 2 blocks")
    about = import_model(run, kind)[1]
    assert (about["image_size"], about["patch_size"], about["resize"]) == (16, 8, "squash")
    assert ("tokenizer" in about) == (kind == "ccvit")
    photos = write_files(Folder(tmp_path / "photos"), image_files(20))
    words = f"images={photos.uri} init_from={run.uri} output={tmp_path} run=a pixels.image_size=16 pixels.patch_size=8"
    words += " model.width=32 model.depth=2 model.num_heads=2 loop.epochs=1 loop.global_batch_size=8 loop.trackers=[]"
    config = load(VERBS["finetune"], [], [*words.split(), "workers.num_workers=0", "optimizer.warmup_epochs=0"])
    assert check_finetune(config)
    assert dict(finetune(config))["steps"] == "2"
    classifier = ImageClassifier.load(Folder(tmp_path / "a"))
    assert classifier.logits(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)).shape == (2, 2)


def test_timms_classifier_is_a_classifier_of_images(dataset, tmp_path):
    torch.manual_seed(0)
    settings = {"size": SIZE, "grid": (16, 16), "stem_kernel": 8, "inputs": "pixels", "num_classes": NUM_CLASSES}
    model = build_model("classifier", **settings, encoder="beit", head_init_std=0.1).eval()
    run, rows = imported(Folder(tmp_path), dataset, as_timm(model).state_dict())
    assert "mean pool" in rows["classifier"]
    images = torch.randint(256, (3, 3, 16, 16)).byte()
    torch.testing.assert_close(ImageClassifier.load(run).logits(images), model(images))
