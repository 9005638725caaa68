"""Shards -> batches: stores of tokens and of images, streams, and a sampler that is a pure function."""

from seit_ray.batches.batch import Batch, HostBatch
from seit_ray.batches.images import ImageStore
from seit_ray.batches.sampler import num_steps, part_spans, rank_span, step_rows
from seit_ray.batches.store import TokenStore
from seit_ray.batches.stream import TokenStream, open_split

__all__ = [
    "Batch",
    "HostBatch",
    "ImageStore",
    "TokenStore",
    "TokenStream",
    "num_steps",
    "open_split",
    "part_spans",
    "rank_span",
    "step_rows",
]
