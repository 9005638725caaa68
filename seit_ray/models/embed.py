"""Tokens to patches: embedding of codes, convolutional stem, fixed positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.models.variants import check_pixel_rows, check_positions, check_stem, stem_grid

__all__ = ["CodebookEmbedding", "PixelEmbedding", "Stem", "TokenEmbedding", "as_grid", "sincos_positions"]

# Mean and deviation of ImageNet's pixels in [0,1], by which pixel ViTs standardise their input.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
NORM_GROUPS = 8  # groups of channels of a stem's layer that are normalised together


def as_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """View tokens [B,L] or [B,h,w] as [B,h,w]; indices narrower than int32 are widened.

    Another shape, or a dtype that is no integer, is a ValueError. Values are not looked at, since that would
    wait for the device: a code of K or more is refused where shards are read.
    """
    height, width = grid
    if tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise ValueError(f"tokens of dtype {tokens.dtype}; expected integers; pass codes, not embeddings")
    if tuple(tokens.shape[1:]) not in ((height * width,), (height, width)):
        raise ValueError(
            f"tokens of shape {list(tokens.shape)}; expected [B,{height * width}] or [B,{height},{width}]; "
            "crop the tokens to the model's grid or build the model for theirs"
        )
    if tokens.dtype not in (torch.int32, torch.int64):
        tokens = tokens.long()
    return tokens.reshape(-1, height, width)


class TokenEmbedding(nn.Module):
    """Learned embedding of K codes: table [K,D] -> LayerNorm (eps 1e-6) -> dropout.

    Shapes: tokens [...] -> [...,D]. A table without codes or width is a ValueError. Source: SeiT++, masked
    token modelling; the parameter names are those of its release.
    """

    def __init__(self, num_codes: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        if num_codes < 1 or dim < 1:
            raise ValueError(
                f"embedding of {num_codes} codes x {dim}; expected 1 or more of each; "
                "take num_codes from the token dataset"
            )
        self.num_codes, self.dim = num_codes, dim
        self.word_embeddings = nn.Embedding(num_codes, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.word_embeddings.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        # Normalising the K rows of the table equals normalising the B*L rows looked up, and is mostly less
        # work.
        table = self.LayerNorm(self.word_embeddings.weight)
        return self.dropout(F.embedding(tokens, table))

    def maps(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens [B,L] or [B,h,w] -> embedded maps [B,D,h,w]."""
        return self(as_grid(tokens, grid)).permute(0, 3, 1, 2)


class CodebookEmbedding(nn.Module):
    """Frozen embedding: the tokenizer's codebook rows as they are, not normalised, not trained.

    Shapes: codebook [K,D]; tokens [...] -> [...,D]. The codebook travels with the token dataset, not with the
    weights, and so is no entry of the state dict. One that is no float matrix is a ValueError. Source: SeiT.
    With `standardize`, `standardized` brings maps to mean 0 and deviation 1 over the codebook's entries: rows of
    centroids are pixels in [0,1], which a fresh stem hardly tells apart.
    """

    codebook: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, codebook: Tensor, *, standardize: bool = False) -> None:
        super().__init__()
        if codebook.ndim != 2 or not codebook.is_floating_point():
            raise ValueError(
                f"codebook of shape {list(codebook.shape)} and dtype {codebook.dtype}; expected "
                "floats [K,D]; pass the tokenizer's codebook"
            )
        self.num_codes, self.dim = codebook.shape
        self.standardize = standardize
        self.register_buffer("codebook", codebook.detach().clone(), persistent=False)
        self.register_buffer("mean", codebook.detach().mean(), persistent=False)
        # a codebook of one colour has no deviation
        self.register_buffer("std", codebook.detach().std(correction=0).clamp(min=1e-6), persistent=False)

    def standardized(self, maps: Tensor) -> Tensor:
        """Embedded maps of any shape, brought to the codebook's mean and deviation where that is on.

        It comes after what acts on maps, such as noise in the codebook's own units and the mixing of samples.
        """
        return (maps - self.mean) / self.std if self.standardize else maps

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.codebook)

    def maps(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens [B,L] or [B,h,w] -> embedded maps [B,D,h,w]."""
        return self(as_grid(tokens, grid)).permute(0, 3, 1, 2)


class PixelEmbedding(nn.Module):
    """No embedding: images themselves, standardised by ImageNet's mean and deviation.

    Shapes: uint8 images [B,3,H,W] -> float maps [B,3,H,W]. Another shape is a ValueError. For what was trained on
    tokens and goes on with pixels (SeiT, storage-efficient pre-training).
    """

    dim = 3
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    def maps(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """Images uint8 [B,3,H,W] -> standardised maps, of the same shape."""
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != (3, *grid):
            raise ValueError(
                f"images {images.dtype} of shape {list(images.shape)}; expected uint8 [B,3,{grid[0]},{grid[1]}]; "
                "decode them at the model's image size"
            )
        return self.standardise(images.float())

    def standardise(self, pixels: Tensor) -> Tensor:
        """Float pixels [B,3,H,W] of 0 to 255, changed on the way or not -> maps."""
        return (pixels - self.mean) / self.std


class Stem(nn.Module):
    """Convolution from embedded maps to patches: [B,in_dim,h,w] -> [B,P,width], patches in raster order.

    SeiT: kernel 4, stride 2, padding 1. SeiT++: 2, 2, 0. A grid of few tokens: 1, 1, 0. Numbers that leave no
    kernel are a ValueError. Source: SeiT, Stem-Adaptor. `layers` convolutions of 3x3, each with GroupNorm and GELU and
    `layer_width` channels wide, come before it on the whole grid, so that the transformer can be shallow (Xiao et al.
    2021, "Early convolutions help transformers see better"); a width that 8 does not divide is a ValueError.
    With `pixel_side` p, maps of C*p*p channels (rows of a centroid codebook: channel, row, column) are laid out as
    C x h*p x w*p pixels first, and the first log2(p) layers halve the sides, back to the grid: a p that is no power of
    two, or has too few layers, is a ValueError.
    """

    def __init__(
        self,
        in_dim: int,
        width: int,
        kernel: int,
        stride: int,
        padding: int = 0,
        *,
        layers: int = 0,
        layer_width: int = 64,
        pixel_side: int = 1,
    ) -> None:
        super().__init__()
        check_stem(kernel, stride, padding)
        if layers < 0 or (layers and (layer_width < NORM_GROUPS or layer_width % NORM_GROUPS)):
            raise ValueError(
                f"{layers} stem layers, {layer_width} wide; expected 0 or more layers and a width that {NORM_GROUPS} "
                "divides; take 3 layers of 64"
            )
        self.kernel, self.stride, self.padding = kernel, stride, padding
        halvings = check_pixel_rows(in_dim, pixel_side, layers)
        self.early = nn.Sequential()  # empty, it has no weights, and the stem the published names
        if pixel_side > 1:
            self.early.append(nn.PixelShuffle(pixel_side))
            in_dim //= pixel_side**2
        for i in range(layers):
            # normalised within a sample, not over a batch, so that the number of workers does not matter
            norm = nn.GroupNorm(NORM_GROUPS, layer_width)
            convolution = nn.Conv2d(in_dim, layer_width, 3, 2 if i < halvings else 1, padding=1, bias=False)
            self.early.extend([convolution, norm, nn.GELU()])
            in_dim = layer_width
        self.proj = nn.Conv2d(in_dim, width, kernel, stride, padding)

    def patch_grid(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) in patches of a token grid; one the stem does not tile is a ValueError."""
        return stem_grid(grid, self.kernel, self.stride, self.padding)

    def forward(self, maps: Tensor) -> Tensor:
        return self.proj(self.early(maps)).flatten(2).transpose(1, 2)


def sincos_positions(grid: tuple[int, int], width: int, class_slot: bool = True) -> Tensor:
    """Return fixed 2-D sin-cos positions [P(+1),width], float32; the class slot comes first and is zero.

    First half of the width: column, second half: row; within each the sines, then the cosines, of frequencies
    10000^(-i/(width/4)). A width that 4 does not divide is a ValueError. Source: MAE (He et al. 2022),
    appendix.
    """
    check_positions(width)
    height, length = grid
    quarter = width // 4
    # In float64, so that far positions keep their last digits; the table is stored as float32.
    frequency = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    row = torch.arange(height, dtype=torch.float64).repeat_interleave(length).outer(frequency)
    column = torch.arange(length, dtype=torch.float64).repeat(height).outer(frequency)
    table = torch.cat([column.sin(), column.cos(), row.sin(), row.cos()], dim=1)
    if class_slot:
        table = torch.cat([table.new_zeros(1, width), table])
    return table.float()
