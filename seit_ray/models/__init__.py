"""Token models: transformer on tokens, masked token model, their sizes and weights."""

from seit_ray.models import registry
from seit_ray.models.build import KINDS, build_model
from seit_ray.models.embed import CodebookEmbedding, PixelEmbedding, Stem, TokenEmbedding, sincos_positions
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.variants import SIZES, Size, build_size
from seit_ray.models.vit import TokenViT
from seit_ray.models.weights import (
    encoder_weights,
    init_from_pretrained,
    load_named,
    load_weights,
    save_tensors,
    save_weights,
)

__all__ = [
    "KINDS",
    "SIZES",
    "CodebookEmbedding",
    "MaskedTokenModel",
    "PixelEmbedding",
    "Size",
    "Stem",
    "TokenEmbedding",
    "TokenViT",
    "build_model",
    "build_size",
    "encoder_weights",
    "init_from_pretrained",
    "load_named",
    "load_weights",
    "registry",
    "save_tensors",
    "save_weights",
    "sincos_positions",
]
