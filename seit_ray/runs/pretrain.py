"""Pre-training by masked token modelling: a token dataset in, an encoder and its decoder out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Unpack

from seit_ray.augment.mask_counts import patch_grid_of
from seit_ray.evaluation.masked import masked_metrics
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.objectives import MorphedMTMObjective, MTMObjective, Objective
from seit_ray.objectives.morph_loss import Morphing
from seit_ray.runs.augmentation import token_augmentation
from seit_ray.runs.contents import adapt_contents, morph_contents
from seit_ray.runs.inputs import TokenInputs, token_inputs
from seit_ray.runs.method_settings import DtmSettings
from seit_ray.runs.morph_sources import MorphSources
from seit_ray.runs.morphing import Reads, check_alignment, morphing_of, with_stream
from seit_ray.runs.probing import deciding_probes, probes
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
    masks = asdict(masking)
    reference, sources = masks.pop("reference"), sources or MorphSources()
    masked = MTMObjective(**masks, augment=augmentation)
    objective: Objective = masked
    settings = model_settings(
        model,
        grid=inputs.grid,
        num_codes=inputs.num_codes,
        mask_ratio_min=masking.mask_ratio_min,
        reference=reference,
    )
    if dtm:
        check_alignment(dtm, bool(augment.random_crop or augment.swap_prob or augment.adapt != "none"))
        inputs = with_stream(inputs, dtm, sources, loop)
        morphing = token_morphing(dtm, sources, inputs, model.stem_kernel, settings["size"].width, loop, world)
        settings["morph_dim"] = morphing.head_dim
        objective = MorphedMTMObjective(masked, morphing, inputs.tokenizer)
    hooks["decided_by"] = hooks.get("decided_by", {}) | deciding_probes(probe, loop)

    def evaluate(net: MaskedTokenModel, done: int) -> dict[str, float]:
        values = masked_metrics(net, inputs.val, world) if inputs.val else {}
        metrics = {"val_" + name: value for name, value in values.items()}
        return metrics | probes(net, inputs, probe, loop, world, done)

    contents = adapt_contents(augment, adapt_run) | (morph_contents(sources) if dtm else {})
    return train_and_export(
        "mtm", settings, objective, inputs, evaluate, run, loop, optimizer, world, contents=contents, **hooks
    )


def token_morphing(
    dtm: DtmSettings,
    sources: MorphSources,
    inputs: TokenInputs,
    unit: int,
    width: int,
    loop: LoopSettings,
    world: World,
) -> Morphing:
    """Morphing beside masked token modelling, of units of unit x unit tokens."""
    grid = patch_grid_of(inputs.grid, unit)
    reads = Reads("dtm", grid, unit, width, inputs.tokenizer.codebook, tokens=True)
    return morphing_of(dtm, sources, reads, inputs, loop, world)
