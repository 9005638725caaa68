"""How many directions features fill: a figure of a run that needs no labels. N samples, D width."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-7  # added to each share, as published


@torch.inference_mode()
def rankme(features: Tensor) -> float:
    """Effective rank, 1 to min(N, D), of features [N,D] of any real type: exp of the entropy of the singular values.

    These are divided by their sum; features are not centred. From the eigenvalues of the smaller product of the
    features with themselves, in float64. Source: RankMe (Garrido et al. 2023), section 3. ValueError for features that
    are empty, not finite, or all zero.
    """
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(
            f"features of shape {tuple(features.shape)}; expected [N, D] without empty sides; flatten each sample to "
            "one row"
        )
    values = features.detach().double()
    if not bool(torch.isfinite(values).all()):
        raise ValueError("features with NaN or infinity; expected finite numbers; drop such rows")
    size = values.abs().max()
    if not size:
        raise ValueError("features that are all zero; expected some that are not; look at the encoder")
    values = values / size  # so that no square overflows or vanishes
    small = values.T @ values if len(values) > values.shape[1] else values @ values.T
    singular = torch.linalg.eigvalsh(small).clamp(min=0).sqrt()
    shares = singular / singular.sum() + EPSILON
    return float((-(shares * shares.log()).sum()).exp())
