"""A sweep: which keys of which training are searched, and the configs of a trial."""

from __future__ import annotations

import copy
import difflib
import functools
import hashlib
import json
from typing import Any, Literal

from pydantic import Field, ValidationError

from seit_ray.config.deciding import deciding, deciding_keys
from seit_ray.config.keys import fields
from seit_ray.config.loading import explain, set_key
from seit_ray.config.loop import FinetuneLoop, Loop, check_metric, reported
from seit_ray.config.quickstart import FinetunePart, PretrainPart
from seit_ray.config.sections import NonNegativeInt, PositiveInt, RunName, Section, Seed, described
from seit_ray.config.space import Range, Settings, edges_of, list_trials, parse_space, refuse_edges
from seit_ray.config.training import Probe, WorkersHere
from seit_ray.config.trainings import Finetune, Pretrain
from seit_ray.config.turned_off import turn_off
from seit_ray.config.verbs import Verb

VERBS: dict[str, type[Pretrain] | type[Finetune]] = {"pretrain": Pretrain, "finetune": Finetune}


class Search(Section):
    """How the space is searched."""

    frozen = "seit_ray.studies.sweep:SearchSettings"
    undecided = frozenset({"max_concurrent"})

    searcher: Literal["random", "grid", "optuna"] = Field(
        "random", description="draws; all combinations; or Optuna's proposals (pip install optuna)"
    )
    num_trials: PositiveInt = Field(16, description="trials of random and optuna; a grid has its own number")
    seed: Seed = Field(0, description="seed of the draws and proposals; the trainings have theirs")
    scheduler: Literal["none", "asha"] = Field(
        "none", description="asha stops a trial that is behind the others at the same epoch"
    )
    grace_epochs: PositiveInt = Field(1, description="asha: no trial is stopped before")
    reduction_factor: PositiveInt = Field(3, description="asha: of so many trials one goes on", gt=1)
    max_concurrent: PositiveInt | None = Field(
        None, description="trials at a time; default what the cluster holds now; more makes an autoscaling one grow"
    )


class SweepPretrainLoop(Loop):
    """The training of a trial's encoder, evaluated as often on any device: trials are compared on the way."""

    eval_every_epochs: PositiveInt | None = Field(1, description=described(Loop, "eval_every_epochs"))


class SweepFinetuneLoop(FinetuneLoop):
    """The training of a trial's classifier, evaluated as often on any device."""

    eval_every_epochs: PositiveInt | None = Field(1, description=described(Loop, "eval_every_epochs"))


class SweepFinetune(FinetunePart):
    """The fine-tuning of a trial."""

    loop: SweepFinetuneLoop = Field(default_factory=SweepFinetuneLoop)


class SweepProbe(Probe):
    """The probes of a trial, by which trials are compared."""

    every_epochs: NonNegativeInt = Field(1, description=described(Probe, "every_epochs"))


class SweepPretrain(PretrainPart):
    """The pre-training of a trial."""

    undecided = frozenset()  # trials are compared by probes

    probe: SweepProbe = Field(default_factory=SweepProbe)
    loop: SweepPretrainLoop = Field(default_factory=SweepPretrainLoop)


class Sweep(Verb):
    """Search settings by short trainings: a table, pictures, and best.yaml for pretrain or finetune."""

    undecided = Verb.undecided | {"output", "run", "workers"}
    places = frozenset({"dataset", "init_from"})

    dataset: str = Field(description="folder of the token dataset")
    output: str = Field("runs", description="folder that holds the sweep: a path or bucket")
    run: RunName = Field(description="name of the sweep; the same name continues it")
    stages: tuple[Literal["pretrain", "finetune"], ...] = Field(
        ("pretrain",), description="what a trial does: pretrain, finetune, or one from the other"
    )
    space: dict[str, Any] = Field(
        description="key: [values], or {choice|grid: [...]}, {uniform|loguniform: [low, high]}, "
        "{quniform: [low, high, step]}; any key of the stages, pretrain. or finetune. before it where both have it"
    )
    metric: str | None = Field(
        None, description="what is compared, at the end of a trial; default val_top1, or a probe's accuracy"
    )
    search: Search = Field(default_factory=Search)
    pretrain: SweepPretrain = Field(default_factory=SweepPretrain)
    finetune: SweepFinetune = Field(default_factory=SweepFinetune)
    init_from: str | None = Field(None, description="of finetune alone: folder of a finished run to start from")
    init_weights: Literal["model", "ema", "best"] = Field(
        "model", description="of finetune alone: the last weights of init_from, their moving average, or the best"
    )
    transfer: bool = Field(False, description="of finetune alone: what fits of init_from is taken over")
    heat_map: tuple[str, str] | None = Field(None, description="two keys of the heat map; default the first two")
    workers: WorkersHere = Field(default_factory=WorkersHere)


def check_stages(sweep: Sweep) -> None:
    """ValueError for stages in a wrong order, or settings of a stage that is not run."""
    stages = sweep.stages
    if stages not in (("pretrain",), ("finetune",), ("pretrain", "finetune")):
        raise ValueError(
            f"stages {list(stages)}; expected [pretrain], [finetune] or [pretrain, finetune]; correct stages"
        )
    for name in VERBS:
        if name in sweep.model_fields_set and name not in stages:
            raise ValueError(f"section {name} with stages {list(stages)}; expected no such section; leave it out")
    if "pretrain" in stages and (sweep.init_from or sweep.transfer):
        raise ValueError("init_from or transfer with a pretrain stage; expected finetune alone; leave them out")
    if sweep.transfer and not sweep.init_from:
        raise ValueError("transfer without init_from; expected a finished run to start from; name one")


def space_of(sweep: Sweep) -> dict[str, Range]:
    """The space: a key -> its range; with two stages every key begins with its stage.

    ValueError for an unknown key, with the nearest known one, and for one that decides no result. Values are checked
    together (`trials_of`), since keys bound each other.
    """
    check_stages(sweep)
    ranges = {full_key(sweep, key): found for key, found in parse_space(sweep.space).items()}
    known = {f"{stage}.{key}" for stage in sweep.stages for key, _ in deciding_keys(VERBS[stage])}
    for key in ranges:
        if (key if len(sweep.stages) > 1 else f"{sweep.stages[0]}.{key}") not in known:
            raise ValueError(
                f"key {key} of the space decides no result; expected one that does; set it in the section "
                f"{key.partition('.')[0] if len(sweep.stages) > 1 else sweep.stages[0]}"
            )
    for key in sweep.heat_map or ():
        full_key(sweep, key, ranges)
    return ranges


def full_key(sweep: Sweep, key: str, known: Any = None) -> str:
    """A key as the space has it; ValueError when no stage, or more than one, has it, or when it is not in `known`."""
    sections: dict[str, type[Section]] = {stage: type(getattr(sweep, stage)) for stage in sweep.stages}
    keys = [f"{stage}.{name}" for stage, section in sections.items() for name, _ in fields(section)]
    found = [k for k in keys if key in (k, k.partition(".")[2])]
    if len(found) > 1:
        raise ValueError(f"key {key} of the space is in both stages; expected {' or '.join(found)}; name one")
    one_stage = len(sweep.stages) == 1
    keys = list(known) if known is not None else [k.partition(".")[2] if one_stage else k for k in keys]
    shown = (found[0].partition(".")[2] if one_stage else found[0]) if found else None
    if shown in keys:
        return shown
    if known is not None:
        raise ValueError(f"unknown key {key} of heat_map; expected two of the space; choose from {', '.join(keys)}")
    tails = [k for k in keys if k.rpartition(".")[2] == key.rpartition(".")[2]]
    near = tails or difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"expected one like {keys[0]}; see seit-ray pretrain --help"
    raise ValueError(f"unknown key {key} of the space; {hint}")


def trials_of(sweep: Sweep, ranges: dict[str, Range]) -> list[Settings] | None:
    """All settings of a grid or random search; None where Optuna proposes them on the way, by the edges of the space.

    ValueError for settings that a training would refuse.
    """
    search = sweep.search
    if search.searcher == "optuna":
        grids = [key for key, found in ranges.items() if found.kind == "grid"]
        if grids:
            raise ValueError(f"space.{grids[0]} is a grid with search.searcher optuna; expected choice; write choice")
        for settings in edges_of(ranges):
            stage_configs(sweep, settings)
        return None
    if search.searcher == "random":
        refuse_edges(ranges, functools.partial(stage_configs, sweep))
    trials = list_trials(ranges, search.searcher, search.num_trials, search.seed)
    for settings in trials:
        stage_configs(sweep, settings)
    return trials


def stage_configs(sweep: Sweep, settings: Settings) -> dict[str, Pretrain | Finetune]:
    """Stage -> its config under these settings, in order; `run` is the stage's name. ValueError names a bad value."""
    shared = {"dataset": sweep.dataset, "output": sweep.output, "storage": sweep.storage, "cluster": sweep.cluster}
    values: dict[str, dict[str, Any]] = {
        stage: {**part.model_dump(), "augment": part.augment.model_dump(exclude_unset=True), **shared}
        | {"run": stage, "workers": sweep.workers}
        for stage, part in ((stage, getattr(sweep, stage)) for stage in sweep.stages)
    }  # of augment what is said: what one of its keys implies of others is up to the trial
    base = copy.deepcopy(values)
    given: dict[str, dict[str, Any]] = {stage: {} for stage in sweep.stages}
    for key, value in settings.items():
        stage, path = (sweep.stages[0], key) if len(sweep.stages) == 1 else key.split(".", 1)
        for place in (values, given):
            set_key(place[stage], path.split("."), value)
    for stage in sweep.stages:
        turn_off(values[stage], [base[stage], given[stage]])
    if sweep.stages == ("finetune",):
        values["finetune"] |= {name: getattr(sweep, name) for name in ("init_from", "init_weights", "transfer")}
    found: dict[str, Pretrain | Finetune] = {}
    for stage, keys in values.items():
        try:
            found[stage] = VERBS[stage].model_validate(keys)
        except ValidationError as error:
            raise ValueError("in the space: " + "; ".join(explain(VERBS[stage], e) for e in error.errors())) from None
    return found


def trial_name(configs: dict[str, Pretrain | Finetune]) -> str:
    """Ten hexadecimal digits of all that decides a trial's result: the same trainings always have the same name."""
    values = [deciding(config) for config in configs.values()]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def metric_of(sweep: Sweep) -> str:
    """The metric that is compared; ValueError for one that the last stage does not report."""
    stage = sweep.stages[-1]
    part = getattr(sweep, stage)
    kind = "classify" if stage == "finetune" else "mtm" if part.objective == "dtm" else part.objective
    if sweep.metric is None:
        metric = "val_top1" if stage == "finetune" else probe_metric(part.probe.methods[0])
    else:
        metric = sweep.metric
    methods = ("linear", "knn", "rankme") if stage == "pretrain" else ()
    check_metric(metric, reported(part.loop, kind, methods), f"unknown metric {metric} of {stage}")
    method = metric.partition("probe_")[2].partition("_")[0]
    if method and (not part.probe.every_epochs or method not in part.probe.methods):
        raise ValueError(
            f"metric {metric} with pretrain.probe.every_epochs {part.probe.every_epochs} and methods "
            f"{list(part.probe.methods)}; expected a {method} probe; set pretrain.probe.every_epochs=1 and "
            f"pretrain.probe.methods=[{method}]"
        )
    return metric


def probe_metric(method: str) -> str:
    """The figure of a probe."""
    return "probe_rankme" if method == "rankme" else f"probe_{method}_top1"


def is_better_low(metric: str) -> bool:
    """Whether the least value is the best."""
    return metric.endswith("loss")
