"""Small scenes with label maps, in the layouts of CamVid and ADE-20k, and token datasets of them."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from seit_ray.images.decoded import Decoding, decoded_chunks
from seit_ray.images.listing import list_images
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.shards.marker import MARKER, DatasetInfo
from seit_ray.shards.parquet import MASK, META, TokenRows
from seit_ray.shards.writing import split_of, write_shard
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.files import save_tokenizer

CLASSES = ("sky", "ground", "thing")
COLOURS = np.array([(90, 140, 230), (120, 100, 60), (220, 40, 60), (0, 0, 0)], np.float64)  # the last of void
WIDTH, HEIGHT, VOID = 24, 20, 3  # of the images; the value of void in the maps
IMAGE_SIZE, PATCH, NUM_CODES = 16, 2, 8


def scene(seed, width=WIDTH, height=HEIGHT):
    """(image uint8 [H,W,3], values uint8 [H,W]): sky above ground, a thing somewhere, a border of void at the left."""
    rng = np.random.default_rng(seed)
    values = np.zeros((height, width), np.uint8)
    values[int(rng.integers(height // 3, 2 * height // 3)) :] = 1
    top, left = int(rng.integers(2, height - 10)), int(rng.integers(2, width - 10))
    values[top : top + 8, left : left + 8] = 2
    values[:, :1] = VOID
    pixels = COLOURS[values] + rng.normal(0, 6, (height, width, 3))
    return pixels.clip(0, 255).astype(np.uint8), values


def png(array):
    """An array as PNG."""
    sink = io.BytesIO()
    Image.fromarray(array).save(sink, "PNG")
    return sink.getvalue()


def camvid_files(sizes, first=0):
    """Name -> bytes of {split: number} scenes as CamVid lies: <split>/images/x.png, <split>/masks/x.png."""
    files, seed = {}, first
    for split, num in sizes.items():
        for _ in range(num):
            image, values = scene(seed)
            files[f"{split}/images/{seed:04d}.png"] = png(image)
            files[f"{split}/masks/{seed:04d}.png"] = png(values)
            seed += 1
    return files


def ade_files(sizes):
    """The same as ADE-20k lies: images/training/x.png, annotations/training/x.png; 0 is void, classes from 1."""
    names = {"train": "training", "val": "validation"}
    files = {}
    for name, data in camvid_files(sizes).items():
        split, kind, base = name.split("/")
        if kind == "masks":
            values = np.asarray(Image.open(io.BytesIO(data)))
            data = png(np.where(values == VOID, 0, values + 1).astype(np.uint8))
        files[f"{'images' if kind == 'images' else 'annotations'}/{names[split]}/{base}"] = data
    return files


def camvid_settings(**more):
    """Of a source of such files."""
    return SourceSettings(**{"masks": "masks", "void": VOID, "num_classes": len(CLASSES), **more})


def write_camvid(place, sizes=None, first=0):
    """Such files below a path; the folder."""
    folder = Folder(place)
    for name, data in camvid_files(sizes or {"train": 12, "val": 4}, first).items():
        folder.write(name, data)
    return folder


def scene_tokenizer(image_size=IMAGE_SIZE, patch_size=PATCH):
    """Codes of one colour each, those of the classes first."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.cat([torch.from_numpy(COLOURS).float() / 255, torch.rand(NUM_CODES - 4, 3, generator=generator)])
    return CentroidTokenizer(colours.repeat_interleave(patch_size**2, 1), image_size=image_size, patch_size=patch_size)


def write_map_dataset(place, images, settings=None, **tokenizer):
    """A token dataset of a folder of scenes, made without Ray; its folder."""
    folder, settings, coder = Folder(place), settings or camvid_settings(), scene_tokenizer(**tokenizer)
    manifest = list_images(images, settings, folder.join("_listing"), val_fraction=0.0, seed=0)
    sizes = {"num_codes": NUM_CODES, "num_classes": len(manifest.class_names)}
    splits = {}
    for split in manifest.splits:
        decoding = Decoding(coder.image_size, "squash", masks=True)
        (part,) = decoded_chunks(manifest.read_part(split, 0), images, decoding)
        tokens = coder.encode(torch.from_numpy(part.pixels)).numpy().astype(np.uint16)
        rows = TokenRows(tokens, part.rows.select([*META, MASK]).replace_schema_metadata(None))
        half = -(-len(rows) // 2)
        made = [
            write_shard(some, split=split, index=i, output=folder, encoding="plain", **sizes)
            for i, some in enumerate((rows.slice(0, half), rows.slice(half, len(rows))))
            if len(some)
        ]
        splits[split] = split_of(made, **sizes)
    info = DatasetInfo(
        tokenizer=save_tokenizer(coder, folder.join("tokenizer")),
        family=coder.family,
        image_size=coder.image_size,
        grid=coder.grid,
        codebook_size=NUM_CODES,
        encoding="plain",
        class_names=manifest.class_names,
        splits=splits,
        plan={"images": images.uri, "seed": 0},
        void=manifest.void,
    )
    folder.join("_listing").delete_tree()
    folder.write(MARKER, info.to_json())
    return folder
