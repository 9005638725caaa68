"""Search settings by short trainings on Ray Tune; the same run name continues, and best.yaml is a config to train by.

seit-ray sweep --config sweep_masking_augment dataset=runs/all/tokens run=masking
"""

import functools
import shlex
from typing import Any

import yaml

from seit_ray.config import Finetune, Model, Pretrain, Sweep, deciding
from seit_ray.config.loading import flow
from seit_ray.config.space import Settings, edges_of
from seit_ray.config.sweep import is_better_low, metric_of, space_of, stage_configs, trials_of
from seit_ray.progress import Progress, silent
from seit_ray.storage.output import claim
from seit_ray.studies.contents import note_contents
from seit_ray.studies.sweep import SweepJob
from seit_ray.studies.trials import Outcome
from seit_ray.verbs.command.contents import contents_of
from seit_ray.verbs.command.places import Rows, dataset_rows, folder_of, output_rows, resources_of
from seit_ray.verbs.command.training import loop_rows
from seit_ray.verbs.command.unread import without_unread
from seit_ray.verbs.sweep_trials import absolute, check_trial, configs_of, trial_of

SHOWN_TRIALS = 20  # on the terminal; trials.csv and report.html have all


def check(config: Sweep) -> Rows:
    """The space, the trials, and what a trial is on which resources."""
    from seit_ray.distributed.resources import num_concurrent, trial_resources

    job = job_of(config)
    cluster = resources_of(config.cluster)
    concurrent = num_concurrent(job.workers, cluster, config.search.max_concurrent)
    needs = trial_resources(job.workers, cluster)
    known = [outcome.status for outcome in job.known()]
    states = ", ".join(f"{known.count(status)} {status}" for status in sorted(set(known)))
    each = ", ".join(f"{count:g} {name}s" for name, count in needs.items())
    return [
        *dataset_rows(folder_of(config.dataset, config.storage)),
        *((f"space: {key}", str(found)) for key, found in space_of(config).items()),
        ("searcher", f"{config.search.searcher}, scheduler {config.search.scheduler}"),
        ("trials", f"{num_trials(config, job)}" + (f" ({states} in an earlier call)" if known else "")),
        *stage_rows(config, (job.trials or [{}])[0]),
        ("metric", f"{job.metric}, {'lowest' if job.mode == 'min' else 'highest'} is best"),
        *output_rows(job.folder),
        ("ray", cluster.words()),
        ("a trial", f"{each}; {concurrent} at a time"),
    ]


def num_trials(config: Sweep, job: SweepJob) -> int:
    """How many there will be."""
    return config.search.num_trials if job.trials is None else len(job.listed())


def stage_rows(config: Sweep, settings: Settings) -> Rows:
    """What the trial with these settings does."""
    rows, dataset = [], folder_of(config.dataset, config.storage)
    for name, stage in stage_configs(config, settings).items():
        rows += [(f"{name}: {row}", text) for row, text in loop_rows(stage, dataset)]
    return rows


def sweep(config: Sweep, progress: Progress = silent) -> Rows:
    """Run what is missing of the sweep; returns the table to print."""
    job = job_of(config)
    job.folder.check_writable()
    from seit_ray.distributed.cluster import connected
    from seit_ray.distributed.tune.sweep_job import run_sweep
    from seit_ray.verbs.command.record import begin_record

    begin_record(job.folder, "sweep", config)
    note_contents(job.folder, job.contents)
    with connected(**config.cluster.model_dump()) as cluster:
        outcomes = run_sweep(job, cluster, progress)
    return write_results(config, job, outcomes)


def job_of(config: Sweep) -> SweepJob:
    """The checked job; ValueError for whatever would end a trial, as the verb of its stage says it."""
    config = absolute(config)
    ranges, metric = space_of(config), metric_of(config)
    trials = trials_of(config, ranges)
    samples = trials or edges_of(ranges)
    check_data(config, metric, samples)
    each = [stage_configs(config, settings) for settings in samples]
    job = SweepJob(
        folder=folder_of(config.output, config.storage).join(config.run),
        build=functools.partial(trial_of, config),
        metric=metric,
        mode="min" if is_better_low(metric) else "max",
        workers=config.workers.settings(),
        search=config.search.settings(),
        ranges={key: (found.kind, found.values) for key, found in ranges.items()},
        trials=trials,
        max_epochs=max(stages[config.stages[-1]].loop.epochs for stages in each),
        contents=contents_of((stage for stages in each for stage in stages.values()), config.storage),
    )
    claim(job.folder, ("sweep.run.json",))
    job.check()
    return job


def write_results(config: Sweep, job: SweepJob, outcomes: list[Outcome]) -> Rows:
    """Write table, page and best configs, best trial first; the rows for the terminal.

    ValueError when every trial failed.
    """
    from seit_ray.config.sweep import full_key
    from seit_ray.studies.sweep_report import line, ranked, sweep_page, trials_csv
    from seit_ray.training.metrics import read_metrics
    from seit_ray.verbs.command.record import record_of

    outcomes = ranked(outcomes, job.mode)
    finished = [outcome for outcome in outcomes if outcome.status == "finished"]

    def command(outcome: Outcome) -> str:
        return command_of(config, job, finished[0], outcome) if finished else ""  # which is by the best one's config

    job.folder.write("trials.csv", trials_csv(outcomes, job.metric, command).encode())
    if not finished:
        raise ValueError(
            f"none of {len(outcomes)} trials finished: {outcomes[0].error if outcomes else 'there was none'}; expected "
            f"one at least; {job.folder.uri_of('trials.csv')} has all errors, and the same command tries again"
        )
    files = write_best(config, job, finished[0])
    page = sweep_page(
        f"Sweep {config.run}",
        outcomes,
        metric=job.metric,
        mode=job.mode,
        stages=config.stages,
        heat_keys=[full_key(config, key) for key in config.heat_map or ()] or list(finished[0].settings)[:2],
        records_of=lambda outcome: read_metrics(job.build(outcome.settings).stages[-1].run),
        details=record_of("sweep", config),
    )
    job.folder.write("report.html", page.html().encode())
    shown = outcomes[:SHOWN_TRIALS] + [o for o in outcomes[SHOWN_TRIALS:] if o.status == "failed"]
    rows = [(f"{i + 1}. {outcome.name}", line(outcome)) for i, outcome in enumerate(shown)]
    more = len(outcomes) - len(shown)
    return [
        *rows,
        *([("...", f"{more} more")] if more else []),
        ("metric", f"{job.metric}, {'lowest' if job.mode == 'min' else 'highest'} is best"),
        *((f"best, for {verb}", job.folder.uri_of(name)) for verb, name in files.items()),
        ("best again", command(finished[0])),
        ("table", f"{job.folder.uri_of('trials.csv')} (with the command of each trial)"),
        ("report", job.folder.uri_of("report.html")),
    ]


def command_of(config: Sweep, job: SweepJob, best: Outcome, outcome: Outcome) -> str:
    """The command of each stage that trains a trial again, by the best one's configs and what this trial differs in."""
    words = stage_words(config, best.settings, outcome.settings)
    if len(config.stages) == 1:
        return stage_command(config.stages[0], job, "best.yaml", words[config.stages[0]], f"run={outcome.name}")
    first, last = config.stages
    begun = f"{outcome.name}-{first}"
    start = folder_of(absolute(config).output, config.storage).join(begun).uri
    before = stage_command(first, job, f"best_{first}.yaml", words[first], f"run={begun}")
    after = stage_command(last, job, "best.yaml", words[last], f"init_from={start}", f"run={outcome.name}")
    return f"{before} && {after}"


def stage_words(config: Sweep, best: Settings, settings: Settings) -> dict[str, dict[str, Any]]:
    """Stage -> what a trial with these settings says over the best one's config: the searched keys, and what differs.

    A searched key that the trial does not read is said where the best one's config says something else.
    """
    config, found = absolute(config), dict[str, dict[str, Any]]()
    trained, theirs = stage_configs(config, settings), as_read(stage_configs(config, best))
    for name, stage in as_read(trained).items():
        mine, before, given = deciding(stage), deciding(theirs[name]), deciding(trained[name])
        searched = [key if len(trained) == 1 else key.removeprefix(f"{name}.") for key in settings]
        said = [key for key in searched if key in mine and mine[key] == given[key]]
        found[name] = {key: mine[key] for key in [*said, *(k for k in mine if k not in said and mine[k] != before[k])]}
    return found


def as_read(configs: dict[str, Pretrain | Finetune]) -> dict[str, Pretrain | Finetune]:
    """Configs with the default of what nothing reads: the same trainings, and their verbs refuse nothing."""
    return {
        name: stage.model_copy(update={"augment": without_unread(stage.augment), "model": model_as_read(stage.model)})
        for name, stage in configs.items()
    }


def model_as_read(model: Model) -> Model:
    """The model, with the default width of stem_layers where it has none of them."""
    if getattr(model, "stem_layers", 1):
        return model
    return model.model_copy(update={"stem_width": type(model).model_fields["stem_width"].get_default()})


def stage_command(stage: str, job: SweepJob, name: str, settings: Settings, *places: str) -> str:
    """The command of one training, by a config in the sweep's folder and what is different."""
    words = [f"{key}={flow(value)}" for key, value in settings.items()]
    return shlex.join(["seit-ray", stage, "--config", job.folder.uri_of(name), *words, *places])


def write_best(config: Sweep, job: SweepJob, best: Outcome) -> dict[str, str]:
    """Verb -> file of the config that gives the best trial's run; with two stages best.yaml is that of the last."""
    configs = as_read(configs_of(absolute(config), best.settings))
    files = {}
    for i, (verb, stage) in enumerate(configs.items()):
        name = "best.yaml" if i == len(configs) - 1 else f"best_{verb}.yaml"
        values = stage.model_dump(mode="json", exclude={"storage", "cluster"})
        values |= {"output": absolute(config).output, "run": f"{config.run}-best-{verb}"}
        # of the storage, what is set; secrets are left to the environment
        secrets = {"access_key_id", "secret_access_key", "session_token"}
        if storage := config.storage.model_dump(mode="json", exclude=secrets, exclude_defaults=True):
            values["storage"] = storage
        settings = ", ".join(f"{key}={value}" for key, value in best.settings.items())
        text = (
            f"# The best trial of sweep {config.run}: {best.name}, {job.metric} {best.value:.4f} "
            f"at epoch {best.epoch:g}.\n"
            f"# {settings}\n# Command: seit-ray {verb} --config {job.folder.uri_of(name)}\n"
        )
        job.folder.write(name, (text + yaml.safe_dump(values, sort_keys=False)).encode())
        files[verb] = name
    return files


def check_data(config: Sweep, metric: str, samples: list[Settings]) -> None:
    """ValueError when the dataset cannot give the metric, and for what the training of a trial would refuse."""
    from seit_ray.models.about import reading_once
    from seit_ray.shards import TokenDataset
    from seit_ray.shards.dataset import check_classes

    dataset = TokenDataset(folder_of(config.dataset, config.storage))
    with reading_once():
        for settings in samples:
            check_trial(config, settings, dataset)
    if not metric.startswith("train_"):
        dataset.split("val")
    if metric in ("probe_linear_top1", "probe_knn_top1"):
        check_classes(dataset.info.class_names, dataset.folder.uri)
