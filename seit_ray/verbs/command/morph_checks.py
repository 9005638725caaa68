"""What must fit before a training with token morphing begins: targets, loss, merges, a second dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seit_ray.config import Pretrain
from seit_ray.models.about_timm import check_teacher
from seit_ray.verbs.command.known_tokens import KnownTokens
from seit_ray.verbs.command.places import folder_of
from seit_ray.verbs.command.training import morph_sources

if TYPE_CHECKING:
    from seit_ray.shards.dataset import TokenDataset


def patches_of(config: Pretrain, tokens: KnownTokens) -> tuple[int, int]:
    """The grid of patches; ValueError where these do not tile the tokens that the model sees."""
    from seit_ray.augment.mask_counts import patch_grid_of
    from seit_ray.models.variants import model_grid

    return patch_grid_of(model_grid(tokens.grid, config.model.grid_side), config.model.stem_kernel)


def morphs(config: Pretrain) -> bool:
    """Whether a loss of morphing is added."""
    weight = config.dtm.weight
    return config.objective == "dtm" or (config.objective == "ccvit" and bool(weight))


def check_morphing(config: Pretrain, tokens: KnownTokens | None, grid: tuple[int, int]) -> None:
    """ValueError when targets, loss or merges of the morphing do not fit. grid: the patches."""
    from seit_ray.runs.method_checks import check_dtm

    dtm = config.dtm
    on_tokens = bool(config.dataset) and not (config.objective == "ccvit" and config.ccvit.sees == "pixels")
    kind = check_dtm(
        dtm.settings(),
        objective=config.objective,
        on_tokens=on_tokens,
        has_codebook=config.objective == "ccvit" or bool(config.dataset),
        ema_decay=config.loop.ema_decay,
        has_run=bool(dtm.target_run),
        has_dataset=bool(dtm.target_dataset),
        has_weights=bool(dtm.teacher_weights),
    )
    check_groups(config, grid)
    if kind == "teacher":
        sources = morph_sources(dtm, config.storage)
        assert sources.weights is not None  # `check_dtm` has asked
        check_teacher(dtm.teacher or "", sources.weights, sources.weights_file, grid)
    if tokens is not None and tokens.tokenizer is not None and kind == "run":
        check_target(config, tokens, grid)


def check_groups(config: Pretrain, grid: tuple[int, int]) -> None:
    """ValueError for a schedule of merges that the patches of a grid, or their codes, do not have."""
    from seit_ray.augment.target_numbers import check_merges

    dtm = config.dtm
    side = config.model.stem_kernel if dtm.on == "codes" else 1
    height, width = grid[0] * side, grid[1] * side
    check_merges(dtm.levels, dtm.max_removed, dtm.max_iterations or max(height, width), height * width)


def check_target(config: Pretrain, tokens: KnownTokens, patch_grid: tuple[int, int]) -> None:
    """ValueError unless the run to compare with is of the same tokens, in the same patches."""
    from seit_ray.models.about import TARGETS, read_about
    from seit_ray.models.starts import check_patches
    from seit_ray.models.variants import model_grid
    from seit_ray.training.identity import check_same

    run = folder_of(config.dtm.target_run or "", config.storage)
    about = read_about(run, *TARGETS)
    check_same(about, tokens.identity, run.uri)
    check_patches(about, model_grid(tokens.grid, config.model.grid_side), patch_grid, run.uri)


def check_stream(config: Pretrain, dataset: TokenDataset) -> None:
    """ValueError unless the second dataset is of as many images, and augmentation leaves places alone."""
    from seit_ray.augment.target_numbers import stream_step
    from seit_ray.shards.dataset import TokenDataset

    second = TokenDataset(folder_of(config.dtm.target_dataset or "", config.storage))
    rows = [dataset.split("train").rows, second.split("train").rows]
    if rows[0] != rows[1]:
        raise ValueError(
            f"{rows[1]} rows in split 'train' of {second.folder.uri}; expected the {rows[0]} of {dataset.folder.uri}; "
            "tokenise the same images"
        )
    stream_step(second.info.grid, patches_of(config, KnownTokens.of(dataset)))
    augment = config.augment
    if augment.random_crop or augment.swap_prob or augment.adapt != "none" or config.model.grid_side:
        raise ValueError(
            "dtm.target stream with augmentation that moves tokens, or model.grid_side; expected none, since the "
            "second stream stays; leave augment.random_crop, swap_prob, adapt and model.grid_side out"
        )
