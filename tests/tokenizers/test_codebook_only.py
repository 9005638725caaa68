"""A tokenizer of which only the codebook is known."""

import math

import pytest
import torch

from seit_ray.storage import Folder
from seit_ray.tokenizers.codebook_only import CodebookTokenizer, encode_codebook, read_codebook
from seit_ray.tokenizers.contract import fingerprint
from seit_ray.tokenizers.files import load_tokenizer, save_tokenizer
from tests.shards.published_files import refusal, torch_bytes


def tokenizer(*, seed=0, **changes):
    """Seven codes of five numbers on a grid of 3x4."""
    codebook = torch.randn(7, 5, generator=torch.Generator().manual_seed(seed))
    return CodebookTokenizer(codebook, **{"grid": (3, 4), "image_size": 24, "metric": "cosine"} | changes)


def test_round_trip(tmp_path):
    mark = save_tokenizer(tokenizer(), Folder(tmp_path))
    found, about = load_tokenizer(Folder(tmp_path))
    assert mark == about["fingerprint"] == fingerprint(found)
    assert torch.equal(found.codebook, tokenizer().codebook)
    assert (found.grid, found.image_size, found.metric, found.resize) == ((3, 4), 24, "cosine", "squash")
    assert (about["family"], about["grid"], about["codebook_size"]) == ("codebook", [3, 4], 7)
    assert found.to("cpu") is found


def test_whatever_tells_tokens_apart_is_in_the_fingerprint():
    changes = [{}, {"seed": 1}, {"grid": (4, 3)}, {"image_size": 48}, {"metric": "l2"}, {"resize": "crop"}]
    assert len({fingerprint(tokenizer(**change)) for change in changes}) == len(changes)


@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_it_cannot_make_tokens_or_pictures_and_says_what_could(verb):
    text = refusal(getattr(tokenizer(), verb), torch.zeros(2, 3, 24, 24, dtype=torch.uint8))
    assert f"of shape [2, 3, 24, 24] to {verb} with a tokenizer of family 'codebook'" in text
    assert f"imported without its {verb}r; import the tokens again with tokenizer=FOLDER" in text


def test_codes_can_be_selected():
    small = tokenizer().select_codes(torch.tensor([5, 1]))
    assert torch.equal(small.codebook, tokenizer().codebook[[5, 1]])
    assert small.config() == {**tokenizer().config(), "compacted_from": 7}
    assert small.select_codes(torch.tensor([0])).config()["compacted_from"] == 7


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"grid": (0, 4)}, "grid [0, 4] and image_size 24"),
        ({"grid": (4,)}, "grid [4] and image_size 24"),
        ({"image_size": 0}, "image_size 0"),
        ({"metric": "hamming"}, "metric 'hamming'; expected one of cosine, l2"),
    ],
)
def test_settings_that_cannot_be(changes, text):
    assert text in refusal(tokenizer, **changes)


@pytest.mark.parametrize(
    ("codebook", "text"),
    [
        (torch.zeros(3), "codebook torch.float32 [3]; expected one tensor of floats [K,D]"),
        (torch.zeros(3, 2, dtype=torch.int64), "codebook torch.int64 [3, 2]"),
        (torch.zeros(0, 2), "codebook of 0 codes x 2; expected 1 to 65536 codes"),
        (torch.zeros(3, 0), "codebook of 3 codes x 0"),
        (torch.zeros(65537, 1), "codebook of 65537 codes"),
        (torch.tensor([[0.0, math.nan]]), "with inf or NaN"),
        ({"weight": torch.zeros(3, 2)}, "codebook a dict; expected one tensor"),
        ([[1.0, 2.0]], "codebook a list"),
    ],
)
def test_codebook_files_that_are_none(codebook, text):
    assert text in refusal(read_codebook, torch_bytes(codebook))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_codebook_file_of_any_floats(dtype):
    codebook = torch.randn(7, 5).to(dtype)
    found = read_codebook(torch_bytes(torch.nn.Parameter(codebook)))
    assert found.dtype == torch.float32
    assert torch.equal(found, codebook.float())


def test_a_codebook_file_there_and_back():
    codebook = tokenizer().codebook
    assert torch.equal(read_codebook(encode_codebook(codebook[:, :3])), codebook[:, :3])
    assert len(encode_codebook(codebook[:1])) < len(encode_codebook(torch.zeros(4096, 5)))  # no shared storage
    assert encode_codebook(codebook) == encode_codebook(codebook.clone())
