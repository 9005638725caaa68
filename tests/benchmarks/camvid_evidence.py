"""Pixels, tokens from scratch, + MTM, + SeiT++'s augmentation: mIoU on CamVid, with the bytes of each beside it.

python -m tests.benchmarks.camvid_evidence --images CAMVID --output runs/camvid [--epochs 8] [--seeds 3] [--side 64]

CAMVID holds {train,val,test}/images/*.jpg and masks/*.png (classes 0 to 10, 11 = void). All arms have the same images,
the same model and the same number of steps; mIoU is counted on the test split at the maps' own size. Every run is
continued or left when it stands, so that the command may be killed and given again; the table is printed after each
seed, of the seeds that are whole. One process, one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path

import torch

from seit_ray import config
from seit_ray.shards import TokenDataset
from seit_ray.storage import Folder
from seit_ray.verbs.evaluate import evaluate
from seit_ray.verbs.finetune import finetune
from seit_ray.verbs.fit_tokenizer import fit_tokenizer
from seit_ray.verbs.pretrain import pretrain
from seit_ray.verbs.tokenize_images import tokenize_images

ARMS = ("pixels", "tokens, from scratch", "+ MTM", "+ MTM, SeiT++ augmentation")
MASKED = ARMS[2:]
PATCH, CODES = 4, 512
CLASSES = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
LOCAL = {"num_workers": 0}
SIZE = {"size": "nano", "width": 64, "depth": 4, "num_heads": 4}
SEITPP = {
    "synonym_prob": 0.25,
    "noise_prob": 0.375,
    "noise_scale": 0.25,
    "noise_std": 0.25,
    "color_adapt_prob": 0.125,
    "color_before_crop": True,
    "adapt": "pixels",
    "adapt_share": 0.5,
    "random_crop": True,
    "crop_area": (0.5, 1.0),
    "affine_prob": 0.0,
}


def main() -> None:
    """Make what is missing, and print the table after each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--mtm-epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--side", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    output = Path(options.output)
    prepare(options, output)
    for seed in range(options.seeds):
        for arm in ARMS:
            train(options, output, arm, seed)
        print_table(options, output, seed + 1)


def source_of(output: Path) -> dict:
    """CamVid's layout, with the names of its classes."""
    names = output / "classes.txt"
    if not names.exists():
        output.mkdir(parents=True, exist_ok=True)
        names.write_text("\n".join(CLASSES))
    return {"masks": "masks", "class_names": str(names), "void": 11}


def prepare(options: argparse.Namespace, output: Path) -> None:
    """Tokenizer and token dataset."""
    tokenizer, source = Folder(output / "tokenizer"), source_of(output)
    if not tokenizer.exists("tokenizer.json"):
        centroid = {"image_size": options.side, "patch_size": PATCH, "codebook_size": CODES}
        fit_tokenizer(
            config.FitTokenizer(images=options.images, source=source, output=tokenizer.uri, centroid=centroid)
        )
    tokenize_images(
        config.TokenizeImages(
            images=options.images,
            source=source,
            tokenizer=tokenizer.uri,
            output=str(output / "tokens"),
            tokenize={"encoding": "compact", "num_actors": 1},
            cluster={"num_cpus": 1},
        )
    )


def name_of(arm: str, seed: int) -> str:
    """Name of the run."""
    return f"{ARMS.index(arm)}-{seed}"


def augment_of(arm: str) -> dict:
    """SeiT++'s augmentation where the arm says so; nothing else."""
    return dict(SEITPP) if "SeiT++" in arm else {}


def loop_of(seed: int, epochs: int) -> dict:
    """Steps of 8 images, one evaluation and, so that it may be killed, some checkpoints."""
    looks = {"eval_every_epochs": epochs, "checkpoint_every_epochs": 4, "log_every_steps": 46, "trackers": []}
    return {"epochs": epochs, "global_batch_size": 8, "seed": seed, **looks}


def pretraining(options: argparse.Namespace, output: Path, seed: int) -> config.Pretrain:
    """Masked token modelling on the tokens of the train split."""
    return config.Pretrain(
        run=f"mtm-{seed}",
        dataset=str(output / "tokens"),
        output=str(output),
        model={**SIZE, "decoder_width": 32, "decoder_depth": 1, "decoder_num_heads": 2, "dropout": 0.0},
        loop=loop_of(seed, options.mtm_epochs),
        optimizer={"lr": 2e-3, "warmup_epochs": 2},
        workers=LOCAL,
    )


def training(options: argparse.Namespace, output: Path, arm: str, seed: int) -> config.Finetune:
    """The segmenter of an arm."""
    more: dict = {"dataset": str(output / "tokens")}
    if arm in MASKED:
        more |= {"init_from": str(output / f"mtm-{seed}")}
    if arm == "pixels":
        pixels = {"image_size": options.side, "patch_size": 2 * PATCH, "crop_area": (0.5, 1.0), "flip_prob": 0.5}
        more = {"images": options.images, "source": source_of(output), "pixels": pixels}
    return config.Finetune(
        run=name_of(arm, seed),
        output=str(output),
        task="segment",
        model={**SIZE, "dropout": 0.0, "drop_path": 0.0},
        segment={"head_width": 16, "aux_width": 0},
        augment=augment_of(arm),
        loop=loop_of(seed, options.epochs),
        optimizer={"lr": 2e-3, "warmup_epochs": 1, "weight_decay": 0.05, "layer_decay": 1.0},
        workers=LOCAL,
        **more,
    )


def train(options: argparse.Namespace, output: Path, arm: str, seed: int) -> None:
    """One segmenter, pre-trained first where the arm says so, and its evaluation on the test split."""
    run = output / name_of(arm, seed)
    if (run / "figures.json").exists():
        return
    if arm in MASKED:
        pretrain(pretraining(options, output, seed))
    finetune(training(options, output, arm, seed))
    on = {"dataset": str(output / "tokens")}
    if arm == "pixels":
        on = {"images": options.images, "source": source_of(output)}
    figures = run / "figures.json"
    evaluate(config.Evaluate(**on, run=str(run), split="test", output=str(figures)))
    print(f"{run.name} ({arm}): mIoU {json.loads(figures.read_text())['miou']:.4f}", flush=True)


def bytes_of(options: argparse.Namespace, output: Path) -> tuple[float, float, float]:
    """Bytes an image of the train split: JPEG as it came, tokens with the codebook's share, label maps."""
    split = TokenDataset(Folder(output / "tokens")).split("train")
    codebook = sum(path.stat().st_size for path in (output / "tokens" / "tokenizer").iterdir())
    return (
        split.source_bytes / split.rows,
        (split.token_bytes + codebook) / split.rows,
        split.mask_bytes / split.rows,
    )


def print_table(options: argparse.Namespace, output: Path, seeds: int) -> None:
    """Means in per cent, with standard errors over the seeds and, of mIoU, over the images of a seed."""
    source, tokens, maps = bytes_of(options, output)
    side = options.side
    print(f"\nCamVid test, {seeds} seed(s), {options.epochs} epochs of 367 images, {side}x{side} pixels")
    print(f"label maps: {maps:.0f} bytes an image in every arm")
    header = ("arm", "bytes an image", "mIoU", "s. e. seeds / images", "mean accuracy", "pixel accuracy")
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for arm in ARMS:
        found = [json.loads((output / name_of(arm, seed) / "figures.json").read_text()) for seed in range(seeds)]
        means = {name: [100 * one[name] for one in found] for name in ("miou", "mean_accuracy", "pixel_accuracy")}
        over_seeds = f"{statistics.stdev(means['miou']) / math.sqrt(seeds):.2f}" if seeds > 1 else "-"
        over_images = statistics.mean(100 * one["miou_standard_error"] for one in found)
        cells = [f"{statistics.mean(means['miou']):.1f}", f"{over_seeds} / {over_images:.2f}"]
        cells += [f"{statistics.mean(means[name]):.1f}" for name in ("mean_accuracy", "pixel_accuracy")]
        print(f"| {arm} | {source if arm == 'pixels' else tokens:,.0f} | " + " | ".join(cells) + " |")
    by_class = {
        arm: [
            statistics.mean(
                100 * (json.loads((output / name_of(arm, s) / "figures.json").read_text())["classes"][c]["iou"] or 0)
                for s in range(seeds)
            )
            for c in CLASSES
        ]
        for arm in ARMS
    }
    print("\n| IoU | " + " | ".join(CLASSES) + " |\n|---|" + "---|" * len(CLASSES))
    for arm, values in by_class.items():
        print(f"| {arm} | " + " | ".join(f"{value:.1f}" for value in values) + " |")
    print(flush=True)


if __name__ == "__main__":
    main()
