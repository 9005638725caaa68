"""Small images in folders, whose class shows in their colours, and a tokenizer for them."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.files import save_tokenizer

SIDE, PATCH, NUM_CODES = 16, 4, 16
COLOURS = {"cat": (200, 90, 40), "dog": (40, 110, 210), "emu": (90, 200, 80)}


def picture(label, seed, side=SIDE):
    """A smooth picture around the colour of its class."""
    noise = np.random.default_rng(seed).normal(0, 40, (4, 4, 3)) + COLOURS[label]
    small = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def image_bytes(label, seed, side=SIDE, format="PNG"):
    """The encoded picture."""
    sink = io.BytesIO()
    picture(label, seed, side).save(sink, format)
    return sink.getvalue()


def image_files(num, *, classes=("cat", "dog"), side=SIDE, format="PNG", first=0):
    """Name -> bytes of num images, a folder per class."""
    files = {}
    for i in range(first, first + num):
        label = classes[i % len(classes)]
        files[f"{label}/{i:05d}.{format.lower()}"] = image_bytes(label, i, side, format)
    return files


def write_files(place, files):
    """Files into a Folder, or a new one at a path."""
    folder = place if isinstance(place, Folder) else Folder(place)
    for name, content in files.items():
        folder.write(name, content)
    return folder


def write_tokenizer(place, *, seed=0, image_size=SIDE, patch_size=PATCH, num_codes=NUM_CODES):
    """A tokenizer of codes drawn around the colours, as fitting would find; returns its folder."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.tensor(list(COLOURS.values())) / 255
    chosen = colours[torch.arange(num_codes) % len(colours)].repeat_interleave(patch_size**2, 1)
    codebook = (chosen + 0.2 * torch.randn(chosen.shape, generator=generator)).clamp(0, 1)
    folder = place if isinstance(place, Folder) else Folder(place)
    save_tokenizer(CentroidTokenizer(codebook, image_size=image_size, patch_size=patch_size), folder)
    return folder


def contents(folder):
    """Name -> bytes of everything below a folder, hidden things too."""
    return {entry.name: folder.read(entry.name) for entry in folder.list(include_hidden=True)}
