"""Images as arms see them: tokens that are made once, and stems of the same positions."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from seit_ray.augment.random import StepRandom
from seit_ray.batches.batch import HostBatch
from seit_ray.runs.continual_settings import ContinualSettings
from seit_ray.runs.continual_views import PixelView, TokenView
from seit_ray.runs.settings import ClassifierSettings
from tests.tiny_dataset import tiny_tokenizer

SIDE, TOKEN = 8, 2
IMAGES = np.random.default_rng(0).integers(256, size=(7, 3, SIDE, SIDE)).astype(np.uint8)
MODEL = ClassifierSettings(size="nano", width=16, depth=1, num_heads=2, inputs="codebook", stem_kernel=2, stem_stride=1)


class Stream:
    """Some images, which counts how often each is read."""

    decoding = SimpleNamespace(image_size=SIDE, resize="crop")

    def __init__(self):
        self.asked = []

    def __len__(self):
        return len(IMAGES)

    def host_batch(self, rows):
        self.asked += rows.tolist()
        return HostBatch(torch.from_numpy(IMAGES[rows]), torch.zeros(len(rows)))


def token_view(**settings):
    streams = {"train": Stream(), "val": Stream()}
    tokenizer = tiny_tokenizer(side=SIDE // TOKEN, patch_size=TOKEN)
    return TokenView(streams, tokenizer, MODEL, ContinualSettings(**settings), torch.device("cpu")), tokenizer


def test_tokens_are_made_once():
    view, tokenizer = token_view()
    expected = tokenizer.encode(torch.from_numpy(IMAGES)).numpy()
    for rows in ([3, 1, 3], [1, 5], [0, 1, 2, 3, 4, 5, 6]):
        found = view.read("train", np.array(rows))
        assert found.dtype == np.uint16
        assert found.tolist() == expected[rows].tolist()
    assert sorted(view.streams["train"].asked) == list(range(7))
    assert view.streams["val"].asked == []
    assert view.read("val", np.array([], np.int64)).shape == (0, 16)


def test_patches_of_pixels_lie_where_those_of_tokens_do():
    view, tokenizer = token_view()
    pixels = PixelView({"train": Stream()}, MODEL, ContinualSettings(), token_side=TOKEN)
    tokens, images = view.model_settings(5), pixels.model_settings(5)
    assert (tokens["grid"], images["grid"]) == (tokenizer.grid, (SIDE, SIDE))
    for name in ("stem_kernel", "stem_stride", "stem_padding"):
        assert images[name] == TOKEN * tokens[name]
    assert (images["inputs"], tokens["inputs"]) == ("pixels", "codebook")
    assert pixels.read("train", np.array([2, 0])).tolist() == IMAGES[[2, 0]].tolist()


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_samples_are_mixed_where_asked_for(alpha):
    view, _ = token_view(cutmix_alpha=alpha)
    labels = torch.arange(4)
    mixed = view.augmentation()(torch.from_numpy(view.read("train", np.arange(4)).astype(np.int64)), labels, rng_of(4))
    assert (mixed.weight is None) == (alpha == 0)
    pixels = PixelView({"train": Stream()}, MODEL, ContinualSettings(cutmix_alpha=alpha), token_side=TOKEN)
    images = torch.from_numpy(pixels.read("train", np.arange(4)))
    seen = pixels.augmentation()(images, labels, rng_of(4))
    assert torch.equal(seen.inputs, images) == (alpha == 0)
    assert (seen.weight is None) == (alpha == 0)


def rng_of(num):
    """Random numbers of a batch."""
    return StepRandom(0, 0, slice(0, num), num)
