"""Fit a tokenizer on images: k-means of patches (seconds), or a ViT-VQGAN (training, or published weights).

seit-ray fit_tokenizer images=photos/ output=runs/tokenizer centroid.image_size=256 centroid.patch_size=8
seit-ray fit_tokenizer images=photos/ output=runs/vqgan tokenizer=vit_vqgan vit_vqgan.size=small
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from seit_ray.config import FitTokenizer, VitVqgan
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.storage.lock import LOCK, Lock, locked
from seit_ray.verbs.command.image_checks import check_fit, fit_rows, training_rows
from seit_ray.verbs.command.older_records import as_recorded
from seit_ray.verbs.command.places import Rows, cluster_rows, folder_of, listed, output_rows
from seit_ray.verbs.command.shape_checks import check_whole_patches
from seit_ray.verbs.command.training import check_loop, claim_run
from seit_ray.verbs.command.unread import check_fit_keys

if TYPE_CHECKING:
    import pyarrow as pa

    from seit_ray.tokenizers.centroid import CentroidTokenizer
    from seit_ray.tokenizers.contract import Tokenizer

    Fitted = tuple[CentroidTokenizer, dict[str, Any]]  # and the report of the fit


def check(config: FitTokenizer) -> Rows:
    """What would be read, fitted and written."""
    check_fit_keys(as_recorded(config, folder_of(config.output, config.storage), "fit_tokenizer"))
    refuse_another(config)
    output = folder_of(config.output, config.storage)
    if config.published:
        claim_run(output)
        tokenizer = load_weights(config, config.published)
        codes = f"K {len(tokenizer.codebook)}, grid {tokenizer.grid[0]}x{tokenizer.grid[1]}"
        return [("tokenizer", f"vit_vqgan, {codes}"), *output_rows(output)]
    images = images_of(config)
    claim_run(output, images)
    settings, side = getattr(config, config.tokenizer), check_whole_patches(config)
    rows = image_rows(config, images)
    rows.append(("tokenizer", f"{config.tokenizer}, {side}x{side} tokens an image, K {settings.codebook_size}"))
    if config.tokenizer == "centroid":
        most = f"{settings.sample_images} images, {settings.sample_patches} patches at most, seed {config.seed}"
        rows.append(("fitted on", most))
        if config.centroid.num_workers:
            rows += cluster_rows(config.cluster)
            rows.append(("k-means", f"{config.centroid.num_workers} actors"))
    else:
        loop = config.loop
        rows.append(("trained", f"{loop.epochs} epochs in batches of {loop.global_batch_size}"))
        rows += cluster_rows(config.cluster, config.workers)
    return [*rows, *output_rows(output)]


def image_rows(config: FitTokenizer, images: Folder) -> Rows:
    """The images, as far as a look finds them; ValueError for what the fit, or the training, would refuse."""
    split: dict[str, Any] = {"val_fraction": config.val_fraction, "seed": config.seed}
    if config.tokenizer == "centroid":
        return fit_rows(images, config.source, config.centroid, **split)
    from seit_ray.runs.vqgan_checks import check_vqgan

    check_vqgan(config.vit_vqgan.settings(), images)
    check_loop(config.loop, config.workers.num_workers)
    split |= {
        "max_images": config.vit_vqgan.max_images,
        "check_number": partial(check_codebook_start, config.vit_vqgan),
    }
    return training_rows(images, config.source, config.loop, **split)


def check_codebook_start(vqgan: VitVqgan, num_images: int) -> None:
    """ValueError where the first of so many images have too few patches for k-means to begin the codebook with."""
    from seit_ray.tokenizers.fit_numbers import check_patches

    if vqgan.init_images:
        patches = min(vqgan.init_images, num_images) * (vqgan.image_size // vqgan.patch_size) ** 2
        check_patches(patches, vqgan.codebook_size)


def images_of(config: FitTokenizer) -> Folder:
    """The images to fit or train on."""
    assert config.images is not None  # the config has seen to it
    return folder_of(config.images, config.storage)


def refuse_another(config: FitTokenizer) -> None:
    """ValueError where the output holds a tokenizer of other settings, or one that was not fitted there."""
    from seit_ray.verbs.command.record import refuse_other_settings

    output = folder_of(config.output, config.storage)
    if output.exists("tokenizer.json") and not output.exists("fit_tokenizer.run.json"):
        raise ValueError(
            f"{output.uri} holds a tokenizer that was not fitted there, as token datasets do; expected none; choose "
            "another output"
        )
    refuse_other_settings(output, "fit_tokenizer", config)


def fit_tokenizer(config: FitTokenizer, progress: Progress = silent) -> Rows:
    """Fit or train, and save; returns the table to print."""
    check_fit_keys(as_recorded(config, folder_of(config.output, config.storage), "fit_tokenizer"))
    refuse_another(config)
    if config.tokenizer == "vit_vqgan" and not config.published:
        return train_vqgan(config, progress)  # as any training, which locks its folder itself
    output = folder_of(config.output, config.storage)
    claim_run(output, *([] if config.published else [images_of(config)]))
    output.check_writable()
    with locked(output, LOCK, on_note=lambda note: progress("lock", 1, 1, note)) as lock:
        refuse_another(config)  # another process may have made one since
        if config.published:
            return import_published(config, config.published, lock)
        return fit_centroid(config, progress, lock)


def load_weights(config: FitTokenizer, published: str) -> Tokenizer:
    """The tokenizer of published weights."""
    from seit_ray.storage import split_uri
    from seit_ray.tokenizers.vit_vqgan.published import load_published

    place, name = split_uri(published)
    return load_published(folder_of(place, config.storage), name, resize=config.vit_vqgan.resize)


def import_published(config: FitTokenizer, published: str, lock: Lock) -> Rows:
    """Save the tokenizer of published weights."""
    tokenizer = load_weights(config, published)
    made = save(config, tokenizer, {"published": published}, lock)
    grid = f"{tokenizer.grid[0]}x{tokenizer.grid[1]}"
    return [made, ("codes", f"K {len(tokenizer.codebook)}, grid {grid}")]


def save(config: FitTokenizer, tokenizer: Tokenizer, report: dict[str, Any], lock: Lock) -> tuple[str, str]:
    """Write record and tokenizer while the output is ours; the row that tells where it is."""
    from seit_ray.tokenizers.files import save_tokenizer
    from seit_ray.verbs.command.record import begin_record

    output = folder_of(config.output, config.storage)
    lock.check()
    begin_record(output, "fit_tokenizer", config)  # before the tokenizer: it says that this was fitted here
    return ("tokenizer", f"{output.uri} ({save_tokenizer(tokenizer, output, report)})")


def train_vqgan(config: FitTokenizer, progress: Progress) -> Rows:
    """Train a ViT-VQGAN; the same output continues."""
    from seit_ray.runs.vit_vqgan import train_vit_vqgan
    from seit_ray.verbs.command.training import replay_rows, train

    more = {
        "images": images_of(config),
        "source": config.source.settings(),
        "vit_vqgan": config.vit_vqgan.settings(),
        "val_fraction": config.val_fraction,
        "seed": config.seed,
    }
    output = folder_of(config.output, config.storage)
    metrics = train(config, "fit_tokenizer", train_vit_vqgan, more, output, progress, sources=[more["images"]])
    if config.replay:
        return replay_rows(metrics)
    rows = [("tokenizer", output.uri), ("steps", str(metrics["step"])), ("train loss", f"{metrics['train_loss']:.5f}")]
    if "val_psnr_db" in metrics:
        rows.append(("val PSNR", f"{metrics['val_psnr_db']:.2f} dB"))
        rows.append(("val code usage", f"{metrics['val_code_usage']:.1%} of {config.vit_vqgan.codebook_size}"))
    return rows


def fit_centroid(config: FitTokenizer, progress: Progress, lock: Lock) -> Rows:
    """Sample, decode, fit, save."""
    from seit_ray.images.manifest import check_train

    images = images_of(config)
    how: dict[str, Any] = {"val_fraction": config.val_fraction, "seed": config.seed, "cluster": config.cluster}
    with listed(images, config.source, on_progress=progress, **how) as manifest:
        check_train(manifest, images.uri)
        check_fit(config.centroid, manifest.splits["train"].num_images, config.centroid.image_size)
        rows = manifest.sample("train", config.centroid.sample_images, config.seed)
    fit = fit_on_cluster if config.centroid.num_workers else fit_here
    tokenizer, report = fit(config, rows, images, progress)
    progress("k-means", report["iterations"], report["iterations"], "done")
    return [
        save(config, tokenizer, report, lock),
        ("fitted on", f"{report['images']} images, {report['patches']} patches, {report['iterations']} iterations"),
        ("objective", f"{report['objective'][0]:.4f} -> {report['objective'][-1]:.4f} (mean squared distance)"),
        ("code usage", f"{report['code_usage']:.1%} of {len(tokenizer.codebook)}"),
        ("PSNR", f"{report['psnr_db']:.2f} dB" + held_out(report)),
    ]


def fit_here(config: FitTokenizer, rows: pa.Table, images: Folder, progress: Progress) -> Fitted:
    """In this process, on its GPU if it has one; returns tokenizer and report."""
    import os

    import torch

    from seit_ray.images.sample import read_pixels
    from seit_ray.tokenizers.centroid_fit import fit_centroids

    decode, settings = fit_settings(config)
    pixels, _ = read_pixels(
        rows,
        images,
        num_threads=os.cpu_count() or 1,
        on_progress=progress,
        **decode,
    )
    return fit_centroids(
        torch.from_numpy(pixels),
        resize=decode["resize"],
        device="cuda" if torch.cuda.is_available() else "cpu",
        on_progress=progress,
        **settings,
    )


def fit_on_cluster(config: FitTokenizer, rows: pa.Table, images: Folder, progress: Progress) -> Fitted:
    """On actors of a Ray cluster; returns tokenizer and report."""
    from seit_ray.distributed.cluster import connected
    from seit_ray.distributed.data.fit_job import fit_on_actors

    decode, settings = fit_settings(config)
    with connected(**config.cluster.model_dump()) as cluster:
        return fit_on_actors(
            rows,
            images,
            cluster=cluster,
            num_workers=config.centroid.num_workers,
            on_progress=progress,
            **decode,
            **settings,
        )


def fit_settings(config: FitTokenizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """(how images are decoded, how they are fitted)."""
    settings = config.centroid.model_dump(exclude={"sample_images", "num_workers"}) | {"seed": config.seed}
    decode = {name: settings.pop(name) for name in ("image_size", "resize")}
    return decode | {"image_column": config.source.image_column}, settings


def held_out(report: dict[str, Any]) -> str:
    """The held-out PSNR, where there were images enough."""
    return f", held out {report['psnr_held_out_db']:.2f} dB" if "psnr_held_out_db" in report else ""
