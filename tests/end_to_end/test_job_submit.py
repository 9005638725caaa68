"""Jobs on a cluster with token authentication: as Ray submits them, and as `seit-ray submit` does."""

import json
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from seit_ray.shards import TokenDataset
from seit_ray.storage import Folder
from seit_ray.training.checkpoints import checkpoint_names
from seit_ray.verbs.command.arguments import VERBS
from seit_ray.verbs.run_all import PHASES
from seit_ray.verbs.submit import staged
from tests.end_to_end.processes import ROOT, end
from tests.end_to_end.ray_head import BIN, RAY, command, jobs, running_head, submit
from tests.tiny_dataset import write_dataset
from tests.tiny_images import image_bytes, image_files, write_files, write_tokenizer
from tests.warm import processes as warm

NUM_IMAGES, ROWS = 1000, 4
SETTINGS = [f"tokenize.rows_per_shard={ROWS}", "tokenize.num_actors=1", "tokenize.val_fraction=0.2"]
INSTALLED = Path(yaml.__file__).parents[1]  # where the packages are


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A shell that knows a fresh head with two CPUs."""
    with running_head(tmp_path_factory.mktemp("home"), "--num-cpus=2") as environment:
        yield environment


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The keys that name images and their tokenizer."""
    place = tmp_path_factory.mktemp("given")
    pictures = [image_bytes(("cat", "dog")[i % 2], i, side=400, format="JPEG") for i in range(50)]
    names = [f"{('cat', 'dog')[i % 2]}/{i:05d}.jpg" for i in range(NUM_IMAGES)]
    write_files(place / "images", {name: pictures[i % 50] for i, name in enumerate(names)})
    write_tokenizer(place / "tokenizer")
    return [f"images={place}/images", f"tokenizer={place}/tokenizer", *SETTINGS]


def driver_of(*words):
    """The process of a job's verb, not the shell around it, that was given all these words; None before it starts."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        pid, name = line.split(maxsplit=1)
        is_driver = re.match(r"\S*python\S*( -IS \S+/python)? -m seit_ray (?!submit|run_all)", name)
        if is_driver and all(word in name for word in words):
            return int(pid)
    return None


def wait_for(condition, process, timeout_s=150):
    """Until the condition holds, while a process runs; its value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        assert time.monotonic() < deadline, f"the moment did not come in {timeout_s} s"
        time.sleep(0.02)
    return value


def wait_for_free_cpus(head, timeout_s=60):
    """Until Ray says that nothing has either of the head's CPUs; what it says is up to 5 s old."""
    deadline = time.monotonic() + timeout_s
    while True:
        status = warm.run([*RAY, "status", "--address", head["GCS"]], env=head, timeout=60)
        if " 0.0/2.0 CPU" in status.stdout:
            return
        assert time.monotonic() < deadline, status
        time.sleep(0.5)


def waiting(head, verb, *arguments):
    """`seit-ray submit ... --wait` that has begun."""
    return warm.Popen(
        command(verb, *arguments, "--wait"),
        cwd=ROOT,
        env=head,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def unpacked(package, folder, **options):
    """The folder of a job, to which Ray has sent another."""
    from ray._private.runtime_env.packaging import create_package

    create_package(str(package), folder / "sent.zip", include_gitignore=True, **options)
    with zipfile.ZipFile(folder / "sent.zip") as archive:
        archive.extractall(folder / "job")
    return folder / "job"


def files_of(folder):
    """name -> bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_sent_holds_all_that_every_verb_needs(tmp_path):
    """By `seit-ray submit`, and by `ray job submit --working-dir .` in a checkout, where the scripts are too."""
    with staged([]) as (package, _):
        folder = unpacked(package, tmp_path)
    (tmp_path / "ray").mkdir()
    excludes = yaml.safe_load((ROOT / "cluster" / "runtime_env.yaml").read_text())["excludes"]
    checkout = unpacked(ROOT, tmp_path / "ray", excludes=excludes)
    assert files_of(folder / "seit_ray") == files_of(checkout / "seit_ray")
    assert (folder / "cluster/constraints.txt").read_bytes() == (checkout / "cluster/constraints.txt").read_bytes()

    script = """
import importlib, pkgutil, sys
import seit_ray
names = [m.name for m in pkgutil.walk_packages(seit_ray.__path__, "seit_ray.") if m.name != "seit_ray.__main__"]
for name in names:
    importlib.import_module(name)
from seit_ray.config.loading import config_file
from seit_ray.verbs.command.arguments import VERBS
mine = [m.__file__ for n, m in sys.modules.items() if n.partition(".")[0] == "seit_ray"]
print(len(names), *{file for file in mine if not file.startswith(sys.argv[1])})
print(*[verb for verb in VERBS if hasattr(importlib.import_module(f"seit_ray.verbs.{verb}"), verb)])
print(seit_ray.verbs.quickstart.SAMPLE.exists(), config_file("quickstart").exists())
"""

    def python(place, *arguments):
        # as on a node: packages are installed, the project is not (-S leaves out links of an editable installation)
        done = subprocess.run(
            [sys.executable, "-S", "-W", "ignore", *arguments],
            cwd=place,
            env={**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{INSTALLED}"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    modules, verbs, files = python(folder, "-c", script, str(folder)).splitlines()
    assert int(modules) > 60  # and all of them from there
    assert verbs.split() == [*VERBS]
    assert files == "True True"
    assert python(folder, "-m", "seit_ray", "evaluate", "--help").startswith("usage: seit-ray evaluate")
    assert python(checkout, "pipelines/evaluate.py", "--help").startswith("usage: seit-ray evaluate")


@pytest.mark.slow
def test_rays_own_submission_runs_a_verb(head, tmp_path):
    dataset = write_dataset(tmp_path / "tokens", sizes={"train": 40, "val": 10}).uri
    submission = [BIN / "ray", "job", "submit", "--working-dir", ".", "--runtime-env-json"]
    submission += ['{"excludes": [".git", ".venv", "runs", "pipelines/sample", "tests"]}', "--", "python"]
    for _ in range(30):
        done = subprocess.run(
            [*submission, "pipelines/inspect_tokens.py", f"dataset={dataset}"],
            cwd=ROOT,
            env=head,
            capture_output=True,
            text=True,
            timeout=400,
        )
        if "No available agent" not in done.stdout + done.stderr:  # the head answers before its agent is up
            break
        time.sleep(2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"verified +checksums, counts and code range", done.stdout)


@pytest.mark.slow
def test_waiting_ends_with_the_status_of_the_job_and_a_mistake_is_not_tried_again(head, given, tmp_path):
    dataset = write_dataset(tmp_path / "tokens", sizes={"train": 40, "val": 10}).uri
    done = submit(head, "inspect_tokens", f"dataset={dataset}", "--wait")
    assert done.returncode == 0, done.stderr
    assert re.search(r"verified +checksums, counts and code range", done.stdout)
    assert done.stderr == "inspect_tokens-tokens-1 submitted\n"

    arguments = (f"dataset={tmp_path}/nowhere", "--retries", "2", "--run-name", "my run")
    wrong = submit(head, "inspect_tokens", *arguments)
    assert wrong.returncode == 2
    assert "nowhere does not exist" in wrong.stdout
    assert "Traceback" not in wrong.stdout
    assert wrong.stderr.splitlines()[1:] == [
        "error: job inspect_tokens-my_run-1 failed with exit status 2; mend what its last line says"
    ]
    again = submit(head, "inspect_tokens", *arguments, "--dry-run")
    assert again.stderr.startswith("inspect_tokens-my_run-2 submitted\n")  # a submission id is used once


@pytest.mark.slow
def test_a_killed_job_is_submitted_again_and_continues(head, given, tmp_path):
    output = f"output={tmp_path}/tokens"
    records = tmp_path / "tokens" / "_work" / "records"
    process = waiting(head, "tokenize_images", *given, output, "--retries", "1")
    driver = wait_for(lambda: driver_of("tokenize_images", output), process)
    wait_for(lambda: len([*records.rglob("*.json")]) >= 20, process)
    end(driver)
    made = len([*records.rglob("*.json")])
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, out + error
    ids = [line.removesuffix(" submitted") for line in error.splitlines()]
    assert ids == ["tokenize_images-tokens-1", "tokenize_images-tokens-2"]
    assert {name: status for name, status in jobs(head).items() if name in ids} == {
        "tokenize_images-tokens-1": "FAILED",
        "tokenize_images-tokens-2": "SUCCEEDED",
    }
    info = TokenDataset(Folder(tmp_path / "tokens")).info
    total = sum(-(-split.listed // ROWS) for split in info.splits.values())
    first, todo = (int(number) for number in re.findall(rf"(\d+) of {total} parts to do", out))
    assert first == total
    assert 0 < todo <= total - made
    assert sum(split.rows for split in info.splits.values()) == NUM_IMAGES


@pytest.mark.slow
def test_a_stopped_job_ends_cleanly_and_the_same_command_continues(head, tmp_path):
    dataset = write_dataset(tmp_path / "tokens", sizes={"train": 400, "val": 50}).uri
    output, steps = f"output={tmp_path}/runs", 40 * 10
    keys = [f"dataset={dataset}", output, "workers.num_workers=1", "model.size=nano", "loop.epochs=40"]
    keys += ["loop.global_batch_size=40", "loop.log_every_steps=1", "loop.eval_every_epochs=40", "loop.seed=3"]
    keys += ["loop.checkpoint_every_epochs=4", "optimizer.warmup_epochs=2"]
    run = Folder(tmp_path / "runs" / "mtm")
    process = waiting(head, "pretrain", *keys, "--run-name", "mtm", "--retries", "2")
    wait_for(lambda: checkpoint_names(run), process)
    second = submit(head, "pretrain", *keys, "run=mtm")
    assert second.returncode == 2
    assert "job pretrain-mtm-1 is running; expected one job of a run at a time" in second.stderr

    stopped = warm.run([*RAY, "job", "stop", "pretrain-mtm-1"], env=head)
    assert stopped.returncode == 0, stopped.stderr
    out, error = process.communicate(timeout=60)
    assert process.returncode == 143, out + error
    assert error.splitlines()[-1] == "error: job pretrain-mtm-1 was stopped; the same command continues"
    assert "Traceback" not in out
    assert driver_of(output) is None
    log = Path(head["RAY_LOGS"], "jobs", "supervisor-pretrain-mtm-1.log").read_text()
    assert "has been terminated gracefully with SIGTERM" in log  # no SIGKILL was needed
    wait_for_free_cpus(head)  # its workers are gone too
    newest = int(checkpoint_names(run)[-1].removeprefix("step-"))
    assert 0 < newest < steps

    rerun = submit(head, "pretrain", *keys, "run=mtm", "--wait")
    assert rerun.returncode == 0, rerun.stdout + rerun.stderr
    assert rerun.stderr == "pretrain-mtm-2 submitted\n"
    assert int(re.search(rf"(\d+)/{steps} ", rerun.stdout)[1]) >= newest  # it did not begin again
    records = [json.loads(line) for line in run.read("metrics.jsonl").decode().splitlines()]
    assert [record["step"] for record in records] == list(range(1, steps + 1))


@pytest.mark.slow
def test_run_all_submits_a_job_a_phase(head, tmp_path):
    write_files(tmp_path / "images", image_files(60))
    keys = [f"images={tmp_path}/images", f"output={tmp_path}/all", "submit=true", "installed=true"]
    keys += ["centroid.image_size=16", "centroid.patch_size=4", "centroid.codebook_size=16", "tokenize.num_actors=1"]
    keys += ["tokenize.val_fraction=0.3", "workers.num_workers=0"]
    for part in ("pretrain", "finetune"):
        keys += [f"{part}.model.size=nano", f"{part}.loop.epochs=1", f"{part}.loop.global_batch_size=20"]
        keys += [f"{part}.optimizer.warmup_epochs=0"]
    done = warm.run([sys.executable, "-m", "seit_ray", "run_all", *keys], cwd=ROOT, env=head, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    ids = [f"{phase}-all-1" for phase in PHASES]
    assert re.findall(r"^(\S+) submitted$", done.stderr, re.MULTILINE) == ids
    assert [jobs(head)[name] for name in ids] == ["SUCCEEDED"] * len(ids)
    figures = json.loads((tmp_path / "all" / "finetune" / "evaluate-val.json").read_text())
    top1 = f"{figures['top1']:.2%} +- {figures['standard_error']:.2%}"
    assert f"top-1 / top-5    {top1} / {figures['top5']:.2%}" in done.stdout


@pytest.mark.slow
def test_submission_without_the_token_is_refused(head):
    stranger = {k: v for k, v in head.items() if k not in ("RAY_AUTH_TOKEN_PATH",)} | {"HOME": "/nonexistent"}
    done = submit(stranger, "inspect_tokens", "dataset=/tokens")
    assert done.returncode == 2
    assert re.fullmatch(r"error: job server [^\n]*RAY_AUTH_TOKEN\n", done.stderr)
