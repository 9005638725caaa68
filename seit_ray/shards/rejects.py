"""How many images of a tokenising job may be rejected."""

from __future__ import annotations

from seit_ray.images.manifest import Manifest
from seit_ray.shards.dataset import DatasetInfo


class RejectLimit:
    """Counts rejects; more than the allowed share of all listed images ends the job."""

    def __init__(self, total: int, rejected: int, max_fraction: float):
        self.total, self.rejected, self.max_fraction = total, rejected, max_fraction

    @classmethod
    def of(
        cls, manifest: Manifest, base: DatasetInfo | None, retried: dict[str, set[str]], max_fraction: float
    ) -> RejectLimit:
        """Of all images, with those of a dataset that is appended to, but for rejects that get another chance."""
        before = list(base.splits.values()) if base is not None else []
        again = sum(map(len, retried.values()))
        total = sum(split.num_images for split in manifest.splits.values()) + sum(s.listed for s in before) - again
        return cls(total, sum(split.rejected for split in before) - again, max_fraction)

    def add(self, rejected: int) -> None:
        """Count; ValueError as soon as the limit is passed."""
        self.rejected += rejected
        self.check()

    def check(self) -> None:
        """ValueError when the limit is passed."""
        if self.rejected > self.max_fraction * self.total:
            raise ValueError(
                f"{self.rejected} of {self.total} images could not be read; expected at most "
                f"{self.max_fraction:.1%} (tokenize.max_reject_fraction); mend the images or raise the share and "
                "run again: finished work is kept"
            )

    def words(self) -> str:
        """For a progress line."""
        return f"{self.rejected} rejected" if self.rejected else ""
