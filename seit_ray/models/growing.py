"""A classifier that gets new classes: a larger head on the weights that it has, and heads of even strength."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seit_ray.models.weights import copy_entries

__all__ = ["align_head", "grow_from"]

HEAD = ("head.weight", "head.bias")  # [C,width] and [C]


def grow_from(model: nn.Module, state: Mapping[str, Tensor]) -> int:
    """Copy the weights of a classifier of fewer classes into one of more; how many classes it had.

    The rows of the head that it lacks stay as they were drawn. ValueError where it has more classes, or anything else
    that differs.
    """
    wanted = model.state_dict()
    num_old, num_new = len(state[HEAD[1]]), len(wanted[HEAD[1]])
    if num_old > num_new:
        raise ValueError(f"a head of {num_old} classes for one of {num_new}; expected no more; build it for all")
    copy_entries(
        model,
        {name: value for name, value in wanted.items() if name not in HEAD},
        {name: value for name, value in state.items() if name not in HEAD},
    )
    with torch.no_grad():
        for name in HEAD:
            wanted[name][:num_old].copy_(state[name])
    return num_old


@torch.no_grad()
def align_head(model: nn.Module, num_old: int) -> float:
    """Bring the head's rows of new classes, behind the old ones, to the mean length of these; the factor.

    A head that has just learnt new classes prefers them. Source: weight aligning (Zhao et al. 2020, "Maintaining
    discrimination and fairness in class incremental learning", section 4).
    """
    weight = model.get_parameter(HEAD[0])
    if not 0 < num_old < len(weight):
        raise ValueError(f"{num_old} old classes of {len(weight)}; expected some old and some new; count them again")
    lengths = weight.norm(dim=1)
    factor = lengths[:num_old].mean() / lengths[num_old:].mean()
    weight[num_old:] *= factor
    return float(factor)
