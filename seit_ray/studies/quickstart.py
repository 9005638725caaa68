"""The quickstart's runs as one table and one page: bytes against accuracy, pictures, curves, confusions, times."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seit_ray.batches.crop import center_crop_tokens
from seit_ray.evaluation.confusion import confusion_counts, most_taken_for
from seit_ray.models.exports import import_model
from seit_ray.progress import Progress, size_words
from seit_ray.report.curves import line_chart
from seit_ray.report.heat import confusion_chart
from seit_ray.report.page import Page
from seit_ray.report.shares import with_error
from seit_ray.shards.dataset import TokenDataset, check_classes
from seit_ray.storage import Folder
from seit_ray.studies.equal_bytes import Arm, Pixels, compare
from seit_ray.studies.quickstart_pictures import add_pictures
from seit_ray.studies.stopwatch import seconds_of
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.tokenizers.reconstruction import psnr
from seit_ray.training.metrics import read_metrics

Rows = list[tuple[str, str]]

MATRIX_CLASSES = 20  # of more, only the confusions that are most frequent are shown
TABLE_CLASSES = 30
LINEAR = "logistic regression"


@dataclass(frozen=True)
class Setup:
    """What the report says of how it came about.

    images: what they are called; num_workers of the training, 0 where it was in this process.
    """

    images: str
    pre_trained: bool
    num_workers: int | tuple[int, int]
    seed: int


def write_report(
    output: Folder,
    pixels: dict[str, Pixels],
    shown: np.ndarray,
    setup: Setup,
    *,
    details: Mapping[str, Any],
    progress: Progress,
) -> Rows:
    """Compute what is missing, write report.html, return the closing table.

    pixels: those of train and val for the linear classifier; shown: uint8 [N,3,H,W] of val, as the tokenizer sees them.
    """
    dataset = TokenDataset(output.join("tokens"))
    names = dataset.info.class_names or []
    num_classes = check_classes(names, dataset.folder.uri)
    tokenizer, _ = load_tokenizer(dataset.folder.join("tokenizer"))
    arms = compare(dataset, tokenizer, pixels, num_classes, seed=setup.seed, progress=progress)
    figures = json.loads(output.read("finetune/evaluate-val.json"))
    images = torch.from_numpy(shown)
    quality = psnr(images, tokenizer.decode(tokenizer.encode(images)))
    rows = closing_rows(dataset, arms, figures, quality)

    page = Page("What tokens are worth", f"seit_ray quickstart on {setup.images}")
    add_comparison(page, arms, figures, tokenizer.codebook.numel() * tokenizer.codebook.element_size())
    add_pictures(page, tokenizer, shown, quality, output.join("pretrain") if setup.pre_trained else None)
    add_curves(page, output, setup.pre_trained)
    add_classes(page, output.join("finetune"), dataset, figures)
    add_how(page, output, setup)
    add_next(page, output)
    of_data = [row for row in rows if "top-1" not in row[0] and "the same" not in row[0]]
    page.add_table("The data", ("what", "value"), [*of_data, ("tokenizer fingerprint", dataset.info.tokenizer)])
    page.add_details("Settings, versions and git state", json.dumps(details, indent=1))
    output.write("report.html", page.html().encode())
    progress("report", 5, 5, "written")
    return [*rows, ("report", output.uri_of("report.html"))]


def percent(share: float | None) -> str:
    """A share for a table; a dash where there is none."""
    return "-" if share is None else f"{share:.1%}"


def closing_rows(dataset: TokenDataset, arms: list[Arm], figures: dict[str, Any], quality: float) -> Rows:
    """The table that the terminal shows."""
    splits = dataset.info.splits
    total = sum(s.rows for s in splits.values())
    tokens, fewer, *small, whole = arms
    files = sum(s.file_bytes for s in splits.values()) / total
    rejected = sum(s.rejected for s in splits.values())
    counts = ", ".join(f"{s.rows} {name}" for name, s in splits.items())
    best = max(small, key=lambda arm: arm.top1 or 0.0)
    share = tokens.bytes_per_image / whole.bytes_per_image
    both = figures.get("mirrored")
    return [
        ("images", counts + (f", {rejected} rejected" if rejected else "")),
        ("bytes an image, source", f"{whole.bytes_per_image:.1f}"),
        (
            "bytes an image, tokens",
            f"{tokens.bytes_per_image:.1f} ({files:.1f} with keys and labels), {share:.1%} of the source",
        ),
        ("order-0 entropy of the tokens", f"{dataset.entropy_bytes():.1f} bytes an image"),
        ("reconstruction PSNR", f"{quality:.2f} dB on val"),
        (f"top-1, {LINEAR} on tokens", percent(tokens.top1)),
        (f"the same on {fewer.images} images of the same bytes", percent(fewer.top1)),
        ("the same on smaller images of the same bytes", percent(best.top1)),
        (f"the same on all pixels, {1 / share:.1f} times the bytes", percent(whole.top1)),
        ("top-1, transformer on tokens", with_error(figures["top1"], figures["standard_error"])),
        *([("the same, with mirror images", with_error(both["top1"], both["standard_error"]))] if both else []),
    ]


def add_comparison(page: Page, arms: list[Arm], figures: dict[str, Any], codebook_bytes: int) -> None:
    """What the same classifier makes of the same bytes, then the transformer: a table, and a chart of it."""
    tokens, whole = arms[0], arms[-1]
    error = figures["standard_error"] or 0.0
    rows = [
        (arm.what, size_words(arm.bytes_per_image * arm.images), f"{arm.images:,}", percent(arm.top1)) for arm in arms
    ]
    rows.append(("all images, as tokens, transformer", rows[0][1], rows[0][2], percent(figures["top1"])))
    mirroring = ""
    if both := figures.get("mirrored"):
        rows.append(("tokens, transformer, with mirror images", *rows[0][1:3], percent(both["top1"])))
        mirroring = " The last row has the mean of a held-out image's logits and its mirror image's."
    times = whole.bytes_per_image / tokens.bytes_per_image
    page.add_table(
        "The same bytes, the same classifier",
        ("stored to train on", "bytes", "images", "top-1"),
        rows,
        f"Every row without a transformer is {LINEAR}, on {figures['samples']:,} held-out images (standard error "
        f"{100 * error:.1f} points). Tokens take {tokens.bytes_per_image:.0f} bytes an image, the source's files "
        f"{whole.bytes_per_image:.0f}, {times:.1f} times as many; the codebook, {size_words(codebook_bytes)} once for "
        "any number of images, is not counted. Smaller images are packed and compressed together; of fewer images, "
        f"three draws are averaged.{mirroring}",
    )
    points = {arm.what: ([arm.bytes_per_image * arm.images / 1e3], [100 * arm.top1]) for arm in arms if arm.top1}
    points["tokens, transformer"] = ([tokens.bytes_per_image * tokens.images / 1e3], [100 * figures["top1"]])
    page.add_chart(
        "Accuracy against bytes",
        line_chart(points, "Higher is better, further left is cheaper", "kB of training data", "top-1, %"),
        f"All points but the last are {LINEAR}.",
    )


def add_curves(page: Page, output: Folder, pre_trained: bool) -> None:
    """Losses and accuracy over epochs."""

    def curve(run: str, key: str) -> tuple[list[float], list[float]]:
        points = [(r["epoch"], r[key]) for r in read_metrics(output.join(run)) if key in r]
        return [x for x, _ in points], [y for _, y in points]

    if pre_trained:
        losses = {"train": curve("pretrain", "train_loss"), "val": curve("pretrain", "val_loss")}
        chart = line_chart(losses, "Pre-training", "epoch", "loss")
        words = (
            "Masked token modelling: cross-entropy of masked tokens, nats; other objectives: the sum of their losses."
        )
        page.add_chart("Pre-training", chart, words)
    losses = {"train": curve("finetune", "train_loss"), "held out": curve("finetune", "val_loss")}
    page.add_chart(
        "Training the classifier",
        line_chart(losses, "Loss", "epoch", "cross-entropy"),
        "Training is on augmented tokens and smoothed labels, so its loss is the higher one for long.",
    )
    page.add_chart(
        "Accuracy on held-out images",
        line_chart({"held out": curve("finetune", "val_top1")}, "Top-1", "epoch", "top-1"),
        "Shown, not chosen by: the weights are those of the last epoch.",
    )


def add_classes(page: Page, run: Folder, dataset: TokenDataset, figures: dict[str, Any]) -> None:
    """Which classes are taken for which."""
    names = dataset.info.class_names or []
    rows = dataset.read_split("val")
    model, _ = import_model(run, "classifier")
    tokens = center_crop_tokens(torch.from_numpy(rows.tokens.astype(np.int64)), dataset.info.grid, model.grid)
    labels = torch.from_numpy(rows.meta["label"].to_numpy().astype(np.int64))
    counts = confusion_counts(model, tokens, labels, len(names))
    if len(names) <= MATRIX_CLASSES:
        chart = confusion_chart(counts, names, "Held-out images: true class by row, taken for by column")
        page.add_chart("What is taken for what", chart, "Rows are the true classes, columns what the model said.")
    others, table = most_taken_for(counts), []
    for i, name in enumerate(names):
        other, total = others[i], int(counts[i].sum())
        mistaken = f"{names[other[0]]} ({other[1]} of {total})" if other else "-"
        table.append((name, percent(figures["per_class_top1"][name]), mistaken))
    table.sort(key=lambda row: figures["per_class_top1"][row[0]] or 0.0)
    note = f"The {TABLE_CLASSES} weakest of {len(names)}." if len(names) > TABLE_CLASSES else None
    header = ("class", "top-1", "most often taken for")
    page.add_table("Classes, weakest first", header, table[:TABLE_CLASSES], note)


def add_how(page: Page, output: Folder, setup: Setup) -> None:
    """Which library did what, and how long each phase took."""
    training = f"Ray Train, {setup.num_workers} DDP workers on torch" if setup.num_workers else "torch, in one process"
    did = {
        "fit_tokenizer": ("found the codes", "k-means of patches, on torch"),
        "tokenize_images": ("read, decoded and tokenised", "Ray Data, into Parquet shards by pyarrow"),
        "pretrain": ("pre-trained", training),
        "finetune": ("trained the classifier", training),
        "evaluate": ("scored it", "torch, in one process"),
    }
    took = seconds_of(output)
    rows = [(*words, f"{took[name]:.0f} s") for name, words in did.items() if name in took]
    total = sum(took.values())
    page.add_table(
        "What did what, and how long it took",
        ("step", "by", "time"),
        rows,
        f"{total:.0f} s in all, starts of Ray and its workers among them. Each step is a verb of its own, with a "
        "record of settings and versions beside its result; this page's logistic regressions come on top.",
    )


def add_next(page: Page, output: Folder) -> None:
    """What to run on images of one's own."""
    run, tokens = output.uri_of("finetune"), output.uri_of("tokens")
    commands = [
        ("All of this on your own images, a folder for each class:", "make quickstart IMAGES=/data/photos"),
        (
            "Step by step, at a size of your choice:",
            "seit-ray fit_tokenizer images=/data/photos output=runs/tokenizer val_fraction=0.1 "
            "centroid.image_size=256\n"
            "seit-ray tokenize_images images=/data/photos tokenizer=runs/tokenizer output=runs/tokens "
            "tokenize.val_fraction=0.1\n"
            "seit-ray finetune dataset=runs/tokens run=classifier model.size=small",
        ),
        (
            "What the classifier of this page says to new images:",
            f"seit-ray predict images=/data/new run={run} output=predictions.csv top_k=5",
        ),
        ("What is in the tokens:", f"seit-ray inspect_tokens dataset={tokens} contact_sheet=sheet.png"),
    ]
    page.add_commands("What to run next", commands, "Each takes --help and --dry-run; docs/guide.md is the first hour.")
