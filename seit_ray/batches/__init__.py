"""Shards -> batches: stores of tokens and of images, and a sampler that is a pure function."""

from seit_ray.batches.batch import Batch
from seit_ray.batches.images import ImageStore
from seit_ray.batches.sampler import num_steps, rank_span, step_rows
from seit_ray.batches.store import TokenStore

__all__ = ["Batch", "ImageStore", "TokenStore", "num_steps", "rank_span", "step_rows"]
