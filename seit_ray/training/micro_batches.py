"""A rank's rows of a step in micro-batches, which halve where the device has no memory for them. G global batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from seit_ray.batches.batch import HostBatch
from seit_ray.batches.contract import SampleStore
from seit_ray.batches.sampler import part_spans, rank_span
from seit_ray.training.settings import LoopSettings
from seit_ray.training.world import World

Parts = list[tuple[slice, HostBatch]]  # micro-batches: rows of the global batch, and what they hold


class MicroBatches:
    """Cuts steps into micro-batches; `limit` is the most rows of one, None for as many as there are."""

    def __init__(self, settings: LoopSettings, world: World, on_note: Callable[[str], None]):
        self.settings, self.world, self.on_note = settings, world, on_note
        self.limit = settings.max_micro_batch

    def of_step(self, store: SampleStore, step: int) -> Parts:
        """This rank's micro-batches of a step, read from the store."""
        settings, world = self.settings, self.world
        rows = store.step_rows(settings.global_batch_size, settings.seed, step)
        mine = rank_span(settings.global_batch_size, world.rank, world.size)
        spans = part_spans(mine, settings.accum_steps, self.limit)
        pinned = world.device.type == "cuda"
        return [(span, store.host_batch(rows[span], pinned=pinned)) for span in spans]

    def fitted(self, parts: Parts) -> Parts:
        """Micro-batches that were cut before, within the limit of now; the gradients of a step stay the same."""
        cut = []
        for span, batch in parts:
            for part in part_spans(span, 1, self.limit):
                rows = slice(part.start - span.start, part.stop - span.start)
                cut.append((part, HostBatch(batch.inputs[rows], batch.labels[rows])))
        return cut

    def halve(self, step: int, parts: Parts, *, alone: bool = False) -> Parts:
        """Smaller micro-batches of a step that ran out of memory; ValueError where they cannot be halved here.

        alone: the other ranks do not wait for what this one is at.
        """
        most = max(len(batch) for _, batch in parts)
        half = most // 4 * 2  # pairs stay together
        lost = f"out of memory at step {step + 1} with micro-batches of {most} samples"
        if half < 2:
            raise ValueError(
                f"{lost}; expected memory for a pair of them; take a smaller model, or a device with more memory"
            )
        if self.world.size > 1 and not alone:  # the others wait for this rank's gradients
            raise ValueError(f"{lost}; expected what fits into the device; set loop.max_micro_batch={half}")
        self.limit = half
        if self.world.device.type == "cuda":
            torch.cuda.empty_cache()
        self.on_note(f"{lost}: {half} from here on, as loop.max_micro_batch={half} has it from the start")
        return self.fitted(parts)

    def fitting(
        self, add: Callable[[Parts], Tensor], step: int, parts: Parts, *, drop: Callable[[], None], alone: bool = False
    ) -> Tensor:
        """What `add` makes of a step's micro-batches; where memory runs out, of smaller ones after a `drop`."""
        parts = self.fitted(parts)
        while True:
            try:
                return add(parts)
            except torch.OutOfMemoryError:
                pass  # what it holds is let go of first
            drop()
            parts = self.halve(step, parts, alone=alone)

    def try_memory(
        self, add: Callable[[Parts], Tensor], model: nn.Module, parts: Parts, *, drop: Callable[[], None]
    ) -> None:
        """Find what fits before the ranks meet in a step, with the largest micro-batch; the least counts for all."""
        reserve = [torch.empty_like(p) for p in model.parameters() for _ in range(2)]  # the optimizer's, from now on
        add(parts[:1])
        del reserve
        drop()
        limits = [limit for limit in self.world.gather(self.limit) if limit is not None]
        self.limit = min(limits, default=None)
