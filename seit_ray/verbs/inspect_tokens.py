"""Verify a token dataset and show what is in it.

seit-ray inspect_tokens dataset=runs/tokens contact_sheet=sheet.png images=photos/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seit_ray.config import InspectTokens
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.verbs.command.places import Rows, dataset_rows, folder_of
from seit_ray.verbs.tokenize_images import summary

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from seit_ray.shards import TokenDataset
    from seit_ray.tokenizers.contract import Tokenizer


def check(config: InspectTokens) -> Rows:
    """What would be read."""
    return [*dataset_rows(folder_of(config.dataset, config.storage)), ("verify", str(config.verify))]


def inspect_tokens(config: InspectTokens, progress: Progress = silent) -> Rows:
    """Print counts and figures, verify, draw; ValueError lists every fault that is found."""
    from seit_ray.shards import TokenDataset
    from seit_ray.shards.statistics import code_usage
    from seit_ray.shards.verify import verify

    dataset = TokenDataset(folder_of(config.dataset, config.storage))
    info = dataset.info
    if config.verify:
        faults = verify(dataset, progress)
        if faults:
            raise ValueError(f"{dataset.folder.uri} has {len(faults)} faults: {'; '.join(faults)}")
    rows = [
        *summary(dataset.folder),
        (
            "tokenizer",
            f"{info.family} {info.tokenizer}, {info.image_size} px, grid {info.grid[0]}x{info.grid[1]}",
        ),
        ("code usage", f"{code_usage(dataset.histogram()):.1%} of {info.codebook_size}"),
        *class_balance(dataset),
        *reject_reasons(dataset),
    ]
    if config.verify:
        rows.append(("verified", "checksums, counts and code range of every shard"))
    if config.contact_sheet:
        rows.append(("contact sheet", draw(dataset, config, config.contact_sheet)))
    return rows


def class_balance(dataset: TokenDataset) -> Rows:
    """Fewest and most images of a class, a split; of label maps their classes alone."""
    names = dataset.info.class_names or []
    if dataset.info.void is not None:
        return [("classes of label maps", f"{len(names)} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})")]
    rows = []
    for split, info in dataset.info.splits.items():
        if names and info.rows:
            low, high = min(info.label_counts), max(info.label_counts)
            least, most = names[info.label_counts.index(low)], names[info.label_counts.index(high)]
            rows.append((f"{split} classes", f"{len(names)}; {low} ({least}) to {high} ({most}) images"))
    return rows


def reject_reasons(dataset: TokenDataset) -> Rows:
    """How many images were rejected, by reason."""
    from collections import Counter

    counts = Counter(r for split in dataset.info.splits for r in dataset.rejected(split)["reason"].to_pylist())
    return [(f"rejected {number}", reason) for reason, number in counts.most_common(8)]


def draw(dataset: TokenDataset, config: InspectTokens, place: str) -> str:
    """Write the contact sheet of the first split's pictures to a place, and return it."""
    import numpy as np
    import torch

    from seit_ray.report.pictures import contact_sheet
    from seit_ray.shards.parquet import MASK
    from seit_ray.storage import split_uri
    from seit_ray.tokenizers.files import load_tokenizer

    tokenizer, _ = load_tokenizer(dataset.folder.join("tokenizer"))
    split = next(name for name, s in dataset.info.splits.items() if s.rows)
    rows = dataset.read_shard(split, dataset.split(split).shards[0])
    picked = np.linspace(0, len(rows) - 1, min(config.num_pictures, len(rows))).astype(int)
    decoded = tokenizer.decode(torch.from_numpy(rows.tokens[picked].astype(np.int64)))
    pictures: list[Tensor | np.ndarray] = [decoded]
    titles = ["decoded"]
    if config.images:
        keys = rows.meta["key"].take(picked).to_pylist()
        pictures.insert(0, originals(keys, tokenizer, config, folder_of(config.images, config.storage)))
        titles.insert(0, "original")
    if dataset.info.void is not None:
        pictures.append(painted(rows.meta[MASK].take(picked).to_pylist(), dataset.info.image_size))
        titles.append("label map")
    folder, name = split_uri(place)
    Folder(folder, **config.storage.options()).write(name, contact_sheet(pictures, titles))
    return place


def painted(maps: list[bytes], size: int) -> np.ndarray:
    """uint8 [N,3,size,size] of label maps, a colour a class."""
    import numpy as np

    from seit_ray.images.label_maps import squash_map, unpack_map
    from seit_ray.report.label_maps import paint_maps

    return paint_maps(np.stack([squash_map(unpack_map(data), size) for data in maps]))


def originals(keys: list[str], tokenizer: Tokenizer, config: InspectTokens, source: Folder) -> np.ndarray:
    """uint8 [N,3,H,W] of the images of the given keys, found by listing the source; grey where one is missing."""
    import numpy as np

    from seit_ray.images import find_images
    from seit_ray.images.decode import ImageError, decode_image
    from seit_ray.images.fetch import fetch_images

    wanted = set(keys)
    uris = {r.key: r.uri for r in find_images(source, config.source.settings()) if r.key in wanted}
    pixels = np.full((len(keys), 3, tokenizer.image_size, tokenizer.image_size), 128, np.uint8)
    known = [key for key in keys if key in uris]
    for key, data in zip(
        known,
        fetch_images([(k, uris[k]) for k in known], source, image_column=config.source.image_column),
        strict=True,
    ):
        if isinstance(data, ImageError):
            continue
        if isinstance(data, Exception):
            raise data
        size, white_level = tokenizer.image_size, config.source.white_level
        decoded = decode_image(data, image_size=size, resize=tokenizer.resize, white_level=white_level)
        pixels[keys.index(key)] = decoded.pixels
    return pixels
