"""Masked token modelling: predict the codes of masked units from the visible ones (SeiT++ pre-training).

Legend: P units of U = unit*unit tokens, L = P*U, M masked units, V = P - num_dropped units in the encoder.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seit_ray.augment.mask_counts import check_left
from seit_ray.models.blocks import LAYER_NORM_EPS, StreamNorm, build_blocks, init_xavier, stream
from seit_ray.models.code_head import Judge, TiedCodeHead
from seit_ray.models.embed import Stem, TokenEmbedding, as_grid, sincos_positions
from seit_ray.models.variants import Size

__all__ = ["MaskedTokenModel"]


class MaskedTokenModel(nn.Module):
    """Masked autoencoder on codes: units of unit x unit tokens are masked, a decoder predicts their codes.

    The num_dropped = ceil(P*mask_ratio_min) units of lowest noise never enter the encoder, so its length is
    the same in every step; further masked units enter it as the mask vector. In the decoder every masked slot
    holds the encoder's class token. `dropout` acts on the token embedding and in the decoder, there on attention
    weights with `reference` alone, as published: kernels of attention are faster without. `morph_dim` adds a
    linear map of every decoded unit, what token morphing compares. A grid that the units do not tile, or a
    ratio that leaves the encoder no unit, is a ValueError. Source: SeiT++, masked token modelling; the names
    are those of its release, whose table `decoder_pos_embed` nothing reads: it is left out.
    """

    pos_embed: Tensor

    def __init__(
        self,
        *,
        grid: tuple[int, int],
        num_codes: int,
        size: Size,
        token_dim: int = 32,
        unit: int = 2,
        mask_ratio_min: float = 0.4,
        dropout: float = 0.1,
        reference: bool = False,
        morph_dim: int = 0,
    ) -> None:
        super().__init__()
        self.grid, self.unit, self.mask_ratio_min = (grid[0], grid[1]), unit, mask_ratio_min
        self.token_emb = TokenEmbedding(num_codes, token_dim, dropout)
        self.patch_embed = Stem(token_dim, size.width, unit, unit)
        self.patch_grid = self.patch_embed.patch_grid(self.grid)
        self.num_patches = self.patch_grid[0] * self.patch_grid[1]
        self.num_dropped = check_left(mask_ratio_min, self.num_patches)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.mask_token_label = nn.Parameter(torch.zeros(1, 1, size.width))
        self.register_buffer("pos_embed", sincos_positions(self.patch_grid, size.width).unsqueeze(0))
        self.blocks = build_blocks(size.width, size.depth, size.num_heads)
        self.norm = StreamNorm(size.width, eps=LAYER_NORM_EPS)
        width = size.decoder_width
        self.decoder_embed = nn.Linear(size.width, width)
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, 1 + self.num_patches, width))
        drops = {"dropout": dropout, "attention_dropout": dropout if reference else 0.0}
        self.decoder_blocks = build_blocks(width, size.decoder_depth, size.decoder_num_heads, **drops)
        self.decoder_norm = StreamNorm(width, eps=LAYER_NORM_EPS)
        self.mlm_layer = TiedCodeHead(width, num_codes, token_dim, unit * unit)
        self.morph_head = nn.Linear(width, morph_dim) if morph_dim else None
        self._init_weights()

    def _init_weights(self) -> None:
        self.apply(init_xavier)
        # As the linear map of a whole unit that it is: the convolution's own fan would count a window's
        # overlap.
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.flatten(1))
        nn.init.zeros_(self.patch_embed.get_parameter("proj.bias"))
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token_label, std=0.02)

    def units(self, tokens: Tensor) -> Tensor:
        """Tokens [B,L] or [B,h,w] -> the tokens of every unit, [B,P,U]; raster order in both."""
        (rows, columns), unit = self.patch_grid, self.unit
        maps = as_grid(tokens, self.grid).reshape(-1, rows, unit, columns, unit)
        return maps.transpose(2, 3).reshape(-1, rows * columns, unit * unit)

    def tokens_of(self, units: Tensor) -> Tensor:
        """Units [B,P,U,...] -> the same in the order of tokens, [B,L,...]; the inverse of `units`."""
        (rows, columns), unit = self.patch_grid, self.unit
        tail = units.shape[3:]
        maps = units.reshape(-1, rows, columns, unit, unit, *tail).transpose(2, 3)
        return maps.reshape(-1, self.num_patches * unit * unit, *tail)

    def _order(self, noise: Tensor, num_masked: int, num_dropped: int) -> Tensor:
        """Noise [B,P] -> ids of the units [B,P], lowest noise first."""
        if tuple(noise.shape[1:]) != (self.num_patches,):
            raise ValueError(
                f"noise of shape {list(noise.shape)}; expected [B,{self.num_patches}]; draw a number a unit"
            )
        least = max(num_dropped, 1)
        if not least <= num_masked <= self.num_patches:
            raise ValueError(
                f"num_masked {num_masked}; expected {least} to {self.num_patches}, since the model drops "
                f"{num_dropped} units; draw a higher ratio or build it with a lower mask_ratio_min"
            )
        # Stable, so that equal noise gives the same mask on every device.
        return noise.argsort(dim=1, stable=True)

    def _encode(self, tokens: Tensor, order: Tensor, num_dropped: int, masked: Tensor) -> Tensor:
        """Tokens, ids [B,P] (dropped first), masked [B,P] -> latent [B,1+V,width], units as in `order`."""
        maps = self.token_emb(as_grid(tokens, self.grid)).permute(0, 3, 1, 2)
        x = torch.where(masked.unsqueeze(-1), self.mask_token_label, self.patch_embed(maps))
        x = x + self.pos_embed[:, 1:]
        kept = order[:, num_dropped:].unsqueeze(-1).expand(-1, -1, x.shape[-1])
        class_token = (self.cls_token + self.pos_embed[:, :1]).expand(x.shape[0], -1, -1)
        x = stream(torch.cat([class_token, x.gather(1, kept)], dim=1))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def _decode(self, latent: Tensor, rank: Tensor, num_dropped: int, masked: Tensor) -> Tensor:
        """Latent of `_encode`, place of every unit in its order [B,P], masked -> decoded [B,P,D_decoder]."""
        x = self.decoder_embed(latent)
        class_token = x[:, :1]
        # Dropped units have no slot; the clamp points them at any, and `where` puts the class token over it.
        slot = (rank - num_dropped).clamp(min=0).unsqueeze(-1).expand(-1, -1, x.shape[-1])
        x = torch.where(masked.unsqueeze(-1), class_token, x[:, 1:].gather(1, slot))
        x = stream(torch.cat([class_token, x], dim=1) + self.decoder_pos_embed_learned)
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_norm(x)[:, 1:]

    def _score(self, decoded: Tensor) -> Tensor:
        return self.mlm_layer(decoded, self.token_emb.word_embeddings.weight)

    def _judged(self, decoded: Tensor, targets: Tensor, judge: Judge) -> Any:
        """What a judge says of decoded units [B,M,D_decoder] and their targets [B,M,U]."""
        head = self.mlm_layer
        features = head.features(decoded).flatten(0, 2)
        return judge(features, self.token_emb.word_embeddings.weight.detach(), head.bias.flatten(), targets.view(-1, 1))

    def _decoded(
        self, tokens: Tensor, noise: Tensor, num_masked: int, num_dropped: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        order = self._order(noise, num_masked, num_dropped)
        rank = order.argsort(dim=1)
        masked = rank < num_masked
        latent = self._encode(tokens, order, num_dropped, masked)
        return self._decode(latent, rank, num_dropped, masked), order, masked

    def encode(self, tokens: Tensor, noise: Tensor, num_masked: int) -> Tensor:
        """Tokens, noise [B,P] -> latent [B,1+V,width]: class token, then the units kept, in raster order."""
        order = self._order(noise, num_masked, self.num_dropped)
        latent = self._encode(tokens, order, self.num_dropped, order.argsort(dim=1) < num_masked)
        raster = order[:, self.num_dropped :].argsort(dim=1)
        raster = raster.unsqueeze(-1).expand(-1, -1, latent.shape[-1])
        return torch.cat([latent[:, :1], latent[:, 1:].gather(1, raster)], dim=1)

    def patch_features(self, tokens: Tensor) -> Tensor:
        """Tokens [B,L] or [B,h,w] -> every patch after the last norm, with every unit seen, [B,P,width]."""
        order = torch.arange(self.num_patches, device=tokens.device).expand(len(tokens), -1)
        return self._encode(tokens, order, 0, torch.zeros_like(order, dtype=torch.bool))[:, 1:]

    def features(self, tokens: Tensor) -> Tensor:
        """Tokens [B,L] or [B,h,w] -> [B,width]: mean of the patches after the last norm, with every unit seen."""
        return self.patch_features(tokens).mean(dim=1)

    def forward(
        self,
        tokens: Tensor,
        noise: Tensor,
        num_masked: int,
        num_dropped: int | None = None,
        *,
        everywhere: bool = False,
        judge: Judge | None = None,
    ) -> tuple[Any, ...]:
        """Mask the `num_masked` units of lowest noise and score the codes of just those.

        num_dropped: of them, so many that the encoder does not see; those of `mask_ratio_min` by default.
        Shapes: tokens [B,L] or [B,h,w], noise [B,P], M = num_masked -> logits [B,M,U,K], targets [B,M,U] and
        mask [B,P] (True = masked). `everywhere` adds what is told of all units: features [B,P,morph_dim] where the
        model has a head for them, else scores [B,P,U,K]. With a `judge`, logits are not made, and what it says stands
        in their place. Other shapes, or fewer masked than the model drops, are a ValueError.
        """
        num_dropped = self.num_dropped if num_dropped is None else num_dropped
        decoded, order, masked = self._decoded(tokens, noise, num_masked, num_dropped)
        ids = order[:, :num_masked].unsqueeze(-1)
        targets = self.units(tokens).long().gather(1, ids.expand(-1, -1, self.unit * self.unit))
        if everywhere and self.morph_head is None:
            scores = self._score(decoded)
            found = ids.unsqueeze(-1).expand(-1, -1, *scores.shape[2:])
            return scores.gather(1, found), targets, masked, scores
        chosen = decoded.gather(1, ids.expand(-1, -1, decoded.shape[-1]))
        told = self._score(chosen) if judge is None else self._judged(chosen, targets, judge)
        if everywhere and self.morph_head is not None:
            return told, targets, masked, self.morph_head(decoded)
        return told, targets, masked

    def all_logits(self, tokens: Tensor, noise: Tensor, num_masked: int) -> tuple[Tensor, Tensor]:
        """Like `forward`, but score every position: logits [B,L,K] in raster order, and mask [B,P]."""
        decoded, _, masked = self._decoded(tokens, noise, num_masked, self.num_dropped)
        return self.tokens_of(self._score(decoded)), masked

    @torch.no_grad()
    def predict(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Fill masked units with their likeliest codes: tokens [B,L] or [B,h,w], mask [B,P] -> [B,L].

        1 = masked. Runs without dropout, whatever the model's mode. Rows may mask different numbers of units;
        as many leave the encoder as in training, or as the row with the fewest masks allows, and reading that
        waits for the device. A mask of another shape is a ValueError.
        """
        if tuple(mask.shape[1:]) != (self.num_patches,):
            raise ValueError(
                f"mask of shape {list(mask.shape)}; expected [B,{self.num_patches}]; give one number a unit"
            )
        units, masked = self.units(tokens).long(), mask.bool()
        num_dropped = min(self.num_dropped, int(masked.sum(dim=1).min()))
        # Which of the masked units are dropped is random in training; here a shuffle that is always the same.
        shuffle = torch.rand(self.num_patches, generator=torch.Generator().manual_seed(0)).to(mask.device)
        order = (shuffle - masked.float()).argsort(dim=1, stable=True)
        was_training = self.training
        self.eval()
        try:
            latent = self._encode(tokens, order, num_dropped, masked)
            decoded = self._decode(latent, order.argsort(dim=1), num_dropped, masked)
            likeliest = self._score(decoded).argmax(dim=-1)
        finally:
            self.train(was_training)
        return self.tokens_of(torch.where(masked.unsqueeze(-1), likeliest, units))
