"""How many images of a tokenising job may be rejected."""

from __future__ import annotations

from seit_ray.images.manifest import Manifest
from seit_ray.shards.marker import DatasetInfo

EARLY_IMAGES, EARLY_PARTS, EARLY_SHARE = 1000, 3, 0.9  # after how many, what share tells of a wrong source


class RejectLimit:
    """Counts rejects; more than the allowed share of all listed images ends the job."""

    def __init__(self, total: int, rejected: int, max_fraction: float):
        self.total, self.before, self.max_fraction = total, rejected, max_fraction
        self.rejected = rejected

    @classmethod
    def of(
        cls, manifest: Manifest, base: DatasetInfo | None, retried: dict[str, set[str]], max_fraction: float
    ) -> RejectLimit:
        """Of all images, with those of a dataset that is appended to, but for rejects that get another chance."""
        before = list(base.splits.values()) if base is not None else []
        again = sum(map(len, retried.values()))
        total = sum(split.num_images for split in manifest.splits.values()) + sum(s.listed for s in before) - again
        return cls(total, sum(split.rejected for split in before) - again, max_fraction)

    def begin(self, rejected: int) -> None:
        """Count anew, with those of finished parts."""
        self.rejected = self.before + rejected

    def add(self, rejected: int) -> None:
        """Count; ValueError as soon as the limit is passed."""
        self.rejected += rejected
        self.check()

    def check(self) -> None:
        """ValueError when the limit is passed."""
        if self.rejected > self.max_fraction * self.total:
            raise self.too_many(self.rejected)

    def check_part(self, rejected: int, reason: str) -> None:
        """ValueError when the rejects of one part pass the limit by themselves; reason: of the last of them."""
        if rejected > self.max_fraction * self.total:
            raise self.too_many(rejected, reason)

    def check_early(self, parts: int, seen: int) -> None:
        """ValueError when nearly all of the first images cannot be read, whatever the others are."""
        too_many = max(EARLY_SHARE, self.max_fraction) * seen
        if parts >= EARLY_PARTS and seen >= EARLY_IMAGES and self.rejected > too_many:
            raise ValueError(
                f"{self.rejected} of the first {seen} images could not be read; expected at most "
                f"{self.max_fraction:.1%} of all (tokenize.max_reject_fraction); see why with seit-ray status, and "
                "mend the images or the settings of the source"
            )

    def too_many(self, rejected: int, reason: str = "") -> ValueError:
        """The error for more than the limit."""
        why = f" (the last: {reason})" if reason else ""
        return ValueError(
            f"{rejected} of {self.total} images could not be read{why}; expected at most {self.max_fraction:.1%} "
            "(tokenize.max_reject_fraction); raise the share and run again, finished work is kept, or mend the images "
            "and tokenise into a new output"
        )

    def words(self) -> str:
        """For a progress line."""
        return f"{self.rejected} rejected" if self.rejected else ""
