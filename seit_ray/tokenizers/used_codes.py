"""A smaller codebook: without the codes that a dataset never uses (SeiT: 8192 codes become 391)."""

from __future__ import annotations

import torch
from torch import Tensor

from seit_ray.tokenizers.contract import Tokenizer

__all__ = ["drop_unused_codes", "renumber_tokens"]


def drop_unused_codes(tokenizer: Tokenizer, histogram: Tensor) -> tuple[Tokenizer, Tensor]:
    """The tokenizer with only the used codes, in their order, and old_to_new int64 [K], -1 where a code is dropped.

    histogram [K]: how often a dataset uses each. Its images get the same codes from the new tokenizer, renumbered;
    others may lose their nearest. When every code is used it is the tokenizer itself. No usage at all and a histogram
    of another length are ValueErrors.
    """
    num_codes, counts = len(tokenizer.codebook), torch.as_tensor(histogram).cpu()
    if counts.shape != (num_codes,) or bool((counts < 0).any()):
        raise ValueError(
            f"histogram {tuple(counts.shape)} for {num_codes} codes; expected [{num_codes}] counts, none below 0; take "
            "that of a dataset of this tokenizer"
        )
    kept = counts.nonzero().squeeze(1)
    if not len(kept):
        raise ValueError("no code is used; expected one at least; count the codes of a dataset that has rows")
    old_to_new = torch.full((num_codes,), -1)
    old_to_new[kept] = torch.arange(len(kept))
    if len(kept) == num_codes:
        return tokenizer, old_to_new
    return tokenizer.select_codes(kept), old_to_new


def renumber_tokens(tokens: Tensor, old_to_new: Tensor) -> Tensor:
    """Tokens [...] of the old codebook as those of the new one, same type and device.

    A code outside the old codebook, or one that was dropped, is a ValueError.
    """
    old = tokens.long()
    check_range(old, len(old_to_new))
    new = old_to_new.to(tokens.device)[old]
    if bool((new < 0).any()):
        raise ValueError(
            f"code {int(old[new < 0][0])} was dropped from the codebook; expected codes that were counted; compact "
            "with the histogram of all splits"
        )
    return new.to(tokens.dtype)


def check_range(codes: Tensor, num_codes: int) -> None:
    """ValueError for a code int64 outside 0 to K-1."""
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < num_codes:
        raise ValueError(
            f"codes {int(codes.min())} to {int(codes.max())}; expected 0 to {num_codes - 1}; take the tokens of the "
            "codebook's own tokenizer"
        )
