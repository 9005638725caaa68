"""A note on grey images of 16 bits that would be nearly black."""

import numpy as np
import pytest
from PIL import Image

from seit_ray.images.decoded import Decoding, decoded_chunks
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import white_level_of
from seit_ray.images.sample import NoReadableImageError, read_pixels
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder
from tests.images.made_sources import write_parquet
from tests.images.pictures import encoded, quadrants


@pytest.fixture
def source(tmp_path):
    return Folder(tmp_path / "source")


def listing(tmp_path, source, **settings):
    place = Folder(tmp_path / "list")
    return list_images(source, SourceSettings(**settings), place, val_fraction=0.0, seed=0)


def deep(high):
    return encoded(Image.fromarray(np.array([[0, high], [high // 2, 1]], np.uint16)))


def test_dark_images_of_16_bits_are_told_and_made_bright(tmp_path, source):
    source.write("a.png", deep(4000))
    source.write("b.png", deep(3000))
    source.write("c.png", b"damaged")
    (note,) = listing(tmp_path, source).notes
    assert note == (
        "2 of the first images are grey with 16 bits and no brighter than 4000 of 65535: nearly black; "
        "source.white_level=4095 makes that white"
    )
    manifest = listing(tmp_path, source, white_level=4000)
    assert manifest.notes == []
    assert white_level_of(manifest.sample("train", 2, 0)) == 4000
    (part,) = decoded_chunks(manifest.read_part("train", 0), source, Decoding(image_size=2, resize="squash"))
    assert part.pixels[0, 0].tolist() == [[0, 255], [128, 0]]
    pixels, _ = read_pixels(manifest.sample("train", 3, 0), source, image_size=2, resize="squash")
    assert pixels[0, 0].tolist() == [[0, 255], [128, 0]]


def test_images_in_parquet_are_looked_at_in_the_column_that_is_theirs(tmp_path, source):
    write_parquet(source, "a.parquet", {"img": [{"bytes": deep(4000), "path": "a.png"}]})
    (note,) = listing(tmp_path, source, image_column="img").notes
    assert note.startswith("1 of the first images are grey with 16 bits")


def test_usual_images_have_no_note(tmp_path, source):
    source.write("a.png", deep(60_000))
    source.write("b.png", deep(4000))
    source.write("c.png", encoded(quadrants()))
    manifest = listing(tmp_path, source)
    assert manifest.notes == []
    assert white_level_of(manifest.sample("train", 1, 0)) is None


def test_when_none_can_be_read_the_first_are_named_with_their_reasons(tmp_path, source):
    for name in "abcde":
        source.write(f"{name}.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    manifest = listing(tmp_path, source)
    text = r"none of 5 images in \S+ can be read \(a.jpg: HEIC, which is not read; .*; b.jpg: HEIC.*; c.jpg: HEIC"
    with pytest.raises(NoReadableImageError, match=text):
        read_pixels(manifest.sample("train", 5, 0), source, image_size=8, resize="crop")
