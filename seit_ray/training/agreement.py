"""What all ranks have to know of a step, without waiting for the device: a bad loss, a request to save or to stop."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import torch
from torch import Tensor

from seit_ray.training.requests import Requests
from seit_ray.training.world import World

LAG_STEPS = 2  # on a GPU, flags are read when the device is two steps further: it never runs dry


class Flags(NamedTuple):
    """Of step number `step`, alike on all ranks: bad steps in a row up to it, what was asked of any rank before it."""

    step: int
    bad_in_a_row: int
    stop: bool
    save: bool


Told = list[Flags]  # in the order of their steps


class Agreement:
    """Adds up the ranks' flags on the device, a few bytes a step, and reads them late."""

    def __init__(self, world: World, requests: Requests):
        self.world, self.requests = world, requests
        self.lag = LAG_STEPS if world.device.type == "cuda" else 0
        self.bad_in_a_row = torch.zeros((), device=world.device)
        self._waiting: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()

    def settle(self, step: int, bad: Tensor, norm: Tensor) -> Tensor:
        """1.0 when step number `step` must not count: a `bad` loss (bool) on any rank, or a norm that is not finite.

        The norm is that of the reduced gradients, the same on all ranks.
        """
        asked = [torch.full((), float(flag), device=bad.device) for flag in (self.requests.stop, self.requests.save)]
        flags = self.world.sum(torch.stack([bad.float(), *asked]))
        found = ((flags[0] > 0) | ~norm.isfinite()).float()
        self.bad_in_a_row = (self.bad_in_a_row + 1) * found
        flags[0] = self.bad_in_a_row
        self._waiting.append((step, *self._fetch(flags)))
        return found

    def _fetch(self, flags: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        if flags.device.type != "cuda":
            return flags, None
        host = torch.empty(flags.shape, dtype=flags.dtype, pin_memory=True)
        host.copy_(flags, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return host, event

    def read(self, *, last: bool = False) -> Told:
        """Flags of the step LAG_STEPS ago, if there is one; of all that wait where it is the last or one asks to stop.

        In the order of steps: a run that ends leaves no bad step unheeded.
        """
        found: Told = []
        while self._waiting and (last or len(self._waiting) > self.lag):
            step, values, event = self._waiting.popleft()
            if event is not None:
                event.synchronize()
            bad, stop, save = values.tolist()
            found.append(Flags(step, int(bad), stop > 0, save > 0))
            last |= found[-1].stop
        return found
