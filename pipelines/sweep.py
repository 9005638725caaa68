"""Search settings by short trainings on Ray Tune; the same run name continues, and best.yaml is a config to train by.

seit-ray sweep --config pipelines/configs/sweep_masking_augment.yaml dataset=runs/quickstart/tokens run=masking
"""

import functools

from pipelines.command import run_verb
from pipelines.places import Rows, dataset_rows, folder_of, output_rows
from pipelines.progress import silent
from pipelines.sweep_trials import absolute, trial_of
from seit_ray.config import Sweep
from seit_ray.config.sweep import is_better_low, metric_of, space_of, stage_configs, trials_of


def plan(config: Sweep) -> Rows:
    """The space, the trials, and what a trial is on which resources."""
    from seit_ray.distributed.cluster import connected
    from seit_ray.distributed.sweep_job import num_concurrent, trial_resources

    job = job_of(config)
    job.check()
    with connected(**config.cluster.model_dump()) as cluster:
        concurrent = num_concurrent(job.workers, cluster, config.search.max_concurrent)
        needs = trial_resources(job.workers, cluster)
        where = "local" if cluster.is_local else cluster.address
        found = f"{where}: {cluster.num_cpus:g} CPUs, {cluster.num_gpus:g} GPUs"
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
        ("ray", found),
        ("a trial", f"{each}; {concurrent} at a time"),
    ]


def num_trials(config: Sweep, job) -> int:
    """How many there will be."""
    return config.search.num_trials if job.trials is None else len(job.listed())


def stage_rows(config: Sweep, settings: dict) -> Rows:
    """What the trial with these settings does."""
    from pipelines.pretrain import loop_rows

    rows = []
    for name, stage in stage_configs(config, settings).items():
        rows += [(f"{name}: {row}", text) for row, text in loop_rows(stage)]
    return rows


def sweep(config: Sweep, progress=silent) -> Rows:
    """Run what is missing of the sweep; returns the table to print."""
    from pipelines.record import write_record
    from pipelines.sweep_report import write_results
    from seit_ray.distributed.cluster import connected
    from seit_ray.distributed.sweep_job import run_sweep

    job = job_of(config)
    job.check()
    job.folder.check_writable()
    write_record(job.folder, "sweep", config)
    with connected(**config.cluster.model_dump()) as cluster:
        outcomes = run_sweep(job, cluster, lambda done, total, note: progress("trials", done, total, note))
    return write_results(config, job, outcomes)


def job_of(config: Sweep):
    """The checked job; ValueError for whatever would end every trial."""
    from seit_ray.distributed.sweep_job import SweepJob

    config = absolute(config)
    ranges, metric = space_of(config), metric_of(config)
    trials = trials_of(config, ranges)
    check_data(config, metric)
    samples = trials or [{key: value} for key, found in ranges.items() for value in found.edges()]
    last = [stage_configs(config, settings)[config.stages[-1]] for settings in samples]
    return SweepJob(
        folder=folder_of(config.output, config.storage).join(config.run),
        build=functools.partial(trial_of, config),
        metric=metric,
        mode="min" if is_better_low(metric) else "max",
        workers=config.workers.model_dump(),
        search=config.search.model_dump(),
        ranges={key: (found.kind, found.values) for key, found in ranges.items()},
        trials=trials,
        max_epochs=max(stage.loop.epochs for stage in last),
    )


def check_data(config: Sweep, metric: str) -> None:
    """ValueError when the dataset, or the run to start from, cannot give the metric."""
    from seit_ray.shards import TokenDataset
    from seit_ray.training.checkpoints import check_same
    from seit_ray.training.exports import read_about
    from seit_ray.training.inputs import check_classes, identity_of
    from seit_ray.training.runs import SOURCES

    dataset = TokenDataset(folder_of(config.dataset, config.storage))
    dataset.split("train")
    if not metric.startswith("train_"):
        dataset.split("val")
    if "finetune" in config.stages or "probe" in metric:
        check_classes(dataset.info.class_names, dataset.folder.uri)
    if config.init_from:
        about = read_about(folder_of(config.init_from, config.storage), *SOURCES)
        if not config.transfer:
            check_same(about, identity_of(dataset), config.init_from)


if __name__ == "__main__":
    run_verb("sweep")
