"""torch.compile for a training: the blocks of a model, one by one, and none of it while it is evaluated.

Blocks are nearly all of the work, and alike: what is compiled for one serves all of them, so that it takes seconds, and
gradients of the last blocks are on their way to the other ranks while the first ones are computed. What is around them
changes its shapes from step to step (masks), and stays as it is.
"""

from __future__ import annotations

import contextlib
import importlib.util

import torch
from torch import nn

MOST_VARIANTS = 64  # of one block: by its mode, its drop path, the rows of a batch; torch gives up after 8
OLDEST_CHIP = (7, 0)  # compute capability that Triton makes kernels for


def compiles_on(device: torch.device, asked: bool | None) -> bool:
    """Whether a training there compiles: as asked, else where there is a GPU that Triton makes kernels for."""
    if asked is not None:
        return asked
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= OLDEST_CHIP


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The members of a model's lists of modules, of nested ones the outermost; the model itself where it has none."""
    found: list[nn.Module] = []

    def walk(module: nn.Module) -> None:
        for child in module.children():
            if type(child) is nn.ModuleList:
                found.extend(child)
            else:
                walk(child)

    walk(model)
    return found or [model]


def compile_blocks(model: nn.Module) -> None:
    """Have the blocks compiled when they are called next, in place.

    Each for its own shapes: blocks of one class share their code, and widths or lengths that differ between the
    encoder's and the decoder's would count as dynamic. Nor is a block cut where the gradients' buckets end, as DDP
    has it for a model that is compiled whole: gradients leave between blocks anyway.
    """
    import torch._dynamo.config as limits  # of the package that is loaded by the first compilation anyway

    limits.recompile_limit = max(limits.recompile_limit, MOST_VARIANTS)
    limits.optimize_ddp = False
    for block in blocks_of(model):
        block.compile(dynamic=False)


def uncompiled(active: bool) -> contextlib.AbstractContextManager[object]:
    """A block in which nothing is compiled, nor anything that was is run; of no effect unless `active`.

    Evaluation has its own modes and a last batch of its own size: each would be compiled anew for a few calls.
    """
    return torch.compiler.set_stance("force_eager") if active else contextlib.nullcontext()
