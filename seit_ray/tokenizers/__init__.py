"""Pixels -> tokens and back: every family keeps the one contract in `contract.py`; `FAMILIES` is the registry."""

from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.compact import compact_codebook, renumber_tokens
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.files import load_tokenizer, save_tokenizer
from seit_ray.tokenizers.vit_vqgan import VitVqganTokenizer

__all__ = [
    "CentroidTokenizer",
    "Tokenizer",
    "VitVqganTokenizer",
    "compact_codebook",
    "load_tokenizer",
    "renumber_tokens",
    "save_tokenizer",
]
