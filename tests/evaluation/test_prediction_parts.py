"""Which parts of predictions stand: by their records, and by the files that those tell of."""

import json

import numpy as np
import pyarrow as pa
import pytest

from seit_ray.evaluation.map_predictions import map_counts, map_name, map_tables
from seit_ray.evaluation.prediction_folder import MARKER, PartsFolder
from seit_ray.shards.parquet import checksum
from seit_ray.storage import Folder
from tests.images.found import ImageRecord, write_manifest


def part_with_map(place, key):
    """(manifest, output, files) of one finished part of one image of this key, with its map."""
    image = ImageRecord(key, "/images/1.jpg", None, "train", 1, "v")
    manifest = write_manifest([image], place.join("manifest"), val_fraction=0.0, seed=0)
    output = PartsFolder(place.join("maps"))
    files = output.files(manifest.digest)
    name = map_name("train", key)
    output.folder.write(name, b"png")
    rows = manifest.read_part("train", 0)
    sides = {"width": pa.array([8], pa.int32()), "height": pa.array([8], pa.int32())}
    for column, values in sides.items():
        rows = rows.append_column(column, values)
    none = rows.slice(0, 0).append_column("reason", pa.array([], pa.string()))
    written = {"name": name, "rows": 1, "bytes": 3, "sha256": checksum(b"png")}
    files.write(
        "train", 0, *map_tables("train", rows, none), counts=map_counts(1, np.array([64]), ["c"]), more=[written]
    )
    return manifest, output, files


@pytest.mark.parametrize("key", ["a/1.jpg", "_x/1.jpg", ".x/1.jpg", "a/_1.jpg"])
def test_a_part_stands_whatever_its_images_are_called(tmp_path, key):
    manifest, output, files = part_with_map(Folder(tmp_path), key)
    done, faulty = files.standing(manifest, ["train"])
    assert (list(done["train"]), faulty) == ([0], [])
    about = output.commit({}, files, list(done["train"].values()), 1, before_marker=lambda: None)
    assert output.finished() == about == json.loads(output.folder.read(MARKER))
    output.folder.delete(map_name("train", key))
    with pytest.raises(ValueError, match="is missing, or has another size"):
        output.finished()
