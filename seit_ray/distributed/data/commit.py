"""The end of a tokenising job: the records of its parts -> the marker, in one step for all readers."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import torch

from seit_ray.augment.synonyms import nearest_codes
from seit_ray.images.manifest import Manifest
from seit_ray.shards.appending import first_shards, kept_rejects
from seit_ray.shards.dataset import MARKER, DatasetInfo, RejectFile, Split
from seit_ray.shards.parts import Part, PartFiles, PartRecord, read_records
from seit_ray.shards.synonyms import FILE as SYNONYMS
from seit_ray.shards.synonyms import write_synonyms
from seit_ray.shards.writing import split_of, write_rejects
from seit_ray.storage import Folder
from seit_ray.storage.output import WORK, note_names
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.files import save_tokenizer

NUM_SYNONYMS = 10  # of each code, stored with a dataset: twice as many as SeiT picks from


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
        files = PartFiles(output, records, encoding, num_codes, num_classes, first_shards(base))
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


def class_names_of(manifest: Manifest, base: DatasetInfo | None) -> list[str] | None:
    """The classes of both; those of the manifest begin with those of the base."""
    return manifest.class_names if base is None or manifest.class_names is not None else base.class_names


def records_of(adding: Adding, done: dict[str, dict[int, Part]]) -> dict[str, list[PartRecord]]:
    """Split -> the records of its parts, in order."""
    ordered = {name: [by_index[index] for index in sorted(by_index)] for name, by_index in sorted(done.items())}
    return {name: read_records(adding.files.records, parts) for name, parts in ordered.items()}


def splits_of(adding: Adding, records: dict[str, list[PartRecord]]) -> dict[str, Split]:
    """The splits' files and counts."""
    before = dict(adding.base.splits) if adding.base is not None else {}
    splits: dict[str, Split] = {}
    for name in sorted({*adding.manifest.splits, *before}):
        splits[name] = with_more(adding, name, before.get(name), records.get(name, []))
        listed = adding.manifest.splits[name].num_images if name in adding.manifest.splits else 0
        if name in before:
            listed += before[name].listed - len(adding.retried[name])
        if splits[name].listed != listed:
            raise RuntimeError(f"split {name}: {listed} listed but {splits[name].listed} accounted for")
    return splits


def with_more(adding: Adding, name: str, before: Split | None, records: list[PartRecord]) -> Split:
    """A split of the dataset, or none, and what was added to it, as one; classes that came count 0 before."""
    sizes = {"num_codes": adding.files.num_codes, "num_classes": adding.files.num_classes}
    made = [shard for record in records if (shard := record.written(**sizes)) is not None]
    new = split_of(made, rejects=[record.rejects for record in records if record.rejects is not None], **sizes)
    if before is None:
        return new
    rejects = [*stay_rejected(adding, name, before), *new.rejects]
    rows, rejected = before.rows + new.rows, sum(file.rows for file in rejects)
    labels = [*before.label_counts, *[0] * (sizes["num_classes"] - len(before.label_counts))]
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
    records: dict[str, list[PartRecord]],
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
        splits=splits_of(adding, records),
        plan={**plan, "manifest": digest},
        versions={"python": platform.python_version(), "pyarrow": pa.__version__, "torch": torch.__version__},
        source={
            **(base.source if base is not None else {}),
            **dict(r.source for some in records.values() for r in some),
        },
        left_out=manifest.left_out,
        notes=manifest.notes,
    )
    before_marker()
    output.write(MARKER, info.to_json())
    return info


def names_of(info: DatasetInfo) -> set[str]:
    """The files of a finished dataset."""
    known = {MARKER, SYNONYMS, *(f"tokenizer/{name}" for name in ("tokenizer.json", "tokenizer.safetensors"))}
    known |= set(info.source)
    for name, split in info.splits.items():
        known |= {f"{name}/{file}" for file in split.file_names}
    return known
