"""The augmentation of a run: from its settings and its data to the callable that an objective applies."""

from __future__ import annotations

from dataclasses import asdict

from torch import Tensor

from seit_ray.augment.chain import Adapter, Augment
from seit_ray.augment.images import ImageAugment
from seit_ray.augment.lookup import PixelAdapter
from seit_ray.augment.synonyms import nearest_codes
from seit_ray.models.exports import import_model
from seit_ray.runs.inputs import TokenInputs
from seit_ray.runs.settings import AugmentationSettings, PixelSettings
from seit_ray.shards.synonyms import check_number, read_synonyms
from seit_ray.storage import Folder
from seit_ray.training.identity import check_same
from seit_ray.training.world import World

ADAPTS = ("none", "tokenadapt", "pixels")
OF_IMAGES = ("mixup_alpha", "cutmix_alpha", "mix_prob", "switch_prob", "mix_mode")


def token_augmentation(
    inputs: TokenInputs, settings: AugmentationSettings, adapt_run: Folder | None, world: World, *, quantize: bool
) -> Augment:
    """The chain of SeiT (maps of codebook rows) or SeiT++ (`quantize`: codes again) on this rank's device."""
    given = asdict(settings)
    adapt, num, metric = (given.pop(name) for name in ("adapt", "num_synonyms", "synonym_metric"))
    codebook = inputs.tokenizer.codebook.to(world.device)
    grid, out_grid = inputs.dataset.info.grid, inputs.grid
    synonyms = synonyms_of(inputs, num, metric).to(world.device) if given["synonym_prob"] else None
    adapter = adapter_of(adapt, inputs, adapt_run, grid, out_grid, world)
    return Augment(
        codebook,
        synonyms=synonyms,
        token_adapt=adapter,
        grid=grid,
        out_grid=out_grid,
        output="codes" if quantize else "maps",
        metric=inputs.tokenizer.metric,
        **given,
    )


def synonyms_of(inputs: TokenInputs, num: int, metric: str | None) -> Tensor:
    """The dataset's own table [K,num], or one made of its codebook by the tokenizer's metric or the given one."""
    table, codebook = (read_synonyms(inputs.dataset.folder) if metric is None else None), inputs.tokenizer.codebook
    check_number(num, len(codebook), None if table is None else table.shape[1], inputs.where)
    if table is None:
        return nearest_codes(codebook.cpu(), num, metric or inputs.tokenizer.metric)
    return table[:, :num]


def adapter_of(
    adapt: str,
    inputs: TokenInputs,
    adapt_run: Folder | None,
    grid: tuple[int, int],
    out_grid: tuple[int, int],
    world: World,
) -> Adapter | None:
    """What carries a share of the rows through spatial augmentation: a trained f and g, or the pixels themselves."""
    if adapt not in ADAPTS:
        raise ValueError(f"augment.adapt {adapt!r}; expected one of {', '.join(ADAPTS)}; choose one")
    if adapt == "none":
        return None
    if adapt == "pixels":
        if inputs.tokenizer.family != "centroid":
            raise ValueError(
                f"augment.adapt 'pixels' with a {inputs.tokenizer.family} tokenizer; expected a centroid tokenizer, "
                "whose codes are pixels; train TokenAdapt and take augment.adapt=tokenadapt"
            )
        return PixelAdapter(inputs.tokenizer.codebook.to(world.device), grid=grid, out_grid=out_grid)
    if adapt_run is None:
        raise ValueError("augment.adapt 'tokenadapt' without augment.adapt_run; expected a run of train_tokenadapt")
    model, about = import_model(adapt_run, "tokenadapt")
    check_same(about, {"tokenizer": inputs.identity["tokenizer"]}, adapt_run.uri)
    return model.requires_grad_(False).to(world.device)


def image_augmentation(settings: AugmentationSettings, pixels: PixelSettings) -> ImageAugment:
    """Crop and flip of the `pixels` section, mixing of the augment section."""
    mixing = {name: getattr(settings, name) for name in OF_IMAGES}
    return ImageAugment(crop_area=pixels.crop_area, flip_prob=pixels.flip_prob, **mixing)
