"""What the verbs of studies share: their check, their trials on Ray or in this process, and what they leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from seit_ray.config import Study as StudyConfig
from seit_ray.progress import Progress
from seit_ray.storage import Folder
from seit_ray.storage.lock import LOCK, locked
from seit_ray.studies.study import SEED, Study, TrialSettings, read_calls
from seit_ray.studies.trials import ERROR, Outcome, Trial
from seit_ray.verbs.command.contents import contents_of
from seit_ray.verbs.command.places import Look, Rows, listed, output_rows, resources_of

SHOWN_ERRORS = 3


def study_of(verb: str, config: StudyConfig, folder: Folder, trials: Sequence[Any]) -> Study:
    """The study of a verb's trials."""
    from seit_ray.verbs.command.record import decided_by

    return Study(verb, folder, tuple(trials), decided_by(config), contents_of([config], config.storage))


def study_rows(study: Study, config: StudyConfig) -> Rows:
    """For a dry run: arms, trials, what is done, and how many run at a time. ValueError as of `run_trials`."""
    from seit_ray.distributed.resources import num_concurrent, trial_resources

    study.check()
    measured = [trial for trial in study.trials if SEED in trial.settings]
    done = len(study.finished())
    rows: Rows = [
        *(("arm", arm) for arm in study.arms()),
        ("seeds", ", ".join(map(str, config.seeds))),
        ("trials", f"{len(measured)} that measure, {len(study.trials) - len(measured)} that make what these need"),
        *([("done", f"{done} of {len(study.trials)}")] if done else []),
        *output_rows(study.folder),
    ]
    settings: TrialSettings = config.trials.settings()
    if settings.max_concurrent == 0:
        return [*rows, ("ray", "not used: one trial after another in this process")]
    cluster, workers = resources_of(config.cluster), settings.workers()
    needs = ", ".join(f"{count:g} {name}s" for name, count in trial_resources(workers, cluster).items())
    at_a_time = num_concurrent(workers, cluster, settings.max_concurrent)
    return [*rows, ("ray", cluster.words()), ("a trial", f"{needs}; {at_a_time} at a time")]


def run_trials(study: Study, config: StudyConfig, progress: Progress) -> list[Outcome]:
    """Run what is missing, where `trials` says; all outcomes, in order. ValueError when no trial that measures ends."""
    from seit_ray.verbs.command.record import begin_record

    settings: TrialSettings = config.trials.settings()
    study.check()
    study.folder.check_writable()
    with locked(study.folder, LOCK, on_note=lambda note: progress("lock", 1, 1, note)):
        study.begin()
        begin_record(study.folder, study.name, config)
        if settings.max_concurrent == 0:
            from seit_ray.studies.in_process import run_in_process

            outcomes = run_in_process(study, progress)
        else:
            from seit_ray.distributed.cluster import connected
            from seit_ray.distributed.tune.study_job import run_study

            with connected(**config.cluster.model_dump()) as cluster:
                outcomes = run_study(study, settings, cluster, progress)
    measured = [outcome for outcome in outcomes if SEED in outcome.settings]
    if not any(outcome.status == "finished" for outcome in measured):
        first = next(outcome for outcome in outcomes if outcome.status != "finished")  # what others need comes first
        raise ValueError(
            f"none of {len(measured)} trials that measure finished: {first.name}: {first.error or first.status}; "
            f"expected one at least; {study.folder.uri}/trials has all errors, and the same command tries again"
        )
    return outcomes


def check_same_images(study: Study, config: Any, *, val_fraction: float, seed: int, only_look: bool = False) -> None:
    """ValueError where sets of images are not what they were when the study listed them.

    Of what is finished nothing is read again: without this a study would go on in silence. only_look: of sets that a
    moment shows whole.
    """
    from seit_ray.studies.image_set import refuse_other_images

    done = {outcome.name for outcome in study.finished()}
    for images, listing in (found for trial in study.trials if trial.name in done for found in listings_of(trial)):
        look = Look() if only_look else None
        found = listed(images, config.source, val_fraction=val_fraction, seed=seed, is_enough=look)
        with found as manifest:
            if look is None or look.is_whole:
                refuse_other_images(listing, manifest, images.uri)


def listings_of(trial: Trial) -> Iterator[tuple[Folder, Folder]]:
    """(images, where they are listed) of a trial that lists."""
    for stage in trial.stages:
        if stage.function.endswith(":list_images_once"):
            given = stage.arguments
            if "data" in given:
                yield given["data"].images, given["run"]
            else:  # of continual learning, as runs keep theirs
                yield given["images"].images, given["run"].join("listing")


def closing_rows(study: Study, outcomes: Sequence[Outcome]) -> Rows:
    """What failed, how busy the machine was, and where everything lies."""
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    rows = [(f"failed: {outcome.name}", str(outcome.error)) for outcome in failed[:SHOWN_ERRORS]]
    if len(failed) > SHOWN_ERRORS:
        rows.append(("failed", f"{len(failed) - SHOWN_ERRORS} more; the same command tries them again"))
    if failed:
        rows.append(("tracebacks", f"{study.folder.uri_of('trials')}/<name>/{ERROR}"))
    return [
        *rows,
        *busy_rows(study.folder),
        ("table", f"{study.folder.uri_of('table.csv')}; a line a trial in trials.csv"),
        ("report", study.folder.uri_of("report.html")),
    ]


def busy_rows(folder: Folder) -> Rows:
    """Of the last call: how long, and for which share of its time nothing ran."""
    calls = read_calls(folder)
    if not calls:
        return []
    last = calls[-1]
    return [
        (
            "last call",
            f"{last.trials} trials in {last.wall_s:.0f} s, {last.slots} at a time; idle {last.idle_share:.1%}",
        )
    ]
