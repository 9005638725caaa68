"""The parts of a job: as plain calls, without Ray; and sizes of pools."""

import contextlib
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from seit_ray.distributed.data.attempts import MAX_ATTEMPTS, Attempts, check_attempts
from seit_ray.distributed.data.commit import Adding, splits_of, stand
from seit_ray.distributed.data.parts import (
    MOST_TASKS,
    PartSource,
    check_fits,
    is_broken_device,
    pool_sizes,
    tasks_each,
)
from seit_ray.distributed.data.tokenize_parts import TokenizeParts
from seit_ray.distributed.resources import Resources
from seit_ray.images import decode_image
from seit_ray.images.decoded import Decoding
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.marker import DatasetInfo
from seit_ray.shards.parts import Part, list_parts
from seit_ray.shards.rejects import RejectLimit
from seit_ray.storage import Folder, StorageError
from seit_ray.tokenizers.contract import fingerprint
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.tokenizers.uploads import parts_on
from tests.images.found import find_images, write_manifest
from tests.tiny_images import contents, image_bytes, write_files, write_tokenizer

FILES = {f"{name}/{i}.jpg": image_bytes(name, i, side=90, format="JPEG") for name in ("cat", "dog") for i in range(6)}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def worker_of(place, files, *, rows_per_part=None, mode="exact", batch_size=256, max_fraction=1.0, **options):
    """(an actor as a plain object, its manifest) of a job on files."""
    source = write_files(place / "images", files)
    tokenizer_folder = write_tokenizer(place / "tokenizer", image_size=32)
    tokenizer, _ = load_tokenizer(tokenizer_folder)
    output = Folder(place / "tokens")
    work = output.join("_work")
    manifest = write_manifest(
        find_images(source), work.join("manifest"), val_fraction=0.0, seed=0, rows_per_part=rows_per_part
    )
    adding = Adding.of(output, "plain", tokenizer, manifest, None, {})
    decoding = Decoding(tokenizer.image_size, tokenizer.resize, mode=mode)
    limit = RejectLimit(len(files), 0, max_fraction)
    mark = fingerprint(tokenizer)
    arguments = (PartSource(manifest.folder, source, decoding, work), adding.files, limit, tokenizer_folder, mark)
    return TokenizeParts(*arguments, batch_size, **options), adding


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_a_part_becomes_a_shard(tmp_path, mode, batch_size):
    worker, adding = worker_of(tmp_path, FILES | {"dog/9.jpg": b"no picture"}, mode=mode, batch_size=batch_size)
    batch = {"split": np.array(["train"]), "index": np.array([0])}
    made = worker(batch)
    part = Part(**{name: values[0] for name, values in made.items()})
    assert part == Part("train", 0, 12, 1) == list_parts(adding.files.records)["train"][0]
    sums = stand(adding, {"train": {0: part}}).sums
    splits, source = splits_of(adding, sums), sums["train"].source
    info = DatasetInfo("0" * 16, "centroid", 32, worker.tokenizer.grid, 16, "plain", None, splits, {}, source=source)
    adding.files.output.write("dataset.json", info.to_json())
    dataset = TokenDataset(adding.files.output)
    rows = dataset.read_split("train")
    options = {"image_size": worker.tokenizer.image_size, "resize": worker.tokenizer.resize, "mode": mode}
    pixels = np.stack([decode_image(FILES[key], **options).pixels for key in sorted(FILES)])
    assert rows.tokens.tolist() == worker.tokenizer.encode(torch.from_numpy(pixels)).tolist()
    assert rows.meta["key"].to_pylist() == sorted(FILES)
    assert dataset.rejected("train")["key"].to_pylist() == ["dog/9.jpg"]
    (known,) = source
    listed = pq.read_table(adding.files.output.uri_of(known))["key"].to_pylist()
    assert listed == sorted([*FILES, "dog/9.jpg"])
    assert not list((tmp_path / "tokens" / "_work" / "attempts").rglob("*.0"))


def test_chunks_threads_and_parts_do_not_show_in_tokens(tmp_path):
    found = {}
    for rows, threads in ((None, 0), (5, 0), (5, 3), (1, 0)):
        worker, adding = worker_of(tmp_path / f"{rows}-{threads}", FILES, rows_per_part=rows, num_threads=threads)
        numbers = range(adding.manifest.splits["train"].num_parts)
        done = {"train": {index: worker.finish("train", index) for index in numbers}}
        assert sum(part.rows for part in done["train"].values()) == len(FILES)
        splits = splits_of(adding, stand(adding, done).sums)
        names = [f"train/{shard.name}" for shard in splits["train"].shards]
        tables = [pq.read_table(adding.files.output.uri_of(name)) for name in names]
        found[rows, threads] = pa.concat_tables(tables).to_pylist()
        assert (
            splits["train"].code_histogram
            == np.bincount([token for row in found[rows, threads] for token in row["tokens"]], minlength=16).tolist()
        )
    first, *others = found.values()
    assert all(other == first for other in others)


def test_a_part_of_rejects_has_no_shard(tmp_path):
    worker, adding = worker_of(tmp_path, {f"cat/{i}.jpg": b"no" for i in range(3)})
    part = worker.finish("train", 0)
    assert part == Part("train", 0, 0, 3)
    splits = splits_of(adding, stand(adding, {"train": {0: part}}).sums)
    assert (splits["train"].shards, splits["train"].rows, splits["train"].rejected) == ([], 0, 3)
    assert sorted(name for name in contents(adding.files.output) if name.startswith("train/")) == [
        "train/rejected-00000.parquet"
    ]


def test_a_part_that_passes_the_limit_by_itself_ends_the_job_at_once(tmp_path):
    files = {f"cat/{i:05}.jpg": b"no" for i in range(600)}
    worker, _ = worker_of(tmp_path, files, max_fraction=0.01, rows_per_part=600)
    words = r"256 of 600 images could not be read \(the last: not an image.*\); expected at most 1.0%"
    with pytest.raises(ValueError, match=words):
        worker.finish("train", 0)
    worker, _ = worker_of(tmp_path / "allowed", files, max_fraction=1.0, rows_per_part=600)
    assert worker.finish("train", 0).rejected == 600


def test_a_broken_gpu_ends_the_process_and_a_lack_of_memory_does_not(tmp_path, monkeypatch):
    assert is_broken_device(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not is_broken_device(torch.OutOfMemoryError("CUDA error: out of memory"))
    assert not is_broken_device(RuntimeError("CUDA error: out of memory"))  # of another library's own request
    assert not is_broken_device(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(h)`"))
    assert not is_broken_device(RuntimeError("shape mismatch"))
    worker, _ = worker_of(tmp_path, FILES, is_actor=True)
    ended = []

    def fail(images):
        raise RuntimeError("CUDA error: device-side assert triggered")

    worker.encode = fail
    monkeypatch.setattr(os, "_exit", ended.append)
    with pytest.raises(RuntimeError, match="device-side"):
        worker.finish("train", 0)
    assert ended == [1]
    worker.is_actor = False  # in somebody's own process
    with pytest.raises(RuntimeError, match="device-side"):
        worker.finish("train", 0)
    assert ended == [1]


def test_a_part_that_ends_its_process_time_and_again_is_named(tmp_path):
    attempts = Attempts(Folder(tmp_path))
    for earlier in range(MAX_ATTEMPTS):
        assert attempts.earlier("train", 7) == earlier
        check_attempts("train", 7, earlier)
        attempts.begin("train", 7, earlier)
    assert attempts.earlier("train", 8) == 0
    with pytest.raises(StorageError, match=rf"part 7 of split 'train' .* {MAX_ATTEMPTS} times") as error:
        check_attempts("train", 7, attempts.earlier("train", 7))
    assert error.value.kind == "unavailable"  # to be tried again
    attempts.end("train", 7, MAX_ATTEMPTS)
    assert attempts.earlier("train", 7) == 0


@pytest.mark.parametrize(
    ("cpus", "gpus", "gpus_each", "is_local", "wanted", "parts", "expected"),
    [
        (2, 0, 0, True, None, 3, (2, 2)),
        (64, 0, 0, True, None, 10, (10, 10)),
        (64, 0, 0, True, 4, 10, (4, 4)),
        (8, 4, 1, True, None, 100, (1, 4)),
        (8, 1, 0.5, True, None, 9, (1, 2)),
        (64, 0, 0, False, None, 1000, (64, 1000)),  # a cluster may grow
        (0, 0, 0, False, None, 1000, (1, 1000)),
        (8, 0, 1, False, None, 1000, (1, 1000)),  # of which no GPU is there yet
        (8, 0, 1, False, 6, 1000, (1, 6)),
        (100_000, 0, 0, False, None, 10**6, (32_768, 32_768)),
    ],
)
def test_pools_are_as_large_as_the_cluster_and_the_work(cpus, gpus, gpus_each, is_local, wanted, parts, expected):
    cluster = Resources("local" if is_local else "auto", is_local, cpus, gpus)
    assert pool_sizes(cluster, gpus_each, wanted, parts) == expected


@pytest.mark.parametrize(
    ("cpus", "gpus", "actors", "store_gib", "expected"),
    [
        (2, 1, 1, 1000, 2),
        (32, 4, 4, 1000, 6),
        (1000, 1, 1, 1000, MOST_TASKS),
        (8, 0, 5, 1000, 6),
        (64, 1, 1, 1, 2),  # whose object store is small
        (64, 4, 4, 0.1, 1),
    ],
)
def test_decoding_tasks_are_as_many_as_keep_the_cpus_busy(cpus, gpus, actors, store_gib, expected):
    cluster = Resources("auto", False, cpus, gpus, object_store_bytes=store_gib * 2**30)
    assert tasks_each(cluster, actors) == expected


@pytest.mark.parametrize(
    ("gpus_each", "memory_mib", "words"), [(2, None, "2 GPUs of 1"), (1, 4096, "4096 MiB of 2048"), (1, 1024, None)]
)
def test_what_a_machine_will_never_hold_is_refused(gpus_each, memory_mib, words):
    cluster = Resources("local", True, 4, 1, 2 << 30)
    memory_bytes = memory_mib << 20 if memory_mib else None
    with pytest.raises(ValueError, match=words) if words else contextlib.nullcontext():
        check_fits(cluster, gpus_each, memory_bytes)
    check_fits(replace(cluster, is_local=False), gpus_each, memory_bytes)  # which may grow


def test_records_that_do_not_hold_are_named(tmp_path):
    worker, adding = worker_of(tmp_path, FILES | {"dog/9.jpg": b"no picture"}, rows_per_part=5)
    done = {"train": {index: worker.finish("train", index) for index in range(3)}}
    assert stand(adding, done).faulty == []
    files = adding.files

    def faulty(change):
        before = contents(files.output)
        change()
        found = stand(adding, list_parts(files.records))
        for name, data in before.items():
            files.output.write(name, data)
        return [part.index for part in found.faulty], sorted(found.parts.get("train", {}))

    shard, rejects = "train/shard-00001.parquet", "train/rejected-00002.parquet"
    assert faulty(lambda: files.output.delete(shard)) == ([1], [0, 2])
    assert faulty(lambda: files.output.write(shard, b"")) == ([1], [0, 2])
    assert faulty(lambda: files.output.delete(rejects)) == ([2], [0, 1])
    assert faulty(lambda: files.output.write(rejects, b"PAR1")) == ([2], [0, 1])
    known = "_source/train/part-00000.parquet"
    assert faulty(lambda: files.output.delete(known)) == ([0], [1, 2])
    assert faulty(lambda: files.output.write(known, b"PAR1")) == ([0], [1, 2])
    record = files.records.read(done["train"][0].name)
    assert faulty(lambda: files.records.write(done["train"][1].name, record)) == ([1], [0, 2])
    assert faulty(lambda: files.records.write(done["train"][1].name, record[:-9])) == ([1], [0, 2])
    other = replace(adding, files=replace(files, listing="another listing"))
    assert [part.index for part in stand(other, done).faulty] == [0, 1, 2]
    assert stand(adding, done).faulty == []


def test_a_part_that_stands_is_not_made_again(tmp_path):
    worker, _ = worker_of(tmp_path, FILES)
    made = worker.finish("train", 0)
    worker.encode = None
    assert worker.finish("train", 0) == made


def test_a_process_of_the_users_own_may_end_often(tmp_path):
    worker, _ = worker_of(tmp_path, FILES)
    for earlier in range(MAX_ATTEMPTS + 1):
        worker.attempts.begin("train", 0, earlier)
    with pytest.raises(StorageError, match="has lost its process or its node"):
        worker_of(tmp_path, FILES, is_actor=True)[0].finish("train", 0)
    assert worker.finish("train", 0).rows == len(FILES)


def test_an_actor_refuses_another_tokenizer_than_the_jobs(tmp_path):
    worker, adding = worker_of(tmp_path, FILES)
    other = write_tokenizer(tmp_path / "tokenizer", image_size=32, seed=5)
    with pytest.raises(ValueError, match="was fitted anew meanwhile"):
        TokenizeParts(worker.source, adding.files, worker.limit, other, fingerprint(worker.tokenizer), 5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("num", "sizes"), [(0, []), (3, [3]), (4, [4]), (10, [4, 4, 2])])
def test_parts_on_a_device_are_the_images_in_order(device, num, sizes):
    images = torch.randint(256, (num, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    parts = [part + 0 for part in parts_on(torch.device(device), images, 4)]
    assert [len(part) for part in parts] == sizes
    assert all(part.device.type == device for part in parts)
    assert torch.equal(torch.cat([images[:0], *[part.cpu() for part in parts]]), images)


def test_an_actor_keeps_to_its_share_of_a_gpu(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr("seit_ray.distributed.data.parts.keep_to_share", lambda *found: given.append(found))
    worker_of(tmp_path, FILES)
    worker_of(tmp_path, FILES, gpu_share=0.25)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert given == [(torch.device("cpu"), 0.0), (device, 0.25)]
