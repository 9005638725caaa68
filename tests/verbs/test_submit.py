"""seit-ray submit: what it refuses before it asks a cluster, and what it asks."""

import os
import subprocess
import sys
import sysconfig

import pytest

from seit_ray.config import load
from seit_ray.verbs import submit as module
from seit_ray.verbs.command.arguments import VERBS
from seit_ray.verbs.command.main import main
from seit_ray.verbs.submit import run_name, staged, takes_run_name

REQUIRED = ["dataset=/tokens", "output=/runs", "run=mtm"]


def refusal(capsys, *arguments):
    """The one line with which a submission ends."""
    with pytest.raises(SystemExit) as caught:
        main(["submit", *arguments])
    out, error = capsys.readouterr()
    assert caught.value.code == 2
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "the following arguments are required: VERB"),
        (["pretian", *REQUIRED], "argument VERB: invalid choice: 'pretian'"),
        (["submit"], "argument VERB: invalid choice: 'submit'"),
        (["pretrain", *REQUIRED, "loop.epoch=3"], "unknown key loop.epoch; did you mean loop.epochs?"),
        (["pretrain", *REQUIRED, "--retries", "many"], "argument --retries: invalid int value: 'many'"),
        (["pretrain", *REQUIRED, "--fast"], "unrecognized arguments: --fast"),
        (["pretrain", *REQUIRED, "storage.session_token=abc"], "key storage.session_token would show on the dashboard"),
        (["pretrain", *REQUIRED, "storage={region: x}"], "key storage would show on the dashboard"),
        (["pretrain", "dataset=/t", "run=a"], "key output is 'runs', a path in the working directory of the job"),
        (["tokenize_images", "images=/i", "tokenizer=/t", "output=/o", "source.listing=kept"], "key source.listing is"),
        (["import_weights", "weights=/w", "dataset=/t", "run=runs/a"], "key run is 'runs/a', a path in the working"),
        (["pretrain", *REQUIRED, "--env", "NO_SUCH_NAME"], "variable NO_SUCH_NAME is not set"),
        (["pretrain", *REQUIRED, "--runtime-env", "/no/such.yaml"], "runtime environment /no/such.yaml is no file"),
        (["pretrain", *REQUIRED, "--address", "http://127.0.0.1:9"], "127.0.0.1:9: tried for 10 s at most"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(capsys, monkeypatch, arguments, text):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:7")  # --address wins
    assert text in refusal(capsys, *arguments)


def test_secrets_are_not_repeated(capsys):
    assert "hunter2" not in refusal(capsys, "pretrain", *REQUIRED, "storage.secret_access_key=hunter2")


def test_secrets_in_a_file_are_not_sent(capsys, client, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("storage:\n  region: x\n  session_token:\n  secret_access_key: hunter2\n")
    error = refusal(capsys, "pretrain", *REQUIRED, "--config", str(file), "--installed")
    assert f"key storage.secret_access_key of {file} would lie on every node" in error
    assert "hunter2" not in error
    assert client.jobs == []
    file.write_text("storage:\n  region: x\n  session_token:\n")
    with pytest.raises(SystemExit):
        main(["submit", "pretrain", *REQUIRED, "--config", str(file), "--installed"])
    assert len(client.jobs) == 1


def test_what_is_sent_is_the_package_with_all_that_it_needs(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("loop: {epochs: 300}\n")
    with staged([str(mine), "quickstart"]) as (folder, configs):
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert configs == ["config-0-mine.yaml", "config-1-quickstart.yaml"]
        assert (folder / configs[0]).read_bytes() == mine.read_bytes()
        needed = {"seit_ray/__main__.py", "seit_ray/recipes/quickstart.yaml", "seit_ray/cluster/runtime_env.yaml"}
        assert needed | {"cluster/constraints.txt", "seit_ray/sample/fashion_mnist_test.parquet", *configs} <= names
        assert not [name for name in names if name.endswith(".pyc") or name.startswith((".", "tests/", "runs/"))]
        done = subprocess.run(
            [sys.executable, "-S", "-m", "seit_ray", "pretrain", "--config", configs[0], "--help"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{sysconfig.get_paths()['purelib']}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.startswith("usage: seit-ray pretrain"), done.stderr
    assert not folder.exists()


class Client:
    """A job server that only remembers."""

    def __init__(self):
        self.jobs = []

    def get_address(self):
        return "http://head:8265"

    def list_jobs(self):
        return []

    def submit_job(self, **arguments):
        self.jobs.append(arguments)
        return arguments["submission_id"]


@pytest.fixture
def client(monkeypatch):
    found = Client()
    monkeypatch.setattr("seit_ray.distributed.jobs.job_server", lambda address: found)
    return found


def test_a_submission_without_waiting(capsys, client):
    recipe = "pretrain_base_in1k_400e"
    arguments = ["pretrain", *REQUIRED[:2], "--config", recipe, "run=a b", "loop.epochs=300", "--dry-run"]
    with pytest.raises(SystemExit) as caught:
        main(["submit", *arguments, "--run-name", "my run", "--num-cpus", "4", "--installed"])
    assert caught.value.code == 0
    (job,) = client.jobs
    assert job["submission_id"] == "pretrain-my_run-1"
    assert job["entrypoint"] == (
        f"python -m seit_ray pretrain --config config-0-{recipe}.yaml dataset=/tokens output=/runs 'run=a b' "
        "loop.epochs=300 'run=my run' --dry-run"
    )
    assert job["entrypoint_num_cpus"] == 4
    assert "seit_ray-" in job["runtime_env"]["working_dir"]
    out = capsys.readouterr().out
    for line in ("submitted pretrain-my_run-1", "ray job logs --follow pretrain-my_run-1", "ray job stop pretrain-"):
        assert line in out


@pytest.mark.parametrize(
    ("verb", "words", "name"),
    [
        ("pretrain", REQUIRED, "mtm"),
        ("evaluate", ["dataset=/tokens", "run=s3://b/runs/classifier/"], "classifier"),
        ("tokenize_images", ["images=/i", "tokenizer=/t", "output=s3://bucket/my tokens"], "my_tokens"),
        ("inspect_tokens", ["dataset=s3://bucket"], "bucket"),
        ("inspect_tokens", ["dataset=/"], "run"),
        ("fit_tokenizer", ["images=/i", "output=/t/größe"], "gr__e"),
        ("plan", [], "run"),
    ],
)
def test_the_name_of_a_run(verb, words, name):
    config = load(VERBS[verb], [], words)
    assert run_name(config, None) == name
    assert run_name(config, "given") == "given"


def test_verbs_whose_run_is_a_name():
    named = {verb for verb in VERBS if takes_run_name(VERBS[verb])}
    assert {"pretrain", "finetune"} <= named
    assert not named & {"evaluate", "tokenize_images", "inspect_tokens", "quickstart"}


def test_a_stop_and_a_failure_are_told_apart(capsys, monkeypatch):
    from seit_ray.distributed.jobs import Ended

    said = {}
    for ended in (Ended("a-1", 0), Ended("a-1", 1, "no disk"), Ended("a-1", 2), Ended("a-1", 143)):
        monkeypatch.setattr("seit_ray.distributed.jobs.run_job", lambda *_, ended=ended, **__: ended)
        assert module.wait(None, "a", "x", None, 0, 0) == ended.status
        said[ended.status] = capsys.readouterr().err
    assert said == {
        0: "",
        1: "error: job a-1 failed with exit status 1: no disk; the same command continues\n",
        2: "error: job a-1 failed with exit status 2; mend what its last line says\n",
        143: "error: job a-1 was stopped; the same command continues\n",
    }
