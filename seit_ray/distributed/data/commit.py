"""The end of a tokenising job: the records of its parts -> the marker, in one step for all readers."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pyarrow as pa
import torch

from seit_ray.augment.synonyms import nearest_codes
from seit_ray.images.known import FOLDER
from seit_ray.images.manifest import Manifest
from seit_ray.shards.appending import first_shards, kept_rejects
from seit_ray.shards.dataset_files import sizes_of
from seit_ray.shards.marker import MARKER, DatasetInfo, RejectFile, Split
from seit_ray.shards.part_records import PartRecord, Spent, Sums
from seit_ray.shards.parts import Part, PartFiles, read_records
from seit_ray.shards.synonyms import NUM_SYNONYMS, write_synonyms
from seit_ray.shards.writing import write_rejects
from seit_ray.storage import Folder
from seit_ray.storage.output import WORK, note_names
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.files import save_tokenizer


@dataclass(frozen=True)
class Adding:
    """What a job adds to a dataset, or to nothing.

    retried: split -> keys of the base's rejects that the manifest lists again.
    """

    files: PartFiles
    manifest: Manifest
    base: DatasetInfo | None
    retried: dict[str, set[str]]

    @classmethod
    def of(
        cls,
        output: Folder,
        encoding: str,
        tokenizer: Tokenizer,
        manifest: Manifest,
        base: DatasetInfo | None,
        retried: dict[str, set[str]],
    ) -> Adding:
        """Behind the shards of `base`."""
        num_codes, num_classes = len(tokenizer.codebook), len(class_names_of(manifest, base) or [])
        records = output.join(WORK, "records")
        files = PartFiles(output, records, encoding, num_codes, num_classes, first_shards(base), manifest.digest)
        return cls(files, manifest, base, retried)

    def note_names(self) -> None:
        """Write down what the job may write, and what its marker will name no more."""
        names = [
            name
            for split, listed in self.manifest.splits.items()
            for index in range(listed.num_parts)
            for name in self.files.names(split, index)
        ]
        for split, keys in self.retried.items():
            if keys and self.base is not None:
                names.append(f"{split}/{self.kept_name(split)}")
                names += [f"{split}/{file.name}" for file in self.base.splits[split].rejects]
        note_names(self.files.output, "parts", names)

    def kept_name(self, split: str) -> str:
        """The table of those rejects of the base that are not tried again."""
        return f"rejected-kept-{self.files.first[split]:05}.parquet"


class Standing(NamedTuple):
    """What is finished of a job: its parts, the records that do not hold, and what the others add up to."""

    parts: dict[str, dict[int, Part]]
    faulty: list[Part]
    sums: dict[str, Sums]  # by split
    spent: Spent


def class_names_of(manifest: Manifest, base: DatasetInfo | None) -> list[str] | None:
    """The classes of both; those of the manifest begin with those of the base."""
    return manifest.class_names if base is None or manifest.class_names is not None else base.class_names


def stand(adding: Adding, parts: dict[str, dict[int, Part]]) -> Standing:
    """Those of the parts whose files are there, of this listing and of the right size, added up; the others named."""
    files, sums, spent = adding.files, dict[str, Sums](), Spent()
    done: dict[str, dict[int, Part]] = {}
    faulty: list[Part] = []
    for split, by_index in sorted(parts.items()):
        ordered = [by_index[index] for index in sorted(by_index)]
        sizes = sizes_of(files.output, f"{split}/", f"{FOLDER}/{split}/") if ordered else {}
        sums[split] = Sums(files.num_codes, files.num_classes)
        for part, record in zip(ordered, read_records(files.records, ordered), strict=True):
            if record is not None and fits(adding, part, record, sizes):
                done.setdefault(split, {})[part.index] = part
                sums[split].add(record)
                spent.add(record)
            else:
                faulty.append(part)
    return Standing(done, faulty, sums, spent)


def fits(adding: Adding, part: Part, record: PartRecord, sizes: dict[str, int]) -> bool:
    """Whether a record is of this job, and the files stand that it tells of."""
    images = adding.manifest.part_images(part.split, part.index)
    written = {f"{part.split}/{file.name}" for file in (record.shard, record.rejects) if file is not None}
    return (
        record.listing == adding.files.listing
        and {*written, record.source[0]} == {*record.sizes} <= {*adding.files.names(part.split, part.index)}
        and images == part.images == record.images
        and all(sizes.get(name) == size for name, size in record.sizes.items())
    )


def splits_of(adding: Adding, sums: dict[str, Sums]) -> dict[str, Split]:
    """The splits' files and counts."""
    before = dict(adding.base.splits) if adding.base is not None else {}
    splits: dict[str, Split] = {}
    for name in sorted({*adding.manifest.splits, *before}):
        new = (sums.get(name) or Sums(adding.files.num_codes, adding.files.num_classes)).split()
        splits[name] = with_more(adding, name, before.get(name), new)
        listed = adding.manifest.splits[name].num_images if name in adding.manifest.splits else 0
        if name in before:
            listed += before[name].listed - len(adding.retried[name])
        if splits[name].listed != listed:
            raise RuntimeError(f"split {name}: {listed} listed but {splits[name].listed} accounted for")
    return splits


def with_more(adding: Adding, name: str, before: Split | None, new: Split) -> Split:
    """A split of the dataset, or none, and what was added to it, as one; classes that came count 0 before."""
    if before is None:
        return new
    rejects = [*stay_rejected(adding, name, before), *new.rejects]
    rows, rejected = before.rows + new.rows, sum(file.rows for file in rejects)
    labels = [*before.label_counts, *[0] * (adding.files.num_classes - len(before.label_counts))]
    return replace(
        new,
        listed=rows + rejected,
        rows=rows,
        rejected=rejected,
        source_bytes=before.source_bytes + new.source_bytes,
        shards=[*before.shards, *new.shards],
        rejects=rejects,
        code_histogram=[a + b for a, b in zip(before.code_histogram, new.code_histogram, strict=True)],
        label_counts=[a + b for a, b in zip(labels, new.label_counts, strict=True)],
    )


def stay_rejected(adding: Adding, name: str, before: Split) -> list[RejectFile]:
    """The tables of a split's rejects but for those that were tried again; written anew where there are any."""
    if not adding.retried[name]:
        return before.rejects
    kept = kept_rejects(adding.files.output, name, adding.retried[name])
    return [write_rejects(kept, name, adding.kept_name(name), adding.files.output)] if len(kept) else []


def commit(
    adding: Adding,
    plan: dict[str, Any],
    sums: dict[str, Sums],
    tokenizer: Tokenizer,
    about: dict[str, Any],
    *,
    before_marker: Callable[[], None],
) -> DatasetInfo:
    """Store the tokenizer and write the marker last, if `before_marker` lets it."""
    output, base, manifest = adding.files.output, adding.base, adding.manifest
    digest = manifest.digest
    if base is None:
        save_tokenizer(tokenizer, output.join("tokenizer"), about["report"])
        nearest = nearest_codes(tokenizer.codebook, min(NUM_SYNONYMS, len(tokenizer.codebook) - 1), tokenizer.metric)
        write_synonyms(output, nearest)
    else:
        digest = hashlib.sha256(f"{base.plan['manifest']} {digest}".encode()).hexdigest()
    info = DatasetInfo(
        tokenizer=about["fingerprint"],
        family=tokenizer.family,
        image_size=tokenizer.image_size,
        grid=tokenizer.grid,
        codebook_size=len(tokenizer.codebook),
        encoding=plan["encoding"],
        class_names=class_names_of(manifest, base),
        splits=splits_of(adding, sums),
        # the same images through another address of a server make the same dataset, byte by byte
        plan={**{name: value for name, value in plan.items() if name != "server"}, "manifest": digest},
        versions={"python": platform.python_version(), "pyarrow": pa.__version__, "torch": torch.__version__},
        source={
            **(base.source if base is not None else {}),
            **{name: known for some in sums.values() for name, known in some.source.items()},
        },
        left_out=manifest.left_out,
        notes=manifest.notes,
        void=manifest.void,
    )
    before_marker()
    output.write(MARKER, info.to_json())
    return info
