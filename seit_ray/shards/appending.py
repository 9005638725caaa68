"""Adding to a finished token dataset: which images of the source are new, and which were changed since.

Finished shards stay as they are; the images that came since go to new shards behind them, by the same tokenizer and
settings. Images that were rejected and have been overwritten since are tried again.
"""

from __future__ import annotations

import re
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seit_ray.images.known import ADDED, CHANGED, FOLDER, KINDS, SAME, Changes, KnownImages
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import Manifest
from seit_ray.images.piece_makers import Make, listed_pieces
from seit_ray.images.rows import FoundRows
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.progress import Progress
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.marker import DatasetInfo
from seit_ray.storage import Folder


def known_images(output: Folder, info: DatasetInfo) -> KnownImages:
    """What a dataset was made of; ValueError when it does not say."""
    if not info.source:
        raise ValueError(
            f"{output.uri} does not say which images it was made of; expected a dataset of tokenize_images that is "
            "not rewritten; tokenise into a new output"
        )
    return KnownImages(output, info.source)


def compare_source(
    output: Folder,
    source: Folder,
    settings: SourceSettings,
    info: DatasetInfo,
    *,
    val_fraction: float,
    seed: int,
) -> None:
    """ValueError that counts and names what was added, removed and changed since the dataset was made."""
    known, changes = known_images(output, info), Changes()
    source.check_readable()
    with (
        tempfile.TemporaryDirectory(prefix="seit_ray-") as name,
        listed_pieces(source, settings, Folder(name)) as found,
    ):
        for rows in found.rows():
            rows = rows.held_out(val_fraction=val_fraction, seed=seed)
            count_changes(changes, rows, known.kinds_of(rows))
    for key in known.removed():
        changes.add("removed", key)
    if any(changes.counts.values()):
        raise ValueError(
            f"{source.uri} has changed since {output.uri} was made: {changes.words()}; expected the same images; "
            "tokenize.mode=append adds those that came, or tokenise into a new output"
        )


def new_images(
    output: Folder,
    source: Folder,
    settings: SourceSettings,
    base: DatasetInfo,
    folder: Folder,
    *,
    val_fraction: float,
    seed: int,
    rows_per_part: int | None,
    keep_changed: bool,
    make: Make | None = None,
    on_progress: Progress,
) -> Manifest:
    """The manifest, written to a folder, of the images that came since; ValueError when others were changed."""
    known, changes = known_images(output, base), Changes()
    rejected = {key for split in base.splits for key in TokenDataset(output).rejected(split)["key"].to_pylist()}

    def are_new(rows: FoundRows) -> np.ndarray:
        kinds = known.kinds_of(rows)
        for row in np.flatnonzero(kinds == CHANGED).tolist() if rejected else ():
            if rows.keys[row].as_py() in rejected:
                kinds[row] = ADDED
        count_changes(changes, rows, kinds)
        return kinds == ADDED

    manifest = list_images(
        source,
        settings,
        folder,
        val_fraction=val_fraction,
        seed=seed,
        rows_per_part=rows_per_part,
        select=are_new,
        known_classes=base.class_names,
        make=make,
        is_anew=True,
        on_progress=on_progress,
    )
    for key in known.removed():
        changes.add("removed", key)
    on_progress("compare", 1, 1, changes.words() or "no changes")
    check_changes(changes, manifest, output, source, base, keep_changed=keep_changed)
    return manifest


def check_changes(
    changes: Changes, manifest: Manifest, output: Folder, source: Folder, base: DatasetInfo, *, keep_changed: bool
) -> None:
    """ValueError where images of the dataset have changed, or have classes now."""
    if changes.counts["changed"] and not keep_changed:
        raise ValueError(
            f"{source.uri}: {changes.words('changed')} since {output.uri} was made; expected images that are only "
            "added; tokenise into a new output, or keep the old tokens of these with tokenize.keep_changed=true"
        )
    if manifest.class_names is not None and base.class_names is None:
        raise ValueError(
            f"{source.uri} has classes now ({', '.join(manifest.class_names[:4])}, ...), and {output.uri} was made "
            "without; expected images without labels; tokenise into a new output"
        )


def count_changes(changes: Changes, rows: FoundRows, kinds: np.ndarray) -> None:
    """Count the images that are not the same."""
    for row in np.flatnonzero(kinds != SAME).tolist():
        changes.add(KINDS[kinds[row]], rows.keys[row].as_py())


def first_shards(base: DatasetInfo | None) -> dict[str, int]:
    """Split -> number of the first shard behind those of a dataset; none of its files has that number or a higher."""
    first = {}
    for name, split in base.splits.items() if base is not None else ():
        known = [file for file in base.source if file.startswith(f"{FOLDER}/{name}/")] if base is not None else []
        files = (*split.file_names, *known)
        numbers = [int(number) for file in files for number in re.findall(r"-(\d+)\.parquet$", file)]
        first[name] = max(numbers, default=-1) + 1
    return first


def kept_rejects(output: Folder, split: str, retried: set[str]) -> pa.Table:
    """The rejects of a finished dataset that stay: those that are not tried again."""
    table = TokenDataset(output).rejected(split)
    return table.filter(pc.invert(pc.is_in(table["key"], pa.array(sorted(retried), pa.string()))))


def retried_rejects(output: Folder, manifest: Manifest, base: DatasetInfo) -> dict[str, set[str]]:
    """Split -> keys of the dataset's rejects that a manifest of new images lists again."""
    rejected = {split: set(TokenDataset(output).rejected(split)["key"].to_pylist()) for split in base.splits}
    again: dict[str, set[str]] = {split: set() for split in base.splits}
    if any(rejected.values()):
        for name in manifest.splits:
            for column in manifest.keys(name):
                keys = set(column.to_pylist())
                for split, known in rejected.items():
                    again[split] |= known & keys
    return again
