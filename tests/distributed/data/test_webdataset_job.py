"""The tokenising job on WebDataset tars: the rows of the same images in folders, and every reject accounted for."""

import numpy as np
import pytest

from seit_ray.shards.verify import verify
from seit_ray.storage import Folder
from tests.distributed.data.jobs import run
from tests.images.made_tars import sample, tar_bytes
from tests.tiny_images import image_files, write_files, write_tokenizer

CLASSES = ("cat", "dog")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_tars_give_the_rows_of_the_folders(ray_cluster, tokenizer, tmp_path):
    files = image_files(50)
    files |= {"cat/broken.png": files["cat/00000.png"][:60], "dog/none.png": b""}
    names = sorted(files, key=str.encode)
    folders = write_files(tmp_path / "folders", {f"train/{name}": files[name] for name in names})
    tars = Folder(tmp_path / "tars")
    for number, part in enumerate((names[:30], names[30:])):
        members = [
            member
            for name in part
            for member in sample(
                name.removesuffix(".png"), files[name], suffix="png", cls=str(CLASSES.index(name.partition("/")[0]))
            )
        ]
        tars.write(f"photos-train-{number:03}.tar", tar_bytes(members))
    from_folders = run(ray_cluster, folders, tokenizer, Folder(tmp_path / "a"))
    from_tars = run(ray_cluster, tars, tokenizer, Folder(tmp_path / "b"), source_settings={"kind": "webdataset"})
    assert verify(from_tars) == []
    split = from_tars.split("train")
    assert (split.listed, split.rows, split.rejected) == (52, 50, 2)
    reasons = {row["key"]: row["reason"] for row in from_tars.rejected("train").to_pylist()}
    assert reasons["photos-train-001.tar#dog/none.png"] == "empty: 0 bytes"
    assert reasons["photos-train-000.tar#cat/broken.png"].startswith("truncated: ")
    found, expected = from_tars.read_split("train"), from_folders.read_split("train")
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    for name in ("label", "width", "height", "source_bytes"):
        assert found.meta[name].to_pylist() == expected.meta[name].to_pylist()
    assert from_tars.info.class_names == ["0", "1"]
    keys = [key.partition("#")[2] for key in found.meta["key"].to_pylist()]
    assert keys == [key.removeprefix("train/") for key in expected.meta["key"].to_pylist()]
