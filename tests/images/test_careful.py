"""Decoding in processes that may end."""

import numpy as np

from seit_ray.images.careful import ENDED, decoded_carefully
from seit_ray.images.decoded import Decoding, decoded_chunks
from seit_ray.storage import Folder
from tests.images.deadly import DEADLY, Deadly
from tests.images.found import find_images, write_manifest
from tests.tiny_images import image_files, write_files

FILES = image_files(12)


def test_an_image_whose_decoding_ends_the_process_is_a_reject(tmp_path):
    """In a process of its own: what it is given to decode with ends it for one of the images."""
    files = FILES | {"cat/deadly.jpg": DEADLY}
    source = write_files(tmp_path / "images", files)
    manifest = write_manifest(find_images(source), Folder(tmp_path / "list"), val_fraction=0.0, seed=0)
    listed = manifest.read_part("train", 0)
    found = list(decoded_carefully(listed, source, Deadly(32, "squash")))
    rejected = [row for images in found for row in images.rejected.to_pylist()]
    assert [(row["key"], row["reason"]) for row in rejected] == [("cat/deadly.jpg", ENDED)]
    keys = [key for images in found for key in images.rows["key"].to_pylist()]
    assert keys == sorted(set(files) - {"cat/deadly.jpg"})
    expected = list(decoded_chunks(listed, source, Decoding(32, "squash")))
    good = np.concatenate([images.pixels for images in found])
    assert np.array_equal(good, np.concatenate([images.pixels for images in expected]))
