"""The same classifier on the same bytes."""

import numpy as np
import pytest
import torch

from seit_ray.shards.dataset import TokenDataset
from seit_ray.studies.equal_bytes import bytes_per_image, compare, fitting_side, smaller, stored_bytes
from seit_ray.tokenizers.files import load_tokenizer
from tests.tiny_dataset import write_dataset

SIZES = {"train": 300, "val": 80}
SOURCE = 200  # bytes of an image


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A dataset of 4x4 tokens, one a pixel, of images of SOURCE bytes; its tokenizer."""
    dataset = TokenDataset(write_dataset(tmp_path_factory.mktemp("tokens"), sizes=SIZES, num_classes=3))
    for split in dataset.info.splits.values():
        split.source_bytes = SOURCE * split.rows
    return dataset, load_tokenizer(dataset.folder.join("tokenizer"))[0]


def decoded(data, split):
    """The images that the tokens are of, which these hold without loss, and labels."""
    dataset, tokenizer = data
    rows = dataset.read_split(split)
    images = tokenizer.decode(torch.from_numpy(rows.tokens.astype(np.int64))).numpy()
    return images, rows.meta["label"].to_numpy()


def test_every_arm_says_what_it_stores_and_reaches(data):
    seen = []
    pixels = {split: decoded(data, split) for split in SIZES}
    arms = compare(*data, pixels, 3, progress=lambda *report: seen.append(report))
    tokens, fewer, *small, whole = arms
    budget, source = bytes_per_image(data[0])
    assert (tokens.bytes_per_image, whole.bytes_per_image) == (budget, SOURCE) == (budget, source)
    assert (tokens.images, whole.images) == (300, 300)
    assert fewer.images == int(300 * budget / SOURCE) < 300
    assert tokens.top1 == whole.top1 > 0.6  # the same pixels, and so the same classifier
    assert fewer.top1 < whole.top1
    assert [arm.what.split()[-2] for arm in small] == ["8", "4"]
    assert all(arm.images == 300 for arm in small)
    assert [report[0] for report in seen] == ["report"] * len(seen)


def test_images_of_one_class_are_no_training_set(data):
    pixels = {split: decoded(data, split) for split in SIZES}
    for split in data[0].info.splits.values():
        split.source_bytes = 10**6 * split.rows
    try:
        fewer = compare(*data, pixels, 3)[1]
    finally:
        for split in data[0].info.splits.values():
            split.source_bytes = SOURCE * split.rows
    assert (fewer.images, fewer.top1) == (0, None)


def test_a_sample_of_the_pixels_is_compared_with_as_many_tokens(data):
    pixels = {split: tuple(part[:60] for part in decoded(data, split)) for split in SIZES}
    arms = compare(*data, pixels, 3)
    assert {arms[0].images, arms[-1].images} == {60}
    assert arms[1].images == int(60 * arms[0].bytes_per_image / SOURCE)


@pytest.mark.parametrize("channels", [1, 3])
def test_smaller_images_are_means_of_squares_in_few_bits(channels):
    images = torch.randint(256, (5, channels, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    means = images.float().reshape(5, channels, 4, 2, 4, 2).mean((3, 5))
    assert (smaller(images, 4).float() - means).abs().max() <= 0.5
    assert smaller(images, 9) is images
    coarse = smaller(images, 8, 4)
    assert set(coarse.unique().tolist()) <= {17 * i for i in range(16)}
    assert (coarse.int() - images.int()).abs().max() <= 9


def test_noise_takes_its_bits_and_flat_images_next_to_nothing():
    noise = torch.randint(256, (400, 1, 9, 9), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert stored_bytes(noise, 8) == pytest.approx(81, rel=0.02)
    assert stored_bytes(smaller(noise, 9, 4), 4) == pytest.approx(40.5, rel=0.02)
    assert stored_bytes(torch.zeros_like(noise), 8) < 1


@pytest.mark.parametrize(("budget", "bits", "side"), [(37, 8, 6), (37, 4, 8), (1e9, 8, 9), (0.1, 8, 1)])
def test_the_largest_side_that_fits(budget, bits, side):
    noise = torch.randint(256, (400, 1, 9, 9), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found, each = fitting_side(noise, budget, bits)
    assert side - 1 <= found <= side + 2  # means of many pixels vary less, and are squeezed
    assert found == 1 or each <= budget
    if found < 9:
        assert stored_bytes(smaller(noise, found + 1, bits), bits) > budget
