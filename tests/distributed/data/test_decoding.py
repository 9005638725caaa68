"""Images decoded by tasks for an actor with a GPU: what is one task; on a ray that is told of a GPU not there."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from seit_ray.distributed.cluster import connected
from seit_ray.distributed.data.decoding import decoded_by_tasks, spans_of
from seit_ray.images.careful import ENDED
from seit_ray.storage import Folder
from tests.distributed.data.jobs import run
from tests.distributed.data.oracle import check_same
from tests.distributed.killing import Killer
from tests.images.deadly import DEADLY, Deadly
from tests.images.found import find_images, write_manifest
from tests.tiny_images import image_bytes, write_files, write_tokenizer

FILES = {f"{name}/{i}.jpg": image_bytes(name, i, side=90, format="JPEG") for name in ("cat", "dog") for i in range(6)}


def parquet_source(folder, num, row_group_size):
    """Images in a Parquet file; their source."""
    pictures = [image_bytes("cat", i, side=24) for i in range(num)]
    table = pa.table({"image": pictures, "label": [i % 2 for i in range(num)]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=row_group_size)
    folder.write("train.parquet", sink.getvalue().to_pybytes())
    return folder


def test_a_row_group_is_the_work_of_one_task(tmp_path):
    source = parquet_source(Folder(tmp_path / "images"), 70, 30)
    manifest = write_manifest(
        find_images(source), Folder(tmp_path / "list"), val_fraction=0.0, seed=0, rows_per_part=40
    )
    sizes = [[len(s) for s in spans_of(manifest.read_part("train", i), source, 8)] for i in range(2)]
    assert sizes == [[30, 10], [20, 10]]
    (tmp_path / "images" / "train.parquet").write_bytes(b"damaged")
    assert [len(s) for s in spans_of(manifest.read_part("train", 0), source, 8)] == [40]


def test_files_are_the_work_of_tasks_of_some_hundred(tmp_path):
    source = write_files(tmp_path / "images", FILES)
    manifest = write_manifest(find_images(source), Folder(tmp_path / "list"), val_fraction=0.0, seed=0)
    assert [len(s) for s in spans_of(manifest.read_part("train", 0), source, 5)] == [5, 5, 2]


@pytest.fixture(scope="module")
def with_a_gpu():
    """A ray of its own, which is told of a GPU that is not there."""
    ray.init(
        "local", num_cpus=2, num_gpus=1, object_store_memory=200 << 20, include_dashboard=False, log_to_driver=False
    )
    with connected() as cluster:
        yield replace(cluster, is_local=True)
    ray.shutdown()


@pytest.mark.slow
def test_tasks_decode_for_an_actor_with_a_gpu(with_a_gpu, tmp_path):
    """The same dataset as without; a task and the actor are killed on the way; Parquet and files."""
    assert with_a_gpu.num_gpus == 1
    files = {f"cat/{i:04}.jpg": image_bytes("cat", i % 40, side=300, format="JPEG") for i in range(240)}
    sources = {
        "files": write_files(tmp_path / "images", files | {"cat/bad.jpg": b"no"}),
        "parquet": parquet_source(Folder(tmp_path / "parquet"), 100, 30),
    }
    tokenizer = write_tokenizer(tmp_path / "tokenizer", image_size=32)
    for name, source in sources.items():
        outputs = {kind: Folder(tmp_path / f"{name} {kind}") for kind in ("cpu", "gpu")}
        killers = [Killer("decode_span", 1, 0.0), Killer("TokenizeParts", 1, 0.3)] if name == "files" else []

        def watch(*state, killers=killers):
            for killer in killers:
                killer(*state)

        run(replace(with_a_gpu, num_gpus=0), source, tokenizer, outputs["cpu"], rows_per_shard=30)
        run(with_a_gpu, source, tokenizer, outputs["gpu"], rows_per_shard=30, on_progress=watch)
        for killer in killers:
            assert killer.killed, f"no {killer.title} was met"
        listed = set(files) | {"cat/bad.jpg"} if name == "files" else {f"train.parquet#{i}" for i in range(100)}
        check_same(outputs["gpu"], outputs["cpu"], listed)


@pytest.mark.slow
def test_an_image_that_ends_the_decoding_tasks_is_a_reject(with_a_gpu, tmp_path):
    source = write_files(tmp_path / "images", FILES | {"cat/3.jpg": DEADLY})
    manifest = write_manifest(find_images(source), Folder(tmp_path / "list"), val_fraction=0.0, seed=0)
    found = list(decoded_by_tasks(manifest.read_part("train", 0), source, Deadly(32, "squash"), 2))
    rejected = [row for images in found for row in images.rejected.to_pylist()]
    assert [(row["key"], row["reason"]) for row in rejected] == [("cat/3.jpg", ENDED)]
    assert sum(len(images.rows) for images in found) == len(FILES) - 1
