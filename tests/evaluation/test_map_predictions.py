"""Names of predicted label maps: the image's key where every disk takes it."""

import os

import pytest

from seit_ray.evaluation.map_predictions import map_name
from seit_ray.storage import Folder


@pytest.mark.parametrize(
    ("key", "is_kept"),
    [
        ("a/1.jpg", True),
        ("a" * 200, True),
        ("a" * 201, False),
        ("\u732b" * 66, True),
        ("\u732b" * 84, False),  # 252 bytes, and with its suffix more than a disk takes
        ("a/../b", False),
        ("a:b", False),
    ],
)
def test_a_map_is_called_by_its_key_where_a_disk_takes_that(tmp_path, key, is_kept):
    name = map_name("val", key)
    assert (name == f"val/maps/{key}.png") == is_kept
    assert max(len(os.fsencode(part)) for part in name.split("/")) <= 204
    Folder(tmp_path).write(name, b"map")
    assert Folder(tmp_path).read(name) == b"map"
