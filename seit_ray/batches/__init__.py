"""Shards -> batches: a store of tokens in memory, a sampler that is a pure function, a loader onto the device."""

from seit_ray.batches.loader import load_batch
from seit_ray.batches.sampler import num_steps, rank_span, step_rows
from seit_ray.batches.store import TokenStore

__all__ = ["TokenStore", "load_batch", "num_steps", "rank_span", "step_rows"]
