"""A run and its tokenizer as one classifier of pixels."""

import json

import pytest
import torch

from seit_ray.evaluation.image_classifier import ImageClassifier
from seit_ray.models.exports import import_model
from seit_ray.shards.marker import MARKER, DatasetInfo
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from tests.tiny_classifiers import write_classifier, write_pixel_classifier
from tests.tiny_images import SIDE, write_tokenizer


@pytest.fixture
def tokens(tmp_path):
    """A dataset's folder with its tokenizer, of 4x4 tokens."""
    folder = Folder(tmp_path / "tokens")
    write_tokenizer(folder.join("tokenizer"))
    return folder


@pytest.fixture
def run(tmp_path, tokens):
    return write_classifier(tmp_path / "run", tokens, ema_seed=1)


def images(num=5, side=SIDE):
    return torch.randint(256, (num, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def refusal(*arguments, **settings):
    """The one line with which a run is refused."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        ImageClassifier.load(*arguments, **settings).check()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_classifies_the_tokens_of_its_tokenizer(run, tokens):
    classifier = ImageClassifier.load(run)
    classifier.check()
    tokenizer, _ = load_tokenizer(tokens.join("tokenizer"))
    model, _ = import_model(run, "classifier")
    expected = model(tokenizer.encode(images())).detach()
    assert torch.equal(classifier.logits(images()), expected)
    assert len(expected.unique(dim=0)) > 1
    assert (classifier.image_size, classifier.resize) == (SIDE, "squash")
    assert classifier.class_names == ["cat", "dog", "emu"]


@pytest.mark.parametrize(
    ("plan", "expected"), [({"decode": "fast"}, "fast"), ({"decode": "exact"}, "exact"), ({}, "exact")]
)
def test_images_are_decoded_as_those_of_the_dataset(run, tokens, plan, expected):
    assert ImageClassifier.load(run).decode == "exact"  # a dataset that has gone but for its tokenizer
    about = DatasetInfo("0" * 16, "centroid", SIDE, (4, 4), 8, "plain", None, {}, plan)
    tokens.write(MARKER, about.to_json())
    assert ImageClassifier.load(run).decode == expected
    assert ImageClassifier.load(run, tokenizer=tokens.join("tokenizer")).decode == expected


def test_averaged_weights_are_others(run):
    plain, averaged = (ImageClassifier.load(run, weights=w).logits(images()) for w in ("model", "ema"))
    assert not torch.allclose(plain, averaged)
    assert "has no best weights" in refusal(run, weights="best")
    assert "weights 'worst'" in refusal(run, weights="worst")


def test_without_averaged_weights(tmp_path, tokens):
    assert "no averaged weights" in refusal(write_classifier(tmp_path / "plain", tokens), weights="ema")


def test_a_smaller_grid_sees_the_middle(tmp_path, tokens):
    classifier = ImageClassifier.load(write_classifier(tmp_path / "small", tokens, grid=(2, 2)))
    changed = images()
    changed[:, :, :4] = 0  # the margin of one token
    changed[..., 12:] = 0
    assert torch.equal(classifier.logits(changed), classifier.logits(images()))
    changed[:, :, 4:8] = 0
    assert not torch.equal(classifier.logits(changed), classifier.logits(images()))


def test_a_larger_grid_than_the_tokenizers_is_refused(tmp_path, tokens):
    assert "crop to 6x6 of a grid of 4x4" in refusal(write_classifier(tmp_path / "large", tokens, grid=(6, 6)))


def test_a_model_of_pixels_has_no_tokenizer(tmp_path, tokens):
    run = write_pixel_classifier(tmp_path / "pixels", image_size=8)
    classifier = ImageClassifier.load(run)
    model, _ = import_model(run, "classifier")
    assert torch.equal(classifier.logits(images(side=8)), model(images(side=8)).detach())
    assert (classifier.image_size, classifier.resize) == (8, "crop")
    assert "a model of pixels; expected none" in refusal(run, tokenizer=tokens.join("tokenizer"))
    about = json.loads(run.read("model.json"))
    del about["resize"]
    run.write("model.json", json.dumps(about).encode())
    assert "does not say how images were made to fit" in refusal(run)


def test_a_tokenizer_elsewhere_can_be_named(run, tokens, tmp_path):
    expected = ImageClassifier.load(run).logits(images())
    moved = write_tokenizer(tmp_path / "moved")
    tokens.delete_tree()
    text = refusal(run)
    assert f"is not in {tokens.join('tokenizer').uri}" in text
    assert "tokenizer=FOLDER" in text
    assert torch.equal(ImageClassifier.load(run, tokenizer=moved).logits(images()), expected)


def test_another_tokenizer_is_refused(run, tmp_path):
    other = write_tokenizer(tmp_path / "other", seed=1)
    fingerprint = load_tokenizer(other)[1]["fingerprint"]
    assert f"{other.uri} has fingerprint {fingerprint}; expected" in refusal(run, tokenizer=other)


def test_a_run_that_does_not_know_its_data(run):
    about = json.loads(run.read("model.json"))
    del about["data"]
    run.write("model.json", json.dumps(about).encode())
    assert "is not known; expected tokenizer.json" in refusal(run)


def test_an_unfinished_run(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no finished run" in refusal(Folder(tmp_path / "empty"))
