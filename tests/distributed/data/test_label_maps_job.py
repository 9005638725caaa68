"""A tokenising job of images with label maps: the column, the counts, and what is refused."""

import numpy as np
import pytest

from seit_ray.images.label_maps import VOID, unpack_map
from seit_ray.shards import TokenDataset
from seit_ray.shards.exporting import run_export
from seit_ray.shards.rewrite import rewrite_dataset
from seit_ray.shards.verify import verify
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import save_tokenizer
from tests.distributed.data.jobs import run
from tests.tiny_images import write_files
from tests.tiny_maps import CLASSES, camvid_files, png, scene, scene_tokenizer
from tests.tiny_maps import VOID as SOURCE_VOID

SOURCE = {"masks": "masks", "void": SOURCE_VOID, "num_classes": len(CLASSES)}


@pytest.fixture(scope="module")
def dataset(ray_cluster, tmp_path_factory):
    """Tokens of 40 scenes, of which one lacks its map, one has one of another size, and one is damaged itself."""
    path = tmp_path_factory.mktemp("maps")
    files = camvid_files({"train": 40, "val": 3})
    del files["train/masks/0033.png"]
    files |= {"train/masks/0034.png": png(np.zeros((4, 4), np.uint8)), "train/images/0035.png": b"no picture"}
    images, tokenizer = write_files(path / "photos", files), Folder(path / "tokenizer")
    save_tokenizer(scene_tokenizer(), tokenizer)
    return run(ray_cluster, images, tokenizer, Folder(path / "tokens"), source_settings=SOURCE, val_fraction=0.0)


def test_counts_of_pairs_add_up_and_every_map_is_there_without_loss(dataset):
    info = dataset.info
    train = info.splits["train"]
    assert (train.listed, train.rows, train.rejected) == (40, 37, 3)
    assert (info.void, info.class_names, train.label_counts) == (3, ["0", "1", "2"], [0, 0, 0])
    reasons = dataset.rejected("train").to_pylist()
    assert [row["reason"][:12] for row in reasons] == ["no label map", "label map of", "not an image"]
    rows = dataset.read_split("train")
    for key, data in zip(rows.meta["key"].to_pylist(), rows.meta["mask"].to_pylist(), strict=True):
        values = scene(int(key[-8:-4]))[1]
        assert np.array_equal(unpack_map(data), np.where(values == SOURCE_VOID, VOID, values))
    assert 0 < train.mask_bytes < train.file_bytes - train.token_bytes
    assert verify(dataset) == []


def test_maps_survive_recoding_and_are_not_lost_by_an_export(dataset, tmp_path):
    rewrite_dataset(dataset, Folder(tmp_path / "compact"), encoding="compact", rows_per_shard=7)
    found = TokenDataset(Folder(tmp_path / "compact"))
    assert found.read_split("train").meta.equals(dataset.read_split("train").meta)
    assert found.info.void == 3
    assert verify(found) == []
    with pytest.raises(ValueError, match="has label maps, which the published files cannot hold"):
        run_export(dataset, Folder(tmp_path / "published"))


def test_pairs_that_came_since_are_added_and_a_map_that_was_overwritten_is_named(ray_cluster, tmp_path):
    images = write_files(tmp_path / "photos", camvid_files({"train": 4}))
    tokenizer, output = Folder(tmp_path / "tokenizer"), Folder(tmp_path / "tokens")
    save_tokenizer(scene_tokenizer(), tokenizer)
    given = {"source_settings": SOURCE, "val_fraction": 0.0}
    run(ray_cluster, images, tokenizer, output, **given)
    write_files(images, camvid_files({"train": 2}, first=4))
    found = run(ray_cluster, images, tokenizer, output, **given, mode="append")
    assert (found.info.splits["train"].rows, found.info.void, len(found.info.splits["train"].shards)) == (6, 3, 2)
    assert verify(found) == []
    images.write("train/masks/0002.png", png(np.zeros((20, 24), np.uint8)))
    with pytest.raises(ValueError, match=r"1 changed \(train/images/0002.png\)"):
        run(ray_cluster, images, tokenizer, output, **given, mode="append")


def test_verify_finds_a_map_of_another_size_or_class(dataset, tmp_path):
    from seit_ray.shards.verify import check_maps

    rows = dataset.read_split("val")
    for data, what in (
        (png(np.zeros((2, 2), np.uint8)), r"\[2, 2\]"),
        (png(np.full((20, 24), 3, np.uint8)), "class 3"),
    ):
        masks = [data, *rows.meta["mask"].to_pylist()[1:]]
        place = rows.meta.schema.get_field_index("mask")
        rows.meta = rows.meta.set_column(place, "mask", [masks])
        with pytest.raises(ValueError, match=what):
            check_maps(rows, dataset.info)


def test_a_tokenizer_that_crops_is_refused_at_once(ray_cluster, tmp_path):
    images = write_files(tmp_path / "photos", camvid_files({"train": 2}))
    tokenizer = scene_tokenizer()
    tokenizer.resize = "crop"
    save_tokenizer(tokenizer, Folder(tmp_path / "tokenizer"))
    with pytest.raises(ValueError, match="resize 'crop' of images with label maps; expected 'squash'"):
        run(ray_cluster, images, Folder(tmp_path / "tokenizer"), Folder(tmp_path / "out"), source_settings=SOURCE)
