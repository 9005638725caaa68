"""The steps of the tokenising job as plain calls, without Ray: a slice of the manifest to its fragment."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from seit_ray.distributed.data.slices import (
    DecodeSlices,
    EncodeSlices,
    WriteFragments,
    default_actors,
    slices_together,
)
from seit_ray.distributed.resources import Resources
from seit_ray.images import decode_image, find_images, write_manifest
from seit_ray.images.slices import Decoding
from seit_ray.shards.fragments import Fragment, list_fragments, read_fragment
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.tokenizers.uploads import parts_on
from tests.tiny_images import image_bytes, write_files, write_tokenizer

FILES = {f"{name}/{i}.jpg": image_bytes(name, i, side=90, format="JPEG") for name in ("cat", "dog") for i in range(6)}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_a_slice_becomes_a_fragment(tmp_path, mode, batch_size):
    source = write_files(tmp_path / "images", FILES | {"dog/9.jpg": b"no picture"})
    tokenizer_folder = write_tokenizer(tmp_path / "tokenizer", image_size=32)
    listed = Folder(tmp_path / "list")
    write_manifest(find_images(source), listed, val_fraction=0.0, seed=0)
    tokenizer, _ = load_tokenizer(tokenizer_folder)
    steps = (
        DecodeSlices(listed, source, Decoding(tokenizer.image_size, tokenizer.resize, mode=mode)),
        EncodeSlices(tokenizer_folder, batch_size, on_gpu=False),
        WriteFragments(Folder(tmp_path / "fragments")),
    )
    table = pa.table({"split": ["train"], "slice": [0]})
    for step in steps:
        table = step(table)
    made = Fragment(**table.to_pylist()[0])
    assert made == Fragment("train", 0, 12, 1) == list_fragments(Folder(tmp_path / "fragments"))["train"][0]
    rows, rejected = read_fragment(Folder(tmp_path / "fragments"), made, tokenizer.grid[0] * tokenizer.grid[1])
    options = {"image_size": tokenizer.image_size, "resize": tokenizer.resize, "mode": mode}
    pixels = np.stack([decode_image(FILES[key], **options).pixels for key in sorted(FILES)])
    assert rows.tokens.tolist() == tokenizer.encode(torch.from_numpy(pixels)).tolist()
    assert rows.meta["key"].to_pylist() == sorted(FILES)
    assert rejected["key"].to_pylist() == ["dog/9.jpg"]


def test_slices_that_travel_together_become_their_own_fragments(tmp_path):
    source = write_files(tmp_path / "images", FILES)
    tokenizer_folder = write_tokenizer(tmp_path / "tokenizer", image_size=32)
    listed = Folder(tmp_path / "list")
    write_manifest(find_images(source), listed, val_fraction=0.0, seed=0, slice_size=5)
    found = {}
    for together in (1, 2, 3):
        fragments = Folder(tmp_path / f"fragments{together}")
        steps = (
            DecodeSlices(listed, source, Decoding(32, "squash")),
            EncodeSlices(tokenizer_folder, 4, on_gpu=False),
            WriteFragments(fragments),
        )
        for start in range(0, 3, together):
            numbers = list(range(start, min(start + together, 3)))
            table = pa.table({"split": ["train"] * len(numbers), "slice": numbers})
            for step in steps:
                table = step(table)
            assert [row["rows"] for row in table.to_pylist()] == [(5, 5, 2)[n] for n in numbers]
        found[together] = {entry.name: fragments.read(entry.name) for entry in fragments.list()}
    assert len(found[1]) == 3
    assert found[1] == found[2] == found[3]


@pytest.mark.parametrize(
    ("num_slices", "slice_bytes", "num_cpus", "expected"),
    [(1, 1 << 10, 2, 1), (235, 786_432, 2, 14), (10**6, 786_432, 2, 21), (10**6, 50 << 20, 64, 1), (100, 1, 64, 1)],
)
def test_small_slices_travel_together_where_there_are_many(num_slices, slice_bytes, num_cpus, expected):
    assert slices_together(num_slices, slice_bytes, Resources("local", True, num_cpus, 0)) == expected


def test_a_slice_of_rejects_has_no_tokens(tmp_path):
    encode = EncodeSlices(write_tokenizer(tmp_path / "tokenizer"), 4, on_gpu=False)
    size = encode.tokenizer.image_size
    empty = pa.table({"image_size": [size], "pixels": pa.array([b""], pa.large_binary())})
    row = encode(empty).to_pylist()[0]
    assert row == {"image_size": size, "tokens": b"", "num_tokens": 16}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("num", "sizes"), [(0, []), (3, [3]), (4, [4]), (10, [4, 4, 2])])
def test_parts_are_the_images_in_order(device, num, sizes):
    images = torch.randint(256, (num, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    parts = [part + 0 for part in parts_on(torch.device(device), images, 4)]
    assert [len(part) for part in parts] == sizes
    assert all(part.device.type == device for part in parts)
    assert torch.equal(torch.cat([images[:0], *[part.cpu() for part in parts]]), images)


@pytest.mark.parametrize(
    ("cpus", "gpus", "gpus_each", "slices", "actors"),
    [
        (2, 0, 0, 3, 1),
        (2, 0, 0, 100, 2),
        (64, 0, 0, 100, 13),
        (64, 0, 0, 10_000, 64),
        (8, 4, 1, 2, 4),
        (8, 1, 0.5, 9, 2),
    ],
)
def test_actors_are_as_many_as_the_machine_holds_and_the_work_needs(cpus, gpus, gpus_each, slices, actors):
    assert default_actors(Resources("local", True, cpus, gpus), gpus_each, slices) == actors
