"""How many images of a tokenising job may be rejected."""

from __future__ import annotations

from seit_ray.images.manifest import Manifest
from seit_ray.shards.dataset import DatasetInfo

EARLY_IMAGES, EARLY_SHARE = (
    1000,
    0.5,
)  # after how many the limit is looked at, and what share is too many whatever comes


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

    def check_early(self, seen: int, rejected: int) -> None:
        """ValueError when nearly all of the first images of a job cannot be read, before all others are tried."""
        if seen >= EARLY_IMAGES and rejected > max(EARLY_SHARE, self.max_fraction) * seen:
            raise ValueError(
                f"{rejected} of the first {seen} images could not be read; expected at most {self.max_fraction:.1%} of "
                "all (tokenize.max_reject_fraction); see their reasons with seit-ray status, and mend the images or "
                "the settings of the source"
            )

    def words(self) -> str:
        """For a progress line."""
        return f"{self.rejected} rejected" if self.rejected else ""
