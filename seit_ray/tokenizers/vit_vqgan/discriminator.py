"""A small patch discriminator: which parts of an image look decoded (Isola et al. 2017, arXiv 1611.07004, appendix)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["PatchDiscriminator", "judge_frozen"]


class PatchDiscriminator(nn.Module):
    """Images [B,3,H,W] in [0,1] -> logits [B,1,h,w], high where they look real; h = H / 2^num_layers, rounded down.

    Each row is normalised by itself, not with its batch as in the paper, and no buffer changes. Numbers below 1
    are a ValueError.
    """

    def __init__(self, width: int = 64, num_layers: int = 3) -> None:
        super().__init__()
        if width < 1 or num_layers < 1:
            raise ValueError(f"discriminator of width {width} and {num_layers} layers; expected 1 or more; raise them")
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for index in range(1, num_layers):
            last, here = (width * 2 ** min(i, 3) for i in (index - 1, index))
            layers += [nn.Conv2d(last, here, 4, 2, 1), nn.GroupNorm(1, here), nn.LeakyReLU(0.2)]
        here = width * 2 ** min(num_layers - 1, 3)
        self.layers = nn.Sequential(*layers, nn.Conv2d(here, 1, 3, 1, 1))
        self.stride = 2**num_layers

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images * 2 - 1)


def judge_frozen(discriminator: nn.Module, images: Tensor) -> Tensor:
    """Logits whose gradient reaches the images but not the discriminator's parameters."""
    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    return functional_call(discriminator, frozen, (images,))
