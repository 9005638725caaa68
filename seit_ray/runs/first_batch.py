"""What a run sees first: shapes, ranges and pictures of the first batch behind the augmentation, beside the run."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from seit_ray.augment.chain import Augmented
from seit_ray.augment.random import StepRandom
from seit_ray.batches.contract import SampleStore
from seit_ray.objectives.contract import Objective
from seit_ray.report.label_maps import paint_maps
from seit_ray.report.pictures import contact_sheet
from seit_ray.storage import Folder
from seit_ray.tokenizers.codebook import quantize_maps
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.training.settings import LoopSettings

NUMBERS, PICTURES = "first_batch.json", "first_batch.png"
NUM_ROWS = 8


def write_first_batch(
    run: Folder,
    objective: Objective,
    store: SampleStore,
    *,
    tokenizer: Tokenizer | None,
    loop: LoopSettings,
    device: torch.device,
    model: nn.Module | None = None,
) -> dict[str, Any]:
    """Write first_batch.json and, where the inputs can be shown, first_batch.png of step 0; what the former says.

    Rows are the first of the global batch, exactly as the first step sees them. A rerun writes the same again.
    """
    batch_size, seed = loop.global_batch_size, loop.seed
    num = min(NUM_ROWS, batch_size)
    rows = store.step_rows(batch_size, seed, 0)[:num]
    batch = store.batch(rows, device)
    before = batch.inputs.clone()
    random = StepRandom(seed, 0, slice(0, num), batch_size, device)
    with torch.no_grad():
        augment = getattr(objective, "augment", None)
        seen = Augmented(batch.inputs, batch.labels) if augment is None else augment(batch.inputs, batch.labels, random)
    about = {
        "data": store.describe(),
        "samples": rows.tolist(),
        "inputs": described(before),
        "augmented": described(seen.inputs),
        "labels": None if batch.labels is None else told(batch.labels),
        "partner_labels": None if seen.partner_labels is None else seen.partner_labels.tolist(),
        "weight": None if seen.weight is None else [round(w, 4) for w in seen.weight.tolist()],
    }
    pairs = [(title, pictures_of(values, tokenizer)) for title, values in (("stored", before), ("seen", seen.inputs))]
    shown = [(title, pictures) for title, pictures in pairs if pictures is not None]
    for title, labels in (("stored map", batch.labels), ("seen map", seen.labels)):
        if labels is not None and labels.ndim == 3:
            shown.append((title, torch.from_numpy(paint_maps(labels.cpu().numpy()))))
    if model is not None and hasattr(objective, "pictures"):
        shown += objective.pictures(model, batch.inputs, random)
    about["pictures"] = [title for title, _ in shown]
    run.write(NUMBERS, json.dumps(about, indent=1).encode())
    shapes = {pictures.shape for _, pictures in shown}
    sheets = [shown] if len(shapes) <= 1 else [[row for row in shown if row[1].shape == shown[-1][1].shape]]
    if shown:
        run.write(PICTURES, contact_sheet([p for _, p in sheets[0]], [title for title, _ in sheets[0]]))
    return about


def told(labels: Tensor) -> Any:
    """The labels, or of label maps what a tensor is described by."""
    return labels.tolist() if labels.ndim == 1 else described(labels)


def described(values: Tensor) -> dict[str, Any]:
    """Shape, type and range of a tensor."""
    low, high = (round(float(v), 4) for v in (values.min(), values.max()))
    return {"shape": list(values.shape), "dtype": str(values.dtype).removeprefix("torch."), "min": low, "max": high}


def pictures_of(values: Tensor, tokenizer: Tokenizer | None) -> Tensor | None:
    """Images uint8 [B,3,H,W] of images, or of codes [B,L] or maps of codebook rows [B,D,h,w] by the tokenizer.

    None where there is none to decode with, and for codes of another grid than the tokenizer's.
    """
    if values.ndim == 4 and values.shape[1] == 3 and (values.dtype == torch.uint8 or tokenizer is None):
        return values if values.dtype == torch.uint8 else scaled(values)
    if tokenizer is None:
        return None
    codebook = tokenizer.codebook.to(values.device)
    if values.ndim == 4:
        if values.shape[1] != codebook.shape[1]:
            return None
        values = quantize_maps(values, codebook, tokenizer.metric).flatten(1)
    if values.shape[1] != tokenizer.grid[0] * tokenizer.grid[1]:
        return None
    try:
        return tokenizer.decode(values.cpu())
    except ValueError:  # only its codebook is at hand
        return None


def scaled(values: Tensor) -> Tensor:
    """Floats of any range as uint8."""
    low, high = values.amin(), values.amax()
    return ((values - low) / (high - low).clamp(min=1e-6) * 255).round().to(torch.uint8)
