"""Pre-training by masked token modelling: a token dataset in, an encoder and its decoder out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Unpack

from seit_ray.augment.mask_counts import patch_grid_of
from seit_ray.evaluation.masked import masked_metrics
from seit_ray.evaluation.probe import probe_metrics
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.objectives import MorphedMTMObjective, MTMObjective, Objective
from seit_ray.runs.augmentation import token_augmentation
from seit_ray.runs.inputs import cropped, token_inputs
from seit_ray.runs.method_settings import DtmSettings
from seit_ray.runs.morph_sources import MorphSources
from seit_ray.runs.morphing import Reads, check_alignment, morphing_of, with_stream
from seit_ray.runs.settings import AugmentationSettings, MaskingSettings, ModelSettings, ProbeSettings
from seit_ray.runs.train import model_settings, train_and_export
from seit_ray.storage import Folder
from seit_ray.training.requests import Hooks
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World


def pretrain(
    *,
    dataset: Folder,
    run: Folder,
    model: ModelSettings,
    masking: MaskingSettings,
    augment: AugmentationSettings,
    adapt_run: Folder | None,
    probe: ProbeSettings,
    loop: LoopSettings,
    optimizer: OptimizerSettings,
    world: World,
    dtm: DtmSettings | None = None,
    sources: MorphSources | None = None,
    **hooks: Unpack[Hooks],
) -> dict[str, Any]:
    """Masked token modelling on the train split (SeiT++, section 3); `dtm` adds token morphing (DTM, section 4.3)."""
    inputs = token_inputs(dataset, need_labels=False, grid_side=model.grid_side, memory_gib=loop.memory_gib)
    augmentation = token_augmentation(inputs, augment, adapt_run, world, quantize=True)
    masked = MTMObjective(**asdict(masking), augment=augmentation)
    objective: Objective = masked
    settings = model_settings(
        model, grid=inputs.grid, num_codes=inputs.num_codes, mask_ratio_min=masking.mask_ratio_min
    )
    train = inputs.train
    if dtm:
        check_alignment(dtm, bool(augment.random_crop or augment.swap_prob or augment.adapt != "none"))
        inputs = with_stream(inputs, dtm, sources or MorphSources(), loop)
        patch_grid = patch_grid_of(inputs.grid, model.stem_kernel)
        reads = Reads(
            "dtm", patch_grid, model.stem_kernel, settings["size"].width, inputs.tokenizer.codebook, tokens=True
        )
        morphing = morphing_of(dtm, sources or MorphSources(), reads, inputs, loop, world)
        settings["morph_dim"] = morphing.head_dim
        objective = MorphedMTMObjective(masked, morphing, inputs.tokenizer)
    probing = asdict(probe)
    every = probing.pop("every_epochs")
    probed = cropped(train, inputs.dataset.info.grid, inputs.grid) if every else None

    def evaluate(net: MaskedTokenModel, epoch: float) -> dict[str, float]:
        values = masked_metrics(net, inputs.val, world) if inputs.val else {}
        metrics = {"val_" + name: value for name, value in values.items()}
        due = every and (round(epoch) % every == 0 or epoch >= loop.epochs)
        if due and probed:
            metrics |= probe_metrics(net, probed, inputs.val, len(inputs.class_names or []), world, **probing)
        return metrics

    return train_and_export("mtm", settings, objective, inputs, evaluate, run, loop, optimizer, world, **hooks)
