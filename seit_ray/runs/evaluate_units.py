"""A finished classifier on a split of a token dataset, with shares of the units removed or shuffled, on any ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from seit_ray.batches.contract import Samples
from seit_ray.batches.stream import open_split
from seit_ray.evaluation.batches import eval_batches
from seit_ray.evaluation.case_counts import Tally, add_up
from seit_ray.evaluation.cases import Case, check_run_units, unit_cases
from seit_ray.evaluation.occlusion import UNIT_SEED, logits_under, unit_order
from seit_ray.evaluation.robustness import robustness_figures
from seit_ray.models.exports import import_model
from seit_ray.models.vit import TokenViT
from seit_ray.progress import Progress, silent
from seit_ray.runs.evaluate_tokens import check_names
from seit_ray.runs.inputs import cropped
from seit_ray.shards import TokenDataset
from seit_ray.shards.dataset import identity_of
from seit_ray.storage import Folder
from seit_ray.training.identity import check_same
from seit_ray.training.precision import autocast, precision_of
from seit_ray.training.world import World


def evaluate_units(
    *,
    dataset: Folder,
    run: Folder,
    split: str,
    occlusion: Sequence[float],
    shuffle: Sequence[float],
    batch_size: int,
    world: World,
    weights: str = "model",
    on_progress: Progress = silent,
    **hooks: object,
) -> dict[str, Any]:
    """`robustness_figures` of a split whole, and with shares of the units removed (occlusion) or shuffled."""
    del hooks  # one pass over a split: no metrics on the way
    tokens = TokenDataset(dataset)
    model, about = import_model(run, "classifier", weights)
    check_same(about, identity_of(tokens), run.uri)
    names = check_names(tokens, about, run)
    cases = unit_cases(occlusion, shuffle)
    check_run_units(cases, about, run.uri)
    store = cropped(open_split(tokens, split, need_labels=True), tokens.info.grid, model.grid)
    with autocast(world.device, precision_of(about, world.device)):
        counts = unit_counts(model.to(world.device), store, cases, world, batch_size, on_progress)
    made = [pair for found in world.gather(counts) for pair in found]
    total = add_up([part for _, part in sorted(made, key=lambda pair: pair[0])])
    return {
        "split": split,
        "weights": weights,
        "seed": UNIT_SEED,
        "units": model.num_patches,
        "num_scored": len(names),
        **robustness_figures(cases, total, names),
    }


@torch.inference_mode()
def unit_counts(
    model: TokenViT, store: Samples, cases: Sequence[Case], world: World, batch_size: int, on_progress: Progress
) -> list[tuple[int, dict[str, Any]]]:
    """(number of a batch, its counts) of this rank's batches."""
    model.eval()
    found, total = [], len(store)
    for chunk, rows, batch in eval_batches(store, batch_size, world):
        assert batch.labels is not None  # a store has them
        tally = Tally(cases, model.num_classes)
        patches = model.patches(model.embed(batch.inputs))
        order = unit_order(rows, total, model.num_patches, world.device)
        tally.add(0, model.logits_of(patches), batch.labels)
        for place, case in enumerate(cases, 1):
            tally.add(place, logits_under(case, model, patches, order), batch.labels)
        found.append((chunk, tally.counts()))
        on_progress("evaluate", min(total, (chunk + world.size) * batch_size), total, "samples")
    return found
