"""Random numbers, codes and geometries for tests."""

import torch

from seit_ray.augment.geometry import Geometry
from seit_ray.augment.random import StepRandom

STILL = {"flip_prob": 0.0, "affine_prob": 0.0, "area": (1.0, 1.0)}
WILD = {"affine_prob": 1.0, "link_prob": 0.7, "area": (0.2, 1.0)}


def rows(num, step=0):
    """The random numbers of a whole batch."""
    return StepRandom(7, step, slice(0, num), num)


def tokens_of(num, side, num_codes, seed=0):
    """Seeded codes."""
    return torch.randint(num_codes, (num, side * side), generator=torch.Generator().manual_seed(seed))


def shifted(num, *, x=0.0, y=0.0, flip=False):
    """One geometry for all rows: a shift in shares of the side, or a flip."""
    zero = torch.zeros(num)
    boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(num, 4)
    return Geometry(torch.full((num,), flip), zero, zero + x, zero + y, zero, zero, boxes)
