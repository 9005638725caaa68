"""One model a verb: all the keys that it takes."""

from __future__ import annotations

from pydantic import Field

from seit_ray.config.sections import (
    Augment,
    Centroid,
    Classifier,
    Cluster,
    FinetuneLoop,
    FinetuneOptimizer,
    Loop,
    Masking,
    Model,
    NonNegativeInt,
    Optimizer,
    PositiveInt,
    Section,
    Share,
    Source,
    Storage,
    TokenizeSettings,
    Workers,
)


class Verb(Section):
    """Keys that every verb has."""

    storage: Storage = Field(default_factory=Storage)
    cluster: Cluster = Field(default_factory=Cluster)


class FitTokenizer(Verb):
    """Fit a tokenizer on a seeded sample of images."""

    images: str = Field(description="folder, table or Parquet of images: a path or s3://")
    output: str = Field(description="folder to write the tokenizer to")
    source: Source = Field(default_factory=Source)
    centroid: Centroid = Field(default_factory=Centroid)
    val_fraction: Share = Field(0.0, description="the hold-out of tokenize_images, so that it is not fitted on")
    seed: NonNegativeInt = Field(0, description="seed of the hold-out, the sample and k-means")


class TokenizeImages(Verb):
    """Tokenise images into a token dataset with a Ray Data job; a rerun does only what is missing."""

    images: str = Field(description="folder, table or Parquet of images: a path or s3://")
    tokenizer: str = Field(description="folder of a fitted tokenizer")
    output: str = Field(description="folder of the token dataset to write")
    source: Source = Field(default_factory=Source)
    tokenize: TokenizeSettings = Field(default_factory=TokenizeSettings)


class InspectTokens(Verb):
    """Verify a token dataset and show what is in it."""

    dataset: str = Field(description="folder of the token dataset")
    verify: bool = Field(True, description="read every shard and check checksums, counts and code range")
    contact_sheet: str | None = Field(None, description="write a PNG of decoded tokens here")
    images: str | None = Field(None, description="the source images, to show originals beside")
    source: Source = Field(default_factory=Source)
    num_pictures: PositiveInt = Field(12, description="pictures in the contact sheet")


class Training(Verb):
    """Keys of both training verbs."""

    dataset: str = Field(description="folder of the token dataset")
    output: str = Field("runs", description="folder that holds the runs: a path or s3://")
    run: str = Field(description="name of the run; the same name continues it")
    workers: Workers = Field(default_factory=Workers)
    loop: Loop = Field(default_factory=Loop)
    optimizer: Optimizer = Field(default_factory=Optimizer)


class Pretrain(Training):
    """Pre-train by masked token modelling."""

    model: Model = Field(default_factory=Model)
    masking: Masking = Field(default_factory=Masking)


class Finetune(Training):
    """Train a classifier of tokens, from a pre-trained run or from scratch."""

    init_from: str | None = Field(None, description="folder of a pre-training run; from scratch when left out")
    optimizer: FinetuneOptimizer = Field(default_factory=FinetuneOptimizer)
    loop: FinetuneLoop = Field(default_factory=FinetuneLoop)
    model: Classifier = Field(default_factory=Classifier)
    label_smoothing: Share = Field(0.1, description="label smoothing of the cross-entropy")
    augment: Augment = Field(default_factory=Augment)


class Evaluate(Verb):
    """Top-1, top-5 and per-class accuracy of a fine-tuned run."""

    dataset: str = Field(description="folder of the token dataset")
    run: str = Field(description="folder of the fine-tuned run")
    split: str = Field("val", description="split to evaluate on")
    batch_size: PositiveInt = Field(512, description="samples a forward pass")
    output: str | None = Field(None, description="file for the figures (JSON); default inside the run")
    workers: Workers = Field(default_factory=lambda: Workers(num_workers=0))


class PretrainPart(Section):
    """The quickstart's pre-training."""

    model: Model = Field(default_factory=Model)
    masking: Masking = Field(default_factory=Masking)
    loop: Loop = Field(default_factory=Loop)
    optimizer: Optimizer = Field(default_factory=Optimizer)


class FinetunePart(Section):
    """The quickstart's fine-tunings, from the pre-trained model and from scratch."""

    model: Classifier = Field(default_factory=Classifier)
    label_smoothing: Share = Field(0.1, description="label smoothing of the cross-entropy")
    augment: Augment = Field(default_factory=Augment)
    loop: FinetuneLoop = Field(default_factory=FinetuneLoop)
    optimizer: FinetuneOptimizer = Field(default_factory=FinetuneOptimizer)


class Quickstart(Verb):
    """From images to a fine-tuned classifier: every verb in a row, and a report."""

    images: str | None = Field(None, description="your images (folder per class); the bundled sample if left out")
    output: str = Field("runs/quickstart", description="folder for everything that is written")
    source: Source = Field(default_factory=Source)
    centroid: Centroid = Field(default_factory=Centroid)
    tokenize: TokenizeSettings = Field(default_factory=TokenizeSettings)
    pretrain: PretrainPart = Field(default_factory=PretrainPart)
    finetune: FinetunePart = Field(default_factory=FinetunePart)
    workers: Workers = Field(default_factory=Workers)
    seed: NonNegativeInt = Field(0, description="seed of every phase")
