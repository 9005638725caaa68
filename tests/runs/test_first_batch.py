"""What a run sees first."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from seit_ray.objectives import MTMObjective, SupervisedObjective
from seit_ray.runs.first_batch import described, write_first_batch
from seit_ray.tokenizers.codebook_only import CodebookTokenizer
from seit_ray.training.settings import LoopSettings
from tests.pixel_store import PixelStore
from tests.tiny_dataset import SIDE, tiny_tokenizer
from tests.tiny_trainers import CPU, tiny_augmentation, tiny_codebook, tiny_store

LOOP = {"epochs": 1, "global_batch_size": 16, "seed": 3}


def first_batch(run, objective, store=None, tokenizer=None, **loop):
    """What is written of a run's first batch, and what first_batch.json holds."""
    options = {"tokenizer": tokenizer, "loop": LoopSettings(**{**LOOP, **loop}), "device": CPU.device}
    about = write_first_batch(run, objective, store or tiny_store(), **options)
    assert json.loads(run.read("first_batch.json")) == about
    return about


def test_rows_are_those_of_the_first_step(run):
    store = tiny_store()
    about = first_batch(run, SupervisedObjective(), store, tiny_tokenizer())
    assert about["samples"] == store.step_rows(16, 3, 0)[:8].tolist()
    assert about["labels"] == store.labels[about["samples"]].tolist()
    tokens = store.tokens[about["samples"]]
    expected = {"shape": [8, SIDE * SIDE], "dtype": "int64", "min": tokens.min(), "max": tokens.max()}
    assert about["inputs"] == about["augmented"] == expected
    assert "64 rows in memory" in about["data"]


def test_pictures_show_what_is_stored_and_what_is_seen(run):
    codebook = torch.rand(16, 3, generator=torch.Generator().manual_seed(0))
    augment = tiny_augmentation(output="codes")
    augment.codebook = codebook
    about = first_batch(run, SupervisedObjective(augment=augment), tokenizer=tiny_tokenizer())
    assert about["pictures"] == ["stored", "seen"]
    assert about["partner_labels"] is not None
    assert all(0 <= weight <= 1 for weight in about["weight"])
    sheet = np.asarray(Image.open(io.BytesIO(run.read("first_batch.png"))))
    stored, seen = np.array_split(sheet[..., :3], 2)
    assert stored.std() > 0
    assert seen.std() > 0


def test_maps_of_codebook_rows_are_shown_as_their_nearest_codes(run):
    tokenizer = tiny_tokenizer()
    augment = tiny_augmentation(cutmix_alpha=0.0)
    augment.codebook = tokenizer.codebook
    about = first_batch(run, SupervisedObjective(augment=augment), tokenizer=tokenizer)
    assert about["augmented"]["shape"] == [8, 3, SIDE, SIDE]
    assert about["pictures"] == ["stored", "seen"]


def test_without_a_decoder_there_are_numbers_alone(run):
    tokenizer = CodebookTokenizer(tiny_codebook(), grid=(SIDE, SIDE), image_size=SIDE)
    objective = MTMObjective(augment=tiny_augmentation(output="codes", cutmix_alpha=0.0))
    about = first_batch(run, objective, tokenizer=tokenizer)
    assert about["pictures"] == []
    assert not run.exists("first_batch.png")


def test_codes_of_a_crop_are_no_picture(run):
    augment = tiny_augmentation(output="codes", out_grid=(2, 2), cutmix_alpha=0.0)
    about = first_batch(run, MTMObjective(augment=augment), tokenizer=tiny_tokenizer())
    assert about["pictures"] == ["stored"]
    assert about["augmented"]["shape"] == [8, 4]


def test_images_are_shown_as_they_are(run):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), np.uint8)
    store = PixelStore(pixels, np.arange(5))
    about = first_batch(run, SupervisedObjective(), store, global_batch_size=3)
    assert about["inputs"]["shape"] == [3, 3, 8, 8]
    assert about["pictures"] == ["stored", "seen"]


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_a_description_is_plain_numbers(dtype):
    found = described(torch.tensor([[1, 5], [2, 3]], dtype=dtype))
    assert found == {"shape": [2, 2], "dtype": str(dtype)[6:], "min": 1.0, "max": 5.0}
