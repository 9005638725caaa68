"""Pictures of what pre-trained models fill in."""

import numpy as np
import pytest
import torch

from seit_ray.models.build import build_model
from seit_ray.models.exports import export_model
from seit_ray.objectives.ccvit_losses import patch_pixels
from seit_ray.report.page import Page
from seit_ray.runs.evaluate_tokens import evaluate_tokens
from seit_ray.shards import TokenDataset
from seit_ray.studies.fill_in import filled_in, images_of
from seit_ray.studies.quickstart import add_classes
from tests.tiny_classifiers import write_classifier
from tests.tiny_dataset import tiny_tokenizer, write_dataset
from tests.tiny_trainers import CPU, SIZE

TOKENS = torch.randint(16, (3, 16), generator=torch.Generator().manual_seed(0))


def write_run(run, kind, **settings):
    torch.manual_seed(0)
    shared = {"size": SIZE, "num_codes": 16, **settings}
    export_model(run, build_model(kind, **shared), kind=kind, settings=shared, about={})
    return run


@pytest.mark.parametrize("sees", ["codebook", "pixels"])
@pytest.mark.parametrize("shared_head", [False, True])
def test_ccvit_fills_in_codes_and_pixels(run, sees, shared_head):
    tokenizer = tiny_tokenizer(patch_size=4)
    sizes = {"grid": (4, 4), "kernel": 2} if sees == "codebook" else {"grid": (16, 16), "kernel": 8}
    more = {"codebook": tokenizer.codebook} if sees == "codebook" else {}
    write_run(run, "ccvit", inputs=sees, code_dim=48, unit=2, head_layers=1, shared_head=shared_head, **sizes, **more)
    rows, words = filled_in(run, tokenizer, TOKENS)
    assert [title for title, _ in rows] == ["decoded", "masked", "its codes", "its pixels"][: 4 - shared_head]
    assert words.startswith("2 of 4 patches")
    decoded, masked, *filled = (np.asarray(pictures) for _, pictures in rows)
    seen = masked != 128  # grey
    for pictures in filled:
        assert (pictures[seen] == decoded[seen]).all()
        assert (pictures[~seen] != decoded[~seen]).mean() > 0.3


def test_masked_token_models_fill_in_codes(run):
    tokenizer = tiny_tokenizer()
    write_run(run, "mtm", grid=(4, 4), stem_kernel=1, token_dim=8)
    rows, words = filled_in(run, tokenizer, TOKENS)
    assert [title for title, _ in rows] == ["decoded", "masked", "filled in"]
    assert words.startswith("50% of the units")
    decoded, masked, filled = (np.asarray(pictures) for _, pictures in rows)
    assert (masked == 128).all(axis=1).sum() == 3 * 8
    assert not (filled == decoded).all()


@pytest.mark.parametrize("kind", ["mtm", "ccvit"])
def test_of_a_smaller_grid_the_middle_is_filled_in(run, kind):
    tokenizer = tiny_tokenizer(patch_size=2)
    mtm = {"stem_kernel": 1, "token_dim": 8}
    ccvit = {"inputs": "codebook", "codebook": tokenizer.codebook, "code_dim": 12, "unit": 1, "kernel": 1}
    write_run(run, kind, grid=(2, 2), **(mtm if kind == "mtm" else {**ccvit, "head_layers": 1}))
    rows, _ = filled_in(run, tokenizer, TOKENS)
    middle = tokenizer.decode(TOKENS)[:, :, 2:6, 2:6]
    assert torch.equal(rows[0][1], middle)
    assert all(np.asarray(pictures).shape == tuple(middle.shape) for _, pictures in rows)


def test_the_classes_of_a_page_are_those_of_a_model_with_a_smaller_grid(tmp_path):
    dataset = TokenDataset(write_dataset(tmp_path / "tokens"))
    names = dataset.info.class_names
    run = write_classifier(tmp_path / "run", dataset.folder, class_names=names, grid=(2, 2))
    figures = evaluate_tokens(dataset=dataset.folder, run=run, split="val", batch_size=4, world=CPU)
    page = Page("Classes", "of a crop")
    add_classes(page, run, dataset, figures)
    assert all(name in page.html() for name in names)


def test_patches_turn_back_into_images():
    images = torch.rand(2, 3, 8, 12)
    assert torch.equal(images_of(patch_pixels(images, 4), (2, 3), 4), images)
