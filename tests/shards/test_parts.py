"""Parts of a job: what is done is known from the listing of their records alone."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seit_ray.progress import Times
from seit_ray.shards.marker import RejectFile, Shard
from seit_ray.shards.parquet import checksum, decode_shard
from seit_ray.shards.part_records import PartRecord, Sums, decode_record, encode_record
from seit_ray.shards.parts import Part, PartFiles, finished_part, list_parts, read_records, remove_doubles
from seit_ray.shards.reading import READ_TOGETHER
from seit_ray.storage import Folder
from tests.tiny_dataset import learnable_rows, reject_table

PEAK_BYTES = 1 << 30


@pytest.fixture
def records(tmp_path):
    return Folder(tmp_path / "_work" / "records")


@pytest.fixture
def files(tmp_path, records):
    return PartFiles(Folder(tmp_path), records, "plain", num_codes=16, num_classes=4, first={}, listing="abc")


def listed(rows, rejected):
    """key and state of the images of a part."""
    keys = rows.meta["key"].to_pylist() + rejected["key"].to_pylist()
    return pa.table({"key": sorted(keys), "state": list(range(len(keys)))})


def write(files, split, index, num_rows, num_rejected=0, **more):
    """A part of that many images."""
    rows, rejected = learnable_rows(num_rows, **more), reject_table(num_rejected)
    return files.write(split, index, rows, rejected, listed(rows, rejected), times=Times(), peak_bytes=PEAK_BYTES)


def in_the_dataset(folder):
    """All files but the records, which tell the time."""
    return {name: data for name, data in all_files(folder).items() if not name.startswith("_work/")}


def all_files(folder):
    return {entry.name: folder.read(entry.name) for entry in folder.list(include_hidden=True)}


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (Part("train", 7, 5, 2), "train/000007.5.2.json"),
        (Part("val", 0, 0, 0), "val/000000.0.0.json"),
        (Part("v1.2-x", 1_000_000_000, 16384, 0), "v1.2-x/1000000000.16384.0.json"),
        (Part("", 3, 1, 4), "/000003.1.4.json"),
    ],
)
def test_names_carry_the_counts(part, name):
    assert part.name == name
    assert Part.named(name) == part
    assert part.images == part.rows + part.rejected


@pytest.mark.parametrize(
    "name",
    [
        "train/notes.txt",
        "train/000003.4.json",
        "train/a.b.c.json",
        "train/.000004.1.0.json",
        "train/5.1.0",
        "train/5.1.0.",
        "train/5.1.0.json.tmp",
        "train/5.1.0.parquet",
        "train/5.-1.0.json",
        "train/",
        "",
    ],
)
def test_other_names_are_no_parts(name):
    assert Part.named(name) is None


def test_a_written_part_is_listed_and_read(files, records, tmp_path):
    part = write(files, "train", 7, 5, 2)
    assert part == Part("train", 7, 5, 2)
    assert list_parts(records) == {"train": {7: part}}
    assert files.names("train", 7) == [
        "train/shard-00007.parquet",
        "train/rejected-00007.parquet",
        "_source/train/part-00007.parquet",
    ]
    output, (record,) = files.output, read_records(records, [part])
    assert sorted(all_files(output)) == sorted([*files.names("train", 7), f"_work/records/{part.name}"])
    rows, rejected = learnable_rows(5), reject_table(2)
    data = output.read("train/shard-00007.parquet")
    found = decode_shard(data, encoding="plain", num_tokens=16, num_codes=16)
    np.testing.assert_array_equal(found.tokens, rows.tokens)
    assert found.meta.to_pylist() == rows.meta.to_pylist()
    shard = record.shard
    assert (shard.name, shard.rows, shard.bytes, shard.sha256) == (
        "shard-00007.parquet",
        5,
        len(data),
        checksum(data),
    )
    data = output.read("train/rejected-00007.parquet")
    assert pq.read_table(pa.BufferReader(data)).to_pylist() == rejected.to_pylist()
    assert record.rejects == RejectFile("rejected-00007.parquet", 2, checksum(data), len(data))
    data = output.read("_source/train/part-00007.parquet")
    assert pq.read_table(pa.BufferReader(data)).to_pylist() == listed(rows, rejected).to_pylist()
    assert record.source == ("_source/train/part-00007.parquet", checksum(data))
    assert record.seconds["write"] > 0
    assert record.peak_bytes == PEAK_BYTES
    assert (record.images, record.listing) == (7, files.listing)
    sums = Sums(16, 4)
    sums.add(record)
    made = sums.split()
    assert (made.listed, made.rows, made.rejected) == (7, 5, 2)
    assert (made.shards, made.rejects, sums.source) == ([shard], [record.rejects], dict([record.source]))
    assert made.code_histogram == np.bincount(rows.tokens.ravel(), minlength=16).tolist()
    assert made.label_counts == np.bincount(rows.meta["label"].to_numpy(), minlength=4).tolist()
    assert made.source_bytes == sum(rows.meta["source_bytes"].to_pylist())
    sums.add(record)
    assert sums.split().code_histogram == [2 * count for count in made.code_histogram]


def test_a_part_without_rejects_has_no_table_of_them(files, records):
    part = write(files, "train", 0, 5)
    assert next(read_records(records, [part])).rejects is None
    assert sorted(all_files(files.output)) == [
        "_source/train/part-00000.parquet",
        "_work/records/train/000000.5.0.json",
        "train/shard-00000.parquet",
    ]


def test_a_part_of_rejects_alone_leaves_no_shard(files, records):
    part = write(files, "val", 3, 0, 3)
    assert part == Part("val", 3, 0, 3)
    (record,) = read_records(records, [part])
    assert (record.shard, record.rejects.rows, record.images) == (None, 3, 3)
    assert not files.output.exists("val/shard-00003.parquet")
    assert files.output.exists("val/rejected-00003.parquet")


def test_the_record_is_written_last(files, records, monkeypatch):
    names, write_file = [], Folder.write
    monkeypatch.setattr(Folder, "write", lambda self, name, data: names.append(name) or write_file(self, name, data))
    part = write(files, "train", 7, 5, 2)
    assert sorted(names[:-1]) == sorted(files.names("train", 7))
    assert names[-1] == part.name


@pytest.mark.parametrize("fails", ["shard-00007", "rejected-00007", "_source/"])
def test_without_all_of_its_files_a_part_is_not_done(files, records, monkeypatch, fails):
    write_file = Folder.write

    def write_or_fail(folder, name, data):
        if fails in name:
            raise KeyboardInterrupt
        write_file(folder, name, data)

    monkeypatch.setattr(Folder, "write", write_or_fail)
    with pytest.raises(KeyboardInterrupt):
        write(files, "train", 7, 5, 2)
    assert list_parts(records) == {}


def test_shards_behind_those_of_a_dataset(files, records):
    files = dataclasses.replace(files, first={"train": 12})
    part = write(files, "train", 3, 5, 1)
    assert part == Part("train", 3, 5, 1)
    assert files.names("train", 3)[0] == "train/shard-00015.parquet"
    (record,) = read_records(records, [part])
    assert (record.shard.name, record.rejects.name) == ("shard-00015.parquet", "rejected-00015.parquet")
    assert record.source[0] == "_source/train/part-00015.parquet"
    assert all(files.output.exists(name) for name in files.names("train", 3))
    assert files.names("val", 3)[0] == "val/shard-00003.parquet"


@pytest.mark.parametrize("encoding", ["plain", "compact"])
def test_the_same_part_gives_the_same_bytes(files, encoding):
    files = dataclasses.replace(files, encoding=encoding)
    first = write(files, "train", 0, 5, 1)
    before = in_the_dataset(files.output)
    files.records.delete(first.name)
    assert write(files, "train", 0, 5, 1) == first
    assert in_the_dataset(files.output) == before
    files.records.delete(first.name)
    write(files, "train", 0, 5, 1, seed=1)
    assert in_the_dataset(files.output) != before


def test_a_part_that_stands_is_not_written_again(files, records):
    first = write(files, "train", 0, 5, 1)
    before = all_files(files.output)
    assert write(files, "train", 0, 4, 2, seed=1) == first  # what another process would have made of it
    assert all_files(files.output) == before
    assert finished_part(records, "train", 0) == first
    assert finished_part(records, "train", 1) is None


def test_two_records_of_a_part_are_none(files, records):
    part = write(files, "train", 3, 5, 1)
    other = write(files, "train", 4, 5, 1)
    records.write("train/000003.4.2.json", records.read(part.name))
    assert list_parts(records) == {"train": {4: other}}
    assert finished_part(records, "train", 3) is None
    remove_doubles(records)
    assert finished_part(records, "train", 4) == other
    assert write(files, "train", 3, 5, 1) == part  # made again, it stands
    assert list_parts(records) == {"train": {3: part, 4: other}}


def test_unlabelled_rows_have_no_label_counts(files, records):
    files = dataclasses.replace(files, num_classes=0)
    part = write(files, "train", 0, 5, num_classes=0)
    (record,) = read_records(records, [part])
    assert record.label_counts == []
    for num_classes in (0, 3):  # some came later
        sums = Sums(16, num_classes)
        sums.add(record)
        assert sums.split().label_counts == [0] * num_classes


def test_splits_and_numbers_are_kept_apart(files, records):
    for split in ("train", "val"):
        for index in (11, 2, 1_000_000_000):
            write(files, split, index, 1 + index % 3)
    found = list_parts(records)
    assert {split: sorted(parts) for split, parts in found.items()} == {
        "train": [2, 11, 1_000_000_000],
        "val": [2, 11, 1_000_000_000],
    }


def test_no_folder_holds_no_parts(tmp_path):
    assert list_parts(Folder(tmp_path / "none")) == {}


def test_other_files_do_not_count(files, records):
    part = write(files, "train", 1, 2)
    records.write("train/000002.4.0.json", b"")  # as a power cut may leave it
    for name in ("notes.txt", "000003.4.json", "a.b.c.json", ".000004.1.0.json", "5.1.0"):
        records.write(f"train/{name}", b"x")
    assert list_parts(records) == {"train": {1: part}}


RECORDS = [
    PartRecord(("_source/train/part-00000.parquet", "ab")),
    PartRecord(
        ("_source/train/part-00001.parquet", "cd"),
        Shard("shard-00001.parquet", 5, 1000, 800, "ef"),
        RejectFile("rejected-00001.parquet", 2, "01"),
        source_bytes=1 << 45,
        codes=[0, 65535],
        code_counts=[3, 1 << 40],
        label_counts=[1, 0, 4],
        seconds={"decode": 1.5},
        peak_bytes=PEAK_BYTES,
    ),
]


@pytest.mark.parametrize("record", RECORDS)
def test_record_round_trip(record):
    data = encode_record(record)
    found = decode_record(data)
    assert encode_record(found) == data
    for field in dataclasses.fields(PartRecord):
        assert getattr(found, field.name) == getattr(record, field.name)


def test_a_record_of_a_version_with_other_fields_is_none():
    values = json.loads(encode_record(RECORDS[1]).rpartition(b"\n")[0])
    data = json.dumps({**values, "histogram": [[0, 3]]}).encode()
    assert decode_record(data + b"\n" + checksum(data).encode()) is None


def test_records_come_in_the_order_of_the_parts(records):
    parts = [Part("train", index, index + 1, 0) for index in range(READ_TOGETHER + 5)]
    for part in parts:
        records.write(part.name, encode_record(PartRecord((str(part.index), ""))))
    assert [record.source[0] for record in read_records(records, parts[::-1])] == [str(p.index) for p in parts[::-1]]
    assert list(read_records(records, [])) == []


def test_flipped_bits_are_found(files, records):
    part = write(files, "train", 0, 3, 1)
    data = records.read(part.name)
    for place in range(0, len(data), 7):
        records.write(part.name, data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        assert list(read_records(records, [part])) == [None]


@pytest.mark.parametrize("data", [b"", b"x", b"{}", b"\xff\n\xff", json.dumps({"shard": None}).encode() + b"\n"])
def test_what_is_no_record_is_none(data):
    assert decode_record(data) is None


def test_damaged_records_are_none_and_missing_ones_are_named(files, records):
    part = write(files, "train", 1, 2, 1)
    records.write(part.name, records.read(part.name)[:-20])
    assert list(read_records(records, [part])) == [None]
    records.delete(part.name)
    with pytest.raises(ValueError, match=r"000001\.2\.1\.json does not exist"):
        next(read_records(records, [part]))
