"""Verify a token dataset and show what is in it.

seit-ray inspect_tokens dataset=runs/tokens contact_sheet=sheet.png images=photos/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seit_ray.config import InspectTokens, Tokenize
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.verbs.command.places import Rows, dataset_rows, folder_of
from seit_ray.verbs.tokenize_images import summary

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from torch import Tensor

    from seit_ray.shards import TokenDataset
    from seit_ray.tokenizers.contract import Tokenizer


def check(config: InspectTokens) -> Rows:
    """What would be read, and drawn."""
    dataset = folder_of(config.dataset, config.storage)
    rows = [*dataset_rows(dataset), ("verify", str(config.verify))]
    if config.contact_sheet:
        check_sheet(config, dataset, config.contact_sheet)
        rows.append(("contact sheet", config.contact_sheet))
    return rows


def check_sheet(config: InspectTokens, folder: Folder, place: str) -> None:
    """ValueError for a dataset that cannot be drawn, originals that cannot be read, a place that cannot be written."""
    from seit_ray.shards import TokenDataset
    from seit_ray.storage import split_uri
    from seit_ray.tokenizers.about import read_about

    if not any(split.rows for split in TokenDataset(folder).info.splits.values()):
        raise ValueError(f"{folder.uri} has no images; expected some to draw; leave contact_sheet out")
    family = read_about(folder.join("tokenizer"))["family"]
    if family == "codebook":
        raise ValueError(
            f"contact_sheet of {folder.uri}, whose tokenizer of family {family!r} cannot decode; expected one that "
            "can; import the tokens again with tokenizer=FOLDER of the whole tokenizer, or leave contact_sheet out"
        )
    if config.images:
        folder_of(config.images, config.storage).check_readable()
    folder_of(split_uri(place)[0], config.storage).check_writable()


def inspect_tokens(config: InspectTokens, progress: Progress = silent) -> Rows:
    """Print counts and figures, verify, draw; ValueError lists every fault that is found."""
    from seit_ray.shards import TokenDataset
    from seit_ray.shards.statistics import code_usage
    from seit_ray.shards.verify import verify

    dataset = TokenDataset(folder_of(config.dataset, config.storage))
    info = dataset.info
    if config.contact_sheet:  # before every byte is verified
        check_sheet(config, dataset.folder, config.contact_sheet)
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
        rows.append(("contact sheet", draw(dataset, config, config.contact_sheet, progress)))
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


def draw(dataset: TokenDataset, config: InspectTokens, place: str, progress: Progress) -> str:
    """Write the contact sheet of the first split's pictures to a place, and tell of it."""
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
    titles, num_grey = ["decoded"], 0
    if config.images:
        keys = rows.meta["key"].take(picked).to_pylist()
        pixels, num_grey = originals(keys, dataset, tokenizer, config, progress)
        pictures.insert(0, pixels)
        titles.insert(0, "original")
    if dataset.info.void is not None:
        pictures.append(painted(rows.meta[MASK].take(picked).to_pylist(), dataset.info.image_size))
        titles.append("label map")
    folder, name = split_uri(place)
    Folder(folder, **config.storage.options()).write(name, contact_sheet(pictures, titles))
    return f"{place}; {num_grey} originals cannot be read any more and are grey" if num_grey else place


def painted(maps: list[bytes], size: int) -> np.ndarray:
    """uint8 [N,3,size,size] of label maps, a colour a class."""
    import numpy as np

    from seit_ray.images.label_maps import squash_map, unpack_map
    from seit_ray.report.label_maps import paint_maps

    return paint_maps(np.stack([squash_map(unpack_map(data), size) for data in maps]))


def originals(
    keys: list[str], dataset: TokenDataset, tokenizer: Tokenizer, config: InspectTokens, progress: Progress
) -> tuple[np.ndarray, int]:
    """(uint8 [N,3,H,W] of the images of the given keys, found by listing the source, how many are grey).

    Grey are those that are not there any more, or cannot be read. They are decoded as the dataset's were.
    """
    import numpy as np

    from seit_ray.images.decoded import Decoding, decoded_chunks

    assert config.images is not None  # `draw` has seen to it
    source, plan, limits = folder_of(config.images, config.storage), dataset.info.plan, Tokenize()
    decoding = Decoding(
        tokenizer.image_size,
        tokenizer.resize,
        config.source.image_column,
        plan.get("decode", limits.decode),
        plan.get("max_image_mib", limits.max_image_mib) << 20,
        plan.get("max_image_pixels", limits.max_image_pixels),
    )
    pixels = np.full((len(keys), 3, tokenizer.image_size, tokenizer.image_size), 128, np.uint8)
    is_grey = np.ones(len(keys), bool)
    rows = listed_rows(keys, config, source, progress)
    for found in decoded_chunks(rows, source, decoding) if rows is not None else ():
        places = [keys.index(key) for key in found.rows["key"].to_pylist()]
        pixels[places], is_grey[places] = found.pixels, False
    return pixels, int(is_grey.sum())


def listed_rows(keys: list[str], config: InspectTokens, source: Folder, progress: Progress) -> pa.Table | None:
    """The rows of a source's manifest that have these keys; None when there are none."""
    import tempfile

    import pyarrow as pa
    import pyarrow.compute as pc

    from seit_ray.images.listing import list_images

    wanted = pa.array(keys, pa.string())
    with tempfile.TemporaryDirectory(prefix="seit_ray-") as name:
        manifest = list_images(
            source,
            config.source.settings(),
            Folder(name),
            val_fraction=0.0,
            seed=0,
            select=lambda rows: pc.is_in(rows.keys, value_set=wanted).to_numpy(zero_copy_only=False),
            on_progress=progress,
        )
        parts = [manifest.read_part(s, i) for s, split in manifest.splits.items() for i in range(split.num_parts)]
    return pa.concat_tables(parts) if parts else None
