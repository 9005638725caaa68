"""How many images of a job may be rejected."""

import contextlib

import pytest

from seit_ray.shards.appending import first_shards
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.marker import RejectFile
from seit_ray.shards.rejects import RejectLimit
from tests.tiny_dataset import write_dataset


def test_the_limit_is_a_share_of_all_images():
    limit = RejectLimit(total=1000, rejected=4, max_fraction=0.01)
    limit.add(6)
    assert limit.words() == "10 rejected"
    with pytest.raises(ValueError, match=r"11 of 1000 images could not be read; expected at most 1\.0%"):
        limit.add(1)


@pytest.mark.parametrize(
    ("max_fraction", "parts", "seen", "rejected", "ends"),
    [
        (0.01, 3, 999, 999, False),  # too few to tell
        (0.01, 2, 5000, 5000, False),  # one damaged tar
        (0.01, 3, 1000, 900, False),
        (0.01, 3, 1000, 901, True),
        (0.95, 3, 1000, 950, False),  # who allows more may have more
        (0.95, 3, 1000, 951, True),
        (1.0, 9, 1000, 1000, False),
    ],
)
def test_nearly_all_of_the_first_images_end_a_job_early(max_fraction, parts, seen, rejected, ends):
    limit = RejectLimit(10**9, 0, max_fraction)
    limit.begin(rejected)
    early = pytest.raises(ValueError, match=f"{rejected} of the first {seen} images could not be read")
    with early if ends else contextlib.nullcontext():
        limit.check_early(parts, seen)


def test_a_part_ends_the_job_when_it_passes_the_limit_by_itself():
    limit = RejectLimit(1000, 5, 0.01)
    limit.check_part(10, "too dark")
    words = r"11 of 1000 images could not be read \(the last: too dark\); expected at most 1.0%"
    with pytest.raises(ValueError, match=words):
        limit.check_part(11, "too dark")
    assert limit.rejected == 5


def test_a_job_that_begins_anew_counts_anew():
    limit = RejectLimit(1000, 5, 0.01)
    limit.begin(3)
    limit.add(1)
    limit.begin(2)
    assert limit.words() == "7 rejected"


def test_new_shards_lie_behind_all_files_of_a_dataset(tmp_path):
    info = TokenDataset(write_dataset(tmp_path, num_rejected=1)).info
    assert first_shards(None) == {}
    assert first_shards(info) == {"train": 3, "val": 1}
    info.splits["val"].rejects.append(RejectFile("rejected-00007.parquet", 1, ""))  # of a part of rejects alone
    info.splits["train"].rejects.append(RejectFile("rejected-kept-00009.parquet", 1, ""))
    assert first_shards(info) == {"train": 10, "val": 8}
    info.source = {"_source/val/part-00012.parquet": "", "_source/v/part-00099.parquet": ""}
    assert first_shards(info) == {"train": 10, "val": 13}
