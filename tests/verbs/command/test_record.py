"""A run is what its record says: other settings are refused by name, before anything is written."""

import json
import subprocess
from pathlib import Path

import pytest

from seit_ray.config import Finetune, FitTokenizer, Pretrain, RecodeTokens, load
from seit_ray.storage import Folder
from seit_ray.training.checkpoints import checkpoint_names
from seit_ray.verbs.command.older_records import as_recorded
from seit_ray.verbs.command.record import (
    begin_record,
    decided_by,
    differing,
    end_record,
    git_state,
    refuse_other_settings,
)
from seit_ray.verbs.finetune import check, finetune
from tests.tiny_dataset import write_dataset
from tests.tiny_images import contents

SMALL = [
    *("workers.num_workers=0", "model.size=nano", "model.width=32", "model.depth=1", "model.num_heads=2"),
    *("model.stem_kernel=1", "loop.epochs=2", "loop.global_batch_size=16", "optimizer.warmup_epochs=0"),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Its folder; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes={"train": 48, "val": 16})


def config_of(dataset, output, *more):
    return load(Finetune, [], [f"dataset={dataset.uri}", f"output={output}", "run=a", *SMALL, *more])


class Killed(Exception):
    """In the middle of a training."""


def killed_at(step):
    def progress(phase, done, total, note=""):
        if done >= step:
            raise Killed

    return progress


@pytest.mark.parametrize("state", ["finished", "killed"])
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("optimizer.lr=1e-6", "optimizer.lr 0.003 (now 1e-06)"),
        ("label_smoothing=0.3", "label_smoothing 0.1 (now 0.3)"),
        ("augment.cutmix_alpha=1", "augment.cutmix_alpha 0.0 (now 1.0)"),
        ("model.pool=cls", "model.pool 'mean' (now 'cls')"),
        ("loop.precision=bf16", "loop.precision 'auto' (now 'bf16')"),
    ],
)
def test_other_settings_are_refused_and_nothing_is_written(dataset, tmp_path, state, change, text):
    output = tmp_path / "runs"
    first = config_of(dataset, output, "optimizer.lr=3e-3", "loop.checkpoint_every_steps=1")
    if state == "finished":
        finetune(first)
    else:
        with pytest.raises(Killed):
            finetune(first, killed_at(2))
        assert checkpoint_names(Folder(output / "a"))
    before = contents(Folder(output))
    with pytest.raises(ValueError, match=r"was made by finetune with") as caught:
        finetune(config_of(dataset, output, "optimizer.lr=3e-3", change))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(Folder(output)) == before


def test_the_record_is_written_once_and_later_calls_are_its_history(dataset, tmp_path, monkeypatch):
    output, run = tmp_path / "runs", Folder(tmp_path / "runs" / "a")
    finetune(config_of(dataset, output))
    first = run.read("finetune.run.json")
    assert not run.exists("finetune.history.jsonl")
    monkeypatch.chdir(dataset.uri + "/..")
    relative = Folder(dataset.uri).uri.rpartition("/")[2]
    finetune(config_of(dataset, output, "loop.log_every_steps=1", f"dataset={relative}"))  # decides nothing
    finetune(config_of(dataset, output, "loop.keep_checkpoints=1"))
    assert run.read("finetune.run.json") == first
    calls = [json.loads(line) for line in run.read("finetune.history.jsonl").splitlines()]
    assert [call["config"]["loop"]["log_every_steps"] for call in calls] == [1, 50]
    assert all(call["decided_by"] == json.loads(first)["decided_by"] for call in calls)


def test_what_has_made_nothing_yet_is_begun_anew(dataset, tmp_path):
    folder = Folder(tmp_path / "a")
    begin_record(folder, "finetune", config_of(dataset, tmp_path))
    changed = config_of(dataset, tmp_path, "optimizer.lr=1e-3")
    refuse_other_settings(folder, "finetune", changed)
    begin_record(folder, "finetune", changed)
    assert json.loads(folder.read("finetune.run.json"))["decided_by"]["optimizer.lr"] == 1e-3
    folder.write("metrics.jsonl", b"")
    with pytest.raises(ValueError, match=r"optimizer\.lr 0\.001 \(now None\)"):
        refuse_other_settings(folder, "finetune", config_of(dataset, tmp_path))


def test_a_run_of_another_verb_is_refused_and_nothing_is_written(dataset, tmp_path):
    folder = Folder(tmp_path / "a")
    begin_record(folder, "pretrain", load(Pretrain, [], [f"dataset={dataset.uri}", "run=a"]))
    config = config_of(dataset, tmp_path)
    refuse_other_settings(folder, "finetune", config)  # nothing came of it
    folder.write("metrics.jsonl", b"")
    for function in (finetune, check):
        with pytest.raises(ValueError, match=r"a was made by pretrain; expected nothing, or what finetune left"):
            function(config)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["metrics.jsonl", "pretrain.run.json"]


def test_a_key_that_the_record_does_not_know_had_its_default(dataset, tmp_path):
    folder, config = Folder(tmp_path / "a"), config_of(dataset, tmp_path)
    begin_record(folder, "finetune", config)
    record = json.loads(folder.read("finetune.run.json"))
    del record["decided_by"]["augment.flip_prob"]
    folder.write("finetune.run.json", json.dumps(record).encode())
    assert differing(folder, "finetune", config) == {}
    changed = config_of(dataset, tmp_path, "augment.flip_prob=0.25")
    assert differing(folder, "finetune", changed) == {"augment.flip_prob": (0.5, 0.25)}
    del record["decided_by"]  # as older versions wrote it
    folder.write("finetune.run.json", json.dumps(record).encode())
    assert differing(folder, "finetune", changed) == {}


def test_a_run_knows_what_decided_it_in_its_checkpoints_and_its_model(dataset, tmp_path):
    config = config_of(dataset, tmp_path / "runs", "optimizer.lr=2e-3")
    finetune(config)
    run = Folder(tmp_path / "runs" / "a")
    expected = json.loads(json.dumps(decided_by(config)))
    name = checkpoint_names(run)[-1]
    assert json.loads(run.read(f"checkpoints/{name}/checkpoint.json"))["decided_by"] == expected
    assert json.loads(run.read("model.json"))["decided_by"] == expected
    assert expected["dataset"] == dataset.uri


def test_other_names_in_a_file_of_classes_are_other_settings(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    words = ["images=photos", f"output={tmp_path}", "run=a", f"source.class_names={names}", *SMALL]
    first = decided_by(load(Finetune, [], words))
    assert decided_by(load(Finetune, [], words)) == first
    names.write_text("cat\nwolf\n")
    now = decided_by(load(Finetune, [], words))
    assert [key for key in now if now[key] != first[key]] == ["names in source.class_names"]


def test_the_record_of_a_job_is_that_of_the_call_that_made_what_is_there(dataset, tmp_path):
    folder, name = Folder(tmp_path / "a"), "recode_tokens"

    def end(encoding, **how):
        end_record(
            folder, name, load(RecodeTokens, [], [f"dataset={dataset.uri}", "output=a", f"encoding={encoding}"]), **how
        )

    end("plain", is_new=True, seconds=3)
    first = folder.read(f"{name}.run.json")
    assert json.loads(first)["seconds"] == 3
    end("compact", is_new=False)  # whatever its settings: it made nothing
    assert folder.read(f"{name}.run.json") == first
    (call,) = map(json.loads, folder.read(f"{name}.history.jsonl").splitlines())
    assert call["config"]["encoding"] == "compact"
    end("compact", is_new=True)
    assert json.loads(folder.read(f"{name}.run.json"))["config"]["encoding"] == "compact"
    end("plain", is_new=False, of="a.csv.")  # nobody knows who made it
    assert json.loads(folder.read(f"a.csv.{name}.run.json"))["config"]["encoding"] == "plain"


def test_the_state_of_git_is_that_of_the_package_alone(tmp_path):
    name = Path("seit_ray", "verbs", "command", "record.py")
    tracked, ignored, foreign = (tmp_path / place / name for place in ("", ".venv/site-packages", "tools"))
    for file in (tracked, ignored, foreign):
        file.parent.mkdir(parents=True)
        file.write_text("")

    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True)

    git("init", "-q")
    assert git_state(tracked) is None  # nothing of it is in the repository yet
    git("add", "seit_ray", "tools")
    git("commit", "-q", "-m", "all")
    state = git_state(tracked)
    assert len(state["commit"]) == 40
    assert state["changed"] == ["?? .venv/"]
    assert git_state(ignored) is None
    assert git_state(foreign) is None  # of a repository that is not the package's own


def test_a_run_that_was_begun_with_a_key_that_nothing_reads_goes_on(dataset, tmp_path, monkeypatch):
    """As before such keys were refused."""
    unread, output = "augment.synonym_share=0.5", tmp_path / "runs"
    asked = config_of(dataset, output, unread, "loop.checkpoint_every_steps=1")
    with monkeypatch.context() as older:
        older.setattr("seit_ray.verbs.command.finetune_checks.check_finetune_keys", lambda *args, **kwargs: None)
        with pytest.raises(Killed):
            finetune(asked, killed_at(2))
    run = Folder(output).join("a")
    before = run.read("finetune.run.json")
    assert json.loads(before)["decided_by"]["augment.synonym_share"] == 0.5
    check(asked)
    for more, text in (
        ([unread, "augment.num_synonyms=3"], r"augment\.num_synonyms with augment\.synonym_prob 0\.0; expected none"),
        (["augment.synonym_share=0.4"], r"augment\.synonym_share with augment\.synonym_prob 0\.0"),
        (["augment.synonym_share=0.4", "augment.synonym_prob=0.5"], r"synonym_prob 0\.0 \(now 0\.5\)"),
    ):
        with pytest.raises(ValueError, match=text):
            check(config_of(dataset, output, *more))
    with pytest.raises(Killed):
        finetune(config_of(dataset, output), killed_at(4))  # without the key, too
    finetune(asked)
    assert run.read("finetune.run.json") == before
    assert json.loads(run.read("model.json"))["decided_by"]["augment.synonym_share"] == 0.5


def test_of_a_record_what_was_not_read_is_not_compared(tmp_path):
    keys = {
        FitTokenizer: ("fit_tokenizer", ["images=a", "output=b"], "loop.epochs=3", "centroid.codebook_size=9"),
        Pretrain: ("pretrain", ["dataset=a", "run=b"], "ccvit.num_near=3", "masking.loss=bce"),
        Finetune: ("finetune", ["images=a", "run=b"], "model.stem_kernel=4", "model.drop_path=0.3"),
    }
    for verb, (name, words, unread, read) in keys.items():
        folder, now = Folder(tmp_path / name), load(verb, [], words)
        begin_record(folder, name, load(verb, [], [*words, unread, read]))
        assert list(differing(folder, name, now)) == [read.partition("=")[0]]
        assert as_recorded(load(verb, [], [*words, unread]), folder, name) == now
        assert as_recorded(load(verb, [], [*words, unread]), Folder(tmp_path), name) != now
