"""Random numbers that are a pure function of (seed, step, stream, row of the global batch)."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["StepRandom", "derive_seed"]

# The constants of SplitMix64 (Steele, Lea, Flood 2014), as signed integers: torch has no unsigned arithmetic.
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def derive_seed(seed: int, step: int, stream: str) -> int:
    """Return a 63-bit seed that is a pure function of its arguments, for generators that want one."""
    digest = hashlib.blake2b(f"{seed}/{step}/{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _shift_right(x: Tensor, bits: int) -> Tensor:
    # torch shifts signed integers arithmetically; the mask takes the copies of the sign bit away.
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix_(x: Tensor) -> Tensor:
    # In place, as far as it goes: drawing is bound by memory.
    x.bitwise_xor_(_shift_right(x, 30)).mul_(_MIX_1)
    x.bitwise_xor_(_shift_right(x, 27)).mul_(_MIX_2)
    return x.bitwise_xor_(_shift_right(x, 31))


@functools.lru_cache(maxsize=8)
def _normal_levels(device: torch.device) -> Tensor:
    """65,536 equally likely levels of the standard normal distribution, float32, lowest first, each on its device."""
    middles = (torch.arange(1 << 16, dtype=torch.float64) * 2 + 1) / (1 << 16) - 1
    return (torch.erfinv(middles) * math.sqrt(2.0)).float().to(device)


class StepRandom:
    """The random numbers of one step, for the rows of the global batch that this rank holds.

    A row's numbers depend on seed, step, stream name and the row's place in the global batch, and on nothing
    else: any number of workers, any split into micro-batches and any device draw the same. They come from a
    counter-based generator (SplitMix64), so that a rank computes its own rows only; a sequential one would
    have every rank draw the whole global batch, and would differ between CPU and GPU. Equal (seed, step,
    stream) give equal numbers: name every use. A slice of rows outside the global batch is a ValueError; a
    tensor of row numbers is not looked at, since that would wait for the device.
    """

    def __init__(
        self,
        seed: int,
        step: int,
        rows: slice | Tensor,
        global_batch_size: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.seed, self.step, self.global_batch_size = seed, step, global_batch_size
        self._range: range | None = None
        if isinstance(rows, slice):
            start, stop, stride = rows.start or 0, rows.stop, rows.step or 1
            stop = global_batch_size if stop is None else stop
            if not 0 <= start <= stop <= global_batch_size or stride < 1:
                raise ValueError(
                    f"rows {start}:{stop}:{stride} of a global batch of {global_batch_size}; expected a "
                    "rising slice within it; pass this rank's rows and the size of the whole batch"
                )
            self._range = range(start, stop, stride)
            rows = torch.arange(start, stop, stride, device=device)
        self.rows = rows.to(device=device, dtype=torch.int64)

    def at(self, rows: Tensor) -> StepRandom:
        """Return the same step's numbers for other rows of the global batch, for example the first of each pair."""
        return StepRandom(self.seed, self.step, rows, self.global_batch_size, self.rows.device)

    def host_rows(self) -> Sequence[int]:
        """Return the row numbers on the host. Only where they were given as a tensor does it wait for the device."""
        return tuple(self.rows.tolist()) if self._range is None else self._range

    def _bits(self, stream: str, shape: tuple[int, ...]) -> Tensor:
        """Return 64 random bits in each of [rows,*shape], int64."""
        count = math.prod(shape)
        element = torch.arange(count, device=self.rows.device)
        counter = self.rows.unsqueeze(1) * count + element
        key = derive_seed(self.seed, self.step, stream)
        return _mix_(counter.mul_(_GAMMA).add_(key)).reshape(-1, *shape)

    def uniform(self, stream: str, *shape: int) -> Tensor:
        """Return float32 numbers in [0,1) for this rank's rows, [rows,*shape]; the same bits everywhere."""
        return _shift_right(self._bits(stream, shape), 40).float() * 2.0**-24

    def normal(self, stream: str, *shape: int) -> Tensor:
        """Return float32 standard normal numbers for this rank's rows, [rows,*shape], within +-5.4."""
        # Odd multiples of 2^-23 between -1 and 1: exact in float32 and never +-1, where erfinv is infinite.
        odd = (_shift_right(self._bits(stream, shape), 41) * 2 + 1 - (1 << 23)).float()
        return torch.erfinv(odd * 2.0**-23) * math.sqrt(2.0)

    def coarse_normal(self, stream: str, *shape: int) -> Tensor:
        """Return float32 standard normal numbers on 65,536 levels, [rows,*shape], within +-4.4.

        Four of them from 64 bits, by lookup: for noise on whole maps, where `normal` would be most of the work.
        """
        count = math.prod(shape)
        levels = self._bits(stream, ((count + 3) // 4,)).view(torch.int16).int().add_(1 << 15)
        values = _normal_levels(self.rows.device).index_select(0, levels.flatten()).view(levels.shape)
        return values[:, :count].reshape(-1, *shape)

    def integers(self, stream: str, high: int, *shape: int) -> Tensor:
        """Return int64 numbers 0 to high - 1 for this rank's rows, [rows,*shape]; high is 2^31 at most."""
        if not 1 <= high <= 1 << 31:
            raise ValueError(f"high {high}; expected 1 to 2^31; draw in two steps for more")
        return (_shift_right(self._bits(stream, shape), 32) * high) >> 32

    def number(self, stream: str) -> float:
        """Return one float in [0,1) for the whole global batch: the same on every rank."""
        return (derive_seed(self.seed, self.step, stream) >> 10) * 2.0**-53
