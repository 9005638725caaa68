"""The actors of a tokenising job: a part of the manifest -> a shard, its rejects and its record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from seit_ray.distributed.data.parts import PartSource, PartWorker, peak_bytes
from seit_ray.images.decoded import DecodedImages
from seit_ray.images.manifest import PART_COLUMNS
from seit_ray.progress import Times
from seit_ray.shards.parquet import MASK, META, REJECTED_SCHEMA, TokenRows
from seit_ray.shards.parts import Part, PartFiles
from seit_ray.shards.rejects import RejectLimit
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.tokenizers.uploads import parts_on


class TokenizeParts(PartWorker):
    """Images -> tokens, with the tokenizer on the actor's device."""

    def __init__(
        self,
        source: PartSource,
        files: PartFiles,
        limit: RejectLimit,
        tokenizer: Folder,
        mark: str,
        batch_size: int,
        **options: Any,
    ):
        super().__init__(source, **options)
        self.files, self.limit, self.batch_size = files, limit, batch_size
        self.tokenizer, about = self.patiently(lambda: load_tokenizer(tokenizer))
        if about["fingerprint"] != mark:
            raise ValueError(
                f"tokenizer {tokenizer.uri} has fingerprint {about['fingerprint']}; expected {mark}, the job's: it was "
                "fitted anew meanwhile; restore it, or tokenise into a new output"
            )
        self.tokenizer.to(self.device)

    @property
    def records(self) -> Folder:
        return self.files.records

    def part(self, split: str, index: int, decoded: Iterable[DecodedImages], times: Times) -> Callable[[], Part]:
        """Encode the images as they come."""
        tokens, rows, rejected = [], [], []
        bad = 0
        for images in decoded:
            times.add("wait" if self.num_tasks else "decode")
            rows.append(images.rows)
            rejected.append(images.rejected)
            if len(images.rejected):
                bad += len(images.rejected)
                self.limit.check_part(bad, images.rejected["reason"][-1].as_py())
            if len(images.rows):
                with self.turn:
                    tokens.append(self.encode(images.pixels))
            times.add("encode")
            del images  # no chunk is kept while the next is waited for
        # one wait for the device
        codes = torch.cat(tokens).cpu().numpy().astype(np.uint16) if tokens else self.no_tokens()
        times.add("encode")
        good, refused = pa.concat_tables(rows), pa.concat_tables(rejected)
        listed = pa.concat_tables([good.select(PART_COLUMNS), refused.select(PART_COLUMNS)]).sort_by("id")
        kept = [*META, *({MASK} & {*good.column_names})]
        shard, rejects = TokenRows(codes, good.select(kept)), refused.select(REJECTED_SCHEMA.names)
        peak = peak_bytes()
        return lambda: self.files.write(split, index, shard, rejects, listed, times=times, peak_bytes=peak)

    def encode(self, images: np.ndarray) -> torch.Tensor:
        """Tokens int32 [N,L] on the device, of uint8 images [N,3,H,W], N at least 1."""
        # a copy: torch warns of memory that may only be read, as that of Ray's objects
        pixels = torch.from_numpy(images if images.flags.writeable else images.copy())
        parts = parts_on(self.device, pixels, self.batch_size)
        return torch.cat([self.tokenizer.encode(part).to(torch.int32) for part in parts])

    def no_tokens(self) -> np.ndarray:
        """Tokens [0,L]."""
        rows, columns = self.tokenizer.grid
        return np.empty((0, rows * columns), np.uint16)
