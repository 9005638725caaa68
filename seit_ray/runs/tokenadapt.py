"""The run that trains TokenAdapt: images and their tokenizer in, f and g out. Plain keyword arguments, no Ray."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Unpack

from seit_ray.evaluation.tokenadapt import tokenadapt_metrics
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.tokenadapt import TokenAdapt
from seit_ray.objectives.tokenadapt import TokenAdaptObjective
from seit_ray.progress import silent
from seit_ray.runs.inputs import Inputs, image_streams, val_of
from seit_ray.runs.settings import GeometrySettings, TokenAdaptSettings
from seit_ray.runs.train import train_and_export
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.training.requests import Hooks
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World


def train_tokenadapt(
    *,
    images: Folder,
    source: SourceSettings,
    tokenizer: Folder,
    run: Folder,
    val_fraction: float,
    max_images: int | None,
    seed: int,
    out_grid: tuple[int, int] | None,
    geometry: GeometrySettings,
    model: TokenAdaptSettings,
    loop: LoopSettings,
    optimizer: OptimizerSettings,
    world: World,
    **hooks: Unpack[Hooks],
) -> dict[str, Any]:
    """f and g for a tokenizer, from pairs of images and their augmentations; the last metrics, on every rank.

    `out_grid` is the token grid after the augmentation, the tokenizer's own by default. `seed` draws the hold-out and
    the sample of `max_images`. A source without a train split is a ValueError.
    """
    coder, about = load_tokenizer(tokenizer)
    coder.to(world.device)
    grid, out_grid = coder.grid, out_grid or coder.grid
    objective = TokenAdaptObjective(tokenizer=coder, out_grid=out_grid, geometry=asdict(geometry))
    streams = image_streams(
        images,
        run,
        source=source,
        image_size=coder.image_size,
        resize=coder.resize,
        val_fraction=val_fraction,
        seed=seed,
        max_images=max_images,
        world=world,
        memory_gib=loop.memory_gib,
        on_progress=hooks.get("on_progress", silent),
    )
    num_codes, dim = coder.codebook.shape
    inputs = Inputs(
        train=streams["train"],
        val=val_of(streams),
        class_names=None,
        identity={
            "tokenizer": about["fingerprint"],
            "grid": list(grid),
            "codebook_size": num_codes,
            "out_grid": list(out_grid),
            "geometry": {name: plain(value) for name, value in asdict(geometry).items()},
        },
        grid=grid,
        where=images.uri,
        tokenizer=coder,
    )

    def evaluate(net: TokenAdapt, done: int) -> dict[str, float]:
        values = tokenadapt_metrics(net, objective, inputs.val, world) if inputs.val else {}
        return {"val_" + name: value for name, value in values.items()}

    settings = {"grid": grid, "out_grid": out_grid, "num_codes": num_codes, "dim": dim, **asdict(model)}
    return train_and_export("tokenadapt", settings, objective, inputs, evaluate, run, loop, optimizer, world, **hooks)


def plain(value: Any) -> Any:
    """A range as a list: what JSON gives back is compared with what is asked for."""
    return list(value) if isinstance(value, tuple) else value
