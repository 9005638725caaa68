"""Label maps: values of a source to classes and back, sizes, kinds of PNG, and without loss."""

import io

import numpy as np
import pytest
from PIL import Image

from seit_ray.images.formats import ImageError
from seit_ray.images.label_maps import VOID, MapLabels, pack_map, read_map, seen_size, squash_map, unpack_map
from tests.tiny_maps import png

ADE, CAMVID = MapLabels(3, 0), MapLabels(3, 3)


@pytest.mark.parametrize(
    ("labels", "values", "classes"),
    [
        (ADE, [[0, 1], [2, 3]], [[VOID, 0], [1, 2]]),
        (CAMVID, [[0, 1], [2, 3]], [[0, 1], [2, VOID]]),
        (MapLabels(3, 1), [[0, 1], [2, 3]], [[0, VOID], [1, 2]]),
        (MapLabels(3, 255), [[0, 1], [2, 255]], [[0, 1], [2, VOID]]),
        (ADE, [[255, 1], [1, 1]], [[VOID, 0], [0, 0]]),  # 255 is void everywhere
    ],
)
def test_values_become_classes_in_order_without_void_and_back(labels, values, classes):
    found = read_map(png(np.array(values, np.uint8)), labels, (2, 2))
    assert found.tolist() == classes
    back = labels.values_of(found)
    assert back[found != VOID].tolist() == np.array(values)[np.array(classes) != VOID].tolist()
    assert {*back[found == VOID].tolist()} <= {labels.void}


@pytest.mark.parametrize(
    ("labels", "value", "range_of"), [(ADE, 4, "1 to 3, or 0"), (CAMVID, 4, "0 to 2, or 3"), (CAMVID, 254, "0 to 2")]
)
def test_a_label_outside_the_classes_is_named_with_what_would_be_one(labels, value, range_of):
    with pytest.raises(ImageError, match=f"label {value} in its label map; expected {range_of}"):
        read_map(png(np.full((2, 2), value, np.uint8)), labels, (2, 2))


def test_maps_of_16_bits_are_read_where_their_values_are_classes():
    assert read_map(png(np.array([[0, 2]], np.uint16)), CAMVID, (2, 1)).tolist() == [[0, 2]]
    with pytest.raises(ImageError, match="label 300 "):
        read_map(png(np.array([[0, 300]], np.uint16)), CAMVID, (2, 1))


def test_a_palette_is_read_by_its_indices_and_colours_are_refused():
    palette = Image.frombytes("P", (2, 2), bytes([0, 2, 1, 0]))
    palette.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0])
    sink = io.BytesIO()
    palette.save(sink, "PNG")
    assert read_map(sink.getvalue(), CAMVID, (2, 2)).tolist() == [[0, 2], [1, 0]]
    with pytest.raises(ImageError, match="mode RGB; expected grey of 8 bits or a palette"):
        read_map(png(np.zeros((2, 2, 3), np.uint8)), CAMVID, (2, 2))


def test_a_map_of_another_size_and_a_damaged_one_are_refused():
    with pytest.raises(ImageError, match="label map of 2x1 pixels; expected 4x3, the size of its image"):
        read_map(png(np.zeros((1, 2), np.uint8)), CAMVID, (4, 3))
    data = png(np.random.default_rng(0).integers(0, 3, (30, 40), np.uint8))
    with pytest.raises(ImageError, match=r"label map: .*truncated"):
        read_map(data[: len(data) // 2], CAMVID, (40, 30))


def test_maps_are_stored_without_loss_in_their_own_size():
    classes = np.random.default_rng(0).integers(0, 256, (17, 23), np.uint8)
    assert np.array_equal(unpack_map(pack_map(classes)), classes)
    with pytest.raises(ValueError, match="tokenise again"):
        unpack_map(b"no png")


def test_squashing_takes_the_class_in_the_middle_of_each_pixel():
    classes = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(squash_map(classes, 1), [[6]])
    assert squash_map(classes, 6).shape == (6, 6)
    wide = squash_map(classes.repeat(2, 0).repeat(2, 1), 6)
    assert np.array_equal(wide[::2], classes.repeat(2, 0).repeat(2, 1)[:, [0, 2, 3, 4, 6, 7]][[0, 2, 4]])


def test_the_size_of_a_turned_image_is_the_one_it_is_seen_in():
    sink = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (8, 4)).save(sink, "JPEG", exif=exif)
    assert seen_size(sink.getvalue()) == (4, 8)
