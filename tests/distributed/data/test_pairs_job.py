"""Tokenising jobs of pairs from tables, Parquet and tars: the rows of the same pairs in folders; again, and further."""

import numpy as np
import pytest

from seit_ray.images.label_maps import VOID, unpack_map
from seit_ray.shards.verify import verify
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import save_tokenizer
from tests.distributed.data.jobs import Interruption, interrupt_when, run
from tests.images.sources.made_pairs import number_of, write_pairs
from tests.tiny_images import contents
from tests.tiny_maps import png, scene, scene_tokenizer

HOW = {"val_fraction": 0.0, "rows_per_shard": 4, "max_reject_fraction": 0.5}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("tokenizer"))
    save_tokenizer(scene_tokenizer(), folder)
    return folder


@pytest.mark.parametrize("layout", ["csv", "parquet", "tar"])
def test_pairs_are_tokenised_again_and_further_to_the_same_bytes(ray_cluster, tokenizer, tmp_path, layout):
    folder, output = Folder(tmp_path / "source"), Folder(tmp_path / "tokens")
    made = {"absent": {3}, "maps": {33: png(np.zeros((4, 4), np.uint8))}}
    source, settings = write_pairs(folder, layout, {"train": 36, "val": 2}, **made)
    given = {"source_settings": settings, **HOW}
    if layout == "tar":  # killed on the way, and taken up
        ends = interrupt_when(lambda phase, done, total: phase == "tokenise" and done > 0)
        with pytest.raises(Interruption):
            run(ray_cluster, source, tokenizer, output, on_progress=ends, **given)
    dataset = run(ray_cluster, source, tokenizer, output, **given)
    train = dataset.info.splits["train"]
    assert (train.listed, train.rows, train.rejected, train.label_counts) == (36, 34, 2, [0, 0, 0])
    assert (dataset.info.void, dataset.info.class_names) == (3, ["0", "1", "2"])
    reasons = {number_of(row["key"]): row["reason"] for row in dataset.rejected("train").to_pylist()}
    assert reasons.keys() == {3, 33}
    assert reasons[3].startswith("no label map: ")
    assert reasons[33].startswith("label map of 4x4 pixels")
    rows = dataset.read_split("train")
    for key, data in zip(rows.meta["key"].to_pylist(), rows.meta["mask"].to_pylist(), strict=True):
        values = scene(number_of(key))[1]
        assert np.array_equal(unpack_map(data), np.where(values == 3, VOID, values))
    assert verify(dataset) == []

    before = contents(output)
    run(ray_cluster, source, tokenizer, output, check_source=True, **given)  # nothing has changed
    assert contents(output) == before
    if layout == "tar":
        run(ray_cluster, source, tokenizer, Folder(tmp_path / "whole"), **given)
        whole = contents(Folder(tmp_path / "whole"))
        assert {n: data for n, data in whole.items() if n.endswith(".parquet")} == {
            n: data for n, data in before.items() if n.endswith(".parquet")
        }
    if layout == "csv":
        folder.write("train/masks/0002.png", png(np.zeros((20, 24), np.uint8)))
        with pytest.raises(ValueError, match=r"1 changed \(train/images/0002.png\)"):
            run(ray_cluster, source, tokenizer, output, mode="append", **given)
        folder.write("list.csv", folder.read("list.csv") + b"\ntrain/images/0000.png,train/masks/0000.png,train")
        found = run(ray_cluster, source, tokenizer, output, mode="append", keep_changed=True, **given)
        assert (found.info.splits["train"].rows, found.info.void) == (35, 3)
        assert verify(found) == []
