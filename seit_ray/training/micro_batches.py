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

PAIR = 2  # rows that stay together, and so the least
USED_SHARE = 0.85  # of a device's memory at most, by what is taken to fit: the rest is lost between tensors
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
        if self.world.device.type == "cuda":
            torch.cuda.empty_cache()
        self.on_note(f"{lost}: {half} from here on, as loop.max_micro_batch={half} has it from the start")
        return self.fitted(parts)

    def fitting(self, add: Callable[[Parts], Tensor], step: int, parts: Parts, *, drop: Callable[[], None]) -> Tensor:
        """What `add` makes of a step's micro-batches; where memory runs out, of smaller ones after a `drop`."""
        parts = self.fitted(parts)
        while True:
            try:
                return add(parts)
            except torch.OutOfMemoryError:
                pass  # what it holds is let go of first
            drop()
            parts = self.halve(step, parts)

    def find_largest(
        self,
        add: Callable[[Parts], Tensor],
        model: nn.Module,
        step: int,
        parts: Parts,
        *,
        drop: Callable[[], None],
    ) -> None:
        """Set the limit to the largest power of two that fits, tried from a pair upwards, or leave it if all does.

        No rank waits for another meanwhile; the least of all ranks counts for each. ValueError where no pair fits.
        """
        most = max(len(batch) for _, batch in parts)
        reserve = [torch.empty_like(p) for p in model.parameters() for _ in range(2)]  # the optimizer's, from now on
        best, rows = 0, PAIR
        while best < most and self.fits(add, first_rows(parts, min(rows, most)), drop):
            best, rows = min(rows, most), 2 * rows
        del reserve
        found = self.world.gather(best)
        if not min(found):
            raise no_room(f"out of memory at step {step + 1} with micro-batches of {PAIR} samples")
        if min(found) < most:
            self.limit = min(found)
            self.on_note(f"micro-batches of {self.limit} samples, the most that fit; loop.max_micro_batch sets others")

    def fits(self, add: Callable[[Parts], Tensor], parts: Parts, drop: Callable[[], None]) -> bool:
        """Whether there is memory for the gradients of micro-batches, and some is left; a `drop` follows."""
        device = self.world.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        try:
            add(parts)
            fits = not is_crowded(device)
        except torch.OutOfMemoryError:
            fits = False
        drop()
        if device.type == "cuda":
            torch.cuda.empty_cache()  # pieces of this size are in the way of the next
        return fits


def first_rows(parts: Parts, rows: int) -> Parts:
    """The first rows of the largest micro-batch, as the only one; as many as it has at most."""
    span, batch = max(parts, key=lambda part: len(part[1]))
    stop = min(rows, len(batch))
    return [(slice(span.start, span.start + stop), HostBatch(batch.inputs[:stop], batch.labels[:stop]))]


def is_crowded(device: torch.device) -> bool:
    """Whether the device came so near to its memory's end that the next step might not fit; False for a CPU."""
    if device.type != "cuda":
        return False
    total = torch.cuda.get_device_properties(device).total_memory
    return torch.cuda.max_memory_allocated(device) > USED_SHARE * total


def no_room(lost: str) -> ValueError:
    """The error where not even a pair of samples fits."""
    return ValueError(f"{lost}; expected memory for a pair of them; take a smaller model, or a device with more memory")
