"""The command line, as a user meets it: help without delay, mistakes in one line."""

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seit_ray.config import fields
from seit_ray.storage import StorageError
from seit_ray.verbs.command.arguments import VERBS, config_files, joined, keys_help, parse
from seit_ray.verbs.command.main import main
from tests.verbs.light import run_light

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "ray", "pyarrow", "numpy", "timm", "s3fs")
EACH = pytest.mark.parametrize("verb", VERBS)


def python(*arguments, **environment):
    """A python that has finished, run from the checkout's root."""
    variables = {**os.environ, "COLUMNS": "100", **environment}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60
    )


def command(*arguments, **environment):
    """`seit-ray ...` that has finished."""
    return python("-m", "seit_ray", *arguments, **environment)


def imported(done):
    """Names of the packages that -X importtime saw."""
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}


def mistake(capsys, *arguments):
    """The one line with which a command ends."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    out, error = capsys.readouterr()
    assert caught.value.code == 2
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_verb(capsys, arguments):
    main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("usage: seit-ray VERB")
    for name, verb in VERBS.items():
        assert f"  {name:16} {verb.__doc__}" in lines


@EACH
def test_help_of_a_verb_lists_every_key(capsys, verb):
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    for key, (_, description, _) in fields(VERBS[verb]):
        assert re.search(rf"^  {re.escape(key)}=\S", text, re.MULTILINE)
        assert description in text
    keys = re.findall(r"^  ([a-z0-9_.]+)=", text.partition("\nkeys:\n")[2], re.MULTILINE)
    assert sorted(keys) == sorted(dict(fields(VERBS[verb])))
    for option in ("--config", "--dry-run", "--address"):
        assert option in text


def test_help_says_what_must_be_given_and_what_holds_otherwise():
    lines = keys_help(VERBS["finetune"]).splitlines()
    about = {lines[i].strip(): lines[i + 1].strip() for i in range(1, len(lines), 2)}
    assert about["run=str"].endswith("(required)")
    assert about["loop.epochs=int"].endswith("(default 100)")
    assert about["optimizer.betas=[float,float]"].endswith("(default (0.9, 0.999))")
    assert about["storage.secret_access_key=secret"].endswith("environment")
    assert lines[-2].split("=")[0].strip().startswith("cluster.")  # what few need comes last


HELPS = [["--help"], *([verb, "--help"] for verb in VERBS)]


@pytest.fixture(scope="module")
def helps(tmp_path_factory):
    """What came of each call for help, by its words."""
    return dict(zip(map(tuple, HELPS), run_light(HELPS, tmp_path_factory.mktemp("said") / "helps"), strict=True))


@pytest.mark.parametrize("arguments", HELPS)
def test_help_imports_nothing_heavy(helps, arguments):
    done = helps[tuple(arguments)]
    assert done.returncode == 0
    assert done.stdout.startswith("usage: seit-ray")
    assert {"yaml", "pydantic", "seit_ray"} <= done.packages  # so it is seen what is imported
    assert not done.packages & set(HEAVY)


def test_help_is_quick():
    def seconds(*arguments):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            assert python(*arguments).returncode == 0
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    assert seconds("-m", "seit_ray", "--help") < 10 * seconds("-c", "pass") + 5


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["trian"], "verb 'trian'; expected one of quickstart, fit_tokenizer"),
        (["study"], "study without a name; expected one of storage_curve, transfer"),
        (["study", "storage"], "study storage; expected one of storage_curve, transfer"),
        (
            ["pretrain"],
            "key run is missing; expected run=VALUE (name of the run",
        ),
        (["pretrain", "--fast"], "unrecognized arguments: --fast; see seit-ray pretrain --help"),
        (["pretrain", "--config"], "argument --config: expected one argument"),
        (["pretrain", "--config", "nowhere.yaml"], "config file nowhere.yaml: no such file or recipe"),
        (["pretrain", "dataset"], "argument 'dataset'; expected key=value"),
        (
            ["pretrain", "dataset=a", "run=b", "loop.epoch=1"],
            "unknown key loop.epoch; did you mean loop.epochs?",
        ),
        (["pretrain", "dataset=a", "run=[b"], "key run has a value that is not YAML"),
        (["pretrain", "dataset=hdfs://a", "run=b", "--dry-run"], "uri hdfs://a; expected s3://BUCKET/PATH"),
        (["inspect_tokens", "dataset=/no/such/folder", "--dry-run"], "/no/such/folder does not exist"),
        (["evaluate", "dataset=/no/such/folder", "run=b", "--dry-run"], "/no/such/folder does not exist"),
        (["fit_tokenizer", "images=/no/such/folder", "output=out", "--dry-run"], "/no/such/folder"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(capsys, monkeypatch, tmp_path, arguments, text):
    monkeypatch.chdir(tmp_path)
    assert text in mistake(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_a_process_of_its_own():
    done = command("inspect_tokens", "dataset=/no/such/folder")
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"error: [^\n]*/no/such/folder[^\n]*\n", done.stderr)


def test_a_reader_that_has_enough_is_no_fault():
    code = f"{sys.executable} -u -m seit_ray plan --dry-run | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() in ("0", "141")  # it may have written before the reader went
    assert done.stderr == ""


def test_an_error_of_many_lines_is_shown_in_one(capsys, monkeypatch):
    def fails(verb, config, *, dry_run):
        raise ValueError("first\n  second\n")

    monkeypatch.setattr("seit_ray.verbs.command.main.show", fails)
    assert mistake(capsys, "evaluate", "dataset=a", "run=b") == "error: first second\n"


def test_a_fault_ends_with_its_last_line_and_the_place_of_its_traceback(capsys, monkeypatch, tmp_path):
    def fails(verb, config, *, dry_run):
        raise KeyError("bug")

    monkeypatch.setattr("seit_ray.verbs.command.main.show", fails)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "pretrain.run.json").touch()
    with pytest.raises(SystemExit) as caught:
        main(["pretrain", "dataset=a", f"output={tmp_path}", "run=b"])
    error = capsys.readouterr().err
    assert caught.value.code == 1
    assert error.startswith("error: KeyError: 'bug'; this is a fault of the program: ")
    assert error.count("\n") == 1
    kept = (tmp_path / "b" / "pretrain.error.txt").read_text()
    assert "Traceback" in kept
    assert "fails(verb" not in error
    with pytest.raises(SystemExit):
        main(["pretrain", "dataset=a", f"output={tmp_path}", "run=b", "--debug"])
    assert kept.splitlines()[-1] in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "status"), [("unavailable", 75), ("denied", 2), ("missing", 2)])
def test_trouble_of_a_storage_that_may_pass_has_a_status_of_its_own(capsys, monkeypatch, kind, status):
    def fails(verb, config, *, dry_run):
        raise StorageError("s3://b/a failed", kind)

    monkeypatch.setattr("seit_ray.verbs.command.main.show", fails)
    with pytest.raises(SystemExit) as caught:
        main(["inspect_tokens", "dataset=a"])
    assert caught.value.code == status
    assert capsys.readouterr().err == "error: s3://b/a failed\n"


def test_a_fault_of_a_verb_that_writes_nothing_is_kept_too(capsys, monkeypatch):
    def fails(verb, config, *, dry_run):
        raise KeyError("bug")

    monkeypatch.setattr("seit_ray.verbs.command.main.show", fails)
    with pytest.raises(SystemExit):
        main(["inspect_tokens", "dataset=a"])
    place = re.search(r"program: (\S+) has its traceback", capsys.readouterr().err)[1]
    assert "KeyError: 'bug'" in Path(place).read_text()


def test_debug_shows_the_traceback_of_a_mistake(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["inspect_tokens", "dataset=/no/such/folder", "--debug"])
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert "Traceback" in error
    assert error.splitlines()[-1].startswith("error: ")


def test_an_interrupt_says_how_to_go_on(capsys, monkeypatch):
    def interrupted(verb, config, *, dry_run):
        raise KeyboardInterrupt

    monkeypatch.setattr("seit_ray.verbs.command.main.show", interrupted)
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "dataset=a", "run=b"])
    assert caught.value.code == 130
    assert capsys.readouterr().err == "interrupted; the same command continues\n"


def test_arguments_reach_the_verb(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("seit_ray.verbs.command.main.show", lambda *a, dry_run: seen.append((*a, dry_run)))
    file = tmp_path / "finetune.yaml"
    file.write_text("dataset: tokens\nloop: {epochs: 300}\n")
    main(
        [
            "finetune",
            "run=a",
            "--config",
            str(file),
            "loop.seed=2",
            "--address",
            "auto",
            "--dry-run",
            "output=o",
        ]
    )
    ((verb, config, dry_run),) = seen
    assert (verb, dry_run) == ("finetune", True)
    assert (config.dataset, config.run, config.output) == ("tokens", "a", "o")
    assert (config.loop.epochs, config.loop.seed, config.cluster.address) == (300, 2, "auto")


def test_the_quickstart_has_a_config_of_its_own(monkeypatch):
    seen = []
    monkeypatch.setattr("seit_ray.verbs.command.main.show", lambda verb, config, dry_run: seen.append(config))
    main(["quickstart", "images=photos"])
    assert seen[0].finetune.model.size == "nano"
    assert seen[0].images == "photos"
    assert config_files(parse("quickstart", ["--config", "mine.yaml"])) == ["mine.yaml"]
    assert config_files(parse("pretrain", [])) == []


@EACH
def test_each_verb_is_a_module_that_checks_and_runs_and_a_script(verb):
    source = (ROOT / "seit_ray" / "verbs" / f"{verb}.py").read_text()
    assert "\ndef check(config: " in source
    assert f"\ndef {verb}(config: " in source
    assert f'run_verb("{verb}")' in (ROOT / "pipelines" / f"{verb}.py").read_text()


def test_a_study_is_named_by_two_words(capsys):
    for words in (["study", "transfer", "--help"], ["study_transfer", "--help"]):
        with pytest.raises(SystemExit):
            main(words)
    first, second = capsys.readouterr().out.split("usage:")[1:]
    assert first == second
    assert joined(["study", "transfer", "rows=[mtm]"]) == ["study_transfer", "rows=[mtm]"]
    assert joined(["finetune", "study"]) == ["finetune", "study"]
