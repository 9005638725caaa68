"""Keys of planning: what is to be tokenised, on what, at which rates and prices."""

from __future__ import annotations

from pydantic import Field

from seit_ray.config.sections import NonNegativeFloat, PositiveFloat, PositiveInt, Section, Seed, Source
from seit_ray.config.verbs import Verb


class GivenRates(Section):
    """Rates that win over what is measured."""

    fetch_mb_per_s: PositiveFloat | None = Field(None, description="of a node; its connection's when left out")
    decode_per_core: PositiveFloat | None = Field(None, description="images/s of one core; 250 when neither measured")
    encode_per_core: PositiveFloat | None = Field(None, description="images/s of one core; 100 when neither measured")
    encode_per_gpu: PositiveFloat | None = Field(None, description="images/s of one GPU; cores encode when not known")
    listed_per_s: PositiveFloat = Field(150_000.0, description="images/s that a core lists; see docs/figures.md")
    gathered_per_s: PositiveFloat = Field(
        1_400_000.0, description="images/s of a listing that the driver gathers in one manifest; see docs/figures.md"
    )
    parts_per_s: PositiveFloat = Field(95.0, description="parts (shards) a second that the driver hands out")


class PlanCost(Verb):
    """Time, cost and storage of tokenising, before anything is rented; can measure this machine's rates."""

    counts: tuple[PositiveInt, ...] = Field((10**6, 10**8, 10**10), description="numbers of images to plan for")
    image_bytes: PositiveFloat | None = Field(None, description="mean bytes an image; 110000 when not measured")
    grid: tuple[PositiveInt, PositiveInt] = Field((32, 32), description="rows and columns of an image's tokens")
    codebook_size: PositiveInt = Field(1024, description="codes of the tokenizer, K")
    token_bytes: PositiveFloat | None = Field(
        None, description="bytes of an image's tokens; those of grid and K, or of the sample, when left out"
    )
    key_bytes: NonNegativeFloat = Field(10.0, description="bytes of an image's key, label and sizes, compressed")
    rates: GivenRates = Field(default_factory=GivenRates)
    rows_per_shard: PositiveInt | None = Field(None, description="as tokenize.rows_per_shard")
    prices: str | None = Field(None, description="YAML file of prices; the prices.yaml of the package when left out")
    instance: str = Field("c7i.8xlarge", description="kind of node, by its name in the prices")
    num_nodes: PositiveInt | None = Field(None, description="nodes; as many as meet `hours` when left out")
    hours: PositiveFloat = Field(24.0, description="time that the job may take, to choose the number of nodes")
    startup_s: NonNegativeFloat = Field(300.0, description="seconds from renting a node to its first image")
    images_per_read: PositiveFloat = Field(1.0, description="images that one request reads: more in Parquet and tars")
    measure: bool = Field(False, description="measure rates and sizes here, on a sample of images by a tokenizer")
    images: str | None = Field(None, description="with measure: folder, table, Parquet or tars of images")
    source: Source = Field(default_factory=Source)
    tokenizer: str | None = Field(None, description="with measure: folder of a fitted tokenizer")
    sample_images: PositiveInt = Field(256, description="with measure: images in the sample")
    seed: Seed = Field(0, description="with measure: seed of the sample")
