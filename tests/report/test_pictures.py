"""Contact sheets and masked pictures."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from seit_ray.report.pictures import GAP_PIXELS, MASK_GREY, contact_sheet, grey_out


def pictures(count=3, height=4, width=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 3, height, width), dtype=np.uint8)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def test_every_pixel_is_enlarged_and_lies_in_its_place():
    rows = [pictures(seed=1), torch.from_numpy(pictures(seed=2))]
    sheet = pixels(contact_sheet(rows, ["", ""], scale=5))
    assert sheet.shape == (2 * 20 + GAP_PIXELS, 3 * 20 + 2 * GAP_PIXELS, 4)
    for i, row in enumerate(rows):
        for j, picture in enumerate(np.asarray(row)):
            top, left = i * (20 + GAP_PIXELS), j * (20 + GAP_PIXELS)
            shown = sheet[top : top + 20, left : left + 20]
            expected = picture.transpose(1, 2, 0).repeat(5, axis=0).repeat(5, axis=1)
            np.testing.assert_array_equal(shown[..., :3], expected)
            assert (shown[..., 3] == 255).all()
    assert (sheet[20 : 20 + GAP_PIXELS, :, 3] == 0).all()
    assert (sheet[:, 20 : 20 + GAP_PIXELS, 3] == 0).all()


@pytest.mark.parametrize(("side", "shown"), [(8, 80), (28, 84), (32, 64), (64, 64), (224, 224)])
def test_auto_scale_brings_small_images_to_a_good_size(side, shown):
    assert pixels(contact_sheet([pictures(1, side, side)], [""])).shape[:2] == (shown, shown)


def test_titles_are_drawn_left_of_the_pictures_only():
    rows = [pictures(), pictures()]
    plain = pixels(contact_sheet(rows, ["", ""]))
    titled = pixels(contact_sheet(rows, ["original", "decoded"]))
    added = titled.shape[1] - plain.shape[1]
    assert added > 40
    np.testing.assert_array_equal(titled[:, added:], plain)
    for half in np.split(titled[:, :added, 3], [80 + GAP_PIXELS // 2]):
        assert (half > 0).sum() > 50
    assert (titled[:, added - GAP_PIXELS : added, 3] == 0).all()


def test_grey_out_paints_masked_cells_and_nothing_else():
    images = np.full((2, 3, 8, 12), 7, np.uint8)
    mask = np.zeros((2, 2, 3), bool)
    mask[0, 0, 1] = mask[1, 1, 2] = True
    shown = grey_out(torch.from_numpy(images), torch.from_numpy(mask))
    expected = images.copy()
    expected[0, :, 0:4, 4:8] = MASK_GREY
    expected[1, :, 4:8, 8:12] = MASK_GREY
    np.testing.assert_array_equal(shown, expected)
    assert (images == 7).all()
    assert shown.dtype == np.uint8


@pytest.mark.parametrize(
    ("rows", "titles", "scale", "message"),
    [
        ([], [], "auto", "at least one row"),
        ([pictures()], ["a", "b"], "auto", "1 rows and 2 titles"),
        ([pictures(), pictures(2)], ["a", "b"], "auto", "one shape"),
        ([pictures().astype(np.float32)], ["a"], "auto", "float32.*expected uint8"),
        ([pictures()[:, :1]], ["a"], "auto", r"row 0 .*\(3, 1, 4, 4\)"),
        ([pictures(0)], ["a"], "auto", "at least one image"),
        ([pictures()], ["a"], 0, "scale 0"),
        ([pictures()], ["a"], "big", "scale 'big'"),
    ],
)
def test_what_cannot_be_drawn_is_named(rows, titles, scale, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet(rows, titles, scale)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((3, 2, 2), np.uint8), "expected bool"),
        (np.zeros((3, 4), bool), "expected bool"),
        (np.zeros((2, 2, 2), bool), r"expected bool \[3, h, w\]"),
        (np.zeros((3, 3, 2), bool), "mask grid 3 x 2 on images of 4 x 4"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(mask, message):
    with pytest.raises(ValueError, match=message):
        grey_out(pictures(), mask)


def test_drawing_does_not_load_torch():
    code = (
        "import sys, numpy; from seit_ray.report import curves, page, pictures, terminal\n"
        "pictures.contact_sheet([numpy.zeros((1, 3, 2, 2), 'uint8')], ['x'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
