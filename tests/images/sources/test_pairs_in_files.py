"""Pairs of images and label maps from tables, Parquet and tars: what holds of folders holds of each of them."""

import dataclasses

import numpy as np
import pytest

from seit_ray.images.decoded import Decoding, decoded_chunks
from seit_ray.images.label_maps import VOID, unpack_map
from seit_ray.images.listing import list_images
from seit_ray.images.sources import maps
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder
from tests.images.sources.made_pairs import LAYOUTS, MASKS, number_of, tar_of, write_pairs, write_table
from tests.tiny_images import write_files
from tests.tiny_maps import camvid_files, png, scene


def listed(source, settings, place, **how):
    """The manifest of a source of pairs."""
    return list_images(source, SourceSettings(**settings), Folder(place), val_fraction=0.0, seed=0, **how)


def decoded(manifest, source, split="train", masks=True, **decoding):
    """Its images, in one table."""
    parts = decoded_chunks(manifest.read_part(split, 0), source, Decoding(8, "squash", masks=masks, **decoding))
    rows, rejected = zip(*((part.rows.to_pylist(), part.rejected.to_pylist()) for part in parts), strict=True)
    return [row for some in rows for row in some], [row for some in rejected for row in some]


@pytest.fixture(autouse=True)
def few_looked_at(monkeypatch):
    """Two pairs are looked at before any work."""
    monkeypatch.setattr(maps, "LOOK", 2)


def reasons_of(rejected):
    return {number_of(row["key"]): row["reason"] for row in rejected}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_come_out_as_they_went_in_and_counts_add_up(tmp_path, layout):
    damaged = {5: png(np.zeros((5, 5), np.uint8)), 6: png(np.full((20, 24), 9, np.uint8)), 7: b"no picture"}
    source, settings = write_pairs(Folder(tmp_path / "s"), layout, {"train": 10, "val": 2}, absent={3, 4}, maps=damaged)
    manifest = listed(source, settings, tmp_path / "list")
    assert {name: split.num_images for name, split in manifest.splits.items()} == {"train": 10, "val": 2}
    assert (manifest.class_names, manifest.void, manifest.left_out) == (["0", "1", "2"], 3, {})
    rows, rejected = decoded(manifest, source)
    assert [number_of(row["key"]) for row in rows] == [n for n in range(10) if n not in (3, 4, 5, 6, 7)]
    for row in rows:
        values = scene(number_of(row["key"]))[1]
        assert np.array_equal(unpack_map(row["mask"]), np.where(values == 3, VOID, values))
        assert row["source_bytes"] == len(png(scene(number_of(row["key"]))[0]))
        assert row["label"] is None
    reasons = reasons_of(rejected)
    assert len(rows) + len(reasons) == 10
    assert all(reasons[number].startswith("no label map: ") for number in (3, 4))
    assert reasons[5].startswith("label map of 5x5 pixels; expected 24x20")
    assert reasons[6].startswith("label 9 in its label map; expected 0 to 2")
    assert reasons[7].startswith("label map: not an image")
    alone, bad = decoded(manifest, source, masks=False)  # whoever wants the images alone
    assert (len(alone), bad) == (10, [])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_large_map_is_a_reject_that_names_it(tmp_path, layout):
    noise = np.random.default_rng(0).integers(0, 3, (200, 200), np.uint8)
    source, settings = write_pairs(Folder(tmp_path / "s"), layout, {"train": 5}, maps={4: png(noise)})
    _, rejected = decoded(listed(source, settings, tmp_path / "list"), source, max_bytes=4000)
    (reason,) = reasons_of(rejected).values()
    assert reason.startswith(f"label map: size {len(png(noise))} bytes")
    assert "expected at most 4000" in reason


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_map_that_was_overwritten_changes_the_state_of_its_image(tmp_path, layout):
    folder, sizes = Folder(tmp_path / "s"), {"train": 4, "val": 2}
    source, settings = write_pairs(folder, layout, sizes)
    before = states(listed(source, settings, tmp_path / "list"))
    assert states(listed(source, settings, tmp_path / "again")) == before
    write_pairs(folder, layout, sizes, maps={1: png(np.zeros((20, 24), np.uint8))})
    after = states(listed(source, settings, tmp_path / "list"))
    changed = {number for number, state in before.items() if after[number] != state}
    assert 1 in changed


def states(manifest):
    rows = [row for split in manifest.splits for row in manifest.read_part(split, 0).to_pylist()]
    return {number_of(row["key"]): row["state"] for row in rows}


@pytest.mark.parametrize("layout", ["csv", "parquet and addresses"])
def test_of_maps_at_addresses_the_one_that_was_overwritten_or_named_anew_is_known(tmp_path, layout):
    folder = Folder(tmp_path / "s")
    source, settings = write_pairs(folder, layout, {"train": 4})
    name = "train/masks/0002.png" if layout == "csv" else "maps/2.png"
    before = listed(source, settings, tmp_path / "list")
    known = states(before)
    folder.write(name, png(np.ones((20, 24), np.uint8)))
    if layout == "csv":
        _, rejected = decoded(before, source)
        assert "label map: " in reasons_of(rejected)[2]
        assert "changed since it was listed" in reasons_of(rejected)[2]
        text = folder.read("list.csv").decode().replace("train/masks/0003.png", "train/masks/0000.png")
        folder.write("list.csv", text.encode())
    after = states(listed(source, settings, tmp_path / "list"))
    assert [number for number in range(4) if known[number] != after[number]] == ([2, 3] if layout == "csv" else [2])


@pytest.mark.parametrize("layout", ["csv", "parquet", "tar"])
@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.zeros((5, 5), np.uint8), "label map of 5x5 pixels; expected 24x20"),
        (np.full((20, 24), 7, np.uint8), "label 7 in its label map; expected 0 to 2, or 3"),
    ],
)
def test_a_wrong_map_among_the_first_is_told_before_any_work(tmp_path, layout, values, what):
    source, settings = write_pairs(Folder(tmp_path / "s"), layout, {"train": 3}, maps={1: png(values)})
    with pytest.raises(ValueError, match=what) as caught:
        listed(source, settings, tmp_path / "list")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", ["csv", "parquet and addresses", "tar"])
def test_a_source_without_any_map_is_one_line_before_any_work(tmp_path, layout):
    source, settings = write_pairs(Folder(tmp_path / "s"), layout, {"train": 3}, absent={0, 1, 2})
    with pytest.raises(ValueError, match=r"none of 3 images of .* with a label map \(.*: no label map: ") as caught:
        listed(source, settings, tmp_path / "list")
    assert "\n" not in str(caught.value)


def test_notes_of_a_listing_tell_of_images_without_maps(tmp_path):
    source, settings = write_pairs(Folder(tmp_path / "s"), "csv", {"train": 6}, absent={2, 4})
    manifest = listed(source, settings, tmp_path / "list")
    cell = "no label map: its cell in column 'seg' is empty"
    assert manifest.notes == [f"2 listed whose label map cannot be read: {cell}; {cell}"]


def test_the_listing_names_each_map_and_its_version(tmp_path):
    folder = Folder(tmp_path / "s")
    source, settings = write_pairs(folder, "csv", {"train": 3}, absent={1})
    (folder.join("train", "masks")).delete("0002.png")
    rows = listed(source, settings, tmp_path / "list").read_part("train", 0).to_pylist()
    uri = folder.uri_of("train/masks/0000.png")
    assert [(row["mask_uri"], row["mask_version"]) for row in rows] == [
        (uri, folder.version("train/masks/0000.png")),
        ("unusable: no label map: its cell in column 'seg' is empty", None),
        (f"unusable: no label map: there is no {folder.uri_of('train/masks/0002.png')}", None),
    ]
    source, settings = write_pairs(Folder(tmp_path / "rows"), "parquet", {"train": 2})
    rows = listed(source, settings, tmp_path / "list").read_part("train", 0).to_pylist()
    assert [row["mask_uri"] for row in rows] == [f"{source.uri_of('pairs.parquet')}#{row}:mask" for row in range(2)]
    assert {row["mask_version"] for row in rows} == {source.version("pairs.parquet")}


@pytest.mark.parametrize("layout", ["parquet", "tar"])
def test_files_that_an_inventory_names_hold_pairs_too(tmp_path, layout):
    source, settings = write_pairs(Folder(tmp_path / "s"), layout, {"train": 3})
    place = tmp_path / "inventory.csv"
    place.write_text("key,size\n" + "".join(f"{entry.name},{entry.size_bytes}\n" for entry in source.list()))
    manifest = listed(source, {**settings, "inventory": str(place)}, tmp_path / "list")
    assert [number_of(row["key"]) for row in decoded(manifest, source)[0]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("layout", "more", "what"),
    [
        ("csv", {"mask_column": "masks"}, r"column 'masks' in .*list.csv; .*; set mask_column"),
        ("csv", {"mask_column": ""}, "column 'mask' in .*list.csv"),
        ("csv", {"masks": "masks"}, "source.masks 'masks' with a source of kind 'table'.* set source.mask_column"),
        ("csv", {"masks": "masks", "mask_column": ""}, "source.masks 'masks' with a source of kind 'table'"),
        ("parquet", {"masks": "masks"}, "source.masks 'masks' with a source of kind 'parquet'"),
        ("tar", {"masks": "masks"}, "source.masks 'masks' with a source of kind 'webdataset'"),
        ("parquet", {"mask_column": "seg"}, "column 'seg' in .*pairs.parquet; .*set mask_column"),
        ("parquet", {"mask_column": "number"}, "column 'number' in .* is of type int64; expected label maps as the b"),
        ("csv", {"num_classes": None}, "label maps without classes; expected how many"),
    ],
)
def test_settings_that_fit_no_pairs_are_one_line(tmp_path, layout, more, what):
    source, settings = write_pairs(Folder(tmp_path / "s"), layout, {"train": 2})
    if layout == "parquet":
        write_table(source, "pairs.parquet", {"image": [b"1"], "mask": [b"1"], "number": [1], "id": ["a"]})
    with pytest.raises(ValueError, match=what) as caught:
        listed(source, {**settings, **more}, tmp_path / "list")
    assert "\n" not in str(caught.value)


def test_a_table_of_addresses_whose_maps_are_bytes_is_refused(tmp_path):
    folder = Folder(tmp_path / "s")
    write_table(folder, "t.parquet", {"uri": ["a.png"], "mask": [b"map"]})
    with pytest.raises(
        ValueError, match=r"column 'mask' in .*t.parquet is of type binary; expected addresses of label"
    ):
        listed(folder.join("t.parquet"), MASKS, tmp_path / "list")


def test_a_column_called_mask_is_left_alone_where_nothing_tells_of_maps(tmp_path):
    folder = write_files(tmp_path / "s", camvid_files({"train": 2}))
    folder.write("list.csv", b"uri,mask,label\ntrain/images/0000.png,nowhere.png,a\ntrain/images/0001.png,,b\n")
    manifest = listed(folder.join("list.csv"), {}, tmp_path / "list")
    rows = manifest.read_part("train", 0)
    assert "mask_uri" not in rows.column_names
    assert (rows["label"].to_pylist(), manifest.class_names) == ([0, 1], ["a", "b"])


def test_tars_name_their_maps_by_any_extension(tmp_path):
    folder = Folder(tmp_path / "s")
    pairs = {number: tuple(map(png, scene(number))) for number in range(3)}
    for extension, settings in (
        ("mask.png", MASKS),
        ("labels.png", {**MASKS, "mask_column": "labels.png"}),
        ("PNG8", {**MASKS, "mask_column": ".png8"}),
    ):
        folder.write("a.tar", tar_of(pairs, extension))
        manifest = listed(folder, settings, tmp_path / "list")
        assert [number_of(row["key"]) for row in decoded(manifest, folder)[0]] == [0, 1, 2], extension
        assert manifest.left_out == {}


def test_settings_say_whether_there_are_maps():
    plain = SourceSettings()
    assert not plain.has_maps
    for more in ({"masks": "masks"}, {"mask_column": "seg"}, {"void": 0}, {"num_classes": 2}):
        settings = dataclasses.replace(plain, **more)
        assert settings.has_maps
        assert settings.columns.label == ""
