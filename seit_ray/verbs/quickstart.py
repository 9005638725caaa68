"""From images to a fine-tuned classifier: every verb in a row, and a report.

make quickstart, or: seit-ray quickstart images=photos/
"""

import os
from pathlib import Path

import seit_ray
from seit_ray import config as configs
from seit_ray.config import Quickstart
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.verbs.command.places import Rows, cluster_rows, folder_of, listed, output_rows, source_rows

SAMPLE = Path(seit_ray.__file__).resolve().parent / "sample" / "fashion_mnist_test.parquet"
BASELINE_IMAGES = 20_000  # the baseline's share of a large source: enough for a linear model


def images_of(config: Quickstart) -> str:
    """The user's images, or the bundled sample."""
    return config.images or str(SAMPLE)


def parts(config: Quickstart) -> dict[str, configs.Verb]:
    """The config of every verb that the quickstart runs, in order; they are those a user would write."""
    out, seed = config.output.rstrip("/"), config.seed
    shared = {"storage": config.storage, "cluster": config.cluster}
    tokenize = config.tokenize.model_copy(update={"seed": seed})
    looking = {"images": images_of(config), "source": config.source, **shared}
    training = {"dataset": f"{out}/tokens", "output": out, "workers": config.workers, **shared}

    def seeded(part):
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
    return [
        *rows,
        *output_rows(output),
        *cluster_rows(config.cluster, config.workers),
        ("runs", ", ".join(parts(config))),
    ]


def quickstart(config: Quickstart, progress: Progress = silent) -> Rows:
    """Run everything; finished phases of an earlier call with the same settings are not done again."""
    from seit_ray.distributed.cluster import connected
    from seit_ray.studies.quickstart import write_report
    from seit_ray.verbs.command.record import record_of, write_record
    from seit_ray.verbs.evaluate import evaluate
    from seit_ray.verbs.finetune import finetune
    from seit_ray.verbs.fit_tokenizer import fit_tokenizer
    from seit_ray.verbs.pretrain import pretrain
    from seit_ray.verbs.tokenize_images import tokenize_images

    output = folder_of(config.output, config.storage)
    output.check_writable()
    begin_anew_if_changed(output, config)
    write_record(output, "quickstart", config)
    each = parts(config)
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


def read_split(config: Quickstart, images: Folder, output: Folder, split: str, progress: Progress) -> tuple:
    """(uint8 pixels [N,3,H,W], labels [N]) of a split, as the tokenizer sees it; a sample of a large one."""
    from seit_ray.images.sample import read_pixels
    from seit_ray.tokenizers.about import read_about

    seen_as = read_about(output.join("tokenizer"))["config"]
    hold_out = {"val_fraction": config.tokenize.val_fraction, "seed": config.seed}
    with listed(images, config.source, **hold_out) as manifest:
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


def begin_anew_if_changed(output, config: Quickstart) -> None:
    """Remove what an earlier quickstart with other settings left in its own folder."""
    import json

    if not output.exists("quickstart.run.json"):
        return
    before = json.loads(output.read("quickstart.run.json"))["config"]
    ignored = ("cluster", "storage", "workers")
    now = config.model_dump(mode="json")
    if any(before.get(key) != now[key] for key in now if key not in ignored):
        for name in ("tokenizer", "tokens", "pretrain", "finetune", "scratch"):
            output.delete_tree(name)
