"""seit-ray submit: what it refuses before it asks a cluster, and what it asks."""

import pytest

from pipelines import submit as module
from pipelines.command import VERBS, main
from pipelines.submit import ROOT, package_of, run_name, sent_name, takes_run_name
from seit_ray.config import load

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
        (["import_weights", "weights=/w", "dataset=/t", "run=runs/a"], "key run is 'runs/a', a path in the working"),
        (["pretrain", *REQUIRED, "--env", "NO_SUCH_NAME"], "variable NO_SUCH_NAME is not set"),
        (["pretrain", *REQUIRED, "--runtime-env", "/no/such.yaml"], "runtime environment /no/such.yaml is no file"),
        (["pretrain", *REQUIRED, "--working-dir", "/"], "working directory / has no pipelines/command.py"),
        (["pretrain", *REQUIRED, "--address", "http://127.0.0.1:9"], "job server http://127.0.0.1:9: Failed to conn"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(capsys, monkeypatch, arguments, text):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:7")  # --address wins
    assert text in refusal(capsys, *arguments)


def test_secrets_are_not_repeated(capsys):
    assert "hunter2" not in refusal(capsys, "pretrain", *REQUIRED, "storage.secret_access_key=hunter2")


def test_a_config_file_must_be_among_what_is_sent(capsys, tmp_path):
    outside = tmp_path / "mine.yaml"
    outside.write_text("loop: {epochs: 3}\n")
    assert "mine.yaml is not sent to the job" in refusal(capsys, "pretrain", *REQUIRED, "--config", str(outside))
    package = package_of(str(ROOT), None, installed=True, names=[])
    file = ROOT / "pipelines" / "configs" / "quickstart.yaml"
    assert sent_name(str(file), package) == "pipelines/configs/quickstart.yaml"
    with pytest.raises(ValueError, match="is not sent to the job"):
        sent_name(str(ROOT / "tests" / "conftest.py"), package)  # excluded


def test_the_environment_of_a_job(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    full = package_of(str(ROOT), None, installed=False, names=["AWS_REGION"])
    assert full.runtime_env["pip"]["packages"][0].startswith("-c ")
    assert full.runtime_env["env_vars"] == {"PYTHONUNBUFFERED": "1", "AWS_REGION": "eu-central-1"}
    installed = package_of(str(ROOT), None, installed=True, names=[])
    assert set(full.runtime_env) - set(installed.runtime_env) == {"pip"}
    assert installed.runtime_env["env_vars"] == {"PYTHONUNBUFFERED": "1"}
    names = set(full.files)
    assert {"pipelines/command.py", "seit_ray/__init__.py", "cluster/constraints.txt", "pyproject.toml"} <= names
    assert not [name for name in names if name.startswith((".git/", ".venv", "runs/", "tests/"))]


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
    file = "pipelines/configs/pretrain_base_in1k_400e.yaml"
    arguments = ["pretrain", *REQUIRED[:2], "--config", str(ROOT / file), "run=a b", "loop.epochs=3", "--dry-run"]
    with pytest.raises(SystemExit) as caught:
        main(["submit", *arguments, "--run-name", "my run", "--num-cpus", "4", "--installed"])
    assert caught.value.code == 0
    (job,) = client.jobs
    assert job["submission_id"] == "pretrain-my_run-1"
    assert job["entrypoint"] == (
        f"python -m pipelines.command pretrain --config {file} dataset=/tokens output=/runs 'run=a b' loop.epochs=3 "
        "'run=my run' --dry-run"
    )
    assert job["entrypoint_num_cpus"] == 4
    assert job["runtime_env"]["working_dir"] == str(ROOT)
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
    ],
)
def test_the_name_of_a_run(verb, words, name):
    config = load(VERBS[verb], None, words)
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
