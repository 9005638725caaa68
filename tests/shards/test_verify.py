"""Verification finds every fault that it is shown, and none where there is none."""

import contextlib
import shutil

import pytest

from seit_ray.shards import TokenDataset
from seit_ray.shards.parquet import checksum
from seit_ray.shards.synonyms import write_synonyms
from seit_ray.shards.verify import verify
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import save_tokenizer
from tests.shards.published_files import ring_synonyms
from tests.tiny_dataset import NUM_CODES, tiny_tokenizer, write_dataset

FILES = [
    "dataset.json",
    "tokenizer/synonyms.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer.safetensors",
    "train/rejected-00000.parquet",
    "train/rejected-00001.parquet",
    "train/shard-00000.parquet",
    "train/shard-00001.parquet",
    "train/shard-00002.parquet",
    "val/rejected-00000.parquet",
    "val/rejected-00001.parquet",
    "val/shard-00000.parquet",
]
SHARDS = [name for name in FILES if "shard-" in name]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A dataset without faults; not to be changed."""
    folder = write_dataset(tmp_path_factory.mktemp("sound"))
    write_synonyms(folder, ring_synonyms(NUM_CODES, 3))
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    """A copy of it that a test may damage."""
    shutil.copytree(sound.uri, tmp_path / "tokens")
    return Folder(tmp_path / "tokens")


def faults_of(folder):
    """What is found, be it on opening."""
    try:
        found = verify(TokenDataset(folder))
    except ValueError as error:
        found = [str(error)]
    assert all(fault and "\n" not in fault for fault in found)
    return found


def remark(folder, change):
    """Write the marker again after `change(info)`, with a right checksum."""
    info = TokenDataset(folder).info
    change(info)
    folder.write("dataset.json", info.to_json())


def test_a_sound_dataset_has_no_faults(sound):
    seen = []
    assert verify(TokenDataset(sound), lambda *at: seen.append(at)) == []
    assert seen == [("verify", done, 4, "shards") for done in (1, 2, 3, 4)]
    assert [entry.name for entry in sound.list()] == FILES  # so that the tests below damage all of them


@pytest.mark.parametrize(
    "settings",
    [
        {"num_rejected": 0},
        {"num_classes": 0},
        {"encoding": "compact"},
        {"sizes": {"train": 3, "val": 0}},
        {"num_codes": 300, "side": 2},
    ],
)
def test_datasets_of_other_kinds_have_no_faults(tmp_path, settings):
    assert verify(TokenDataset(write_dataset(tmp_path, **settings))) == []


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_byte_is_found(folder, name):
    data = folder.read(name)
    content = TokenDataset(folder).info
    for at in range(0, len(data), 3 if name.endswith(".json") else 31):
        folder.write(name, data[:at] + bytes([data[at] ^ (1 << at % 7)]) + data[at + 1 :])
        if name.endswith(".json") and data[at : at + 1].isspace():
            with contextlib.suppress(ValueError):  # between the values, where it may change nothing
                assert TokenDataset(folder).info == content
        else:
            assert faults_of(folder), at


@pytest.mark.parametrize("name", [name for name in FILES[1:] if "synonyms" not in name])  # those may be missing
def test_missing_and_truncated_files_are_found_and_named(folder, name):
    data = folder.read(name)
    folder.write(name, data[:-1])
    (fault,) = faults_of(folder)
    assert fault.startswith("tokenizer: " if name.startswith("tokenizer") else f"{name}: ")
    folder.delete(name)
    (fault,) = faults_of(folder)
    assert fault.startswith("tokenizer: " if name.startswith("tokenizer") else f"{name}: ")


@pytest.mark.parametrize(
    "name",
    [
        *("train/shard-00003.parquet", "train/notes.txt", "val/old/shard-00000.parquet", "train/_old.parquet"),
        *("extra/shard-00000.parquet", "_source/train/part-00009.parquet", "tokenizer/old.safetensors"),
    ],
)
def test_extra_files_are_found(folder, name):
    folder.write(name, folder.read("train/shard-00000.parquet"))
    assert faults_of(folder) == [f"{name}: not in dataset.json"]


@pytest.mark.parametrize("name", ["notes.txt", "import_tokens.run.json", "_lock.json", "_work/plan.json", ".x/y"])
def test_what_is_no_data_is_no_fault(folder, name):
    folder.write(name, b"{}")
    assert faults_of(folder) == []


def test_rejects_that_nobody_counts_are_found(tmp_path):
    folder = write_dataset(tmp_path, num_rejected=0)
    folder.write("val/rejected-00000.parquet", b"")
    assert faults_of(folder) == ["val/rejected-00000.parquet: not in dataset.json"]


def test_what_it_was_made_of_is_verified(folder):
    folder.write("_source/train/part-00000.parquet", b"keys")
    assert faults_of(folder) == ["_source/train/part-00000.parquet: not in dataset.json"]
    remark(folder, lambda info: info.source.update({"_source/train/part-00000.parquet": checksum(b"keys")}))
    assert faults_of(folder) == []
    folder.write("_source/train/part-00000.parquet", b"others")
    assert faults_of(folder) == ["_source/train/part-00000.parquet: wrong checksum"]
    folder.delete("_source/train/part-00000.parquet")
    (fault,) = faults_of(folder)
    assert fault.startswith("_source/train/part-00000.parquet: ")


def test_all_faults_are_listed(folder):
    folder.delete("train/shard-00001.parquet")
    folder.write("val/shard-00000.parquet", b"nothing")
    folder.write("val/more", b"")
    folder.delete("tokenizer/tokenizer.json")
    faults = faults_of(folder)
    assert [fault.split(":")[0] for fault in faults] == [
        "tokenizer",
        "val/more",
        "train/shard-00001.parquet",
        "val/shard-00000.parquet",
    ]


def test_swapped_shards_are_found(folder):
    first, second = (folder.read(f"train/shard-0000{i}.parquet") for i in (0, 1))
    folder.write("train/shard-00000.parquet", second)
    folder.write("train/shard-00001.parquet", first)
    assert [fault.split(":")[0] for fault in faults_of(folder)] == SHARDS[:2]


def test_another_tokenizer_is_found(folder):
    mark = save_tokenizer(tiny_tokenizer(seed=5), folder.join("tokenizer"))
    known = TokenDataset(folder).info.tokenizer
    assert faults_of(folder) == [f"tokenizer: fingerprint {mark}; expected {known}"]


def move_row(split):
    """One row more in the first shard, one less in the second: the sum stays."""
    split.shards[0].rows += 1
    split.shards[1].rows -= 1


def more_rejects(split):
    """One row more in a table of rejects, and in the counts."""
    split.rejects[1].rows += 1
    split.rejected, split.listed = 3, 28


def move_count(counts):
    """One more of one, one less of the next."""
    counts[0] += 1
    counts[1] -= 1


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (move_row, "train/shard-00000.parquet: train/shard-00000.parquet holds 10 rows; expected 11"),
        (lambda s: move_count(s.code_histogram), "train: the code histogram differs"),
        (lambda s: move_count(s.label_counts), "train: the label counts differ"),
        (lambda s: s.label_counts.pop(), "train/shard-00000.parquet: label 3; expected below 3"),
        (more_rejects, "train/rejected-00001.parquet: 1 rows; expected 2"),
        (lambda s: setattr(s.rejects[0], "sha256", "0" * 64), "train/rejected-00000.parquet: wrong checksum"),
    ],
)
def test_wrong_counts_are_found(folder, change, fault):
    remark(folder, lambda info: change(info.splits["train"]))
    faults = faults_of(folder)
    assert faults
    assert faults[0].startswith(fault)


def test_codes_beyond_the_codebook_are_found(folder):
    def shrink(info):
        info.codebook_size = 15
        for split in info.splits.values():
            split.code_histogram.pop()

    remark(folder, shrink)
    assert "train/shard-00000.parquet: token 15; expected below 15, the codebook's size" in faults_of(folder)
