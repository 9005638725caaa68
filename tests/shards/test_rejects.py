"""How many images of a job may be rejected."""

import contextlib

import pytest

from seit_ray.shards.appending import first_shards
from seit_ray.shards.dataset import RejectFile, TokenDataset
from seit_ray.shards.rejects import RejectLimit
from tests.tiny_dataset import write_dataset


def test_the_limit_is_a_share_of_all_images():
    limit = RejectLimit(total=1000, rejected=4, max_fraction=0.01)
    limit.add(6)
    assert limit.words() == "10 rejected"
    with pytest.raises(ValueError, match=r"11 of 1000 images could not be read; expected at most 1\.0%"):
        limit.add(1)


@pytest.mark.parametrize(
    ("max_fraction", "seen", "rejected", "ends"),
    [
        (0.01, 999, 999, False),  # too few to tell
        (0.01, 1000, 500, False),
        (0.01, 1000, 501, True),
        (0.01, 5000, 2501, True),
        (0.8, 1000, 800, False),  # who allows more may have more
        (0.8, 1000, 801, True),
        (1.0, 1000, 1000, False),
    ],
)
def test_nearly_all_of_the_first_images_end_a_job_early(max_fraction, seen, rejected, ends):
    limit = RejectLimit(10**9, 0, max_fraction)
    early = pytest.raises(ValueError, match=f"{rejected} of the first {seen} images could not be read")
    with early if ends else contextlib.nullcontext():
        limit.check_early(seen, rejected)
    assert limit.rejected == 0  # which it does not count


def test_new_shards_lie_behind_all_files_of_a_dataset(tmp_path):
    info = TokenDataset(write_dataset(tmp_path, num_rejected=1)).info
    assert first_shards(None) == {}
    assert first_shards(info) == {"train": 3, "val": 1}
    info.splits["val"].rejects.append(RejectFile("rejected-00007.parquet", 1, ""))  # of a part of rejects alone
    info.splits["train"].rejects.append(RejectFile("rejected-kept-00009.parquet", 1, ""))
    assert first_shards(info) == {"train": 10, "val": 8}
