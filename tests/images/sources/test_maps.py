"""Pairs of images and label maps: both layouts, counts that add up, and mistakes told before any work."""

import numpy as np
import pytest

from seit_ray.images.decoded import Decoding, decoded_chunks
from seit_ray.images.label_maps import VOID, unpack_map
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import load_manifest
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder
from tests.tiny_images import write_files
from tests.tiny_maps import ade_files, camvid_files, camvid_settings, png, scene


def listed(folder, tmp_path, settings=None):
    """The manifest of a folder of pairs."""
    return list_images(folder, settings or camvid_settings(), Folder(tmp_path / "listing"), val_fraction=0.0, seed=0)


def decoded(manifest, folder, split="train", masks=True):
    """Its images."""
    (part,) = decoded_chunks(manifest.read_part(split, 0), folder, Decoding(8, "squash", masks=masks))
    return part


def test_camvid_lies_with_masks_beside_the_images_of_each_split(tmp_path):
    folder = write_files(tmp_path / "photos", camvid_files({"train": 3, "val": 2}))
    manifest = load_manifest(listed(folder, tmp_path).folder)
    assert {name: split.num_images for name, split in manifest.splits.items()} == {"train": 3, "val": 2}
    assert (manifest.class_names, manifest.void, manifest.left_out) == (["0", "1", "2"], 3, {})
    part = decoded(manifest, folder)
    assert part.rows["key"].to_pylist() == [f"train/images/000{i}.png" for i in range(3)]
    for seed, data in enumerate(part.rows["mask"].to_pylist()):
        values = scene(seed)[1]
        assert np.array_equal(unpack_map(data), np.where(values == 3, VOID, values))


def test_ade_lies_with_annotations_beside_images_and_0_is_void(tmp_path):
    folder = write_files(tmp_path / "photos", ade_files({"train": 2, "val": 1}))
    names = tmp_path / "names.txt"
    names.write_text("sky\nground\nthing\n")
    manifest = listed(folder, tmp_path, SourceSettings(masks="annotations", class_names=str(names)))
    assert {name: split.num_images for name, split in manifest.splits.items()} == {"train": 2, "val": 1}
    assert (manifest.class_names, manifest.void) == (["sky", "ground", "thing"], 0)
    values = scene(2)[1]
    (data,) = decoded(manifest, folder, "val").rows["mask"].to_pylist()
    assert np.array_equal(unpack_map(data), np.where(values == 3, VOID, values))


def test_an_image_without_its_map_is_a_reject_and_a_map_without_its_image_is_counted(tmp_path):
    files = camvid_files({"train": 4})
    del files["train/masks/0001.png"], files["train/images/0002.png"]
    files["train/extra.png"] = files["train/images/0000.png"]
    folder = write_files(tmp_path / "photos", files)
    manifest = listed(folder, tmp_path)
    assert manifest.splits["train"].num_images == 4
    assert manifest.left_out == {"label maps without an image": 1}
    part = decoded(manifest, folder)
    assert dict(zip(part.rejected["key"].to_pylist(), part.rejected["reason"].to_pylist(), strict=True)) == {
        "train/extra.png": "no label map: it lies in no folder 'images'",
        "train/images/0001.png": "no label map: there is no train/masks/0001.png",
    }
    assert len(part.rows) + len(part.rejected) == 4
    assert not len(decoded(manifest, folder, masks=False).rejected)  # whoever wants the images alone


def test_a_map_that_is_damaged_later_is_a_reject_with_its_reason(tmp_path):
    files = camvid_files({"train": 40})
    files["train/masks/0035.png"] = png(np.zeros((5, 5), np.uint8))
    files["train/masks/0036.png"] = png(np.full((20, 24), 9, np.uint8))
    folder = write_files(tmp_path / "photos", files)
    part = decoded(listed(folder, tmp_path), folder)
    reasons = dict(zip(part.rejected["key"].to_pylist(), part.rejected["reason"].to_pylist(), strict=True))
    assert reasons.keys() == {"train/images/0035.png", "train/images/0036.png"}
    assert reasons["train/images/0035.png"].startswith("label map of 5x5 pixels; expected 24x20")
    assert reasons["train/images/0036.png"].startswith("label 9 in its label map; expected 0 to 2")


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.zeros((5, 5), np.uint8), "train/images/0001.png: label map of 5x5 pixels; expected 24x20"),
        (np.full((20, 24), 7, np.uint8), "train/images/0001.png: label 7 in its label map; expected 0 to 2, or 3"),
    ],
)
def test_a_wrong_map_among_the_first_is_told_before_any_work(tmp_path, values, what):
    folder = write_files(tmp_path / "photos", camvid_files({"train": 3}) | {"train/masks/0001.png": png(values)})
    with pytest.raises(ValueError, match=what):
        listed(folder, tmp_path)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"masks": "labels"}, "source.masks 'labels' of .* expected label maps, as in images/x.jpg and labels/x.png"),
        ({"masks": "a/b"}, "expected the name of the maps' folder, or IMAGES:MAPS"),
        ({"masks": "images"}, "expected the name of the maps' folder, or IMAGES:MAPS, two names"),
        ({"num_classes": None}, "label maps without classes; expected how many"),
        ({"num_classes": 300}, "300 classes of label maps with void 3; expected 1 to 254"),
        ({"masks": None}, "source.void or source.num_classes without source.masks"),
        ({"masks": None, "mask_column": "seg"}, "source.mask_column 'seg' with image files, .* set source.masks to"),
        ({"kind": "webdataset"}, "source.masks 'masks' with a source of kind 'webdataset'.* set source.mask_column"),
    ],
)
def test_settings_that_fit_no_pairs_are_one_line(tmp_path, settings, what):
    folder = write_files(tmp_path / "photos", camvid_files({"train": 2}))
    with pytest.raises(ValueError, match=what) as caught:
        listed(folder, tmp_path, camvid_settings(**settings))
    assert "\n" not in str(caught.value)


def test_maps_of_other_names_than_all_images_are_one_line(tmp_path):
    files = {name.replace("masks/", "masks/gt_"): data for name, data in camvid_files({"train": 2}).items()}
    folder = write_files(tmp_path / "photos", files)
    with pytest.raises(
        ValueError, match=r"none of 2 images of .* with a label map \(train/images/0000.png: no label map"
    ):
        listed(folder, tmp_path)


def test_an_inventory_of_image_files_has_maps_by_their_folder_alone(tmp_path):
    folder = write_files(tmp_path / "photos", camvid_files({"train": 2}))
    place = tmp_path / "inventory.csv"
    place.write_text("key,size\n" + "".join(f"{entry.name},{entry.size_bytes}\n" for entry in folder.list()))
    with pytest.raises(
        ValueError, match=r"source.mask_column 'seg' with image files, .* set source.masks to"
    ) as caught:
        listed(folder, tmp_path, camvid_settings(inventory=str(place), masks=None, mask_column="seg"))
    assert "\n" not in str(caught.value)


def test_names_that_differ_from_the_number_and_mappings_are_refused(tmp_path):
    folder = write_files(tmp_path / "photos", camvid_files({"train": 2}))
    names = tmp_path / "names.json"
    names.write_text('["sky", "ground"]')
    with pytest.raises(ValueError, match=r"source\.num_classes 3 with 2 names"):
        listed(folder, tmp_path, camvid_settings(class_names=str(names)))
    names.write_text('{"0": "sky"}')
    with pytest.raises(ValueError, match="are a mapping; expected a list"):
        listed(folder, tmp_path, camvid_settings(class_names=str(names)))


def test_folders_of_other_names_are_named_both(tmp_path):
    renamed = {n.replace("/images/", "/photos/"): data for n, data in camvid_files({"train": 2}).items()}
    folder = write_files(tmp_path / "photos", renamed)
    manifest = listed(folder, tmp_path, camvid_settings(masks="photos:masks"))
    assert len(decoded(manifest, folder).rows) == 2


def test_a_map_that_was_overwritten_changes_the_state_of_its_image(tmp_path):
    files = camvid_files({"train": 2})
    folder = write_files(tmp_path / "photos", files)
    before = listed(folder, tmp_path).read_part("train", 0)["state"].to_pylist()
    folder.write("train/masks/0001.png", png(np.zeros((20, 24), np.uint8)))
    after = listed(folder, tmp_path).read_part("train", 0)["state"].to_pylist()
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False]


@pytest.mark.parametrize("limit", [None, 2])
def test_an_inventory_names_the_maps_too(tmp_path, limit):
    names = camvid_files({"train": 3})
    folder = write_files(tmp_path / "photos", names)
    place = tmp_path / "inventory.csv"
    place.write_text("key,size\n" + "".join(f"{name},{len(data)}\n" for name, data in names.items()))
    manifest = listed(folder, tmp_path, camvid_settings(inventory=str(place), limit=limit))
    number = limit or 3
    expected = [folder.uri_of(f"train/masks/000{i}.png") for i in range(number)]
    assert manifest.read_part("train", 0)["mask_uri"].to_pylist() == expected
    assert len(decoded(manifest, folder).rows) == number
