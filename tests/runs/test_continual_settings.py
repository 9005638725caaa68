"""Names of arms, and budgets."""

import pytest
import torch

from seit_ray.runs.continual_settings import ARMS, MemorySettings, arm_named, check_budget, codebook_bytes
from seit_ray.runs.continual_views import tokenizer_bytes
from seit_ray.tokenizers.centroid import CentroidTokenizer
from tests.tokenizers.vit_vqgan.tiny import tiny_tokenizer


def test_arms_by_name():
    assert {name: arm_named(name).name for name in ARMS} == {name: name for name in ARMS}
    assert arm_named("jpeg_10").quality == 10
    assert arm_named("jpeg_95").sees == "pixels"


@pytest.mark.parametrize("name", ["jpeg_0", "jpeg_96", "jpeg", "tokens", "jpeg_010"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=f"arm '{name}'; expected one of tokens_compact"):
        arm_named(name)


@pytest.mark.parametrize(("codes", "patch"), [(2, 1), (16, 4), (1024, 8), (65536, 2)])
def test_bytes_of_a_codebook_are_those_of_its_file(codes, patch):
    width = 3 * patch**2
    tokenizer = CentroidTokenizer(torch.zeros(codes, width), image_size=8 * patch, patch_size=patch)
    for travels in (True, False):
        assert tokenizer_bytes(tokenizer, encoder_travels=travels) == codebook_bytes(codes, width)


def test_a_network_counts_where_it_travels():
    tokenizer = tiny_tokenizer()
    tensors = tokenizer.tensors()
    encoder = sum(4 * v.numel() for name, v in tensors.items() if name.startswith(("encoder.", "pre_quant.")))
    alone, both = (tokenizer_bytes(tokenizer, encoder_travels=travels) for travels in (False, True))
    codebook = 4 * tokenizer.codebook.numel()
    assert codebook < alone < codebook + 200
    assert encoder < both - alone < encoder + 200 * len(tensors)


def test_a_budget_has_to_be_more_than_what_is_shared():
    check_budget(MemorySettings(arm="none"), 10)
    check_budget(MemorySettings(arm="raw", budget_bytes=1), 0)
    with pytest.raises(ValueError, match="budgets 50 of arm tokens_plain; expected more than 50, the bytes of"):
        check_budget(MemorySettings(arm="tokens_plain", budget_bytes=50), 50)
