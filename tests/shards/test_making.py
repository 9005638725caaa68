"""A dataset that one process makes: one writer, shards that are kept, and those that are not what they were."""

import json

import pytest

from seit_ray.shards import TokenDataset
from seit_ray.shards.making import kept_shard, make_dataset, note_written, record_name, standing_dataset
from seit_ray.shards.part_records import PartRecord, encode_record
from seit_ray.shards.writing import write_shard
from seit_ray.storage import Folder
from seit_ray.storage.lock import LOCK, LockedError, locked
from seit_ray.storage.output import write_plan
from tests.tiny_dataset import NUM_CLASSES, NUM_CODES, learnable_rows, write_dataset

SIZES = {"num_codes": NUM_CODES, "num_classes": NUM_CLASSES}


def test_while_another_writes_nothing_is_made_and_nothing_cleaned_up(tmp_path):
    output = write_dataset(tmp_path / "tokens")
    info = TokenDataset(output).info
    write_plan(output, {})
    with locked(output, LOCK):
        assert standing_dataset(output, lambda: info) == info
        with pytest.raises(LockedError):
            make_dataset(output, {}, lambda: info, lambda: info)
    assert output.exists("_work/plan.json")
    assert standing_dataset(output, lambda: info) == info
    assert not output.exists("_work/plan.json")


def test_the_lock_of_a_job_that_was_killed_at_its_end_is_removed(tmp_path):
    output = write_dataset(tmp_path / "tokens")
    with locked(output, LOCK):
        killed = json.loads(output.read(LOCK)) | {"started": "1"}
    output.write(LOCK, json.dumps(killed).encode())
    info = TokenDataset(output).info
    assert standing_dataset(output, lambda: info) == info
    assert not output.exists(LOCK)


def test_what_another_finished_meanwhile_is_not_made_again(tmp_path):
    output = write_dataset(tmp_path / "tokens")
    info = TokenDataset(output).info
    assert make_dataset(output, {}, lambda: info, lambda: pytest.fail("made again")) == info


def test_a_shard_is_kept_as_it_was_written(tmp_path):
    output, rows = Folder(tmp_path), learnable_rows(7)
    assert kept_shard(output, "train", 3, num_rows=7, **SIZES) is None
    made = write_shard(rows, split="train", index=3, output=output, encoding="plain", **SIZES)
    note_written(output, "train", 3, made)
    kept = kept_shard(output, "train", 3, num_rows=7, **SIZES)
    assert (kept.shard, kept.source_bytes) == (made.shard, made.source_bytes)
    assert kept.histogram.tolist() == made.histogram.tolist()
    assert kept.label_counts.tolist() == made.label_counts.tolist()
    assert kept_shard(output, "train", 3, num_rows=6, **SIZES) is None


@pytest.mark.parametrize("damage", ["shard", "record", "other"])
def test_a_shard_that_is_not_what_it_was_is_written_again(tmp_path, damage):
    output = Folder(tmp_path)
    made = write_shard(learnable_rows(7), split="train", index=0, output=output, encoding="plain", **SIZES)
    note_written(output, "train", 0, made)
    record = f"_work/records/{record_name('train', 0)}"
    name, data = {
        "shard": ("train/shard-00000.parquet", b"cut off"),
        "record": (record, output.read(record)[:-3]),
        "other": (record, encode_record(PartRecord(("", "")))),
    }[damage]
    output.write(name, data)
    assert kept_shard(output, "train", 0, num_rows=7, **SIZES) is None
