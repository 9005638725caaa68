"""A rank's rows of a step in micro-batches, which halve where the device has no memory for them. G global batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from seit_ray.batches.batch import HostBatch
from seit_ray.batches.contract import SampleStore
from seit_ray.batches.sampler import part_spans, rank_span
from seit_ray.training.device_memory import DeviceMemory, is_out_of_memory
from seit_ray.training.settings import LoopSettings
from seit_ray.training.world import World

PAIR = 2  # rows that stay together, and so the least
Parts = list[tuple[slice, HostBatch]]  # micro-batches: rows of the global batch, and what they hold


class MicroBatches:
    """Cuts steps into micro-batches; `limit` is the most rows of one, None for as many as there are."""

    def __init__(self, settings: LoopSettings, world: World, on_note: Callable[[str], None]):
        self.settings, self.world, self.on_note = settings, world, on_note
        self.limit, self.has_fitted = settings.max_micro_batch, False
        self.memory = DeviceMemory(world.device)

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

    def halve(self, step: int, parts: Parts) -> Parts:
        """Smaller micro-batches of a step that ran out of memory; ValueError where they cannot be halved here."""
        most = max(len(batch) for _, batch in parts)
        half = most // 4 * 2  # pairs stay together
        lost = f"out of memory at step {step + 1} with micro-batches of {most} samples"
        if half < PAIR:
            raise no_room(lost)
        if self.world.size > 1:  # the others wait for this rank's gradients
            raise ValueError(f"{lost}; expected what fits into the device; set loop.max_micro_batch={half}")
        self.limit = half
        self.memory.let_go()
        self.on_note(f"{lost}: {half} from here on, as loop.max_micro_batch={half} has it from the start")
        return self.fitted(parts)

    def fitting(self, add: Callable[[Parts], Tensor], step: int, parts: Parts, *, drop: Callable[[], None]) -> Tensor:
        """What `add` makes of a step's micro-batches; where memory runs out, of smaller ones after a `drop`."""
        parts = self.fitted(parts)
        while True:
            try:
                return add(parts)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # what the error holds is let go of first
            drop()
            parts = self.halve(step, parts)

    def restore(self, limit: int | None) -> None:
        """Go on with the limit of a checkpoint, for other micro-batches draw another dropout; a lower one set counts.

        What has trained so far is taken to fit, unless memory runs out.
        """
        if limit is not None:
            self.limit = limit if self.limit is None else min(limit, self.limit)
            self.has_fitted = self.limit == limit

    def find_largest(
        self,
        add: Callable[[Parts], Tensor],
        optimizer: torch.optim.Optimizer,
        step: int,
        parts: Parts,
        *,
        drop: Callable[[], None],
    ) -> None:
        """Set the limit to the largest power of two that fits, tried from a pair upwards, or leave it if all does.

        No rank waits for another meanwhile; the least of all ranks counts for each. ValueError where no pair fits.
        """
        most = max(len(batch) for _, batch in parts)
        reserve = [torch.empty_like(p) for p in stateless(optimizer) for _ in range(2)]  # its own, from now on
        as_before = self.has_fitted and self.taken(add, first_rows(parts, most), drop) is not None
        best = most if as_before else self.largest(add, parts, most, drop)
        del reserve
        found = self.world.gather((best, best == most))
        if not min(rows for rows, _ in found):
            raise no_room(f"out of memory at step {step + 1} with micro-batches of {PAIR} samples")
        lacking = [rows for rows, fits_all in found if not fits_all]  # a smaller share of the batch lacks nothing
        if lacking:
            self.limit = min(lacking)
            self.on_note(f"micro-batches of {self.limit} samples, the most that fit; loop.max_micro_batch sets others")

    def largest(self, add: Callable[[Parts], Tensor], parts: Parts, most: int, drop: Callable[[], None]) -> int:
        """Rows that fit, twice as many at a time; 0 where no pair does.

        What would take more than the budget by how it has grown so far is not tried: others may be on the device.
        """
        budget = self.memory.budget()
        best, before, rows, expected = 0, self.memory.watch(), min(PAIR, most), 0.0
        while best < most and expected <= budget:
            taken = self.taken(add, first_rows(parts, rows), drop)
            if taken is None or taken > budget:
                break
            more = min(2 * rows, most)
            expected = taken + (taken - before) / (rows - best) * (more - rows)
            best, before, rows = rows, taken, more
        return best

    def taken(self, add: Callable[[Parts], Tensor], parts: Parts, drop: Callable[[], None]) -> float | None:
        """Most bytes in use while gradients of micro-batches are added; None where memory ran out. A `drop` follows."""
        self.memory.watch()
        try:
            add(parts)
            found: float | None = self.memory.most()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            found = None
        drop()
        self.memory.let_go()
        return found


def stateless(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Parameters that the optimizer will keep moments of, and has none of yet."""
    return [p for group in optimizer.param_groups for p in group["params"] if not optimizer.state.get(p)]


def first_rows(parts: Parts, rows: int) -> Parts:
    """The first rows of the largest micro-batch, as the only one; as many as it has at most."""
    span, batch = max(parts, key=lambda part: len(part[1]))
    stop = min(rows, len(batch))
    return [(slice(span.start, span.start + stop), HostBatch(batch.inputs[:stop], batch.labels[:stop]))]


def no_room(lost: str) -> ValueError:
    """The error where not even a pair of samples fits."""
    return ValueError(f"{lost}; expected memory for a pair of them; take a smaller model, or a device with more memory")
