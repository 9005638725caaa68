"""From images to a fine-tuned classifier: every verb in a row, and a report.

make quickstart, or: seit-ray quickstart images=photos/
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import seit_ray
from seit_ray import config as configs
from seit_ray.config import Quickstart
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.storage.output import claim, refuse_overlap
from seit_ray.verbs.command.places import Rows, cluster_rows, folder_of, listed, output_rows, source_rows

if TYPE_CHECKING:
    import numpy as np

SAMPLE = Path(seit_ray.__file__).resolve().parent / "sample" / "fashion_mnist_test.parquet"
BASELINE_IMAGES = 20_000  # the baseline's share of a large source: enough for a linear model


class Parts(TypedDict):
    """The configs of the quickstart's verbs, in order."""

    fit_tokenizer: configs.FitTokenizer
    tokenize_images: configs.TokenizeImages
    pretrain: configs.Pretrain
    finetune: configs.Finetune
    scratch: configs.Finetune
    evaluate: configs.Evaluate
    evaluate_scratch: configs.Evaluate


# Phase -> the folder that it fills, below the output, and the verb whose record lies there.
MADE = {
    "fit_tokenizer": ("tokenizer", "fit_tokenizer"),
    "tokenize_images": ("tokens", "tokenize_images"),
    "pretrain": ("pretrain", "pretrain"),
    "finetune": ("finetune", "finetune"),
    "scratch": ("scratch", "finetune"),
}


def images_of(config: Quickstart) -> str:
    """The user's images, or the bundled sample."""
    return config.images or str(SAMPLE)


def parts(config: Quickstart) -> Parts:
    """The config of every verb that the quickstart runs, in order; they are those a user would write."""
    out, seed = config.output.rstrip("/"), config.seed
    shared: dict[str, Any] = {"storage": config.storage, "cluster": config.cluster}
    tokenize = config.tokenize.model_copy(update={"seed": seed})
    looking: dict[str, Any] = {"images": images_of(config), "source": config.source, **shared}
    training: dict[str, Any] = {"dataset": f"{out}/tokens", "output": out, "workers": config.workers, **shared}

    def seeded(part: configs.PretrainPart | configs.FinetunePart) -> dict[str, Any]:
        return {**dict(part), "loop": part.loop.model_copy(update={"seed": seed})}

    return {
        "fit_tokenizer": configs.FitTokenizer(
            output=f"{out}/tokenizer",
            centroid=config.centroid,
            val_fraction=tokenize.val_fraction,
            seed=seed,
            **looking,
        ),
        "tokenize_images": configs.TokenizeImages(
            tokenizer=f"{out}/tokenizer", output=f"{out}/tokens", tokenize=tokenize, **looking
        ),
        "pretrain": configs.Pretrain(run="pretrain", **seeded(config.pretrain), **training),
        "finetune": configs.Finetune(
            run="finetune", init_from=f"{out}/pretrain", **seeded(config.finetune), **training
        ),
        "scratch": configs.Finetune(run="scratch", **seeded(config.finetune), **training),
        "evaluate": configs.Evaluate(dataset=f"{out}/tokens", run=f"{out}/finetune", **shared),
        "evaluate_scratch": configs.Evaluate(dataset=f"{out}/tokens", run=f"{out}/scratch", **shared),
    }


def check(config: Quickstart) -> Rows:
    """What would be run."""
    rows = source_rows(
        folder_of(images_of(config), config.storage),
        config.source,
        val_fraction=config.tokenize.val_fraction,
        seed=config.seed,
    )
    output = folder_of(config.output, config.storage)
    claim_all(config, output)
    return [
        *rows,
        *output_rows(output),
        *cluster_rows(config.cluster, config.workers),
        ("runs", ", ".join(parts(config))),
    ]


def claim_all(config: Quickstart, output: Folder) -> None:
    """ValueError unless the folder is free for all that is made, or holds it, and is none of the images'."""
    refuse_overlap(output, folder_of(images_of(config), config.storage), "images")
    claim(output, ("quickstart.run.json", *(f"{folder}/" for folder, _ in MADE.values())))


def quickstart(config: Quickstart, progress: Progress = silent) -> Rows:
    """Run everything; finished phases of an earlier call with the same settings are not done again."""
    from seit_ray.distributed.cluster import connected
    from seit_ray.studies.quickstart import write_report
    from seit_ray.verbs.command.record import begin_record, record_of, refuse_other_settings
    from seit_ray.verbs.evaluate import evaluate
    from seit_ray.verbs.finetune import finetune
    from seit_ray.verbs.fit_tokenizer import fit_tokenizer
    from seit_ray.verbs.pretrain import pretrain
    from seit_ray.verbs.tokenize_images import tokenize_images

    output = folder_of(config.output, config.storage)
    claim_all(config, output)
    output.check_writable()
    each = parts(config)
    for name, part in each.items():
        if name in MADE and isinstance(part, configs.Verb):
            folder, verb = MADE[name]
            refuse_other_settings(output.join(folder), verb, part)
    begin_record(output, "quickstart", config)
    if not output.exists("tokenizer/tokenizer.json"):
        fit_tokenizer(each["fit_tokenizer"], progress)
    with connected(**config.cluster.model_dump()):
        tokenize_images(each["tokenize_images"], progress)
        pretrain(each["pretrain"], progress)
        finetune(each["finetune"], progress)
        finetune(each["scratch"], progress)
    evaluate(each["evaluate"], progress)
    evaluate(each["evaluate_scratch"], progress)
    images = folder_of(images_of(config), config.storage)
    pixels = {split: read_split(config, images, output, split, progress) for split in ("train", "val")}
    return write_report(output, images, pixels, details=record_of("quickstart", config), progress=progress)


def read_split(
    config: Quickstart, images: Folder, output: Folder, split: str, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 pixels [N,3,H,W], labels [N]) of a split, as the tokenizer sees it; a sample of a large one."""
    from seit_ray.images.sample import read_pixels
    from seit_ray.tokenizers.about import read_about

    seen_as = read_about(output.join("tokenizer"))["config"]
    held_out = config.tokenize.val_fraction
    with listed(images, config.source, val_fraction=held_out, seed=config.seed) as manifest:
        pixels, rows = read_pixels(
            manifest.sample(split, BASELINE_IMAGES, config.seed),
            images,
            image_size=seen_as["image_size"],
            resize=seen_as["resize"],
            image_column=config.source.image_column,
            num_threads=os.cpu_count() or 1,
            phase=f"read {split}",
            on_progress=progress,
        )
    return pixels, rows["label"].to_numpy()
