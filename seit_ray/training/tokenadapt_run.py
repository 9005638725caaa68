"""The run that trains TokenAdapt: images and their tokenizer in, f and g out. Plain keyword arguments, no Ray."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch

from seit_ray.batches import ImageStore
from seit_ray.evaluation.tokenadapt import tokenadapt_metrics
from seit_ray.models import build_model
from seit_ray.models.tokenadapt import TokenAdapt
from seit_ray.objectives.tokenadapt import TokenAdaptObjective
from seit_ray.storage import Folder
from seit_ray.tokenizers import load_tokenizer
from seit_ray.training.checkpoints import check_same
from seit_ray.training.exports import export_model, import_model
from seit_ray.training.loop import Trainer
from seit_ray.training.world import World

KIND = "tokenadapt"


def train_tokenadapt(
    *,
    images: Folder,
    source: dict[str, Any],
    tokenizer: Folder,
    run: Folder,
    val_fraction: float,
    max_images: int | None,
    seed: int,
    out_grid: tuple[int, int] | None,
    geometry: dict[str, Any],
    model: dict[str, Any],
    loop: dict[str, Any],
    optimizer: dict[str, Any],
    world: World,
    **hooks: Callable,
) -> dict[str, Any]:
    """f and g for a tokenizer, from pairs of images and their augmentations; the last metrics, on every rank.

    `out_grid` is the token grid after the augmentation, the tokenizer's own by default. `seed` draws the hold-out and
    the sample of `max_images`. A source without a train split is a ValueError.
    """
    coder, about = load_tokenizer(tokenizer)
    coder.to(world.device)
    out_grid = tuple(out_grid or coder.grid)
    objective = TokenAdaptObjective(tokenizer=coder, out_grid=out_grid, geometry=geometry)
    num_codes, dim = coder.codebook.shape
    settings = {"grid": tuple(coder.grid), "out_grid": out_grid, "num_codes": num_codes, "dim": dim, **model}
    torch.manual_seed(loop["seed"])
    net = build_model(KIND, settings)
    stores = ImageStore.read(
        images,
        source,
        image_size=coder.image_size,
        resize=coder.resize,
        val_fraction=val_fraction,
        seed=seed,
        max_images=max_images,
    )
    if "train" not in stores:
        raise ValueError(f"splits {', '.join(stores)} in {images.uri}; expected train; name a source that has one")
    val = stores.get("val")

    def evaluate(net: torch.nn.Module, epoch: float) -> dict[str, float]:
        values = tokenadapt_metrics(net, objective, val, world) if val else {}
        return {"val_" + name: value for name, value in values.items()}

    identity = {"kind": KIND, "tokenizer": about["fingerprint"], "codebook_size": num_codes}
    identity |= json.loads(json.dumps({"grid": coder.grid, "out_grid": out_grid, "geometry": geometry}))
    trainer = Trainer(
        model=net,
        objective=objective,
        store=stores["train"],
        evaluate=evaluate,
        run=run,
        loop=loop,
        optimizer=optimizer,
        identity=identity,
        world=world,
        **hooks,
    )
    metrics = trainer.train()
    if world.is_main:
        export_model(run, net, kind=KIND, settings=settings, about={**identity, "metrics": metrics})
    return metrics


def load_tokenadapt(run: Folder, identity: dict[str, Any]) -> TokenAdapt:
    """The frozen f and g of a finished run, for tokens of the given identity (`runs.identity_of`).

    Another tokenizer, grid or number of codes than it was trained for is a ValueError that names both.
    """
    model, about = import_model(run, KIND)
    check_same(about, identity, run.uri)
    return model.frozen()
