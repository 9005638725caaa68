"""Tokens -> Parquet and back: encodings, shards, parts of a job, the dataset and its marker, statistics, checks."""

from seit_ray.shards.dataset import TokenDataset

__all__ = ["TokenDataset"]
