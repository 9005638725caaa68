"""Images in, accuracy out: tokenise, pre-train, fine-tune and evaluate with one config, skipping what is done.

seit-ray run_all --config my.yaml images=s3://bucket/photos output=s3://bucket/all submit=true
"""

from __future__ import annotations

import sys

from seit_ray import config as configs
from seit_ray.config import RunAll, Verb
from seit_ray.config.loading import flow
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.verbs.command.places import Rows, cluster_rows, folder_of, output_rows
from seit_ray.verbs.command.record import refuse_other_settings
from seit_ray.verbs.command.study_checks import check_parts
from seit_ray.verbs.evaluate import top_rows
from seit_ray.verbs.quickstart import PHASES, check_enough, claim_all, look, parts, sized


def phases(config: RunAll) -> dict[str, Verb]:
    """The config of every phase, in order; the quickstart's, with the evaluation on the workers too."""
    found = {name: part for name, part in parts(config).items() if isinstance(part, Verb)}
    workers = configs.WorkersHere(**dict(config.workers))  # its own section: what is no default there is told
    found["evaluate"] = found["evaluate"].model_copy(update={"workers": workers})
    return found


def check(config: RunAll) -> Rows:
    """What would be run, and what is done."""
    output = folder_of(config.output, config.storage)
    claim_all(config, output)
    rows, num_train = look(config)
    config = sized(config)
    check_parts(parts(config))
    check_enough(config, num_train)
    each = phases(config)
    todo = missing(output, each)
    state = [(name, "to do" if name in todo else "done") for name in each]
    if config.submit:
        return [*rows, *output_rows(output), ("jobs", "each phase is one"), *state]
    return [*rows, *output_rows(output), *cluster_rows(config.cluster, config.workers), *state]


def run_all(config: RunAll, progress: Progress = silent) -> Rows:
    """Do every phase that is not done; returns the table to print."""
    output = folder_of(config.output, config.storage)
    claim_all(config, output)
    _, num_train = look(config)
    output.check_writable()
    config = sized(config)
    check_parts(parts(config))
    check_enough(config, num_train)
    each = phases(config)
    todo = missing(output, each)
    if config.submit:
        submit_phases(config, todo, output)
    else:
        run_phases(config, todo, progress)
    return closing_rows(output, each, todo)


def missing(output: Folder, each: dict[str, Verb]) -> dict[str, Verb]:
    """The phases that are not done; ValueError where one was begun with other settings."""
    for name, part in each.items():
        refuse_other_settings(output.join(PHASES[name].partition("/")[0]), name, part)
    return {name: part for name, part in each.items() if not output.exists(PHASES[name])}


def run_phases(config: RunAll, todo: dict[str, Verb], progress: Progress) -> None:
    """In this process, on one ray."""
    import contextlib
    import importlib

    from seit_ray.distributed.cluster import connected

    with contextlib.ExitStack() as stack:
        for name, part in todo.items():
            if name == "tokenize_images" or (name != "fit_tokenizer" and config.workers.num_workers):
                stack.enter_context(connected(**config.cluster.model_dump()))  # the first starts it, others join
            getattr(importlib.import_module(f"seit_ray.verbs.{name}"), name)(part, progress)


def submit_phases(config: RunAll, todo: dict[str, Verb], output: Folder) -> None:
    """One job after another; ends with the exit status of the first that does not succeed."""
    from seit_ray.distributed.jobs import explained, job_server
    from seit_ray.verbs.command.job_environment import environment_of, extras_of
    from seit_ray.verbs.submit import entrypoint_of, refuse_lost_outputs, run_name, staged, wait

    refuse_lost_outputs(config)
    entrypoints = {name: entrypoint_of(name, words_of(part)) for name, part in todo.items()}
    environment = environment_of(None, installed=config.installed, names=config.env, extras=extras_of(config))
    client = job_server(config.cluster.address)
    for name, entrypoint in entrypoints.items():
        with explained(client.get_address()), staged([]) as (folder, _):
            job, sent = f"{name}-{run_name(config, None)}", {**environment, "working_dir": str(folder)}
            status = wait(client, job, entrypoint, sent, 0, config.retries)
        if status:
            sys.exit(status)
        if not output.exists(PHASES[name]):
            raise ValueError(
                f"{output.uri_of(PHASES[name])} is not there though the job of {name} succeeded; expected an output "
                "that this machine and the cluster both see; use s3://"
            )


def words_of(part: Verb) -> list[str]:
    """key=value words from which `config.load` makes the same config; the cluster is that of the job."""
    if any(value is not None for key, value in part.storage if configs.holds_secret(type(part), f"storage.{key}")):
        raise ValueError(
            "storage.* holds a secret, which would show on the dashboard; expected secrets in the role of the "
            "machines or in variables; set AWS_ACCESS_KEY_ID and so on here and name them in env=[...]"
        )
    values = part.model_dump(mode="json", exclude_defaults=True, exclude={"cluster"})
    return [f"{key}={flow(value)}" for key, value in values.items()]


def closing_rows(output: Folder, each: dict[str, Verb], todo: dict[str, Verb]) -> Rows:
    """What stands now."""
    import json

    figures = json.loads(output.read(PHASES["evaluate"]))
    return [
        *((name, "done" if name in todo else "was done") for name in each),
        *top_rows(figures),
        ("run", output.uri_of("finetune")),
    ]
