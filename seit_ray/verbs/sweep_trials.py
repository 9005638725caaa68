"""The trials of a sweep: from settings to the configs of their stages, with places of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seit_ray.config import Finetune, Pretrain, Sweep
from seit_ray.config.space import Settings
from seit_ray.config.sweep import stage_configs, trial_name
from seit_ray.studies.trials import Stage, Trial
from seit_ray.verbs import finetune, pretrain
from seit_ray.verbs.command.finetune_checks import check_data
from seit_ray.verbs.command.known_tokens import KnownTokens, about_to_be
from seit_ray.verbs.command.places import folder_of
from seit_ray.verbs.command.pretrain_checks import check_pretrain
from seit_ray.verbs.command.record import decided_by
from seit_ray.verbs.command.shape_checks import mistakes_of
from seit_ray.verbs.command.training import check_loop, shared_arguments

if TYPE_CHECKING:
    from seit_ray.shards.dataset import TokenDataset


def absolute(config: Sweep) -> Sweep:
    """The config with paths that mean the same in the working directory of a trial."""

    def whole(uri: str | None) -> str | None:
        return folder_of(uri, config.storage).uri if uri else uri

    parts = {}
    for stage in config.stages:
        part = getattr(config, stage)
        augment = part.augment.model_copy(update={"adapt_run": whole(part.augment.adapt_run)})
        parts[stage] = part.model_copy(update={"augment": augment})
        if stage == "pretrain":
            named = ("target_run", "target_dataset", "teacher_weights")
            dtm = part.dtm.model_copy(update={name: whole(getattr(part.dtm, name)) for name in named})
            parts[stage] = parts[stage].model_copy(update={"dtm": dtm})
    places = {name: whole(getattr(config, name)) for name in ("dataset", "output", "init_from")}
    return config.model_copy(update=places | parts)


def trial_of(config: Sweep, settings: Settings) -> Trial:
    """The trial with these settings; its name, and so its folder, follows from all that decides its result."""
    configs = configs_of(config, settings)
    stages = [
        Stage(
            name,
            pretrain.run_name(stage) if isinstance(stage, Pretrain) else finetune.run_name(stage),
            {
                "run": folder_of(stage.output, stage.storage).join(stage.run),
                "dataset": folder_of(config.dataset, stage.storage),
                "decided_by": decided_by(stage),
                **shared_arguments(stage),
                **own_arguments(stage),
            },
        )
        for name, stage in configs.items()
    ]
    return Trial(trial_name(stage_configs(config, settings)), settings, tuple(stages))


def check_trial(config: Sweep, settings: Settings, dataset: TokenDataset) -> None:
    """ValueError for what a stage of the trial with these settings would refuse, as its verb says it."""
    begun, given = None, ", ".join(f"{key}={value}" for key, value in settings.items())
    # of nested keys too: settings have all keys of the space, with dots
    for name, stage in stage_configs(config, settings).items():
        searched = {key.removeprefix(f"{name}.") for key in settings}
        with mistakes_of(f"a {name} of the space, with {given}"):
            check_loop(stage.loop)
            if isinstance(stage, Pretrain):
                check_pretrain(stage, dataset, searched)
                begun = about_to_be(stage, KnownTokens.of(dataset))
            else:
                check_data(stage, dataset, begun, searched)


def own_arguments(stage: Pretrain | Finetune) -> dict[str, Any]:
    """What the run of a stage takes beside what all runs take, and its dataset."""
    return pretrain.own_arguments(stage) if isinstance(stage, Pretrain) else finetune.own_arguments(stage)


def configs_of(config: Sweep, settings: Settings) -> dict[str, Pretrain | Finetune]:
    """Stage -> the config of a trial, as a user would write it to have the same run."""
    configs = stage_configs(config, settings)
    output = folder_of(config.output, config.storage).join(config.run, "trials", trial_name(configs))
    placed = {name: stage.model_copy(update={"output": output.uri}) for name, stage in configs.items()}
    if len(placed) == 2:
        start = output.join(placed["pretrain"].run).uri
        placed["finetune"] = placed["finetune"].model_copy(update={"init_from": start})
    return placed
