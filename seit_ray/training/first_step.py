"""What a GPU is asked before its first step: operations of a sample, the largest micro-batch that fits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seit_ray.training.compiling import compile_blocks, uncompiled
from seit_ray.training.device_memory import is_out_of_memory
from seit_ray.training.gradients import add_gradients
from seit_ray.training.micro_batches import Parts, first_rows
from seit_ray.training.throughput import FlopCounter, Throughput

if TYPE_CHECKING:
    from seit_ray.training.loop import Trainer

COUNTED_ROWS = 2  # a pair; operations are in proportion to the rows


def take_first_step(trainer: Trainer, model: nn.Module, step: int, parts: Parts, speed: Throughput) -> None:
    """The first step of this process, and what is compiled from then on.

    On a GPU, and where blocks are compiled, a pair of samples and then larger micro-batches are tried before, not
    compiled, and leave nothing. Where the ranks meet in a forward none may try by itself, and then the first step is
    not compiled; on a CPU nothing is lost by counting in the step itself.
    """
    meets = getattr(trainer.objective, "collective", False)
    if (trainer.world.device.type == "cuda" or trainer.compiles) and not meets:
        try_out(trainer, model, step, parts, speed)
        trainer.micro_batches.memory.watch()  # what was tried in vain is no memory of the training
        trainer.step(model, step, parts)
        return
    if not trainer.world.is_main:
        with uncompiled(trainer.compiles):
            trainer.step(model, step, parts)
    else:
        limit = trainer.micro_batches.limit
        with uncompiled(trainer.compiles), FlopCounter() as counted:
            trainer.step(model, step, parts)
        if trainer.micro_batches.limit == limit:  # else what was tried in vain is among it
            speed.flops_per_sample = counted.flops / sum(len(batch) for _, batch in parts)
    if trainer.compiles:
        compile_blocks(trainer.model)


def try_out(trainer: Trainer, model: nn.Module, step: int, parts: Parts, speed: Throughput) -> None:
    """Count the operations of a sample, find the largest micro-batch that fits, and have it compiled where asked.

    All by gradients that are dropped.
    """
    add = functools.partial(
        add_gradients,
        model,
        trainer.objective,
        step,
        settings=trainer.settings,
        world=trainer.world,
        precision=trainer.precision,
        on_loss=lambda metrics, share: None,
        synced=False,
    )
    pair = first_rows(parts, COUNTED_ROWS)
    with uncompiled(trainer.compiles):  # as another training may have left the model
        with FlopCounter() as counted:
            add(pair)
        speed.flops_per_sample = counted.flops / len(pair[0][1])
        trainer.drop_step()
        trainer.micro_batches.find_largest(add, trainer.optimizer, step, parts, drop=trainer.drop_step)
    if not trainer.compiles:
        return
    compile_blocks(trainer.model)
    if trainer.settings.compile is None and (reason := why_not_compiled(add, trainer, parts)):
        trainer.compiles = False
        trainer.on_progress("train", 0, 0, f"not compiled, as this machine cannot: {reason}")


def why_not_compiled(add: Callable[[Parts], Tensor], trainer: Trainer, parts: Parts) -> str:
    """What a compiled pass says that fails for the compiler's sake, after which nothing is compiled; '' if none does.

    Who asks for compilation gets the error itself; by default a machine without a C compiler still trains.
    """
    from torch._dynamo.exc import TorchDynamoException

    try:
        add(first_rows(trainer.micro_batches.fitted(parts), len(parts[0][1])))
    except TorchDynamoException as error:
        torch.compiler.set_stance("force_eager")
        return " ".join(str(error).split())[:200]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return ""  # the step itself halves what is too large
    finally:
        trainer.drop_step()
    return ""
