"""SeiT, a learned table, + MTM, + TokenAdapt and ColorAdapt, all: top-1 on CIFAR-10 tokens with fewer and fewer images.

"SeiT" is the paper's: rows of the codebook through the Stem-Adaptor, 4/2/1. The others embed tokens by a learned table
and the stem of SeiT++, 2/2/0, of which "learned table" is the baseline: the same without MTM.

python tests/benchmarks/cifar10_evidence.py --images CIFAR10 --output runs/evidence [--num-images 2000] [--epochs 100]
                                            [--optimizer adamw]

Every share of the images is trained for as many steps: --epochs are those of all of them. Differences are paired by
seed, with their standard errors; the standard error of a share of the test images, a point or so, is not among them.

CIFAR10 holds train/<class>/ and test/<class>/. Every run is continued or left when it stands, so that the command may
be killed and given again; once it has written tokenadapt/, a second process with --shard 1/2 may share the work of one
with 0/2. The table is printed when all runs stand.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import statistics
from pathlib import Path

import numpy as np
import torch

from seit_ray import config
from seit_ray.storage import Folder
from seit_ray.training.settings import OPTIMIZERS
from seit_ray.verbs.evaluate import evaluate
from seit_ray.verbs.finetune import finetune
from seit_ray.verbs.fit_tokenizer import fit_tokenizer
from seit_ray.verbs.pretrain import pretrain
from seit_ray.verbs.tokenize_images import tokenize_images
from seit_ray.verbs.train_tokenadapt import train_tokenadapt

SETTINGS = ("SeiT", "learned table", "+ MTM", "+ TokenAdapt, ColorAdapt", "SeiT++ (all)")
MASKED = ("+ MTM", "SeiT++ (all)")
ADAPTED = ("+ TokenAdapt, ColorAdapt", "SeiT++ (all)")
SHARES = (1.0, 0.5, 0.2)
LOCAL = {"num_workers": 0}
CLUSTER = {"num_cpus": 2}


def main() -> None:
    """Make what is missing of this process's part, then print the table if all of it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--tokenizer", choices=("centroid", "vit_vqgan"), default="centroid")
    parser.add_argument("--num-images", type=int, default=2000)
    parser.add_argument("--num-test", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw", help="of classifiers and pre-training")
    parser.add_argument("--shard", default="0/1", metavar="I/N")
    options = parser.parse_args()
    torch.set_num_threads(1)
    output = Path(options.output)
    index, number = map(int, options.shard.split("/"))
    for share in SHARES:
        write_table(Path(options.images), table_of(output, share), options, share)
    if index == 0:
        prepare(options, output)
    groups = list(itertools.product(range(options.seeds), SHARES))
    for (seed, share), setting in itertools.product(groups[index::number], SETTINGS):
        train(options, output, setting, share, seed)
    results = [output / name_of(*group, s) / "evaluate-val.json" for group in groups for s in SETTINGS]
    if all(path.exists() for path in results):
        print_table(options, output)


def table_of(output: Path, share: float) -> Path:
    """The CSV that lists a share of the training images."""
    return output / f"images-{share:g}.csv"


def tokens_of(output: Path, share: float) -> str:
    """The token dataset of a share of the training images."""
    return str(output / f"tokens-{share:g}")


def name_of(seed: int, share: float, setting: str) -> str:
    """Name of the classifier's run."""
    return f"{SETTINGS.index(setting)}-{share:g}-{seed}"


def write_table(images: Path, table: Path, options: argparse.Namespace, share: float) -> None:
    """A balanced, seeded sample: the smaller shares are parts of the larger."""
    if table.exists():
        return
    rows = []
    for split, folder, number in (("train", "train", options.num_images * share), ("val", "test", options.num_test)):
        for label in sorted(path.name for path in (images / folder).iterdir()):
            files = sorted((images / folder / label).iterdir())
            order = np.random.default_rng(0).permutation(len(files))[: round(number / 10)]
            rows += [(str(files[i]), label, split) for i in order]
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("uri", "label", "split"))
        writer.writerows(rows)


def prepare(options: argparse.Namespace, output: Path) -> None:
    """Tokenizer, token datasets and TokenAdapt."""
    folder = Folder(output / "tokenizer")
    images = str(table_of(output, 1.0))
    if not folder.exists("tokenizer.json"):
        fit_tokenizer(config.FitTokenizer(images=images, output=folder.uri, **tokenizer_settings(options)))
    for share in SHARES:
        tokens = {"images": str(table_of(output, share)), "tokenizer": folder.uri, "output": tokens_of(output, share)}
        tokenize_images(config.TokenizeImages(**tokens, cluster=CLUSTER))
    train_tokenadapt(
        config.TrainTokenAdapt(
            images=images,
            tokenizer=f"{tokens_of(output, 1.0)}/tokenizer",
            output=str(output),
            run="tokenadapt",
            model={"width": 64, "num_heads": 1, "mlp_width": 256},
            loop={"epochs": 20, "global_batch_size": 32, "log_every_steps": 200, "eval_every_epochs": 10},
            optimizer={"lr": 2e-3},
            geometry=GEOMETRY | {"area": CROP_AREA},
            workers=LOCAL,
        )
    )


def tokenizer_settings(options: argparse.Namespace) -> dict:
    """Tokens of 4x4 pixels, 8x8 of them, K = 256, for both kinds."""
    size = {"image_size": 32, "patch_size": 4, "codebook_size": 256}
    if options.tokenizer == "centroid":
        return {"centroid": size}
    return {
        "tokenizer": "vit_vqgan",
        "vit_vqgan": {**size, "code_width": 16, "size": "nano", "width": 96, "mlp_width": 384},
        "loop": {"epochs": 30, "global_batch_size": 64, "log_every_steps": 50, "eval_every_epochs": 5},
        "optimizer": {"lr": 2e-3},
        "workers": LOCAL,
    }


CROP_AREA = (0.5, 1.0)
GEOMETRY = {"max_angle": 10.0, "max_translate": 0.1, "max_shear": 5.0}


def augment_of(output: Path, setting: str) -> dict:
    """SeiT's token augmentation, or SeiT++'s."""
    shared = {
        "noise_scale": 0.25,
        "noise_std": 0.25,
        "random_crop": True,
        "crop_area": CROP_AREA,
        "cutmix_alpha": 1.0,
    }
    shared |= {"synonym_prob": 0.25, "swap_prob": 0.25, "mix_prob": 0.5}
    if setting not in ADAPTED:
        return shared | {"noise_prob": 0.5}
    adapt = {"adapt": "tokenadapt", "adapt_run": str(output / "tokenadapt"), "adapt_mixup_alpha": 0.8}
    color = {"noise_prob": 0.375, "color_adapt_prob": 0.125, "color_before_crop": True}
    return shared | color | adapt | {"adapt_cutmix_alpha": 1.0} | GEOMETRY


def model_of(setting: str) -> dict:
    """The classifier: SeiT's input and stem, or SeiT++'s."""
    model = {"size": "nano", "dropout": 0.1, "drop_path": 0.1}
    if setting == "SeiT":
        return model | {"inputs": "codebook", "stem_kernel": 4, "stem_stride": 2, "stem_padding": 1}
    return model


def train(options: argparse.Namespace, output: Path, setting: str, share: float, seed: int) -> None:
    """One classifier, pre-trained first where the setting says so, and its evaluation."""
    name, tokens = name_of(seed, share, setting), tokens_of(output, share)
    if (output / name / "evaluate-val.json").exists():
        return
    epochs = round(options.epochs / share)
    loop = {"epochs": epochs, "global_batch_size": 64, "seed": seed, "log_every_steps": 100}
    loop |= {"eval_every_epochs": epochs, "checkpoint_every_epochs": max(1, epochs // 5)}
    shared = {"dataset": tokens, "output": str(output), "workers": LOCAL}
    peak = {"name": options.optimizer, "lr": 2e-3, "warmup_epochs": epochs / 10}
    more, rate = {}, {**peak, "weight_decay": 0.05, "layer_decay": 1.0}
    if setting in MASKED:
        masked = f"mtm-{share:g}-{seed}"
        pretrain(
            config.Pretrain(
                run=masked,
                model={"size": "nano", "dropout": 0.0},
                augment={"random_crop": True, "crop_area": CROP_AREA},
                loop=loop,
                optimizer=peak,
                **shared,
            )
        )
        more = {"init_from": str(output / masked)}
    finetune(
        config.Finetune(
            run=name,
            model=model_of(setting),
            augment=augment_of(output, setting),
            loop=loop,
            optimizer=rate,
            **more,
            **shared,
        )
    )
    evaluate(config.Evaluate(dataset=tokens, run=str(output / name)))
    print(f"{name}: done", flush=True)


PAIRS = ((1, 0), (2, 1), (3, 1), (4, 1), (4, 2))  # of SETTINGS: what the first has over the second


def print_table(options: argparse.Namespace, output: Path) -> None:
    """Top-1 in per cent, a row a share of the images: means and paired differences, each with its standard error."""

    def top1(seed: int, share: float, setting: str) -> float:
        return 100 * json.loads((output / name_of(seed, share, setting) / "evaluate-val.json").read_text())["top1"]

    print(f"\ntop-1 on {options.num_test} test images, {options.tokenizer} tokens, {options.seeds} seed(s)")
    differences = [f"{SETTINGS[i]} over {SETTINGS[j]}" for i, j in PAIRS]
    print("| images | " + " | ".join((*SETTINGS, *differences)) + " |\n|---|" + "---|" * (len(SETTINGS) + len(PAIRS)))
    for share in SHARES:
        found = np.array([[top1(seed, share, each) for each in SETTINGS] for seed in range(options.seeds)])
        columns = [*found.T, *(found[:, i] - found[:, j] for i, j in PAIRS)]
        signs = [""] * len(SETTINGS) + ["+"] * len(PAIRS)
        cells = [mean_and_error(column, sign) for column, sign in zip(columns, signs, strict=True)]
        print(f"| {round(options.num_images * share)} | " + " | ".join(cells) + " |")


def mean_and_error(values: np.ndarray, sign: str) -> str:
    """The mean over seeds, and its standard error where there are several."""
    error = f" ± {statistics.stdev(values) / len(values) ** 0.5:.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.1f}{error}"


if __name__ == "__main__":
    main()
