"""Run a verb as a job of a Ray cluster, with the code of this installation.

seit-ray submit pretrain dataset=s3://bucket/tokens output=s3://bucket/runs run=mtm --wait --retries 3
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
import shutil
import sys
import tempfile
import typing
from pathlib import Path

import seit_ray
from seit_ray import config as configs
from seit_ray.config.loading import config_file, flow, read_yaml
from seit_ray.verbs.command.arguments import VERBS, Parser, add_config, joined
from seit_ray.verbs.command.errors import telling
from seit_ray.verbs.command.job_environment import EXTRAS, environment_of, extras_of, refuse_extras

PACKAGE = Path(seit_ray.__file__).resolve().parent


def main(arguments: list[str]) -> None:
    """`seit-ray submit <verb> ...`; ends with the job's exit status when it waits."""
    parsed = parse(arguments)
    with telling("submit", debug=parsed.debug, interrupted="the job goes on (ray job list, ray job stop ID)"):
        sys.exit(submit(parsed))


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="seit-ray submit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help=", ".join(VERBS))
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="keys of the verb (seit-ray VERB --help)")
    add_config(parser)
    parser.add_argument("--dry-run", action="store_true", help="let the cluster check everything and print the plan")
    parser.add_argument("--wait", action="store_true", help="show what the job prints; end with its exit status")
    parser.add_argument("--retries", type=int, default=0, metavar="N", help="submit a failed job again; waits")
    parser.add_argument("--run-name", metavar="NAME", help="of the submission ids VERB-NAME-ATTEMPT, and the key run")
    parser.add_argument("--address", help="http://HEAD:8265; default RAY_API_SERVER_ADDRESS, or this machine")
    parser.add_argument("--debug", action="store_true", help="show tracebacks, here and in the job")
    add_environment(parser)
    return parser.parse_intermixed_args(joined(arguments))


def add_environment(parser: argparse.ArgumentParser) -> None:
    """The options of what the job runs in."""
    parser.add_argument("--runtime-env", metavar="FILE", help="default cluster/runtime_env.yaml of the package")
    parser.add_argument("--installed", action="store_true", help="the nodes have all packages: send code, install none")
    parser.add_argument(
        "--extra", action="append", default=[], choices=EXTRAS, help="extra to install, for what a table names"
    )
    parser.add_argument("--env", action="append", default=[], metavar="NAME", help="variable of this shell for the job")
    parser.add_argument("--num-cpus", type=float, default=0, metavar="N", help="of the job's own process; 0: the head")


def submit(options: argparse.Namespace) -> int:
    """Check everything that can be checked here, submit, and wait if asked; the exit status."""
    words = [*options.overrides]
    if options.run_name and takes_run_name(VERBS[options.verb]):
        words.append(f"run={flow(options.run_name)}")  # a text, whatever YAML would make of it
    files = options.config or []
    config = configs.load(VERBS[options.verb], files, words)
    refuse_secrets(VERBS[options.verb], files, words)
    refuse_lost_outputs(config)
    from seit_ray.distributed.jobs import explained, job_server
    from seit_ray.distributed.jobs import submit as start

    refuse_extras(options.extra, file=options.runtime_env, installed=options.installed)
    environment = environment_of(
        options.runtime_env,
        installed=options.installed,
        names=options.env,
        extras=[*options.extra, *extras_of(config)],
    )
    with staged(files) as (folder, sent):
        words = [*(word for name in sent for word in ("--config", name)), *words]
        entrypoint = entrypoint_of(
            options.verb, [*words, *(["--dry-run"] if options.dry_run else []), *(["--debug"] if options.debug else [])]
        )
        name = f"{options.verb}-{run_name(config, options.run_name)}"
        environment["working_dir"] = str(folder)
        client = job_server(options.address)
        with explained(client.get_address()):
            if options.wait or options.retries:
                return wait(client, name, entrypoint, environment, options.num_cpus, options.retries)
            job = start(client, name, entrypoint, environment, options.num_cpus)
    from seit_ray.report.terminal import table

    print(table([("follow", f"ray job logs --follow {job}"), ("stop", f"ray job stop {job}")], f"submitted {job}"))
    return 0


def wait(
    client: typing.Any, name: str, entrypoint: str, environment: dict[str, typing.Any], num_cpus: float, retries: int
) -> int:
    """Run a job to its end and show what it prints; the exit status."""
    from seit_ray.distributed.jobs import STOPPED, USER_MISTAKE, run_job

    outcome = run_job(
        client,
        name,
        entrypoint,
        environment,
        num_cpus=num_cpus,
        retries=retries,
        on_start=lambda job: print(f"{job} submitted", file=sys.stderr),
        on_text=lambda text: print(text, end="", flush=True),
    )
    if outcome.status:
        how = "was stopped" if outcome.status == STOPPED else f"failed with exit status {outcome.status}"
        note = f": {outcome.message}" if outcome.message else ""
        mend = "mend what its last line says" if outcome.status == USER_MISTAKE else "the same command continues"
        print(f"error: job {outcome.job} {how}{note}; {mend}", file=sys.stderr)
    return outcome.status


def entrypoint_of(verb: str, words: list[str]) -> str:
    """The shell command of a job; its working directory is what was sent."""
    return shlex.join(["python", "-m", "seit_ray", verb, *words])


def takes_run_name(verb: type[configs.Verb]) -> bool:
    """Whether the verb's key `run` is a name, below its output, and not a folder."""
    fields = verb.model_fields
    return "run" in fields and "output" in fields and fields["output"].annotation is str


def run_name(config: configs.Verb, given: str | None) -> str:
    """What tells the jobs of one run from others: the given name, else the last part of run, output or dataset.

    A verb that has none of them, as plan, is 'run'.
    """
    names = (getattr(config, key, None) for key in ("run", "output", "dataset"))
    last = (given or next((name for name in names if name), "run")).rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.-]", "_", last, flags=re.ASCII) or "run"


def refuse_secrets(verb: type[configs.Verb], files: list[str], words: list[str]) -> None:
    """ValueError for a secret of a job: the dashboard shows its command line, and its files lie on all nodes."""
    given = [(word.partition("=")[0], "would show on the dashboard") for word in words]
    for file in files:
        found = keys_of(read_yaml(str(config_file(file))))
        given += [(key, f"of {file} would lie on every node as it is") for key in found]
    for key, where in given:
        if configs.holds_secret(verb, key):
            raise ValueError(
                f"key {key} {where}; expected secrets in the role of the machines or in variables; set "
                "AWS_ACCESS_KEY_ID and so on here and add --env AWS_ACCESS_KEY_ID and so on"
            )


def keys_of(values: dict[str, typing.Any], section: str = "") -> typing.Iterator[str]:
    """The dotted keys that a YAML mapping sets."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from keys_of(value, f"{section}{name}.")
        elif value is not None:
            yield f"{section}{name}"


def refuse_lost_outputs(config: configs.Verb) -> None:
    """ValueError for an output inside the job's working directory, which ends with the job."""
    places = {
        key: getattr(config, key, None)
        for key in ("output", "contact_sheet", *(() if takes_run_name(type(config)) else ("run",)))
    }
    places["source.listing"] = getattr(getattr(config, "source", None), "listing", None)
    for key, place in places.items():
        if place and "://" not in place and not place.startswith("/"):
            raise ValueError(
                f"key {key} is {place!r}, a path in the working directory of the job, which is removed; expected "
                "s3://BUCKET/PATH, or an absolute path that all nodes share"
            )


@contextlib.contextmanager
def staged(files: list[str]) -> typing.Iterator[tuple[Path, list[str]]]:
    """(the working directory of a job, the names of the config files in it), until the job has been sent.

    It holds what an installed wheel holds, the constraints of the runtime environment, and the config files.
    """
    with tempfile.TemporaryDirectory(prefix="seit_ray-") as name:
        folder = Path(name)
        shutil.copytree(PACKAGE, folder / "seit_ray", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "cluster").mkdir()
        shutil.copy(PACKAGE / "cluster" / "constraints.txt", folder / "cluster")
        sent = []
        for number, file in enumerate(files):
            path = config_file(file)
            sent.append(f"config-{number}-{path.name}")
            shutil.copy(path, folder / sent[-1])
        yield folder, sent
