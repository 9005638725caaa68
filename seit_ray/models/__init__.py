"""Token models: transformer on tokens, masked token model, their sizes and weights."""

from seit_ray.models.embed import CodebookEmbedding, Stem, TokenEmbedding, sincos_positions
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.variants import SIZES, Size, build_size
from seit_ray.models.vit import TokenViT
from seit_ray.models.weights import (
    encoder_weights,
    init_from_pretrained,
    load_named,
    load_weights,
    save_weights,
)

__all__ = [
    "SIZES",
    "CodebookEmbedding",
    "MaskedTokenModel",
    "Size",
    "Stem",
    "TokenEmbedding",
    "TokenViT",
    "build_size",
    "encoder_weights",
    "init_from_pretrained",
    "load_named",
    "load_weights",
    "save_weights",
    "sincos_positions",
]
