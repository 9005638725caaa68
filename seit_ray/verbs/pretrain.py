"""Pre-train by masked tokens (SeiT++), centroids (CCViT) or morphed tokens (DTM); the same run name continues.

seit-ray pretrain --config pretrain_base_in1k_400e dataset=s3://bucket/tokens run=mtm-b
seit-ray pretrain objective=ccvit dataset=runs/tokens run=ccvit
"""

import shlex
from typing import Any

from seit_ray.config import Finetune, Pretrain, fields
from seit_ray.config.loading import flow
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.verbs.command.image_checks import training_rows
from seit_ray.verbs.command.morph_checks import morphs
from seit_ray.verbs.command.older_records import as_recorded
from seit_ray.verbs.command.places import Rows, cluster_rows, dataset_rows, folder_of, output_rows
from seit_ray.verbs.command.pretrain_checks import check_pretrain
from seit_ray.verbs.command.training import (
    augment_arguments,
    check_run,
    loop_rows,
    morph_sources,
    replay_rows,
    run_folder,
    steps_row,
    train,
)


def check(config: Pretrain) -> Rows:
    """What would be trained, on what, with which resources."""
    data = check_pretrain(as_recorded(config, run_folder(config), "pretrain"))
    check_run(config, "pretrain", data)
    return [
        *(image_rows(config, data) if config.images else [*dataset_rows(data), *loop_rows(config, data)]),
        ("objective", config.objective + (" with morphing" if config.objective == "ccvit" and morphs(config) else "")),
        *output_rows(run_folder(config)),
        *cluster_rows(config.cluster, config.workers),
    ]


def image_rows(config: Pretrain, images: Folder) -> Rows:
    """The images, the model and its steps."""
    pixels = config.pixels
    split = {name: getattr(pixels, name) for name in ("val_fraction", "seed", "max_images")}
    rows = training_rows(images, config.source, config.loop, **split)
    size = ("pixels", f"{pixels.image_size}x{pixels.image_size}")
    return [*rows, size, ("model", config.model.size), steps_row(config, "steps")]


def pretrain(config: Pretrain, progress: Progress = silent) -> Rows:
    """Train; returns the table to print."""
    import pkgutil

    run = run_folder(config)
    data = check_pretrain(as_recorded(config, run, "pretrain"))
    arguments = own_arguments(config) | data_arguments(config, data)
    metrics = train(
        config, "pretrain", pkgutil.resolve_name(run_name(config)), arguments, run, progress, sources=[data]
    )
    if config.replay:
        return replay_rows(metrics)
    rows = [("run", run.uri), ("steps", str(metrics["step"])), ("train loss", f"{metrics['train_loss']:.4f}")]
    if "val_loss" in metrics:
        rows.append(("val loss", f"{metrics['val_loss']:.4f}"))
    if "val_masked_accuracy" in metrics:
        rows.append(("val accuracy of masked tokens", f"{metrics['val_masked_accuracy']:.2%}"))
    rows += probe_rows(metrics)
    return [*rows, ("next", f"seit-ray finetune {next_keys(config, run)}")]


def next_keys(config: Pretrain, run: Folder) -> str:
    """The keys of a fine-tuning of the run on the same data, as one types them: what must agree is among them."""
    from seit_ray.models.about import read_about

    model = {key: getattr(config.model, key) for key in ("size", "width", "depth", "num_heads")}
    if config.images:
        about = read_about(run, "ccvit", "dtm")
        found = {f"pixels.{key}": about[key] for key in ("image_size", "patch_size", "resize")}
        found |= {f"pixels.{key}": getattr(config.pixels, key) for key in ("val_fraction", "seed", "max_images")}
    else:
        found = {}
        model |= {key: getattr(config.model, key) for key in ("token_dim", "stem_kernel", "grid_side")}
    defaults = dict(fields(Finetune))
    keys = {f"model.{key}": value for key, value in model.items()} | found
    words = [f"{key}={flow(value)}" for key, value in keys.items() if value != defaults[key][2]]
    reads = ["model.inputs=codebook"] if config.objective == "ccvit" and config.dataset else []
    where = f"images={config.images}" if config.images else f"dataset={config.dataset}"
    return shlex.join([where, f"init_from={run.uri}", "run=NAME", *reads, *words])


def run_name(config: Pretrain) -> str:
    """module:function of the run."""
    if config.objective == "ccvit":
        return "seit_ray.runs.ccvit:pretrain_ccvit"
    if config.objective == "dtm" and config.images:
        return "seit_ray.runs.dtm:pretrain_dtm"
    return "seit_ray.runs.pretrain:pretrain"


def data_arguments(config: Pretrain, data: Folder) -> dict[str, Any]:
    """What it is trained on."""
    if not config.images:
        return {"dataset": data}
    return {"images": data, "source": config.source.settings()}


def probe_rows(metrics: dict[str, Any]) -> Rows:
    """The figures of the probes, each with what it depends on."""
    rows: Rows = []
    fitted = f"{metrics.get('probe_train_samples')} rows fitted, {metrics.get('probe_val_samples')} scored"
    if "probe_linear_top1" in metrics:
        ridge, epochs = metrics["probe_linear_ridge"], metrics["probe_linear_epochs"]
        text = f"{metrics['probe_linear_top1']:.2%} (ridge {ridge:g}, {epochs} epochs at most, {fitted})"
        rows.append(("linear probe, top-1", text))
    if "probe_knn_top1" in metrics:
        k, temperature = metrics["probe_knn_k"], metrics["probe_knn_temperature"]
        text = f"{metrics['probe_knn_top1']:.2%} (k {k}, temperature {temperature:g}, {fitted})"
        rows.append(("knn probe, top-1", text))
    if "probe_rankme" in metrics:
        rows.append(("RankMe", f"{metrics['probe_rankme']:.1f} ({metrics['probe_rankme_samples']} rows)"))
    return rows


def own_arguments(config: Pretrain) -> dict[str, Any]:
    """What a pre-training run takes beside what all runs take, and its data."""
    shared = {"probe": config.probe.settings()}
    if config.objective == "dtm" and config.images:
        return {**shared, **morph_arguments(config), "pixels": config.pixels.settings()}
    found = {**shared, **augment_arguments(config)}
    if morphs(config):
        found |= morph_arguments(config)
    if config.objective != "ccvit":
        return {**found, "masking": config.masking.settings()}
    tokenizer = config.ccvit.tokenizer
    return {
        **found,
        "ccvit": config.ccvit.settings(),
        "pixels": config.pixels.settings(),
        "tokenizer": folder_of(tokenizer, config.storage) if tokenizer else None,
    }


def morph_arguments(config: Pretrain) -> dict[str, Any]:
    """The dtm section for a run, and the folders that it names."""
    return {"dtm": config.dtm.settings(), "sources": morph_sources(config.dtm, config.storage)}
