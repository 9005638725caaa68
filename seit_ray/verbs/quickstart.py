"""From images to a classifier of tokens: every verb in a row, and a report of what the tokens are worth.

make quickstart, or: seit-ray quickstart images=photos/
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, TypeVar

import seit_ray
from seit_ray import config as configs
from seit_ray.config import Quickstart
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.storage.output import claim, refuse_overlap
from seit_ray.verbs.command.image_checks import check_fit
from seit_ray.verbs.command.places import (
    Rows,
    cluster_rows,
    folder_of,
    listed,
    looked_at,
    manifest_rows,
    output_rows,
)
from seit_ray.verbs.command.shape_checks import mistakes_of
from seit_ray.verbs.command.study_checks import check_parts

if TYPE_CHECKING:
    from seit_ray.studies.equal_bytes import Pixels

SAMPLE = Path(seit_ray.__file__).resolve().parent / "sample" / "fashion_mnist_test.parquet"
BASELINE_IMAGES = 20_000  # the baselines' share of a large source: enough for a linear model
SHOWN_IMAGES = 500  # held-out images that are decoded from their tokens, for the quality and the pictures

InARow = TypeVar("InARow", bound=Quickstart)


class Parts(TypedDict):
    """The configs of the quickstart's verbs, in order."""

    fit_tokenizer: configs.FitTokenizer
    tokenize_images: configs.TokenizeImages
    pretrain: NotRequired[configs.Pretrain]
    finetune: configs.Finetune
    evaluate: configs.Evaluate


# Phase -> what stands below the output when it is done. Each phase's folder holds <verb>.run.json too.
PHASES = {
    "fit_tokenizer": "tokenizer/tokenizer.json",
    "tokenize_images": "tokens/dataset.json",
    "pretrain": "pretrain/model.json",
    "finetune": "finetune/model.json",
    "evaluate": "finetune/evaluate-val.json",
}


def made_in(phase: str) -> str:
    """The folder below the output that a phase writes to."""
    return PHASES[phase].partition("/")[0]


def images_of(config: Quickstart) -> str:
    """The user's images, or the bundled sample."""
    return config.images or str(SAMPLE)


def listed_once(config: Quickstart) -> configs.Source:
    """Its source, whose listing all verbs share."""
    kept = config.source.listing or f"{config.output.rstrip('/')}/listing"
    return config.source.model_copy(update={"listing": kept})


def sized(config: InARow) -> InARow:
    """The config with the image size that the images fill; the same where smaller ones are to be enlarged.

    It is the largest one, up to that of the config, whose grid of tokens the classifier's stem tiles.
    """
    if config.enlarge:
        return config
    from seit_ray.images.sizes import LOOKED_AT, typical_side

    folder, held_out = folder_of(images_of(config), config.storage), config.tokenize.val_fraction

    def is_enough(number: int) -> bool:
        """So many, and not so long: the size must be the same when the command is given again."""
        return number >= LOOKED_AT

    with listed(folder, config.source, val_fraction=held_out, seed=config.seed, is_enough=is_enough) as manifest:
        side = typical_side(manifest, folder, image_column=config.source.image_column, seed=config.seed)
    patch, model = config.centroid.patch_size, config.finetune.model
    free = 2 * model.stem_padding - model.stem_kernel
    stride = model.stem_stride or model.stem_kernel
    tiled = [n for n in range(1, config.centroid.image_size // patch + 1) if n + free >= 0 and not (n + free) % stride]
    fitting = [n for n in tiled if side is None or n * patch <= side] or tiled[:1]
    if not fitting:
        return config  # which a model of that grid refuses, and says why
    centroid = config.centroid.model_copy(update={"image_size": patch * fitting[-1]})
    return config.model_copy(update={"centroid": centroid})


def parts(config: Quickstart) -> Parts:
    """The config of every verb that the quickstart runs, in order; they are those a user would write."""
    out, seed = config.output.rstrip("/"), config.seed
    shared: dict[str, Any] = {"storage": config.storage, "cluster": config.cluster}
    tokenize = config.tokenize.model_copy(update={"seed": seed})
    looking: dict[str, Any] = {"images": images_of(config), "source": listed_once(config), **shared}
    training: dict[str, Any] = {"dataset": f"{out}/tokens", "output": out, "workers": config.workers, **shared}

    def seeded(part: configs.PretrainPart | configs.FinetunePart) -> dict[str, Any]:
        return {**dict(part), "loop": part.loop.model_copy(update={"seed": seed})}

    fit = configs.FitTokenizer(
        output=f"{out}/tokenizer", centroid=config.centroid, val_fraction=tokenize.val_fraction, seed=seed, **looking
    )
    tokens = configs.TokenizeImages(tokenizer=f"{out}/tokenizer", output=f"{out}/tokens", tokenize=tokenize, **looking)
    found: dict[str, Any] = {"fit_tokenizer": fit, "tokenize_images": tokens}
    start = None
    if config.pre_train:
        start = f"{out}/pretrain"
        found["pretrain"] = configs.Pretrain(run="pretrain", **seeded(config.pretrain), **training)
    found["finetune"] = configs.Finetune(run="finetune", init_from=start, **seeded(config.finetune), **training)
    flips = config.finetune.augment.adapt != "none" and config.finetune.augment.flip_prob > 0
    found["evaluate"] = configs.Evaluate(dataset=f"{out}/tokens", run=f"{out}/finetune", mirror=flips, **shared)
    return Parts(**found)  # type: ignore[typeddict-item]


def check(config: Quickstart) -> Rows:
    """What would be run."""
    rows, num_train = look(config)
    output = folder_of(config.output, config.storage)
    claim_all(config, output)
    config = sized(config)
    each = parts(config)
    check_parts(each)
    check_enough(config, num_train)
    side = config.centroid.image_size
    return [
        *rows,
        ("seen at", f"{side}x{side} pixels, patches of {config.centroid.patch_size}x{config.centroid.patch_size}"),
        *output_rows(output),
        *cluster_rows(config.cluster, config.workers),
        ("runs", ", ".join(each)),
    ]


def look(config: Quickstart) -> tuple[Rows, int | None]:
    """The images, and, where a look finds all, how many are for train; ValueError for what would end a later phase."""
    from seit_ray.studies.image_set import check_splits, check_steps

    images = folder_of(images_of(config), config.storage)
    looked = looked_at(images, config.source, val_fraction=config.tokenize.val_fraction, seed=config.seed)
    with looked as (manifest, is_whole):
        if is_whole:
            check_splits(manifest, images.uri, "tokenize.val_fraction")
            for loop in [config.finetune.loop, *([config.pretrain.loop] if config.pre_train else [])]:
                check_steps(manifest, None, loop.settings(), images.uri)
        return manifest_rows(images, manifest, is_whole), manifest.splits["train"].num_images if is_whole else None


def check_enough(config: Quickstart, num_train: int | None) -> None:
    """ValueError where so many images, if that is known, are too few to fit the tokenizer on."""
    if num_train is not None:
        with mistakes_of("fit_tokenizer"):
            check_fit(config.centroid, num_train, config.centroid.image_size)


def claim_all(config: Quickstart, output: Folder) -> None:
    """ValueError unless the folder is free for all that is made, or holds it, and is none of the images'."""
    refuse_overlap(output, folder_of(images_of(config), config.storage), "images")
    claim(output, ("quickstart.run.json", "listing/listing.json", *(f"{made_in(phase)}/" for phase in PHASES)))


def quickstart(config: Quickstart, progress: Progress = silent) -> Rows:
    """Run everything; finished phases of an earlier call with the same settings are not done again."""
    from seit_ray.distributed.cluster import connected
    from seit_ray.studies.quickstart import Setup, write_report
    from seit_ray.studies.stopwatch import Stopwatch
    from seit_ray.verbs.command.record import begin_record, record_of, refuse_other_settings
    from seit_ray.verbs.evaluate import evaluate
    from seit_ray.verbs.finetune import finetune
    from seit_ray.verbs.fit_tokenizer import fit_tokenizer
    from seit_ray.verbs.pretrain import pretrain
    from seit_ray.verbs.tokenize_images import tokenize_images

    output = folder_of(config.output, config.storage)
    claim_all(config, output)
    _, num_train = look(config)
    output.check_writable()
    config = sized(config)
    each = parts(config)
    check_parts(each)
    check_enough(config, num_train)
    for name, part in each.items():
        if name != "evaluate" and isinstance(part, configs.Verb):
            refuse_other_settings(output.join(made_in(name)), name, part)
    begin_record(output, "quickstart", config)
    watch = Stopwatch(output, PHASES)
    if not output.exists(PHASES["fit_tokenizer"]):
        with watch.phase("fit_tokenizer"):
            fit_tokenizer(each["fit_tokenizer"], progress)
    with connected(**config.cluster.model_dump()):
        with watch.phase("tokenize_images"):
            tokenize_images(each["tokenize_images"], progress)
        if "pretrain" in each:
            with watch.phase("pretrain"):
                pretrain(each["pretrain"], progress)
        with watch.phase("finetune"):
            finetune(each["finetune"], progress)
    with watch.phase("evaluate"):
        evaluate(each["evaluate"], progress)
    images = folder_of(images_of(config), config.storage)
    pixels, shown = read_images(config, images, output, progress)
    called = images.uri if config.images else "the bundled sample of Fashion-MNIST"
    setup = Setup(called, config.pre_train, config.workers.num_workers, config.seed)
    return write_report(output, pixels, shown, setup, details=record_of("quickstart", config), progress=progress)


def read_images(
    config: Quickstart, images: Folder, output: Folder, progress: Progress
) -> tuple[dict[str, Pixels], Any]:
    """Pixels and labels of train and val, as small as a linear model sees them; and some of val as the tokenizer does.

    Of a large source a sample.
    """
    from seit_ray.images.sample import read_pixels
    from seit_ray.studies.equal_bytes import LINEAR_SIDE
    from seit_ray.tokenizers.about import read_about

    seen_as = read_about(output.join("tokenizer"))["config"]
    size, found = seen_as["image_size"], {}
    settings: dict[str, Any] = {"resize": seen_as["resize"], "image_column": config.source.image_column}
    settings |= {"num_threads": os.cpu_count() or 1, "on_progress": progress}
    held_out = config.tokenize.val_fraction
    with listed(images, listed_once(config), val_fraction=held_out, seed=config.seed) as manifest:
        for split in ("train", "val"):
            rows = manifest.sample(split, BASELINE_IMAGES, config.seed)
            small, read = read_pixels(
                rows, images, image_size=min(size, LINEAR_SIDE), phase=f"read {split}", **settings
            )
            found[split] = (small, read["label"].to_numpy())
        rows = manifest.sample("val", SHOWN_IMAGES, config.seed)
        shown, _ = read_pixels(rows, images, image_size=size, phase="read pictures", **settings)
    return found, shown
