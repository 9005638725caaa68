"""TokenAdapt: codes to maps that may be augmented as pixels are, and back to codes (SeiT++).

Legend: h x w token grid, h' x w' token grid of the result, K codes, D width of a code, L' = h'*w'.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.augment.geometry import Geometry, apply_geometry
from seit_ray.models.embed import sincos_positions

__all__ = ["MAP_SCALE", "Judge", "TokenAdapt"]

# (tokens before g's head [N,width], its weight [K,width] and bias [K]) -> anything
Judge = Callable[[Tensor, Tensor, Tensor], Any]

MAP_SCALE = 2  # a token of the grid is 2x2 cells of the map


class Attention(nn.Module):
    """Self-attention [B,L,width] -> same: heads of a width of their own, no bias before, one after."""

    def __init__(self, width: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_qkv = nn.Linear(width, 3 * num_heads * head_dim, bias=False)
        self.to_out = nn.Linear(num_heads * head_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.to_qkv(x).unflatten(2, (3, self.num_heads, -1))
        mixed = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two layers with Tanh between, [B,L,width] -> same."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class PreNorm(nn.Module):
    """LayerNorm (eps 1e-5), then a layer."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(width), fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class Layer(nn.ModuleList):
    """Attention, then the MLP, each beside what comes in, [B,L,width] -> same."""

    def __init__(self, width: int, num_heads: int, head_dim: int, mlp_width: int) -> None:
        attention, mlp = Attention(width, num_heads, head_dim), MLP(width, mlp_width)
        super().__init__([PreNorm(width, attention), PreNorm(width, mlp)])

    def forward(self, x: Tensor) -> Tensor:
        for part in self:
            x = x + part(x)
        return x


class Transformer(nn.Module):
    """Pre-norm blocks and a last LayerNorm, [B,L,width] -> same."""

    def __init__(self, width: int, depth: int, num_heads: int, head_dim: int, mlp_width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, num_heads, head_dim, mlp_width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class TokensToMap(nn.Module):
    """Tokens [B,h*w,width] -> map [B,D,2h,2w]: positions, transformer, transposed convolution."""

    de_pos_embedding: Tensor

    def __init__(self, grid: tuple[int, int], width: int, dim: int, transformer: Transformer) -> None:
        super().__init__()
        self.grid = grid
        self.register_buffer("de_pos_embedding", sincos_positions(grid, width, class_slot=False)[None])
        self.transformer = transformer
        # The release's number 0 folds tokens into a map and has no weights.
        self.to_pixel = nn.Sequential(OrderedDict({"1": nn.ConvTranspose2d(width, dim, MAP_SCALE, MAP_SCALE)}))

    def forward(self, x: Tensor) -> Tensor:
        x = self.transformer(x + self.de_pos_embedding)
        return self.to_pixel(x.transpose(1, 2).unflatten(2, self.grid))


class MapToTokens(nn.Module):
    """Map [B,D,2h',2w'] -> tokens [B,L',width]: convolution, positions, transformer."""

    en_pos_embedding: Tensor

    def __init__(self, grid: tuple[int, int], width: int, dim: int, transformer: Transformer) -> None:
        super().__init__()
        self.register_buffer("en_pos_embedding", sincos_positions(grid, width, class_slot=False)[None])
        self.to_patch_embedding = nn.Sequential(nn.Conv2d(dim, width, MAP_SCALE, MAP_SCALE), nn.Flatten(2))
        self.transformer = transformer

    def forward(self, maps: Tensor) -> Tensor:
        return self.transformer(self.to_patch_embedding(maps).transpose(1, 2) + self.en_pos_embedding)


class TokenAdapt(nn.Module):
    """f, from codebook rows on a grid to a map of twice its sides, and g, from such a map to scores of the K codes.

    What lies between is any spatial augmentation of the map: g(A(f(Z))) are the tokens of the augmented image. The
    positions are fixed, so f has one grid and g has one, `out_grid`. Sizes below 1, and a width that 4 does not
    divide, are ValueErrors. The defaults and the parameter names are those of the release. Source: SeiT++, TokenAdapt.
    """

    def __init__(
        self,
        *,
        grid: tuple[int, int],
        out_grid: tuple[int, int],
        num_codes: int,
        dim: int,
        width: int = 384,
        depth: int = 1,
        num_heads: int = 6,
        head_dim: int = 64,
        mlp_width: int = 1536,
    ) -> None:
        super().__init__()
        self.grid, self.out_grid = (grid[0], grid[1]), (out_grid[0], out_grid[1])
        self.num_codes, self.dim = num_codes, dim
        sizes = {"num_codes": num_codes, "dim": dim, "width": width, "depth": depth, "num_heads": num_heads}
        sizes |= {"head_dim": head_dim, "mlp_width": mlp_width, "grid": min(grid), "out_grid": min(out_grid)}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} {value}; expected 1 or more; raise it")
        inner = (width, depth, num_heads, head_dim, mlp_width)
        self.conversion_function = nn.Sequential(
            nn.Linear(dim, width), TokensToMap(self.grid, width, dim, Transformer(*inner))
        )
        self.reverse_transform = nn.Sequential(
            MapToTokens(self.out_grid, width, dim, Transformer(*inner)), nn.Linear(width, num_codes)
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the map that g takes, which is what the augmentation has to give."""
        return self.out_grid[0] * MAP_SCALE, self.out_grid[1] * MAP_SCALE

    def to_feature(self, maps: Tensor) -> Tensor:
        """f: embedded codes [B,D,h,w] -> augmentable map [B,D,2h,2w]; ValueError for another size."""
        self._check(maps, self.grid, "take the rows of the codebook on the grid of the token dataset")
        return self.conversion_function(maps.flatten(2).transpose(1, 2))

    def to_logits(self, maps: Tensor) -> Tensor:
        """g: augmented map [B,D,2h',2w'] -> scores of the codes [B,L',K]; ValueError for another size."""
        self._check(maps, self.map_size, "crop the map to map_size")
        return self.reverse_transform(maps)

    def forward(self, maps: Tensor, geometry: Geometry, judge: Judge | None = None) -> Any:
        """g(A(f(maps))): embedded codes [B,D,h,w] and a draw of A -> scores [B,L',K]; for training.

        With a `judge`, scores are not made, and what it says stands in their place.
        """
        moved = apply_geometry(self.to_feature(maps), geometry, self.map_size)
        if judge is None:
            return self.to_logits(moved)
        trunk, head = self.reverse_transform
        return judge(trunk(moved).flatten(0, 1), head.get_parameter("weight"), head.get_parameter("bias"))

    @torch.no_grad()
    def to_codes(self, maps: Tensor) -> Tensor:
        """g and the best code: [B,D,2h',2w'] -> int64 [B,h',w'], without gradient."""
        return self.to_logits(maps).argmax(dim=2).unflatten(1, self.out_grid)

    def _check(self, maps: Tensor, size: tuple[int, int], mend: str) -> None:
        wanted = (self.dim, *size)
        if tuple(maps.shape[1:]) != wanted:
            raise ValueError(f"map of shape {list(maps.shape)}; expected [B,{','.join(map(str, wanted))}]; {mend}")
