"""Fit a tokenizer on a seeded sample of images.

seit-ray fit_tokenizer images=photos/ output=runs/tokenizer centroid.image_size=256 centroid.patch_size=8
"""

from pipelines.command import run_verb
from pipelines.places import Rows, folder_of, listed, output_rows, source_rows
from pipelines.progress import silent
from seit_ray.config import FitTokenizer


def plan(config: FitTokenizer) -> Rows:
    """What would be read, fitted and written."""
    images = folder_of(config.images, config.storage)
    settings = config.centroid
    if settings.image_size % settings.patch_size:
        raise ValueError(
            f"centroid.image_size {settings.image_size}; expected a multiple of patch_size {settings.patch_size}"
        )
    side = settings.image_size // settings.patch_size
    return [
        *source_rows(images, config.source, val_fraction=config.val_fraction, seed=config.seed),
        ("tokenizer", f"centroid, {side}x{side} tokens an image, K {settings.codebook_size}"),
        (
            "fitted on",
            f"{settings.sample_images} images, {settings.sample_patches} patches at most, seed {config.seed}",
        ),
        *output_rows(folder_of(config.output, config.storage)),
    ]


def fit_tokenizer(config: FitTokenizer, progress=silent) -> Rows:
    """Sample, decode, fit, save; returns the table to print."""
    import os

    import torch

    from pipelines.record import write_record
    from seit_ray.images.sample import read_pixels
    from seit_ray.tokenizers import save_tokenizer
    from seit_ray.tokenizers.centroid import fit_centroids

    images, output = folder_of(config.images, config.storage), folder_of(config.output, config.storage)
    output.check_writable()
    settings = config.centroid.model_dump()
    size, resize, number = (settings.pop(k) for k in ("image_size", "resize", "sample_images"))
    with listed(
        images, config.source, val_fraction=config.val_fraction, seed=config.seed, on_progress=progress
    ) as manifest:
        split = "train" if "train" in manifest.splits else next(iter(manifest.splits))
        rows = manifest.sample(split, number, config.seed)
        pixels, _ = read_pixels(
            rows,
            images,
            image_size=size,
            resize=resize,
            image_column=config.source.image_column,
            num_threads=os.cpu_count() or 1,
            on_progress=lambda done, total: progress("decode", done, total, "images"),
        )
    tokenizer, report = fit_centroids(
        torch.from_numpy(pixels),
        resize=resize,
        seed=config.seed,
        device="cuda" if torch.cuda.is_available() else "cpu",
        on_progress=lambda done, total: progress("k-means", done, total, "iterations"),
        **settings,
    )
    progress("k-means", report["iterations"], report["iterations"], "done")
    fingerprint = save_tokenizer(tokenizer, output, report)
    write_record(output, "fit_tokenizer", config)
    return [
        ("tokenizer", f"{output.uri} ({fingerprint})"),
        (
            "fitted on",
            f"{report['images']} images, {report['patches']} patches, {report['iterations']} iterations",
        ),
        (
            "objective",
            f"{report['objective'][0]:.4f} -> {report['objective'][-1]:.4f} (mean squared distance)",
        ),
        ("code usage", f"{report['code_usage']:.1%} of {len(tokenizer.codebook)}"),
        ("PSNR", f"{report['psnr_db']:.2f} dB" + held_out(report)),
    ]


def held_out(report: dict) -> str:
    """The held-out PSNR, where there were images enough."""
    return f", held out {report['psnr_held_out_db']:.2f} dB" if "psnr_held_out_db" in report else ""


if __name__ == "__main__":
    run_verb("fit_tokenizer")
