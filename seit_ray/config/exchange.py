"""Verbs that carry tokens and weights in and out, and from one encoding into another: the keys of each."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seit_ray.config.sections import NonNegativeInt, PositiveInt, Section
from seit_ray.config.verbs import Verb


class TokenFiles(Section):
    """A split's token files as SeiT released them."""

    data: str | None = Field(None, description="*-token.data.bin.gz, a path or bucket; no such split when left out")
    index: str | None = Field(None, description="*-token.index.npy.gz; beside the data when left out")
    labels: str | None = Field(None, description="*-label.txt; no labels when left out")


class ImportTokens(Verb):
    """Import published token files (SeiT) as a token dataset."""

    output: str = Field(description="folder of the token dataset to write")
    train: TokenFiles = Field(default_factory=TokenFiles)
    val: TokenFiles = Field(default_factory=TokenFiles)
    codebook: str | None = Field(None, description="codebook.ckpt of the release, where its encoder is not at hand")
    tokenizer: str | None = Field(None, description="folder of the whole tokenizer, instead of codebook")
    synonyms: str | None = Field(None, description="synonyms.json of the release, to travel with the dataset")
    num_synonyms: PositiveInt | None = Field(None, description="the nearest synonyms to keep; all when left out")
    grid: tuple[PositiveInt, PositiveInt] = Field(
        (32, 32), description="rows and columns of an image's tokens; of exported files, those beside them"
    )
    image_size: PositiveInt = Field(256, description="side in pixels of the images that were tokenised")
    metric: Literal["cosine", "l2"] = Field("cosine", description="how the encoder chose the nearest code")
    num_classes: PositiveInt | None = Field(None, description="classes; default from the highest label")
    rows_per_shard: PositiveInt = Field(16384, description="rows of every shard but a split's last")
    encoding: Literal["plain", "compact"] = Field(
        "plain", description="tokens as lists of integers that any Parquet reader shows, or entropy-coded (smallest)"
    )


class ExportTokens(Verb):
    """Export a token dataset as published token files (SeiT)."""

    places = frozenset({"dataset"})
    undecided = Verb.undecided | {"output"}

    dataset: str = Field(description="folder of the token dataset")
    output: str = Field(description="folder to write the files to")


class RecodeTokens(Verb):
    """Rewrite a token dataset: another encoding, other shards, or a codebook without unused codes."""

    dataset: str = Field(description="folder of the token dataset")
    output: str = Field(description="folder of the token dataset to write")
    encoding: Literal["plain", "compact"] | None = Field(None, description="of the tokens; as it is when left out")
    drop_unused: bool = Field(False, description="drop the codes that no image uses and renumber the others (SeiT)")
    rows_per_shard: PositiveInt | None = Field(None, description="rows of every shard but a split's last; as they are")


class ImportWeights(Verb):
    """Import published weights (SeiT, SeiT++, CCViT, DTM) as a finished run."""

    weights: str = Field(description="file of the weights: torch or safetensors, a path or bucket")
    dataset: str = Field(description="folder of the token dataset that the model reads")
    run: str = Field(description="folder of the run to write")
    num_heads: PositiveInt | None = Field(None, description="heads; default those of the named size")
    decoder_num_heads: PositiveInt | None = Field(
        None, description="heads of the MTM decoder; default those of the named size"
    )
    stem_stride: PositiveInt | None = Field(None, description="stride of the stem; default that of its kernel")
    stem_padding: NonNegativeInt | None = Field(None, description="padding of the stem; default that of its kernel")
    pool: Literal["mean", "cls"] | None = Field(None, description="read-out of a classifier; mean when left out")
    early_layers: PositiveInt | None = Field(
        None, description="CCViT: block that branch 2 begins behind; default the fourth from the end"
    )
