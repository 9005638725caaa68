"""Dropping the codes that a dataset never uses, for every family with a codebook."""

import numpy as np
import pytest
import torch

from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.codebook_only import CodebookTokenizer
from seit_ray.tokenizers.contract import fingerprint
from seit_ray.tokenizers.files import load_tokenizer, save_tokenizer
from seit_ray.tokenizers.used_codes import drop_unused_codes, renumber_tokens
from tests.tokenizers.vit_vqgan.tiny import random_images, tiny_tokenizer


def counted(tokens, num_codes=60):
    """How often each code occurs."""
    return torch.bincount(torch.as_tensor(tokens).flatten(), minlength=num_codes)


def centroid_tokenizer():
    codebook = torch.rand(60, 12, generator=torch.Generator().manual_seed(0))
    return CentroidTokenizer(codebook, image_size=8, patch_size=2)


@pytest.fixture(params=["centroid", "vit_vqgan"])
def tokenizer(request):
    return centroid_tokenizer() if request.param == "centroid" else tiny_tokenizer(codebook_size=60)


def test_the_same_images_get_the_same_codes_renumbered(tokenizer):
    images = random_images(3, 8)
    tokens = tokenizer.encode(images)
    used = tokens.unique()
    assert 1 < len(used) < 60
    smaller, old_to_new = drop_unused_codes(tokenizer, counted(tokens))
    assert torch.equal(smaller.codebook, tokenizer.codebook[used])
    assert torch.equal(smaller.encode(images), renumber_tokens(tokens, old_to_new))
    assert torch.equal(smaller.decode(renumber_tokens(tokens, old_to_new)), tokenizer.decode(tokens))
    assert old_to_new.dtype == torch.int64
    assert (old_to_new >= 0).nonzero().squeeze(1).tolist() == used.tolist()
    assert old_to_new[used].tolist() == list(range(len(used)))


def test_a_histogram_of_numpy_does_as_well(tokenizer):
    tokens = tokenizer.encode(random_images(3, 8))
    smaller, mapping = drop_unused_codes(tokenizer, np.bincount(tokens.flatten().numpy(), minlength=60))
    same, by_torch = drop_unused_codes(tokenizer, counted(tokens))
    assert torch.equal(mapping, by_torch)
    assert fingerprint(smaller) == fingerprint(same)


def test_the_fingerprint_changes_and_the_files_hold_it(tokenizer, tmp_path):
    smaller, _ = drop_unused_codes(tokenizer, counted([[3, 9], [9, 40]]))
    assert fingerprint(smaller) != fingerprint(tokenizer)
    save_tokenizer(smaller, Folder(tmp_path))
    found, about = load_tokenizer(Folder(tmp_path))
    assert (about["codebook_size"], about["config"]["compacted_from"]) == (3, 60)
    again, _ = drop_unused_codes(found, torch.tensor([1, 0, 5]))
    assert again.config()["compacted_from"] == 60
    assert torch.equal(again.codebook, tokenizer.codebook[[3, 40]])
    assert len(tokenizer.codebook) == 60


def test_an_imported_codebook_is_compacted_too():
    codebook = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    tokenizer = CodebookTokenizer(codebook, grid=(2, 3), image_size=32, metric="l2")
    smaller, _ = drop_unused_codes(tokenizer, counted([8, 1, 1], 9))
    assert torch.equal(smaller.codebook, codebook[[1, 8]])
    assert (smaller.grid, smaller.metric, smaller.compacted_from) == ((2, 3), "l2", 9)
    rebuilt = CodebookTokenizer.build(smaller.config(), smaller.tensors())
    assert fingerprint(rebuilt) == fingerprint(smaller) != fingerprint(tokenizer)


def test_when_all_codes_are_used_nothing_changes(tokenizer):
    same, old_to_new = drop_unused_codes(tokenizer, torch.ones(60))
    assert same is tokenizer
    assert old_to_new.tolist() == list(range(60))


def test_an_uncompacted_centroid_tokenizer_keeps_its_fingerprint():
    assert "compacted_from" not in centroid_tokenizer().config()


@pytest.mark.parametrize(
    ("histogram", "text"),
    [
        (torch.ones(59), r"histogram \(59,\) for 60 codes"),
        (-torch.ones(60), "none below 0"),
        (torch.zeros(60), "no code is used"),
    ],
)
def test_usage_that_cannot_be_is_an_error(histogram, text):
    with pytest.raises(ValueError, match=text):
        drop_unused_codes(centroid_tokenizer(), histogram)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32, torch.int64])
def test_renumbering_keeps_shape_and_type(dtype):
    old_to_new = torch.tensor([-1, 0, -1, 1])
    found = renumber_tokens(torch.tensor([[[1, 3], [3, 3]]]).to(dtype), old_to_new)
    assert found.dtype == dtype
    assert found.tolist() == [[[0, 1], [1, 1]]]
    assert renumber_tokens(torch.empty(0, 4, dtype=dtype), old_to_new).shape == (0, 4)


def test_renumbering_a_dropped_code_is_an_error():
    old_to_new = torch.tensor([-1, 0, 1])
    with pytest.raises(ValueError, match="code 0 was dropped from the codebook"):
        renumber_tokens(torch.tensor([1, 0]), old_to_new)
    with pytest.raises(ValueError, match="codes 1 to 3; expected 0 to 2"):
        renumber_tokens(torch.tensor([1, 3]), old_to_new)
