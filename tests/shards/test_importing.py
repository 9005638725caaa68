"""Published files to a token dataset and back: counts, labels, reruns, refusals."""

import gzip
from dataclasses import replace

import numpy as np
import pytest
import torch

from seit_ray.shards import TokenDataset, importing
from seit_ray.shards.exporting import run_export
from seit_ray.shards.importing import ImportJob, SplitFiles, run_import
from seit_ray.shards.published import check_export, encode_stream
from seit_ray.shards.synonyms import read_synonyms
from seit_ray.shards.verify import verify
from seit_ray.shards.writing import write_shard
from seit_ray.storage import Folder, StorageError
from seit_ray.storage.output import write_plan
from seit_ray.studies.run_files import MARKERS
from seit_ray.tokenizers.codebook_only import CodebookTokenizer, read_codebook
from seit_ray.tokenizers.files import load_tokenizer
from tests.shards.published_files import recording, refusal, ring_synonyms, write_release
from tests.tiny_dataset import write_dataset

FILES = ("token.data.bin.gz", "token.index.npy.gz", "label.txt")


def job_of(release, output, *, grid=(4, 4), **changes):
    """The import of a release in a folder."""
    files = {
        name: SplitFiles(*(f"{release}/{name}-{file}" for file in FILES))
        for name in ("train", "val")
        if (release / f"{name}-token.data.bin.gz").exists()
    }
    codebook = read_codebook((release / "codebook.ckpt").read_bytes())
    settings = {
        "files": files,
        "tokenizer": CodebookTokenizer(codebook, grid=grid, image_size=32),
        "report": {},
        "synonyms": None,
        "output": Folder(output),
        "num_classes": None,
        "rows_per_shard": 10,
        "encoding": "plain",
    }
    return ImportJob(**settings | changes)


@pytest.mark.parametrize("encoding", ["plain", "compact"])
@pytest.mark.parametrize("rows_per_shard", [1, 10, 23, 1000])
def test_a_release_becomes_a_dataset(tmp_path, encoding, rows_per_shard):
    release = tmp_path / "release"
    written = write_release(release)
    seen = []
    job = job_of(release, tmp_path / "out", encoding=encoding, rows_per_shard=rows_per_shard)
    info = run_import(job, lambda *progress: seen.append(progress[:3]))
    dataset = TokenDataset(Folder(tmp_path / "out"))
    assert verify(dataset) == []
    assert info == dataset.info
    for name, (tokens, labels) in written.items():
        rows, split = dataset.read_split(name), dataset.split(name)
        assert np.array_equal(rows.tokens, tokens)
        assert rows.meta["label"].to_pylist() == labels.tolist()
        assert rows.meta["key"].to_pylist() == [f"{name}/{i:07d}" for i in range(len(tokens))]
        assert rows.meta["width"].null_count == len(tokens)
        assert rows.meta["source_bytes"].to_pylist() == encode_stream(tokens)[1].tolist()
        assert (split.listed, split.rows, split.rejected) == (len(tokens), len(tokens), 0)
        assert [s.rows for s in split.shards[:-1]] == [rows_per_shard] * (len(split.shards) - 1)
        assert (f"import {name}", len(tokens), len(tokens)) in seen
    assert info.class_names == ["0", "1", "2", "3", "4"]
    assert (info.family, info.grid, info.codebook_size) == ("codebook", (4, 4), 400)
    assert not (tmp_path / "out" / "_work").exists()


def test_the_recorded_release_becomes_a_dataset_and_comes_back(tmp_path):
    record, release = recording(), tmp_path / "release"
    release.mkdir()
    for name, file in zip(("data_gz", "index_gz", "labels_txt"), FILES, strict=True):
        (release / f"train-{file}").write_bytes(record[f"file/{name}"].tobytes())
    torch.save(torch.randn(391, 32), release / "codebook.ckpt")
    run_import(job_of(release, tmp_path / "out", grid=(32, 32)))
    dataset = TokenDataset(Folder(tmp_path / "out"))
    rows = dataset.read_split("train")
    assert np.array_equal(rows.tokens, record["in/tokens"])
    assert rows.meta["label"].to_pylist() == record["in/labels"].tolist()
    run_export(dataset, Folder(tmp_path / "back"))
    data, index = ((tmp_path / "back" / f"train-token.{end}").read_bytes() for end in ("data.bin.gz", "index.npy.gz"))
    assert gzip.decompress(data) == record["in/data"].tobytes()
    assert gzip.decompress(index) == gzip.decompress(record["file/index_gz"].tobytes())


def test_there_and_back_and_there_again(tmp_path):
    release = tmp_path / "release"
    write_release(release)
    synonyms = ring_synonyms(400)
    first = run_import(job_of(release, tmp_path / "out", synonyms=synonyms))
    sizes = run_export(TokenDataset(Folder(tmp_path / "out")), Folder(tmp_path / "back"))
    assert {path.name: path.stat().st_size for path in (tmp_path / "back").iterdir()} == sizes
    assert set(sizes) == {path.name for path in release.iterdir()} | {"about.json"}
    for path in release.iterdir():
        mine, back = path.read_bytes(), (tmp_path / "back" / path.name).read_bytes()
        if path.suffix == ".gz":
            mine, back = gzip.decompress(mine), gzip.decompress(back)
        if path.suffix == ".ckpt":
            mine, back = read_codebook(mine).tolist(), read_codebook(back).tolist()
        assert mine == back, path.name
    again = run_import(job_of(tmp_path / "back", tmp_path / "again", synonyms=synonyms))
    assert again.splits == first.splits
    assert again.tokenizer == first.tokenizer
    assert torch.equal(read_synonyms(Folder(tmp_path / "again")), synonyms)


def test_a_rerun_of_a_finished_import_changes_nothing(tmp_path):
    release = tmp_path / "release"
    write_release(release)
    run_import(job_of(release, tmp_path / "out"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    for path in release.iterdir():
        if path.suffix == ".gz":
            path.unlink()  # they are not read again
    seen = []
    run_import(job_of_uris(release, tmp_path / "out"), lambda *progress: seen.append(progress))
    assert seen == [("import", 1, 1, "already complete")]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def job_of_uris(release, output):
    """The job of both splits, whether or not their files are there still."""
    splits = {name: SplitFiles(*(f"{release}/{name}-{file}" for file in FILES)) for name in ("train", "val")}
    return job_of(release, output, files=splits)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rows_per_shard": 9}, "rows_per_shard 10 (now 9)"),
        ({"encoding": "compact"}, "encoding 'plain' (now 'compact')"),
        ({"num_classes": 7}, "num_classes None (now 7)"),
        ({"synonyms": ring_synonyms(400)}, "synonyms None (now "),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_import_into_the_same_folder_is_refused(tmp_path, changes, text, finished):
    release = tmp_path / "release"
    write_release(release)
    if finished:
        run_import(job_of(release, tmp_path / "out"))
    else:
        kill_after_one_shard(job_of(release, tmp_path / "out"))
    assert text in refusal(run_import, job_of(release, tmp_path / "out", **changes))


def kill_after_one_shard(job):
    """A run that ends in the middle."""

    def killed(phase, done, total, note):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_import(job, killed)


def test_a_killed_import_is_no_dataset_and_ends_in_the_same_bytes(tmp_path):
    release = tmp_path / "release"
    write_release(release)
    run_import(job_of(release, tmp_path / "whole"))
    kill_after_one_shard(job_of(release, tmp_path / "out"))
    assert "has begun but not finished" in refusal(TokenDataset, Folder(tmp_path / "out"))
    run_import(job_of(release, tmp_path / "out"))
    for path in (tmp_path / "whole").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes()


def written_shards(monkeypatch):
    """(split, index) of each shard that is written from here on."""
    calls = []

    def write(rows, **how):
        calls.append((how["split"], how["index"]))
        return write_shard(rows, **how)

    monkeypatch.setattr(importing, "write_shard", write)
    return calls


def test_a_rerun_writes_what_is_missing_alone(tmp_path, monkeypatch):
    write_release(tmp_path / "release")
    kill_after_one_shard(job_of(tmp_path / "release", tmp_path / "out"))
    calls = written_shards(monkeypatch)
    kill_after_one_shard(job_of(tmp_path / "release", tmp_path / "out"))
    assert calls == []  # the one that stands is told of again
    damaged = tmp_path / "out" / "train" / "shard-00000.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    run_import(job_of(tmp_path / "release", tmp_path / "out"))
    assert calls == [("train", 0), ("train", 1), ("train", 2), ("val", 0)]
    assert verify(TokenDataset(Folder(tmp_path / "out"))) == []


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_files_that_have_changed_are_refused_by_name(tmp_path, name, finished):
    release = tmp_path / "release"
    write_release(release)
    (run_import if finished else kill_after_one_shard)(job_of(release, tmp_path / "out"))
    path = release / f"val-{name}"
    path.write_bytes(path.read_bytes() + b"more")
    text = refusal(run_import, job_of(release, tmp_path / "out"))
    assert text.startswith(f"{path} has changed since {tmp_path / 'out'} was made of it")
    assert not finished or str(path) in TokenDataset(Folder(tmp_path / "out")).info.plan["read"]


def test_what_killed_writers_left_goes_and_files_of_others_stay(tmp_path):
    write_release(tmp_path / "release")
    job = job_of(tmp_path / "release", tmp_path / "out")
    kill_after_one_shard(job)
    left = [f"train/.shard-00001.parquet.{'0' * 32}.tmp", f"tokenizer/.tokenizer.json.{'0' * 32}.tmp"]
    for name in (*left, "train/shard-00007.parquet"):  # the last is not in the journal
        Folder(tmp_path / "out").write(name, b"x")
    run_import(job)
    assert verify(TokenDataset(Folder(tmp_path / "out"))) == ["train/shard-00007.parquet: not in dataset.json"]
    assert not [name for name in left if Folder(tmp_path / "out").exists(name)]
    # a kill between the marker and the end of the clean-up
    write_plan(job.output, job.plan())
    job.output.write(left[0], b"x")
    run_import(job)
    assert not job.output.exists(left[0])
    assert not (tmp_path / "out" / "_work").exists()


def test_a_folder_of_another_dataset_is_refused(tmp_path):
    write_release(tmp_path / "release")
    write_dataset(tmp_path / "out")
    assert "out was made with files None (now" in refusal(run_import, job_of(tmp_path / "release", tmp_path / "out"))


def test_wrong_files_are_named_and_leave_the_output_free(tmp_path):
    release = tmp_path / "release"
    write_release(release)
    labels, index = release / "train-label.txt", release / "val-token.index.npy.gz"
    whole = labels.read_bytes()
    labels.write_bytes(whole + b"3\n")
    text = refusal(run_import, job_of(release, tmp_path / "out"))
    assert text.startswith(f"{labels}: 24 labels; expected 23")
    labels.write_bytes(whole)
    index.unlink()
    assert f"{index} does not exist" in refusal(run_import, job_of(release, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_damaged_image_is_named_with_its_file(tmp_path):
    release = tmp_path / "release"
    tokens, _ = write_release(release)["train"]
    data, lengths = encode_stream(tokens)
    data[lengths[:14].sum() - 1] = 255
    path = release / "train-token.data.bin.gz"
    path.write_bytes(gzip.compress(data.tobytes()))
    text = refusal(run_import, job_of(release, tmp_path / "out"))
    assert text.startswith(f"{path}: image 13 ")
    assert "expected codes below 9" in refusal(
        run_import,
        job_of(release, tmp_path / "small", tokenizer=CodebookTokenizer(torch.ones(9, 2), grid=(4, 4), image_size=8)),
    )


def test_the_grid_must_be_that_of_the_tokens(tmp_path):
    write_release(tmp_path / "release")
    text = refusal(run_import, job_of(tmp_path / "release", tmp_path / "out", grid=(7, 7)))
    assert "expected a step of 49 to 98 bytes, for 49 codes; set grid" in text


def test_without_labels(tmp_path):
    release = tmp_path / "release"
    write_release(release)
    job = job_of(release, tmp_path / "out")
    bare = {name: replace(files, labels=None) for name, files in job.files.items()}
    info = run_import(job_of(release, tmp_path / "out", files=bare))
    dataset = TokenDataset(Folder(tmp_path / "out"))
    assert info.class_names is None
    assert dataset.read_split("train").meta["label"].null_count == 23
    assert verify(dataset) == []
    sizes = run_export(dataset, Folder(tmp_path / "back"))
    assert not [name for name in sizes if name.endswith("label.txt")]


def test_more_classes_than_labels_show(tmp_path):
    write_release(tmp_path / "release")
    info = run_import(job_of(tmp_path / "release", tmp_path / "out", num_classes=9))
    assert info.class_names == [str(i) for i in range(9)]
    assert info.splits["train"].label_counts[5:] == [0] * 4
    text = refusal(run_import, job_of(tmp_path / "release", tmp_path / "few", num_classes=3))
    assert "has the label 4; expected below 3" in text


def test_a_split_without_images(tmp_path):
    write_release(tmp_path / "release", sizes={"train": 5, "val": 0})
    info = run_import(job_of(tmp_path / "release", tmp_path / "out"))
    assert (info.splits["val"].rows, info.splits["val"].shards) == (0, [])
    assert verify(TokenDataset(Folder(tmp_path / "out"))) == []


def test_imported_tokens_cannot_be_decoded(tmp_path):
    write_release(tmp_path / "release")
    run_import(job_of(tmp_path / "release", tmp_path / "out"))
    tokenizer, about = load_tokenizer(Folder(tmp_path / "out" / "tokenizer"))
    assert about["fingerprint"] == TokenDataset(Folder(tmp_path / "out")).info.tokenizer
    assert "import the tokens again with tokenizer=FOLDER" in refusal(tokenizer.decode, torch.zeros(1, 16))


def test_a_tokenized_dataset_is_exported_too(tmp_path):
    folder = write_dataset(tmp_path / "tokens")
    run_export(TokenDataset(folder), Folder(tmp_path / "back"))
    run_import(job_of(tmp_path / "back", tmp_path / "again"))
    for name in ("train", "val"):
        mine = TokenDataset(folder).read_split(name)
        found = TokenDataset(Folder(tmp_path / "again")).read_split(name)
        assert np.array_equal(mine.tokens, found.tokens)
        assert mine.meta["label"] == found.meta["label"]


def test_more_codes_than_escape_bytes_hold_are_not_exported(tmp_path):
    folder = write_dataset(tmp_path / "tokens", num_codes=511)
    text = refusal(run_export, TokenDataset(folder), Folder(tmp_path / "back"))
    assert "has 511 codes; expected at most 510" in text
    assert not (tmp_path / "back").exists()
    run_export(TokenDataset(write_dataset(tmp_path / "fits", num_codes=510)), Folder(tmp_path / "back"))


def test_some_labels_are_no_label_file(tmp_path):
    """Told before a byte is written, also of a later split."""
    dataset = TokenDataset(write_dataset(tmp_path / "tokens"))
    counts = dataset.split("val").label_counts
    counts[counts.index(max(counts))] -= 1
    for function in (check_export, run_export):
        assert "split val of " in (text := refusal(function, dataset, Folder(tmp_path / "back")))
        assert "has 1 of 8 images without a label; expected one for each or none" in text
    assert not (tmp_path / "back").exists()


def test_an_export_is_told_of_as_done_by_what_is_written_last(tmp_path, monkeypatch):
    dataset, back, write = TokenDataset(write_dataset(tmp_path / "tokens")), Folder(tmp_path / "back"), Folder.write

    def full(folder, name, data):
        if name == "val-label.txt":
            raise StorageError("the disk is full", "invalid")
        write(folder, name, data)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "write", full)
        assert refusal(run_export, dataset, back) == "the disk is full"
    assert back.exists("codebook.ckpt")
    assert not back.exists(MARKERS["export_tokens"])
    run_export(dataset, back)
    assert back.exists(MARKERS["export_tokens"])


def test_an_export_never_replaces_other_files(tmp_path):
    dataset, back = TokenDataset(write_dataset(tmp_path / "tokens")), Folder(tmp_path / "back")
    assert run_export(dataset, back) == run_export(dataset, back)  # the same bytes: it continues
    back.write("val-label.txt", b"0\n")
    assert "val-label.txt is there with other bytes" in refusal(run_export, dataset, back)
    assert back.read("val-label.txt") == b"0\n"
