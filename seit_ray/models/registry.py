"""The models by name in timm: timm.create_model("seit_vit_base", num_codes=391, grid=(28, 28), num_classes=1000)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.models import register_model
from torch import Tensor

from seit_ray.models.embed import CodebookEmbedding, TokenEmbedding
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.variants import SIZES
from seit_ray.models.vit import TokenViT

__all__ = ["build_registered_mtm", "build_registered_vit"]  # timm appends the names that it registers


def build_registered_vit(
    size: str,
    *,
    num_codes: int,
    grid: tuple[int, int],
    num_classes: int,
    codebook: Tensor | None = None,
    token_dim: int | None = None,
    stem: tuple[int, int, int] | None = None,
    global_pool: str = "mean",
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    head_init_std: float = 0.02,
) -> TokenViT:
    """A token classifier of a named size, under timm's names of settings.

    On a learned embedding [K,token_dim], 32 wide when left out (SeiT++), or on the rows of a `codebook` [K,D] (SeiT).
    `stem` is kernel, stride and padding: 2, 2, 0 on the one and 4, 2, 1 on the other when left out. `global_pool` is
    mean, avg (the same) or cls; `drop_rate` is the dropout of the learned embedding. Settings that do not go with a
    codebook are a ValueError.
    """
    embedding: TokenEmbedding | CodebookEmbedding
    if codebook is None:
        embedding, known = TokenEmbedding(num_codes, token_dim or 32, drop_rate), (2, 2, 0)
    else:
        embedding, known = CodebookEmbedding(codebook), (4, 2, 1)
        if (num_codes, token_dim or embedding.dim, drop_rate) != (*codebook.shape, 0.0):
            raise ValueError(
                f"codebook {list(codebook.shape)} with num_codes {num_codes}, token_dim {token_dim}, drop_rate "
                f"{drop_rate}; expected its own numbers, and no dropout on fixed rows; make them agree"
            )
    kernel, stride, padding = stem or known
    return TokenViT(
        grid=grid,
        num_classes=num_classes,
        size=SIZES[size],
        embedding=embedding,
        kernel=kernel,
        stride=stride,
        padding=padding,
        pool="mean" if global_pool == "avg" else global_pool,
        drop_path=drop_path_rate,
        head_init_std=head_init_std,
    )


def build_registered_mtm(
    size: str,
    *,
    num_codes: int,
    grid: tuple[int, int],
    token_dim: int = 32,
    unit: int = 2,
    mask_ratio_min: float = 0.4,
    drop_rate: float = 0.1,
) -> MaskedTokenModel:
    """A masked token model of a named size, under timm's names of settings; `drop_rate` is its dropout."""
    return MaskedTokenModel(
        grid=grid,
        num_codes=num_codes,
        size=SIZES[size],
        token_dim=token_dim,
        unit=unit,
        mask_ratio_min=mask_ratio_min,
        dropout=drop_rate,
    )


FAMILIES: dict[str, Callable[..., TokenViT | MaskedTokenModel]] = {
    "seit_vit": build_registered_vit,
    "mtm_vit": build_registered_mtm,
}


def register(family: str, size: str) -> None:
    """Make a model known to timm as <family>_<size>."""
    name = f"{family}_{size}"

    def entrypoint(
        pretrained: bool = False,
        *,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: Any = None,
        cache_dir: Any = None,
        **settings: Any,
    ) -> TokenViT | MaskedTokenModel:
        del cache_dir  # where timm would keep weights
        if pretrained or pretrained_cfg or pretrained_cfg_overlay:
            raise ValueError(
                f"pretrained weights of {name}; expected pretrained=False and no tag, since none are hosted; load a "
                "run with seit_ray.models.exports.import_model, or published files with the verb import_weights"
            )
        return FAMILIES[family](size, **settings)

    entrypoint.__name__ = entrypoint.__qualname__ = name
    entrypoint.__doc__ = f"{(FAMILIES[family].__doc__ or '').splitlines()[0]} The size is {size}."
    globals()[name] = register_model(entrypoint)


for _family in FAMILIES:
    for _size in SIZES:
        register(_family, _size)
