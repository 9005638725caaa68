"""Listing is a stream: what is in memory does not grow with the number of keys; what is left out is told."""

import tracemalloc

from seit_ray.images.listing import list_images
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder, uris
from seit_ray.storage.objects import Objects
from seit_ray.storage.s3 import S3
from tests.benchmarks.memory_use import MadeUpKeys


def test_a_bucket_is_listed_page_by_page(tmp_path, monkeypatch):
    for module in ("piece_writing", "manifest_writing"):
        monkeypatch.setattr(f"seit_ray.images.{module}.FILE_ROWS", 256)  # of which one is in memory
    monkeypatch.setattr("seit_ray.images.sources.find.HEAD_FILES", 1000)
    monkeypatch.setattr("seit_ray.images.piece_makers.STREAMS", 2)

    def peak(num):
        keys = MadeUpKeys(num)
        store = Objects(S3(keys, 64))
        monkeypatch.setattr(uris, "_connected", lambda *given: store)
        monkeypatch.setattr(store, "check_readable", lambda path: None)
        tracemalloc.start()
        folder = Folder(tmp_path / str(num))
        manifest = list_images(
            Folder("s3://bucket/images"), SourceSettings(), folder, val_fraction=0.0, seed=0, rows_per_part=16
        )
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert manifest.splits["train"].num_images == num
        assert keys.pages >= num / 1000
        return peak_bytes

    peak(1000)
    assert peak(12_000) < 1.3 * peak(5000)


def test_what_is_left_out_is_told_while_a_source_is_listed(tmp_path):
    source, told = Folder(tmp_path / "photos"), []
    for name in ("1.jpg", "2.heic", "3.heic", "4.txt"):
        source.write(name, b"x")
    options = {"val_fraction": 0.0, "seed": 0, "rows_per_part": 16}
    list_images(source, SourceSettings(), Folder(tmp_path / "m"), **options, on_progress=lambda *a: told.append(a))
    assert ("left out", 1, 1, "2 .heic, 1 .txt") in told
