"""How large images are, from a few of them."""

import contextlib
import tempfile

import pytest

from seit_ray.images.listing import list_images
from seit_ray.images.sizes import LOOKED_AT, typical_side
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder
from tests.tiny_images import image_bytes, write_files


@contextlib.contextmanager
def listed(folder):
    with tempfile.TemporaryDirectory() as name:
        yield list_images(folder, SourceSettings(), Folder(name), val_fraction=0.0, seed=0)


@pytest.mark.parametrize(
    ("sides", "expected"),
    [([28] * 5, 28), ([16, 40, 64], 40), ([16, 16, 64, 64], 16), ([20] * 40 + [90] * 9, 20)],
)
def test_the_median_of_shorter_sides(tmp_path, sides, expected):
    files = {f"cat/{i:03d}.png": image_bytes("cat", i, side) for i, side in enumerate(sides)}
    folder = write_files(tmp_path, files)
    with listed(folder) as manifest:
        assert typical_side(manifest, folder) == expected


def test_what_cannot_be_read_is_passed_over(tmp_path):
    files = {f"cat/{i}.png": b"no image" for i in range(3)}
    folder = write_files(tmp_path, files)
    with listed(folder) as manifest:
        assert typical_side(manifest, folder) is None
    write_files(folder, {"cat/9.png": image_bytes("cat", 9, 24)})
    with listed(folder) as manifest:
        assert typical_side(manifest, folder) == 24


def test_only_some_are_fetched(tmp_path, monkeypatch):
    folder = write_files(tmp_path, {f"cat/{i:03d}.png": image_bytes("cat", i) for i in range(LOOKED_AT + 9)})
    seen = []
    monkeypatch.setattr("seit_ray.images.sizes.fetch_images", lambda pairs, *a, **k: seen.extend(pairs) or [])
    with listed(folder) as manifest:
        assert typical_side(manifest, folder) is None
    assert len(seen) == LOOKED_AT
