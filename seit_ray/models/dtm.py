"""DTM's student: the features of a teacher, of all patches, from an image with masked patches. B batch, P patches."""

from __future__ import annotations

from torch import Tensor, nn

from seit_ray.models.beit import BeitEncoder, LayerNorm
from seit_ray.models.blocks import init_trunc_normal
from seit_ray.models.embed import CodebookEmbedding, PixelEmbedding
from seit_ray.models.variants import Size

__all__ = ["MorphingStudent"]


class MorphingStudent(BeitEncoder):
    """Masked maps -> norm of the last block -> one linear head, [B,P,output_dim].

    The position bias is shared, and with `own_bias` each block has one of its own beside it, as published. Source:
    DTM (Kim et al., token morphing), section 4.1; the names are those of its release.
    """

    def __init__(
        self,
        *,
        grid: tuple[int, int],
        size: Size,
        embedding: PixelEmbedding | CodebookEmbedding,
        kernel: int,
        output_dim: int,
        layer_scale: float = 0.1,
        drop_path: float = 0.0,
        own_bias: bool = False,
    ) -> None:
        super().__init__(
            grid=grid,
            size=size,
            embedding=embedding,
            kernel=kernel,
            layer_scale=layer_scale,
            drop_path=drop_path,
            own_bias=own_bias,
            masks=True,
        )
        self.norm = LayerNorm(size.width)
        self.lm_head = nn.Linear(size.width, output_dim)
        self.lm_head.apply(init_trunc_normal)

    def forward(self, maps: Tensor, masked: Tensor) -> Tensor:
        """Maps [B,3,H,W], masked bool [B,P] -> predicted features [B,P,output_dim]."""
        x, _, _ = self.encode(self.patches(maps, masked))
        return self.lm_head(self.norm(x[:, 1:]))

    def patch_features(self, inputs: Tensor) -> Tensor:
        """Images or tokens -> every patch after the last norm, with nothing masked, [B,P,W]."""
        return self.norm(self.encode(self.patches(self.embed(inputs)))[0][:, 1:])

    def features(self, inputs: Tensor) -> Tensor:
        """Images or tokens -> [B,W]: mean of the patches after the last norm, with nothing masked."""
        return self.patch_features(inputs).mean(dim=1)
