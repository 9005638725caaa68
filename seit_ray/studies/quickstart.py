"""The quickstart's runs as one table and one page: figures beside a baseline, pictures, curves."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from seit_ray.evaluation.linear_probe import linear_probe
from seit_ray.progress import Progress
from seit_ray.report.curves import line_chart
from seit_ray.report.page import Page
from seit_ray.report.pictures import contact_sheet
from seit_ray.shards.dataset import TokenDataset, check_classes
from seit_ray.storage import Folder
from seit_ray.studies.fill_in import filled_in
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.tokenizers.reconstruction import psnr
from seit_ray.training.metrics import read_metrics

Rows = list[tuple[str, str]]
Pixels = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> (uint8 [N,3,H,W], labels [N])

NUM_PICTURES = 10


def write_report(
    output: Folder, images: Folder, pixels: Pixels, *, details: Mapping[str, Any], progress: Progress
) -> Rows:
    """Compute what is missing, write report.html, return the closing table. pixels: those of train and of val."""
    dataset = TokenDataset(output.join("tokens"))
    tokenizer, _ = load_tokenizer(dataset.folder.join("tokenizer"))
    progress("report", 1, 3, "logistic regression on raw pixels")
    baseline = raw_pixel_top1(pixels, check_classes(dataset.info.class_names, dataset.folder.uri))
    progress("report", 2, 3, "pictures")
    figures = {name: json.loads(output.read(f"{name}/evaluate-val.json")) for name in ("finetune", "scratch")}
    rows = closing_rows(dataset, tokenizer, pixels["val"][0], figures, baseline)
    page = Page("seit_ray quickstart", f"{images.uri}: from images to a classifier of tokens")
    page.add_table("Figures", ("what", "value"), [*rows, ("tokenizer fingerprint", dataset.info.tokenizer)])
    val = pixels["val"][0]
    add_pictures(page, output, tokenizer, val[np.linspace(0, len(val) - 1, NUM_PICTURES).astype(int)])
    add_curves(page, output)
    names = figures["finetune"]["per_class_top1"]
    per_class = [(c, *(percent(figures[run]["per_class_top1"][c]) for run in ("finetune", "scratch"))) for c in names]
    page.add_table("Top-1 of each class", ("class", "fine-tuned", "from scratch"), per_class)
    page.add_details("Settings, versions and git state", json.dumps(details, indent=1))
    output.write("report.html", page.html().encode())
    progress("report", 3, 3, "written")
    return [*rows, ("report", output.uri_of("report.html"))]


def percent(share: float | None) -> str:
    """A share for a table; a dash where a class has no sample."""
    return "-" if share is None else f"{share:.1%}"


def raw_pixel_top1(pixels: Pixels, num_classes: int) -> float:
    """Top-1 on val of a logistic regression on the raw pixels of train."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))  # small products: more threads only wait for each other
    # grey images carry the same numbers three times
    grey = all((images[:, :1] == images).all() for images, _ in pixels.values())
    features = {
        name: torch.from_numpy((images[:, :1] if grey else images).reshape(len(images), -1)).float() / 255
        for name, (images, _) in pixels.items()
    }
    labels = {name: torch.from_numpy(values.copy()).long() for name, (_, values) in pixels.items()}
    return linear_probe(features["train"], labels["train"], features["val"], labels["val"], num_classes).top1


def closing_rows(
    dataset: TokenDataset, tokenizer: Tokenizer, val_pixels: np.ndarray, figures: dict[str, Any], baseline: float
) -> Rows:
    """The table that the terminal and the page show."""
    splits = dataset.info.splits
    total = sum(s.rows for s in splits.values())
    source, tokens, files = (
        sum(getattr(s, k) for s in splits.values()) / total for k in ("source_bytes", "token_bytes", "file_bytes")
    )
    shown = torch.from_numpy(val_pixels[:2000])
    quality = psnr(shown, tokenizer.decode(tokenizer.encode(shown)))
    rejected = sum(s.rejected for s in splits.values())
    counts = ", ".join(f"{s.rows} {name}" for name, s in splits.items())
    return [
        ("images", counts + (f", {rejected} rejected" if rejected else "")),
        ("bytes an image, source", f"{source:.1f}"),
        (
            "bytes an image, tokens",
            f"{tokens:.1f} ({files:.1f} with keys and labels), {tokens / source:.1%} of the source",
        ),
        ("order-0 entropy of the tokens", f"{dataset.entropy_bytes():.1f} bytes an image"),
        ("reconstruction PSNR", f"{quality:.2f} dB on val"),
        ("top-1, pre-trained and fine-tuned", f"{figures['finetune']['top1']:.2%}"),
        ("top-1, from scratch", f"{figures['scratch']['top1']:.2%}"),
        ("top-1, logistic regression on pixels", f"{baseline:.2%}"),
    ]


def add_pictures(page: Page, output: Folder, tokenizer: Tokenizer, pixels: np.ndarray) -> None:
    """Originals beside decoded tokens; masked tokens beside what the model fills in."""
    tokens = tokenizer.encode(torch.from_numpy(pixels))
    decoded = tokenizer.decode(tokens)
    page.add_picture(
        "Tokens keep what matters",
        contact_sheet([pixels, decoded], ["original", "decoded"]),
        f"Held-out images at {tokenizer.image_size} px, and what their {tokens.shape[1]} tokens decode to.",
    )
    rows, words = filled_in(output.join("pretrain"), tokenizer, tokens)
    sheet = contact_sheet([pictures for _, pictures in rows], [title for title, _ in rows])
    page.add_picture("What the pre-trained model fills in", sheet, words)


def add_curves(page: Page, output: Folder) -> None:
    """Losses of all runs, accuracy of the classifiers, over epochs."""
    records = {name: read_metrics(output.join(name)) for name in ("pretrain", "finetune", "scratch")}

    def curve(run: str, key: str) -> tuple[list[float], list[float]]:
        points = [(r["epoch"], r[key]) for r in records[run] if key in r]
        return [x for x, _ in points], [y for _, y in points]

    page.add_chart(
        "Pre-training loss",
        line_chart(
            {"train": curve("pretrain", "train_loss"), "val": curve("pretrain", "val_loss")},
            "Pre-training",
            "epoch",
            "loss",
        ),
        "Masked token modelling: cross-entropy of masked tokens, nats; other objectives: the sum of their losses.",
    )
    both = {"pre-trained": "finetune", "from scratch": "scratch"}
    page.add_chart(
        "Classification loss",
        line_chart(
            {f"{name}, train": curve(run, "train_loss") for name, run in both.items()},
            "Fine-tuning",
            "epoch",
            "cross-entropy",
        ),
        "The same model and settings, once from the pre-trained encoder and once from scratch.",
    )
    page.add_chart(
        "Validation accuracy",
        line_chart(
            {name: curve(run, "val_top1") for name, run in both.items()},
            "Top-1 on held-out images",
            "epoch",
            "top-1",
        ),
        "Share of the held-out images whose class is right.",
    )
