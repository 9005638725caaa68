"""Pixels -> tokens and back: every family keeps the one contract in `contract.py`; `FAMILIES` is the registry."""

from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.files import load_tokenizer, save_tokenizer

__all__ = ["CentroidTokenizer", "Tokenizer", "load_tokenizer", "save_tokenizer"]
