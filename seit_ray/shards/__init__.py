"""Tokens -> Parquet and back: encodings, shards, fragments, the dataset and its marker, statistics, verification."""

from seit_ray.shards.dataset import TokenDataset

__all__ = ["TokenDataset"]
