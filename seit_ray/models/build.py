"""Models by kind, from plain values: what a run stores of its model, and builds it from again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from seit_ray.models.embed import CodebookEmbedding, PixelEmbedding, TokenEmbedding
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.tokenadapt import TokenAdapt
from seit_ray.models.variants import Size
from seit_ray.models.vit import TokenViT

__all__ = ["INPUTS", "KINDS", "build_model"]

INPUTS = ("learned", "codebook", "pixels")


def build_masked_model(
    *, size: Size, grid: tuple[int, int], num_codes: int, stem_kernel: int, **settings: Any
) -> MaskedTokenModel:
    """The masked token model; `settings` are token_dim, dropout and mask_ratio_min."""
    return MaskedTokenModel(grid=grid, num_codes=num_codes, size=size, unit=stem_kernel, **settings)


def build_embedding(
    inputs: str,
    *,
    num_codes: int | None,
    token_dim: int,
    dropout: float,
    codebook: Tensor | None,
    standardize: bool = False,
) -> TokenEmbedding | CodebookEmbedding | PixelEmbedding:
    """From a classifier's input to maps: a learned table (SeiT++), codebook rows (SeiT), or pixels as they are."""
    if standardize and inputs != "codebook":
        raise ValueError(
            f"standardize True with inputs {inputs!r}; expected inputs 'codebook', whose rows it acts on; leave it out"
        )
    if inputs == "learned":
        if num_codes is None:
            raise ValueError("num_codes None for inputs 'learned'; expected K; take it from the token dataset")
        return TokenEmbedding(num_codes, token_dim, dropout)
    if inputs == "codebook":
        if codebook is None:
            raise ValueError("codebook None for inputs 'codebook'; expected [K,D]; pass the tokenizer's codebook")
        return CodebookEmbedding(codebook, standardize=standardize)
    if inputs == "pixels":
        return PixelEmbedding()
    raise ValueError(f"inputs {inputs!r}; expected one of {', '.join(INPUTS)}; choose one")


def build_classifier(
    *,
    size: Size,
    grid: tuple[int, int],
    num_classes: int,
    stem_kernel: int,
    stem_stride: int | None = None,
    stem_padding: int = 0,
    stem_layers: int = 0,
    stem_width: int = 64,
    pixel_side: int = 1,
    inputs: str = "learned",
    standardize: bool = False,
    num_codes: int | None = None,
    token_dim: int = 32,
    dropout: float = 0.0,
    codebook: Tensor | None = None,
    pool: str = "mean",
    drop_path: float = 0.0,
    head_init_std: float = 2e-5,
) -> TokenViT:
    """The classifier of tokens, or of pixels (`grid` in pixels then); the stem's stride is its kernel by default."""
    embedding = build_embedding(
        inputs,
        num_codes=num_codes,
        token_dim=token_dim,
        dropout=dropout,
        codebook=codebook,
        standardize=standardize,
    )
    return TokenViT(
        grid=grid,
        num_classes=num_classes,
        size=size,
        embedding=embedding,
        kernel=stem_kernel,
        stride=stem_stride or stem_kernel,
        padding=stem_padding,
        stem_layers=stem_layers,
        stem_width=stem_width,
        pixel_side=pixel_side,
        pool=pool,
        drop_path=drop_path,
        head_init_std=head_init_std,
    )


KINDS: dict[str, Callable[..., nn.Module]] = {
    "mtm": build_masked_model,
    "classifier": build_classifier,
    "tokenadapt": TokenAdapt,
}


def build_model(kind: str, **settings: Any) -> nn.Module:
    """A model of a registered kind, of the keywords that kind takes."""
    return KINDS[kind](**settings)
