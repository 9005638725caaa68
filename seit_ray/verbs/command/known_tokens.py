"""What a dry run knows of the tokens of a training: those of a dataset, or those that an earlier phase will make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seit_ray.config import Finetune, Pretrain
from seit_ray.models.starts import Taken, check_sizes, taken_over
from seit_ray.models.variants import model_grid
from seit_ray.runs.best_checks import check_kept
from seit_ray.verbs.command.training import check_size

if TYPE_CHECKING:
    from seit_ray.shards.dataset import TokenDataset

OF_INPUT = ("inputs", "token_dim", "stem_kernel", "stem_stride", "stem_padding", "stem_layers", "stem_width")
BEFORE = "the pre-training before it"


@dataclass(frozen=True)
class KnownTokens:
    """Grid, codes, side in pixels of a token's patch, where; tokenizer: its fingerprint, None until it is fitted.

    dataset: None while the tokens are yet to be made.
    """

    where: str
    grid: tuple[int, int]
    num_codes: int
    family: str
    patch_side: int
    tokenizer: str | None = None
    dataset: TokenDataset | None = None

    @property
    def num_synonyms(self) -> int | None:
        """Of each code, beside the tokens; None when there is no table."""
        from seit_ray.shards.synonyms import NUM_SYNONYMS

        return self.dataset.num_synonyms if self.dataset else min(NUM_SYNONYMS, self.num_codes - 1)

    @classmethod
    def of(cls, dataset: TokenDataset) -> KnownTokens:
        """Those of a dataset."""
        info, where = dataset.info, dataset.folder.uri
        side = info.image_size // info.grid[0]
        return cls(where, info.grid, info.codebook_size, info.family, side, info.tokenizer, dataset)

    @classmethod
    def of_centroids(cls, where: str, image_size: int, patch_size: int, num_codes: int) -> KnownTokens:
        """Those of a centroid tokenizer that is yet to be fitted."""
        side = image_size // patch_size
        return cls(where, (side, side), num_codes, "centroid", patch_size)

    @property
    def identity(self) -> dict[str, Any]:
        """What a run and its tokens must agree on; of a tokenizer that is yet to be fitted nothing is known."""
        if self.tokenizer is None:
            return {}
        return {"tokenizer": self.tokenizer, "grid": list(self.grid), "codebook_size": self.num_codes}


def check_kept_of(keep_best: str | None, dataset: TokenDataset) -> None:
    """ValueError where the best weights are to be chosen by what a dataset has not: a val split, or labels."""
    splits = dataset.info.splits
    counts = [sum(map(bool, splits[name].label_counts)) if name in splits else 0 for name in ("train", "val")]
    has_val = "val" in splits and splits["val"].rows > 0
    has_labels = counts[0] > 1 and (counts[1] > 0 or not has_val)
    check_kept(keep_best, has_val=has_val, has_labels=has_labels, where=dataset.folder.uri)


def about_to_be(config: Pretrain, tokens: KnownTokens) -> dict[str, Any]:
    """model.json, as far as it is known, of a pre-training on tokens that is yet to be run."""
    model = config.model
    size, grid = vars(check_size(model)), model_grid(tokens.grid, model.grid_side)
    if config.objective != "ccvit":
        stem = {"stem_kernel": model.stem_kernel, "token_dim": model.token_dim}
        return {"kind": "mtm", **tokens.identity, "settings": {"size": size, "grid": grid, **stem}}
    pixels = tokens.patch_side if config.ccvit.sees == "pixels" else 1
    settings = {"size": size, "grid": (grid[0] * pixels, grid[1] * pixels), "kernel": model.stem_kernel * pixels}
    return {"kind": "ccvit", **tokens.identity, "settings": settings}


def check_start_sizes(config: Finetune, about: dict[str, Any], where: str | None, tokens: KnownTokens | None) -> None:
    """ValueError where the run to start from has other sizes than the model.

    where: its uri, None of a pre-training that comes before this training; tokens None: of images.
    """
    model = config.model
    if tokens is None:
        pixels = config.pixels
        identity: dict[str, Any] = {"patch_size": pixels.patch_size}
        stem: dict[str, Any] = {"inputs": "pixels", "stem_kernel": pixels.patch_size, "stem_layers": model.stem_layers}
        settings = {"grid": (pixels.image_size, pixels.image_size), "stem_width": model.stem_width, **stem}
    else:
        identity, settings = tokens.identity, {name: getattr(model, name) for name in OF_INPUT}
        settings["grid"] = model_grid(tokens.grid, model.grid_side)
        settings["pixel_side"] = tokens.patch_side if model.stem_pixels else 1
    kind = "segmenter" if config.task == "segment" else "classifier"
    taken = taken_over(kind, about, identity, transfer=config.transfer)
    if tokens is not None and tokens.tokenizer is None:  # of a phase before this one, on the same tokens
        taken = Taken(inputs=True, places=not config.transfer)
    behind = "finetune" if where is None else ""
    check_sizes(about, {"size": check_size(model), **settings}, where or BEFORE, taken, behind=behind)
