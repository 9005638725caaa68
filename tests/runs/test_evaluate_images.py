"""Evaluation on images: the figures of a plain loop, rejects listed, labels by name."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from seit_ray.evaluation.image_classifier import ImageClassifier
from seit_ray.images import decode_image
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.runs.evaluate_images import evaluate_images
from seit_ray.storage import Folder
from seit_ray.training.world import World
from tests.tiny_classifiers import write_classifier
from tests.tiny_images import image_bytes, image_files, write_files, write_tokenizer
from tests.warm import processes as warm

ROOT = Path(__file__).parents[2]
SOURCE = SourceSettings()
BAD = {"val/dog/empty.png": b"", "val/cat/text.jpg": b"this is no picture"}


def evaluated(images, run, world=None, **settings):
    """Figures of the val split."""
    options = {"split": "val", "val_fraction": 0.0, "seed": 0, "tokenizer": None, "weights": "model", "batch_size": 5}
    options["source"] = SOURCE
    world = world or World(device=torch.device("cpu"))
    return evaluate_images(images=images, run=run, world=world, **options | settings)


def main(folder, size, rank):
    """One of several processes that evaluate together; the folder holds images and a run."""
    patience = timedelta(seconds=120)
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", patience, size, rank)
    place = Folder(folder)
    figures = evaluated(place.join("images"), place.join("run"), World(rank, size, torch.device("cpu")))
    place.write(f"{rank}.json", json.dumps(figures).encode())
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """images/ with train and val, tokens/ with a tokenizer, run/."""
    place = Folder(tmp_path_factory.mktemp("place"))
    files = {f"val/{name}": data for name, data in image_files(300, classes=("cat", "emu", "dog")).items()}
    files |= {f"train/{name}": data for name, data in image_files(6).items()}
    write_files(place.join("images"), files | BAD)
    write_tokenizer(place.join("tokens", "tokenizer"))
    # the run's order of classes is not that of the source, and it knows one more
    write_classifier(place.join("run"), place.join("tokens"), class_names=("emu", "fox", "cat", "dog"), ema_seed=5)
    return place


@pytest.fixture(scope="module")
def figures(place):
    return evaluated(place.join("images"), place.join("run"))


def test_figures_are_those_of_a_plain_loop(place, figures):
    classifier = ImageClassifier.load(place.join("run"))
    files = {e.name: place.join("images").read(e.name) for e in place.join("images").list("val/") if e.name not in BAD}
    pixels = [torch.from_numpy(decode_image(data, image_size=16).pixels) for data in files.values()]
    logits = classifier.logits(torch.stack(pixels))
    labels = torch.tensor([classifier.class_names.index(name.split("/")[1]) for name in files])
    hits = logits.argmax(1) == labels
    assert figures["samples"] == len(files) == 300
    assert figures["top1"] == pytest.approx(hits.double().mean().item())
    assert figures["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert figures["top5"] == 1.0
    expected = {name: hits[labels == i].double().mean().item() for i, name in enumerate(classifier.class_names)}
    found = dict(figures["per_class_top1"])
    assert found.pop("fox") is None
    assert found == pytest.approx({name: expected[name] for name in found})
    assert 0 < figures["top1"] < 1


def test_mirror_images_are_averaged(place, figures):
    found = evaluated(place.join("images"), place.join("run"), mirror=True)
    assert {name: value for name, value in found.items() if name != "mirrored"} == figures
    classifier = ImageClassifier.load(place.join("run"))
    files = {e.name: place.join("images").read(e.name) for e in place.join("images").list("val/") if e.name not in BAD}
    pixels = torch.stack([torch.from_numpy(decode_image(data, image_size=16).pixels) for data in files.values()])
    logits = (classifier.logits(pixels) + classifier.logits(pixels.flip(3))) / 2
    labels = torch.tensor([classifier.class_names.index(name.split("/")[1]) for name in files])
    assert found["mirrored"]["top1"] == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert found["mirrored"]["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found["mirrored"]["loss"] != pytest.approx(figures["loss"], rel=1e-4)


def test_rejected_images_are_counted_and_listed(figures):
    assert figures["listed"] == figures["samples"] + len(figures["rejected"])
    assert [row["key"] for row in figures["rejected"]] == sorted(BAD)
    assert figures["rejected"][0]["reason"].startswith("not an image")
    assert figures["rejected"][1]["reason"] == "empty: 0 bytes"


def test_other_batches_and_weights(place, figures):
    larger = evaluated(place.join("images"), place.join("run"), batch_size=1000)
    assert larger["top1"] == figures["top1"]
    assert evaluated(place.join("images"), place.join("run"), weights="ema")["loss"] != figures["loss"]
    train = evaluated(place.join("images"), place.join("run"), split="train")
    assert (train["samples"], train["rejected"]) == (6, [])


def test_two_processes_find_what_one_finds(place, figures):
    code = "import sys, tests.runs.test_evaluate_images as t; t.main(sys.argv[1], 2, 1)"
    with warm.Popen([sys.executable, "-c", code, place.uri], cwd=ROOT, stderr=subprocess.PIPE, text=True) as second:
        main(place.uri, 2, 0)
        errors = second.communicate(timeout=120)[1]
    assert second.returncode == 0, errors
    found = [json.loads(place.read(f"{rank}.json")) for rank in range(2)]
    assert found[0] == found[1]
    for name in ("samples", "top1", "top5", "listed", "rejected"):
        assert found[0][name] == figures[name]
    assert found[0]["loss"] == pytest.approx(figures["loss"])


def wrong_sources():
    """files, words of the refusal, settings."""
    png = image_bytes("cat", 0)
    yield {"cat/a.png": png, "owl/b.png": png, "yak/c.png": png}, "2 classes that .* does not know: 'owl', 'yak'", {}
    yield {"a.png": png}, "1 of 1 images without a label", {}
    yield {"cat/a.png": png}, "split 'val' of .*; expected one of .'train'.; .* val_fraction", {"split": "val"}
    yield {"cat/a.png": b"", "dog/b.png": b""}, "none of 2 images .* can be read", {}
    yield {"cat/a.png": png}, "64 bytes|size .* bytes|none of 1 images", {"max_bytes": 9}
    yield {"notes.txt": b"x"}, "expected images", {}


@pytest.mark.parametrize(("files", "words", "settings"), list(wrong_sources()))
def test_wrong_sources_are_named(place, tmp_path, files, words, settings):
    images = write_files(tmp_path / "images", files)
    with pytest.raises(ValueError, match=words) as caught:
        evaluated(images, place.join("run"), **{"split": "train", **settings})
    assert "\n" not in str(caught.value)
