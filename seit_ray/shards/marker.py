"""dataset.json: what is in a token dataset; written last, so that it says that the dataset is whole."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from seit_ray.images.label_maps import MapLabels
from seit_ray.shards.parquet import checksum

MARKER = "dataset.json"
FORMAT_VERSION = 2


@dataclass
class Shard:
    """One Parquet file of a split; bytes are of the file, token_bytes and mask_bytes of its columns."""

    name: str
    rows: int
    bytes: int
    token_bytes: int
    sha256: str
    mask_bytes: int = 0


@dataclass
class RejectFile:
    """A table of images of a split that could not be read; bytes: 0 in datasets of older versions, which say none."""

    name: str
    rows: int
    sha256: str
    bytes: int = 0


@dataclass
class Split:
    """A split's files and counts: listed = rows + rejected."""

    listed: int
    rows: int
    rejected: int
    source_bytes: int
    shards: list[Shard]
    rejects: list[RejectFile]
    code_histogram: list[int]
    label_counts: list[int]

    @property
    def file_names(self) -> list[str]:
        """Of all shards and tables of rejects, in the folder of the split."""
        return [shard.name for shard in self.shards] + [file.name for file in self.rejects]

    @property
    def file_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(s.bytes for s in self.shards)

    @property
    def token_bytes(self) -> int:
        """Bytes of all token columns."""
        return sum(s.token_bytes for s in self.shards)

    @property
    def mask_bytes(self) -> int:
        """Bytes of all label maps."""
        return sum(s.mask_bytes for s in self.shards)


@dataclass
class DatasetInfo:
    """The content of dataset.json."""

    tokenizer: str  # fingerprint
    family: str
    image_size: int
    grid: tuple[int, int]
    codebook_size: int
    encoding: str
    class_names: list[str] | None
    splits: dict[str, Split]
    plan: dict[str, Any]  # what decided the content: source, manifest digest, settings
    format_version: int = FORMAT_VERSION
    versions: dict[str, str] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)  # files that say what it was made of: name -> SHA-256
    left_out: dict[str, int] = field(default_factory=dict)  # files of the source that were not listed, by kind
    notes: list[str] = field(default_factory=list)  # what was told of the source when it was listed
    void: int | None = None  # the source's value of what is no class, in a dataset of pairs; None without label maps

    @property
    def num_tokens(self) -> int:
        """Tokens an image, L."""
        return self.grid[0] * self.grid[1]

    @property
    def map_labels(self) -> MapLabels | None:
        """What the label maps of the source said by which value; None for a dataset without maps."""
        return None if self.void is None else MapLabels(len(self.class_names or []), self.void)

    def to_json(self) -> bytes:
        """Bytes of dataset.json; its last key is a checksum of the others."""
        values = asdict(self)
        return json.dumps({**values, "sha256": content_checksum(values)}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes, uri: str) -> DatasetInfo:
        """Parse and check dataset.json; ValueError for another format, a flipped byte, counts that do not add up."""
        try:
            values = json.loads(data)
            version, known = values["format_version"], values.pop("sha256", None)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{uri}/{MARKER} cannot be read ({error!r}); tokenise again") from error
        if version != FORMAT_VERSION:
            newer = isinstance(version, int) and version > FORMAT_VERSION
            mend = ", as it was written by a newer version; update seit_ray" if newer else "; tokenise again"
            raise ValueError(f"{uri} has format version {version}; expected {FORMAT_VERSION}{mend}")
        if content_checksum(values) != known:
            raise ValueError(f"{uri}/{MARKER} has a wrong checksum; it was altered: restore it or tokenise again")
        try:
            splits = {name: split_from(content) for name, content in values.pop("splits").items()}
            rows, columns = values.pop("grid")
            info = cls(splits=splits, grid=(rows, columns), **known_fields(cls, values))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{uri}/{MARKER} cannot be read ({error!r}); tokenise again") from error
        for name, split in splits.items():
            written, rejected = sum(s.rows for s in split.shards), sum(r.rows for r in split.rejects)
            if (split.listed, written, rejected) != (split.rows + split.rejected, split.rows, split.rejected):
                raise ValueError(
                    f"{uri} split {name}: {split.listed} listed, {split.rows} rows, {split.rejected} rejected, "
                    f"{written} in shards and {rejected} in tables of rejects; expected counts that add up; tokenise "
                    "again"
                )
        return info


def split_from(content: dict[str, Any]) -> Split:
    """A split's entry of the marker."""
    shards = [Shard(**known_fields(Shard, shard)) for shard in content["shards"]]
    rejects = [RejectFile(**known_fields(RejectFile, file)) for file in content["rejects"]]
    return Split(**known_fields(Split, {**content, "shards": shards, "rejects": rejects}))


def known_fields(of: type, values: dict[str, Any]) -> dict[str, Any]:
    """The values that a dataclass has fields for: a newer version may add others, which change none of these."""
    names = {field.name for field in fields(of)}
    return {name: value for name, value in values.items() if name in names}


def content_checksum(values: dict[str, Any]) -> str:
    """SHA-256 of the content of a dataset.json, however it is laid out."""
    return checksum(json.dumps(values).encode())
