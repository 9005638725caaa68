"""Models by kind, from plain values: what a run stores of its model, and builds it from again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from seit_ray.models.embed import CodebookEmbedding, PixelEmbedding, TokenEmbedding
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.segmenter import SegmentViT
from seit_ray.models.tokenadapt import TokenAdapt
from seit_ray.models.variants import Size
from seit_ray.models.vit import TokenViT

if TYPE_CHECKING:  # timm, from which they have their blocks, takes seconds to import
    from seit_ray.models.beit import BeitViT
    from seit_ray.models.ccvit import CentroidModel
    from seit_ray.models.dtm import MorphingStudent
    from seit_ray.models.segment_beit import SegmentBeit

__all__ = ["ENCODERS", "INPUTS", "KINDS", "build_model"]

ENCODERS = ("vit", "beit")
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


def encoder_parts(
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
    drop_path: float = 0.0,
    encoder: str | None = None,
    layer_scale: float = 0.1,
    own_bias: bool = False,
) -> tuple[str, dict[str, Any]]:
    """(encoder, keywords of its class) of a classifier or segmenter; the stem's stride is its kernel by default.

    `grid` is in pixels for inputs of pixels. `layer_scale` and `own_bias` are those of "beit" alone.
    """
    embedding = build_embedding(
        inputs,
        num_codes=num_codes,
        token_dim=token_dim,
        dropout=dropout,
        codebook=codebook,
        standardize=standardize,
    )
    encoder = encoder or "vit"
    if encoder not in ENCODERS:
        raise ValueError(f"encoder {encoder!r}; expected one of {', '.join(ENCODERS)}; choose one")
    shared: dict[str, Any] = {"grid": grid, "num_classes": num_classes, "size": size, "kernel": stem_kernel}
    shared |= {"drop_path": drop_path, "embedding": embedding}
    if encoder == "vit":
        shared |= {"stride": stem_stride or stem_kernel, "padding": stem_padding}
        return encoder, shared | {"stem_layers": stem_layers, "stem_width": stem_width, "pixel_side": pixel_side}
    if stem_layers or standardize:
        raise ValueError(
            f"stem_layers {stem_layers} and standardize {standardize} for encoder beit; expected 0 and False, as its "
            "stem is one of patches; drop them, or take encoder vit"
        )
    if isinstance(embedding, TokenEmbedding) or stem_padding or (stem_stride or stem_kernel) != stem_kernel:
        raise ValueError(
            f"inputs {inputs!r} with a stem of {stem_kernel}, {stem_stride}, {stem_padding} for encoder beit; expected "
            "codebook or pixels in patches side by side; set model.inputs=codebook, and no stride or padding"
        )
    return encoder, shared | {"layer_scale": layer_scale, "own_bias": own_bias}


def build_classifier(*, pool: str = "mean", head_init_std: float = 2e-5, **settings: Any) -> TokenViT | BeitViT:
    """The classifier of tokens, or of pixels; `settings` are those of `encoder_parts`."""
    encoder, parts = encoder_parts(**settings)
    parts |= {"pool": pool, "head_init_std": head_init_std}
    if encoder == "vit":
        return TokenViT(**parts)
    from seit_ray.models.beit import BeitViT

    return BeitViT(**parts)


def build_segmenter(
    *, taken: Sequence[int] | None = None, head: str = "uper", head_width: int, aux_width: int, **settings: Any
) -> SegmentViT | SegmentBeit:
    """The segmenter of tokens, or of pixels; `settings` are those of `encoder_parts`."""
    encoder, parts = encoder_parts(**settings)
    parts |= {"taken": taken, "head": head, "head_width": head_width, "aux_width": aux_width}
    if encoder == "vit":
        return SegmentViT(**parts)
    from seit_ray.models.segment_beit import SegmentBeit

    return SegmentBeit(**parts)


def build_centroid_model(*, inputs: str, codebook: Tensor | None = None, **settings: Any) -> CentroidModel:
    """CCViT's model of images (`inputs` "pixels"), or of tokens on the rows of a centroid codebook."""
    from seit_ray.models.ccvit import CentroidModel

    return CentroidModel(embedding=pixels_or_rows(inputs, codebook), **settings)


def build_morphing_student(
    *, inputs: str = "pixels", codebook: Tensor | None = None, **settings: Any
) -> MorphingStudent:
    """DTM's student of images, or of tokens on the rows of a centroid codebook."""
    from seit_ray.models.dtm import MorphingStudent

    return MorphingStudent(embedding=pixels_or_rows(inputs, codebook), **settings)


def pixels_or_rows(inputs: str, codebook: Tensor | None) -> PixelEmbedding | CodebookEmbedding:
    """From inputs to the maps of a BEiT encoder."""
    found = build_embedding(inputs, num_codes=1, token_dim=1, dropout=0.0, codebook=codebook)
    if isinstance(found, TokenEmbedding):
        raise ValueError(f"inputs {inputs!r} of a BEiT encoder; expected pixels or codebook; choose one")
    return found


KINDS: dict[str, Callable[..., nn.Module]] = {
    "ccvit": build_centroid_model,
    "dtm": build_morphing_student,
    "mtm": build_masked_model,
    "classifier": build_classifier,
    "segmenter": build_segmenter,
    "tokenadapt": TokenAdapt,
}


def build_model(kind: str, **settings: Any) -> nn.Module:
    """A model of a registered kind, of the keywords that kind takes."""
    return KINDS[kind](**settings)
