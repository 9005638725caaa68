"""A split of images with label maps for evaluation: each map in its own size, dealt out to ranks by fixed chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from seit_ray.batches.images import ImageRows
from seit_ray.images.decoded import MASK, Decoding, ahead, decoded_chunks
from seit_ray.images.label_maps import unpack_map
from seit_ray.shards.dataset import TokenDataset
from seit_ray.storage import Folder
from seit_ray.training.world import World

MAX_THREADS = 8  # that decode


class PairBatch(NamedTuple):
    """rows int64 [B]: numbers in the split; inputs: tokens int64 [B,L] or images uint8 [B,3,H,W]; maps, keys: of each.

    rejected: (key, reason) of images that could not be read, or have no map that fits.
    """

    rows: np.ndarray
    inputs: Tensor
    maps: list[np.ndarray]
    keys: list[str]
    rejected: list[tuple[str, str]]


class Pairs(Protocol):
    """Images with label maps: what an evaluation reads."""

    def __len__(self) -> int:
        """All of the split."""

    def batches(self, batch_size: int, world: World) -> Iterator[PairBatch]:
        """This rank's chunks; together the ranks see each pair exactly once. On the host."""


@dataclass(frozen=True)
class TokenPairs:
    """Those of a token dataset."""

    dataset: TokenDataset
    split: str

    def __len__(self) -> int:
        return self.dataset.split(self.split).rows

    def batches(self, batch_size: int, world: World) -> Iterator[PairBatch]:
        """A shard is read by the ranks that have a chunk of it."""
        first, number = 0, 0
        for shard in self.dataset.split(self.split).shards:
            starts = range(0, shard.rows, batch_size)
            mine = [start for place, start in enumerate(starts) if (number + place) % world.size == world.rank]
            found = self.dataset.read_shard(self.split, shard) if mine else None
            for start in mine:
                assert found is not None  # this rank has chunks of it
                some = found.slice(start, min(start + batch_size, shard.rows))
                yield PairBatch(
                    first + np.arange(start, start + len(some)),
                    torch.from_numpy(some.tokens.astype(np.int64)),
                    [unpack_map(data) for data in some.meta[MASK].to_pylist()],
                    some.meta["key"].to_pylist(),
                    [],
                )
            first, number = first + shard.rows, number + len(starts)


@dataclass(frozen=True)
class ImagePairs:
    """Those of a source of pairs, decoded by `decoding`, which asks for the maps."""

    listed: ImageRows
    images: Folder
    decoding: Decoding

    def __len__(self) -> int:
        return sum(self.listed.shard_rows)

    def batches(self, batch_size: int, world: World) -> Iterator[PairBatch]:
        """A shard of the listing is a rank's; decoded in threads, ahead."""
        starts = np.cumsum([0, *self.listed.shard_rows])

        def decode(shard: int) -> list[PairBatch]:
            listed = self.listed.read(shard)
            first, ids = starts[shard], listed["id"].to_numpy()
            found = []
            for some in decoded_chunks(listed, self.images, self.decoding):
                rejected = list(zip(*(some.rejected[name].to_pylist() for name in ("key", "reason")), strict=True))
                rows = first + np.searchsorted(ids, some.rows["id"].to_numpy())
                maps = [unpack_map(data) for data in some.rows[MASK].to_pylist()]
                pixels = torch.from_numpy(some.pixels)
                found.append(PairBatch(rows, pixels, maps, some.rows["key"].to_pylist(), rejected))
            return found

        mine = range(world.rank, len(starts) - 1, world.size)
        for part in ahead(decode, mine, min(MAX_THREADS, torch.get_num_threads())):
            for batch in part:
                yield from cut(batch, batch_size)


def cut(batch: PairBatch, batch_size: int) -> Iterator[PairBatch]:
    """A batch as some of that size at most; the rejects go with the first."""
    for start in range(0, max(1, len(batch.rows)), batch_size):
        here = slice(start, start + batch_size)
        rejected = batch.rejected if not start else []
        yield PairBatch(batch.rows[here], batch.inputs[here], batch.maps[here], batch.keys[here], rejected)
