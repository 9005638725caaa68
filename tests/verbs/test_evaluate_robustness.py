"""evaluate with corruptions, or with units removed or shuffled: files, baseline, mistakes, and going on."""

import csv
import io
import json

import pytest

from seit_ray.config import Evaluate, load
from seit_ray.evaluation.case_records import CaseRecords
from seit_ray.storage import Folder
from seit_ray.verbs import evaluate as evaluating
from seit_ray.verbs.command.main import main
from tests.tiny_classifiers import write_classifier
from tests.tiny_dataset import NUM_CLASSES, write_dataset
from tests.tiny_images import contents, image_files, write_files, write_tokenizer

FILES = {"robustness-train.json", "robustness-train.csv", "robustness-train.svg", "robustness-train.html"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """images/ (one is broken), tokens/ with a tokenizer, run/, other/; not to be changed."""
    place = Folder(tmp_path_factory.mktemp("place"))
    write_files(place.join("images"), image_files(12, classes=("cat", "dog", "emu")) | {"dog/bad.png": b""})
    write_tokenizer(place.join("tokens", "tokenizer"))
    for name, seed in (("run", 0), ("other", 1)):
        write_classifier(place.join(name), place.join("tokens"), seed=seed)
    return place


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """tokens/ and run/."""
    place = Folder(tmp_path_factory.mktemp("dataset"))
    write_dataset(place.uri_of("tokens"))
    write_classifier(place.join("run"), place.join("tokens"), class_names=[f"class {i}" for i in range(NUM_CLASSES)])
    return place


def keys(place, **more):
    """Those of an evaluation on images."""
    return {"images": place.uri_of("images"), "run": place.uri_of("run"), "split": "train", **more}


def evaluated(tmp_path, place, name="robustness-train.json", **more):
    """(rows, figures) of an evaluation, written to a folder."""
    config = Evaluate(**keys(place, output=str(tmp_path / name), **more))
    rows = dict(evaluating.evaluate(config))
    return rows, json.loads((tmp_path / name).read_text())


def refused(capsys, *arguments):
    """The message of a refusal."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.count("\n") == 1
    return error


def test_files_and_table(place, tmp_path):
    rows, figures = evaluated(tmp_path, place, corruptions=["contrast", "shot_noise"], severities=[5, 1])
    assert rows["train images"] == "13 listed = 12 classified + 1 rejected"
    assert list(figures["corruptions"]) == ["shot_noise", "contrast"]
    assert list(figures["corruptions"]["contrast"]["severities"]) == ["1", "5"]
    assert rows["contrast"].startswith(f"{figures['corruptions']['contrast']['top1']:.2%} +- ")
    assert rows["figures"] == str(tmp_path / "robustness-train.json")
    assert {path.name for path in tmp_path.iterdir()} == FILES  # no work, no lock
    table = list(csv.DictReader(io.StringIO((tmp_path / "robustness-train.csv").read_text())))
    assert float(table[0]["top1"]) == figures["clean"]["top1"]
    assert "shot_noise" in (tmp_path / "robustness-train.html").read_text()
    assert '"verb": "evaluate"' in (tmp_path / "robustness-train.html").read_text().replace("&quot;", '"')
    assert (tmp_path / "robustness-train.svg").read_text().startswith("<svg")


def test_figures_go_into_the_run_and_a_run_is_a_baseline(place, tmp_path):
    asked = {"corruptions": "noise", "severities": 3}
    evaluating.evaluate(Evaluate(**keys(place, **asked) | {"run": place.uri_of("other")}))
    written = [name for name in contents(place.join("other")) if name.startswith("robustness")]
    assert set(written) == FILES
    rows, figures = evaluated(tmp_path, place, baseline=place.uri_of("other"), **asked)
    theirs = json.loads(place.read("other/robustness-train.json"))
    errors = [
        (1 - figures["corruptions"][name]["top1"]) / (1 - theirs["corruptions"][name]["top1"])
        for name in ("gaussian_noise", "shot_noise", "impulse_noise")
    ]
    assert figures["baseline"]["mce"] == pytest.approx(sum(errors) / 3)
    assert rows["mCE / relative mCE"].endswith(f"of {place.uri_of('other/robustness-train.json')}")
    _, again = evaluated(tmp_path, place, baseline=place.uri_of("other/robustness-train.json"), **asked)
    assert again == figures
    for name in written:
        place.delete(f"other/{name}")


def test_it_goes_on_where_it_was_killed(place, tmp_path, monkeypatch):
    asked = {"corruptions": ["fog"], "severities": [1]}
    _, whole = evaluated(tmp_path, place, "whole.json", **asked)
    from seit_ray.verbs.command import robustness

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(robustness, "write_report", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluated(tmp_path, place, "killed.json", **asked)
    assert len(CaseRecords(Folder(tmp_path / "_killed.work")).standing()) == 1
    monkeypatch.setattr("seit_ray.images.decoded.Decoding.decode", killed)  # nothing is decoded again
    _, found = evaluated(tmp_path, place, "killed.json", **asked)
    assert found == whole
    assert not (tmp_path / "_killed.work").exists()


def test_classes_that_are_present(place, tmp_path):
    images = write_files(tmp_path / "images", image_files(8, classes=("cat", "dog")))
    config = keys(place, output=str(tmp_path / "figures.json"), images=images.uri, classes="present")
    evaluating.evaluate(Evaluate(**config))
    plain = json.loads((tmp_path / "figures.json").read_text())
    _, figures = evaluated(tmp_path, place, images=images.uri, classes="present", corruptions=["fog"])
    assert plain["num_scored"] == figures["num_scored"] == 2
    assert plain["top1"] == figures["clean"]["top1"]


def test_folders_by_wnid_with_a_file_of_names(place, tmp_path):
    names = {"n01": "cat", "n02": "dog", "n03": "emu"}
    folder_of = {label: wnid for wnid, label in names.items()}
    parts = {tuple(name.split("/")): data for name, data in image_files(9, classes=tuple(folder_of)).items()}
    files = {f"{folder_of[label]}/{name}": data for (label, name), data in parts.items()}
    images = write_files(tmp_path / "images", files)
    (tmp_path / "names.json").write_text(json.dumps(names))
    source = {"class_names": str(tmp_path / "names.json")}
    _, figures = evaluated(tmp_path, place, images=images.uri, source=source, corruptions=["contrast"], severities=[1])
    assert set(figures["per_class_top1"]) == {"cat", "dog", "emu"}
    assert figures["samples"] == 9


def test_units_of_a_dataset(dataset, tmp_path):
    config = Evaluate(
        dataset=dataset.uri_of("tokens"),
        run=dataset.uri_of("run"),
        occlusion=[0.25, 0.5],
        shuffle=1.0,
        output=str(tmp_path / "units.json"),
    )
    assert dict(evaluating.check(config))["occlusion of units"] == "0.25, 0.5"
    rows = dict(evaluating.evaluate(config))
    figures = json.loads((tmp_path / "units.json").read_text())
    assert rows["val samples"] == "8"
    assert list(figures["corruptions"]["shuffle"]["severities"]) == ["1.0"]
    assert {path.name for path in tmp_path.iterdir()} == {f"units.{end}" for end in ("json", "csv", "svg", "html")}


def test_a_dry_run_says_which_cases(place):
    before = contents(place)
    rows = dict(evaluating.check(Evaluate(**keys(place, corruptions=["weather"], severities=[2]))))
    assert rows["corruptions"] == "snow, frost, fog, brightness, severities 2"
    assert contents(place) == before


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["images=a", "corruptions=[fog,rain]"], "corruption 'rain'; expected some of imagenet_c"),
        (["images=a", "corruptions=fog", "severities=[1,6]"], "severity 6; expected some of 1, 2, 3, 4, 5"),
        (["images=a", "severities=[1]"], "key severities without corruptions; expected some"),
        (["images=a", "baseline=b"], "key baseline without corruptions"),
        (["dataset=a", "corruptions=fog"], "key corruptions with dataset; expected it with images only"),
        (["images=a", "occlusion=0.5"], "key occlusion with images; expected it with dataset only"),
        (
            ["dataset=a", "classes=present"],
            "classes with dataset; expected none, since it is not read",
        ),
        (["dataset=a", "occlusion=[0.5,1]"], "occlusion 1.0; expected shares of the units"),
        (["images=a", "corruptions=fog", "baseline=/no/such/run"], "/no/such/run does not exist"),
    ],
)
def test_mistakes_are_told_before_anything_is_done(capsys, more, text, dry):
    assert text in refused(capsys, "evaluate", "run=c", *more, *dry)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "cannot be read"),
        ("[1]", "is no table of corruptions"),
        ('{"corruptions": {}, "clean": {"top1": 0.5}}', "without fog; expected the corruptions fog"),
        (
            '{"corruptions": {"fog": {"severities": {"1": {"top1": 0.1}}}}, "clean": {"top1": 0.5}}',
            "without severity fog 5",
        ),
    ],
)
def test_a_baseline_that_does_not_fit_is_told_at_once(capsys, place, tmp_path, content, text):
    file = tmp_path / "base.json"
    file.write_text(content)
    words = [f"images={place.uri_of('images')}", f"run={place.uri_of('run')}", "split=train", "severities=[1,5]"]
    assert text in refused(capsys, "evaluate", *words, "corruptions=fog", f"baseline={file}")


def test_a_run_that_was_not_evaluated_is_no_baseline(capsys, place):
    words = [f"images={place.uri_of('images')}", f"run={place.uri_of('run')}", "split=train", "corruptions=fog"]
    text = refused(capsys, "evaluate", *words, f"baseline={place.uri_of('other')}", "--dry-run")
    assert "has no robustness-train.json; expected a run that was evaluated with corruptions" in text


def test_a_baseline_on_other_images_is_refused(capsys, place, tmp_path, monkeypatch):
    asked = {"corruptions": ["fog"], "severities": [5]}
    evaluated(tmp_path, place, "base.json", **asked)
    figures = json.loads((tmp_path / "base.json").read_text())
    files = image_files(12, classes=("cat", "dog", "emu")) | {"dog/bad.png": b""}
    others = write_files(tmp_path / "images", {name.replace("cat/", "cat/new"): data for name, data in files.items()})
    moved = write_files(tmp_path / "moved", files)
    words = [f"run={place.uri_of('run')}", "split=train", "corruptions=fog", "severities=5"]
    words += [f"baseline={tmp_path}/base.json", f"output={tmp_path}/new.json"]
    for fitting in ([f"images={moved.uri}"], [f"images={place.uri_of('images')}", "seed=7"]):
        main(["evaluate", *fitting, *words, "--dry-run"])
    monkeypatch.setattr("seit_ray.runs.evaluate_corruptions.make_missing", None)  # it is told before that work
    for what, more in (
        ("keys_sha256", [f"images={others.uri}"]),
        ("listed", [f"images={place.uri_of('images')}", "source.limit=12"]),
        ("listed", [f"images={place.uri_of('images')}", "val_fraction=0.3"]),
    ):
        if "limit" not in more[-1]:  # of which a dry run sees no whole listing
            text = refused(capsys, "evaluate", *more, *words, "--dry-run")
            assert f"base.json has {what} {figures[what]!r}; expected" in text
        with pytest.raises(ValueError, match=rf"base.json has {what} .*; evaluate it on the same images"):
            evaluating.evaluate(load(Evaluate, [], [*more, *words]))
    monkeypatch.setattr("seit_ray.runs.evaluate_corruptions.scored_classes", lambda *_: [0, 1])
    with pytest.raises(ValueError, match="has num_scored 3; expected 2, as here"):
        evaluated(tmp_path, place, "new.json", baseline=f"{tmp_path}/base.json", **asked)


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_units_that_a_run_has_not(capsys, dataset, tmp_path, dry):
    words = [f"dataset={dataset.uri_of('tokens')}", f"run={dataset.uri_of('run')}", f"output={tmp_path}/units.json"]
    text = refused(capsys, "evaluate", *words, "occlusion=[0.5,0.99]", *dry)
    assert "occlusion 0.99 of 16 units; expected one to be left" in text
    assert "shuffle 0.01 of 16 units" in refused(capsys, "evaluate", *words, "shuffle=0.01", *dry)
    assert not list(tmp_path.iterdir())
