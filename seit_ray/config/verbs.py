"""One model a verb: all its keys. Trainings are in `trainings`, what carries files in and out in `exchange`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from seit_ray.config.loop import (
    check_best,
    check_no_layers,
    check_schedule,
)
from seit_ray.config.robustness import Robustness
from seit_ray.config.sections import (
    Cluster,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Section,
    Seed,
    Share,
    Source,
    Storage,
    Tokenize,
)
from seit_ray.config.tokenizers import Centroid, VitVqgan, VqganLoop, VqganOptimizer
from seit_ray.config.training import Workers, WorkersHere
from seit_ray.storage import Folder
from seit_ray.storage.output import overlap


class Verb(Section):
    """Keys that every verb has."""

    undecided = frozenset({"storage", "cluster"})

    storage: Storage = Field(default_factory=Storage)
    cluster: Cluster = Field(default_factory=Cluster)

    @property
    def made(self) -> tuple[str, ...]:
        """The folders that the verb fills, and whatever is in them."""
        output = getattr(self, "output", None)
        return (output,) if output else ()

    @model_validator(mode="after")
    def _listing_apart(self) -> Self:
        """ValueError for a kept listing in what the verb makes, or around it: each takes the other for foreign files.

        The listing is also for other verbs, which outlive what this one makes.
        """
        listing = self.source.listing if hasattr(self, "source") else None
        if not listing:
            return self
        for made in self.made:
            if overlap(Folder(made), Folder(listing)):
                raise ValueError(
                    f"source.listing {listing} and the output {made}; expected two folders, neither of them in the "
                    "other; choose another folder for the listing"
                )
        return self


class FitTokenizer(Verb):
    """Fit a tokenizer: k-means of patches in seconds, or a ViT-VQGAN by training (or from published weights)."""

    undecided = Verb.undecided | {"output", "workers", "replay"}
    places = frozenset({"images"})

    tokenizer: Literal["centroid", "vit_vqgan"] = Field("centroid", description="which kind")
    images: str | None = Field(
        None, description="folder, table or Parquet of images: a path or bucket; none for vit_vqgan.published"
    )
    output: str = Field(description="folder to write the tokenizer to")
    source: Source = Field(default_factory=Source)
    centroid: Centroid = Field(default_factory=Centroid)
    vit_vqgan: VitVqgan = Field(default_factory=VitVqgan)
    loop: VqganLoop = Field(default_factory=VqganLoop)
    optimizer: VqganOptimizer = Field(default_factory=VqganOptimizer)
    workers: Workers = Field(default_factory=Workers)
    val_fraction: Share = Field(0.0, description="the hold-out of tokenize_images, so that it is not fitted on")
    seed: Seed = Field(0, description="seed of the hold-out, the sample and k-means")
    replay: PositiveInt | None = Field(
        None, description="of vit_vqgan: run just this step, which was not finite; writes nothing"
    )

    @property
    def published(self) -> str | None:
        """The weights that are taken as they are, without images; None for what is fitted or trained."""
        return self.vit_vqgan.published

    @model_validator(mode="after")
    def _of_images_or_published(self) -> Self:
        if self.images is None and not self.published:
            raise ValueError("images is missing; expected the images to fit on; set images=FOLDER")
        if self.tokenizer == "vit_vqgan" and not self.published:
            check_schedule(self.loop, self.optimizer)
            check_best(self.loop, self.tokenizer)
            check_no_layers(self.optimizer, "a ViT-VQGAN")
        return self


class TokenizeImages(Verb):
    """Tokenise images into a token dataset with a Ray Data job; a rerun does only what is missing."""

    undecided = Verb.undecided | {"output"}
    places = frozenset({"images", "tokenizer"})

    images: str = Field(description="folder, table or Parquet of images: a path or bucket")
    tokenizer: str = Field(description="folder of a fitted tokenizer")
    output: str = Field(description="folder of the token dataset to write")
    source: Source = Field(default_factory=Source)
    tokenize: Tokenize = Field(default_factory=Tokenize)


class InspectTokens(Verb):
    """Verify a token dataset and show what is in it."""

    dataset: str = Field(description="folder of the token dataset")
    verify: bool = Field(True, description="read every shard and check checksums, counts and code range")
    contact_sheet: str | None = Field(None, description="write a PNG of decoded tokens here")
    images: str | None = Field(None, description="the source images, to show originals beside")
    source: Source = Field(default_factory=Source)
    num_pictures: PositiveInt = Field(12, description="pictures in the contact sheet")

    @model_validator(mode="after")
    def _drawn_or_left_out(self) -> Self:
        for key, needed in (("images", "contact_sheet"), ("num_pictures", "contact_sheet"), ("source", "images")):
            default = type(self).model_fields[key].get_default(call_default_factory=True)
            if getattr(self, key) != default and getattr(self, needed) is None:
                raise ValueError(f"{key} without {needed}, which alone reads it; expected both; set {needed}")
        return self


class Evaluate(Robustness, Verb):
    """Accuracies of a fine-tuned run, or IoU where it is a segmenter, on tokens or images, also corrupted ones."""

    dataset: str | None = Field(None, description="folder of the token dataset; this or images")
    images: str | None = Field(None, description="folder, table or Parquet of labelled images; this or dataset")
    run: str = Field(description="folder of the fine-tuned run")
    split: str = Field("val", description="split to evaluate on")
    weights: Literal["model", "ema", "best"] = Field(
        "model", description="the last weights, their moving average, or the best (loop.keep_best)"
    )
    batch_size: PositiveInt = Field(512, description="samples a forward pass; 16 of a segmenter, unless it is set")
    mirror: bool = Field(
        False,
        description="of a classifier, on images or on tokens of a centroid tokenizer: figures of the mean of each "
        "image's logits and its mirror image's too",
    )
    output: str | None = Field(None, description="file for the figures (JSON); default inside the run")
    source: Source = Field(default_factory=Source)
    val_fraction: Share | None = Field(
        None,
        description="of images: share held out as val where the source names no splits; default the run's, on the "
        "images that it was trained on, else 0",
    )
    seed: Seed | None = Field(None, description="of images: seed of the hold-out; default the run's in the same way")
    tokenizer: str | None = Field(None, description="of images: folder of the run's tokenizer; default in its dataset")
    max_image_pixels: PositiveInt = Field(178_956_970, description="larger images are rejected")
    max_image_mib: PositiveInt = Field(64, description="larger files are rejected, MiB")
    workers: WorkersHere = Field(default_factory=WorkersHere)

    @property
    def made(self) -> tuple[str, ...]:
        """None: a file alone, in the run if nobody says where."""
        return ()


class Predict(Verb):
    """Classes of new images, or their label maps, by a fine-tuned run; a rerun does only what is missing."""

    frozen = "seit_ray.distributed.data.predict_begin:PredictSettings"

    images: str = Field(description="folder, table or Parquet of images: a path or bucket")
    run: str = Field(description="folder of the fine-tuned run")
    output: str = Field(
        description="folder of Parquet parts (of a segmenter with its label maps as PNG), or one table, NAME.parquet "
        "or NAME.csv: a path or bucket"
    )
    source: Source = Field(default_factory=Source)
    split: str | None = Field(None, description="only images of this split, where the source names splits")
    tokenizer: str | None = Field(None, description="folder of the run's tokenizer; default in its dataset")
    weights: Literal["model", "ema", "best"] = Field(
        "model", description="the last weights, their moving average, or the best (loop.keep_best)"
    )
    top_k: NonNegativeInt = Field(0, description="also the likeliest k classes with their probabilities")
    probabilities: bool | None = Field(None, description="also of all classes; default where they are 100 at most")
    overwrite: bool = Field(False, description="predict anew what is finished, or was begun with other settings")
    rows_per_part: PositiveInt | None = Field(
        None, le=65536, description="images in a unit of work; default from their number: 256 to 16384"
    )
    batch_size: PositiveInt = Field(256, description="images a forward pass; of a segmenter 16 at most")
    patience_s: NonNegativeFloat = Field(180.0, description="how long a storage that does not answer is asked again, s")
    max_image_pixels: PositiveInt = Field(178_956_970, description="larger images are rejected")
    max_image_mib: PositiveInt = Field(64, description="larger files are rejected, MiB")
    num_actors: NonNegativeInt | None = Field(
        None, description="actors that classify; 0 works in this process, without Ray: default up to 1000 images"
    )
    gpus_per_actor: NonNegativeFloat | None = Field(None, description="default: 1 if the cluster has GPUs")
    memory_mib: PositiveInt | None = Field(
        None, description="what Ray keeps free for each actor and decoding task, MiB, where node types declare memory"
    )
