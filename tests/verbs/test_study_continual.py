"""`study continual`: its trials, its table, and what it refuses before work begins."""

import csv
import io
import json

import pytest

from seit_ray.config import StudyContinual, load
from seit_ray.runs.continual_learner import Learner
from seit_ray.storage import Folder
from seit_ray.verbs.study_continual import check, job_of, study_continual
from tests.tiny_images import image_files, write_files, write_tokenizer


class Killed(BaseException):
    """As a kill: nothing that follows is done."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """train/ and test/ of three classes, 30 and 9 images; not to be changed."""
    place = Folder(tmp_path_factory.mktemp("photos"))
    write_files(place.join("train"), image_files(30, classes=("cat", "dog", "emu")))
    write_files(place.join("test"), image_files(9, classes=("cat", "dog", "emu"), first=500))
    return place


def config_of(photos, output, *words):
    values = {
        "images": photos.uri,
        "output": str(output),
        "seeds": [0],
        "num_steps": 3,
        "arms": ["tokens_plain", "raw", "none"],
        "budgets": [4000],
        "selections": ["random"],
        "balance_epochs": 1,
        "centroid": {"image_size": 16, "patch_size": 4, "codebook_size": 8, "iterations": 2},
        "model": {"width": 16, "depth": 1, "num_heads": 2},
        "loop": {"epochs": 2, "global_batch_size": 10},
        "optimizer": {"lr": 3e-3, "warmup_epochs": 1},
        "trials": {"max_concurrent": 0},
    }
    return load(StudyContinual, [], [*(f"{key}={json.dumps(value)}" for key, value in values.items()), *words])


def tables(folder):
    """The table and the steps, as lines."""
    return [list(csv.DictReader(io.StringIO(folder.read(name).decode()))) for name in ("table.csv", "steps.csv")]


def test_a_study_that_is_killed_ends_in_the_same_table(photos, tmp_path, monkeypatch):
    whole = Folder(tmp_path / "whole")
    rows = dict(study_continual(config_of(photos, whole.uri)))
    assert list(rows)[:3] == ["tokens_plain, 4,000 bytes, random", "raw, 4,000 bytes, random", "none"]
    assert "idle" in rows["last call"]
    table, steps = tables(whole)
    assert [row["arm"] for row in table] == ["tokens_plain", "raw", "none"]
    assert [row["exemplars"] for row in table][1:] == ["5", "0"]  # of 769 bytes each
    assert 0 < float(table[0]["memory_bytes"]) <= 4000
    assert [row["classes"] for row in steps] == ["1", "2", "3"] * 3
    take, left = Learner.take, [5]

    def counted(self, step):
        left[0] -= 1
        if not left[0]:
            raise Killed
        take(self, step)

    monkeypatch.setattr(Learner, "take", counted)
    killed = Folder(tmp_path / "killed")
    with pytest.raises(Killed):
        study_continual(config_of(photos, killed.uri))
    study_continual(config_of(photos, killed.uri))
    assert tables(killed) == [table, steps]
    assert left == [-5]  # 9 steps in all: of the trial that was killed none was taken again


def test_trials_need_the_listing_and_those_of_tokens_a_tokenizer(photos, tmp_path):
    trials = job_of(config_of(photos, tmp_path / "new", "seeds=[0,1]", "arms=[jpeg_10,tokens_compact,joint]")).trials
    names = [trial.name for trial in trials]
    assert len(trials) == 1 + 2 + 3 * 2
    listing, fits, measured = trials[0], trials[1:3], trials[3:]
    assert all(trial.needs == (listing.name,) for trial in fits)
    for trial in measured:
        number = trial.settings["seed"]
        tokens = [fits[number].name] if trial.settings["arm"] == "tokens_compact" else []
        assert trial.needs == (listing.name, *tokens)
    assert max(trials, key=lambda trial: trial.cost).settings["arm"] == "joint"
    assert len(set(names)) == len(names)
    others = job_of(config_of(photos, tmp_path / "elsewhere", "seeds=[1]", "arms=[joint]")).trials
    assert others[-1].name == names[-1]  # a name follows from what decides, wherever it lies


def test_a_dry_run_says_what_a_tokenizer_takes(photos, tmp_path):
    found = check(config_of(photos, tmp_path / "new"))
    rows = dict(found)
    assert rows["found"] == "train 30, val 9"
    assert rows["bytes of a tokenizer, of 4,000"] == "1,616"
    arms = [text for name, text in found if name == "arm"]
    assert arms == ["tokens_plain, 4000, random", "raw, 4000, random", "none"]
    named = write_tokenizer(tmp_path / "tokenizer")
    rows = dict(check(config_of(photos, tmp_path / "new", f"tokenizer={named.uri}")))
    assert rows["bytes of a tokenizer, of 4,000"] == "3,152"
    assert len(job_of(config_of(photos, tmp_path / "new", f"tokenizer={named.uri}")).trials) == 4  # none is fitted


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["budgets=[1600]"], "budgets 1,600 of arm tokens_plain; expected more than 1,616, the bytes of"),
        (["arms=[tokens]"], "arm 'tokens'; expected one of tokens_compact"),
        (["num_steps=4"], "num_steps 4 of 3 classes; expected 2 to 3"),
        (["centroid.patch_size=5"], "centroid.image_size 16 with centroid.patch_size 5; expected a multiple"),
        (["model.stem_kernel=3"], "grid 4x4 under a stem of kernel 3, stride 3, padding 0; expected"),
        (["model.width=30", "model.num_heads=4"], "width 30 with num_heads 4; expected a width that the heads divide"),
        (["model.encoder=beit", "model.standardize=true"], "model.standardize True with encoder beit; expected none"),
        (["val_fraction=0", "source.exclude=[test/*]"], "has no val split; expected one to measure on"),
        (["loop.global_batch_size=999"], "with global_batch_size 999 give no step; expected at least one"),
        (["centroid.codebook_size=4096"], "patches to fit 4096 centroids; expected more patches than centroids"),
    ],
)
def test_mistakes_are_told_before_work_begins(photos, tmp_path, words, message):
    for verb in (check, study_continual):
        with pytest.raises(ValueError, match=message):
            verb(config_of(photos, tmp_path / "new", *words))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.stem_layers=2"], "model.stem_layers 2; expected none"),
        (["loop.keep_best=val_top1"], "loop.keep_best; expected none"),
        (["centroid.num_workers=2"], "centroid.num_workers 2; expected 0"),
        (["seeds=[1,1]"], "none of them twice"),
        (["seeds=[4294967295]"], "seeds 4294967295 and order_seed 1993; expected less than 4294967296 together"),
        (["arms=[raw,raw]"], "none of them twice"),
        (["optimizer.warmup_epochs=2"], "expected a warm-up that ends before the training"),
    ],
)
def test_keys_that_do_not_fit_are_refused(photos, tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        config_of(photos, tmp_path, *words)


def test_a_tokenizer_that_was_fitted_again_is_refused(photos, tmp_path):
    write_tokenizer(Folder(tmp_path / "tokenizer"))
    config = config_of(photos, tmp_path / "out", f"tokenizer={tmp_path}/tokenizer")
    job_of(config).begin()
    job_of(config).check()
    write_tokenizer(Folder(tmp_path / "tokenizer"), seed=5)
    with pytest.raises(ValueError, match=r"has trials that read another .*tokenizer.json \(.*\); expected the same"):
        job_of(config).check()


def test_other_arms_are_refused_by_name(photos, tmp_path):
    job_of(config_of(photos, tmp_path)).begin()
    with pytest.raises(ValueError, match="holds a study of other arms: now without raw, 4000, random; expected the"):
        study_continual(config_of(photos, tmp_path, "arms=[tokens_plain,none]"))
    with pytest.raises(ValueError, match=r"holds a study with balance 'finetune' \(now 'align'\)"):
        study_continual(config_of(photos, tmp_path, "balance=align"))
    job_of(config_of(photos, tmp_path, "seeds=[0,1]")).check()  # more seeds are more of the same


def test_a_finished_study_is_not_one_of_other_images(photos, tmp_path):
    """Nothing of it is read again, so that only the listing tells."""
    place = write_files(tmp_path / "photos", {e.name: photos.read(e.name) for e in photos.list()})
    config = config_of(place, tmp_path / "study", "arms=[none]", "loop.epochs=1", "optimizer.warmup_epochs=0")
    study_continual(config)
    assert dict(check(config))["done"] == "2 of 2"
    place.write("train/cat/another.png", photos.read(next(e.name for e in photos.list("train/"))))
    before = {e.name: e.version for e in Folder(config.output).list()}
    for verb in (check, study_continual):
        with pytest.raises(ValueError, match="has other images than when the study listed them; expected the same"):
            verb(config)
    assert {e.name: e.version for e in Folder(config.output).list()} == before
