"""The verbs that see images through a finished run, evaluate and predict, as functions and as commands."""

import json

import pyarrow.parquet as pq
import pytest

from seit_ray.config import Evaluate, Finetune, Predict, load
from seit_ray.storage import Folder
from seit_ray.studies.run_list import list_runs
from seit_ray.verbs import evaluate as evaluating
from seit_ray.verbs import predict as predicting
from seit_ray.verbs.command.main import main
from seit_ray.verbs.finetune import finetune
from tests.tiny_classifiers import write_classifier
from tests.tiny_images import contents, image_files, write_files, write_tokenizer


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """images/ (one is broken), tokens/ with a tokenizer, run/; not to be changed."""
    place = Folder(tmp_path_factory.mktemp("place"))
    write_files(place.join("images"), image_files(60, classes=("cat", "dog", "emu")) | {"dog/bad.png": b""})
    write_tokenizer(place.join("tokens", "tokenizer"))
    write_classifier(place.join("run"), place.join("tokens"), ema_seed=2)
    return place


def keys(place, **more):
    """Keys that both verbs take."""
    return {"images": place.uri_of("images"), "run": place.uri_of("run"), **more}


def refused(capsys, *arguments):
    """The one line with which a command ends."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_evaluate_on_images(place, tmp_path):
    config = Evaluate(**keys(place, split="train", weights="ema", output=str(tmp_path / "figures.json")))
    seen = []
    rows = dict(evaluating.evaluate(config, lambda *state: seen.append(state)))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert rows["train images"] == "61 listed = 60 classified + 1 rejected"
    assert rows["top-1 / top-5"] == f"{figures['top1']:.2%} +- {figures['standard_error']:.2%} / 100.00%"
    assert seen[-1][:3] == ("evaluate", 61, 61)
    before = contents(place)
    plan = dict(evaluating.check(config))
    assert plan["found"] == "train 61"
    assert plan["seen as"] == "16x16 pixels, squash"
    assert plan["run"].endswith("weights ema")
    assert contents(place) == before


def test_figures_go_into_the_run(place):
    for weights, name in (("model", "evaluate-images-val.json"), ("ema", "evaluate-images-val-ema.json")):
        rows = dict(evaluating.evaluate(Evaluate(**keys(place, weights=weights, val_fraction=0.4, seed=3))))
        assert rows["figures"] == place.uri_of(f"run/{name}")
        assert 10 < json.loads(place.read(f"run/{name}"))["listed"] < 40
        place.delete(f"run/{name}")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ([], "keys dataset None and images None; expected one of them"),
        (["dataset=a", "images=b"], "keys dataset 'a' and images 'b'; expected one of them"),
        (["dataset=a", "val_fraction=0.1"], "val_fraction with dataset; expected none, since it is not read; drop it"),
        (["dataset=a", "source.kind=flat"], "source.kind with dataset"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_evaluate_wants_one_thing_to_look_at(capsys, more, text, dry):
    assert text in refused(capsys, "evaluate", "run=c", *more, *dry)


def test_unknown_classes_are_found_before_anything_is_done(capsys, place, tmp_path):
    owls = write_files(tmp_path / "images", image_files(3, classes=("cat",)) | {"owl/a.png": b"never decoded"})
    error = refused(capsys, "evaluate", f"images={owls.uri}", f"run={place.uri_of('run')}", "split=train", "--dry-run")
    assert "1 classes that" in error
    assert "'owl'" in error


def test_predict(place, tmp_path):
    config = Predict(**keys(place, output=str(tmp_path / "out" / "found.parquet"), top_k=2))
    rows = dict(predicting.predict(config))
    table = pq.read_table(tmp_path / "out" / "found.parquet")
    assert rows["images"] == "61 listed = 60 predicted + 1 rejected"
    assert rows["rejected"] == str(tmp_path / "out" / "found-rejected.parquet")
    right = sum(a == b for a, b in zip(table["label"].to_pylist(), table["source_label"].to_pylist(), strict=True))
    assert rows["as the source labels them"] == f"{right} of 60 ({right / 60:.2%})"
    name = tmp_path / "out" / "found.parquet.predict.run.json"
    record = json.loads(name.read_text())
    assert (record["verb"], record["config"]["top_k"]) == ("predict", 2)
    told = {"source": "not looked at again; overwrite=true predicts anew"}
    assert dict(predicting.predict(config)) == rows | told  # again, and nothing to do
    predicting.predict(Predict(**keys(place, output=str(tmp_path / "out" / "other.csv"))))  # another one beside it
    assert json.loads(name.read_text()) == record
    history = (tmp_path / "out" / "found.parquet.predict.history.jsonl").read_text().splitlines()
    assert [json.loads(line)["config"]["top_k"] for line in history] == [2]
    (run,) = list_runs(Folder(tmp_path / "out"))
    assert (run.verb, run.state) == ("predict", "done")


def test_predict_is_planned_without_a_trace(capsys, place, tmp_path):
    arguments = [f"{k}={v}" for k, v in keys(place, output=str(tmp_path / "out" / "a.csv"), num_actors=0).items()]
    main(["predict", *arguments, "--dry-run"])
    shown = capsys.readouterr().out
    assert "weights model, 3 classes" in shown
    assert "not used: one process" in shown
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    for more, text in (
        (["output=a.txt"], "ends in .parquet or .csv"),
        (["split=nowhere"], "split 'nowhere' of"),
        ([f"tokenizer={place.uri_of('images')}"], "expected tokenizer.json; name its folder with tokenizer=FOLDER"),
        (["run=/no/such/run"], "/no/such/run does not exist"),
    ):
        assert text in refused(capsys, "predict", *arguments, *more, "--dry-run")


def test_a_training_on_pixels_and_an_evaluation_leave_out_the_same_images(tmp_path):
    files = {f"train/{name}": data for name, data in image_files(24, side=16).items()}
    files |= {f"val/{name}": data for name, data in image_files(20, side=16, first=100).items()}
    lost = sorted(name for name in files if name.startswith("val/"))[3]
    images = write_files(tmp_path / "photos", files | {lost: b"no picture"})
    small = [*("model.size=nano", "model.width=16", "model.depth=1", "model.num_heads=2", "model.dropout=0")]
    small += ["pixels.image_size=16", "pixels.patch_size=4", "loop.epochs=1", "loop.global_batch_size=12"]
    small += [
        "optimizer.warmup_epochs=0",
        "workers.num_workers=0",
        f"images={images.uri}",
        f"output={tmp_path}",
        "run=a",
    ]
    told = []
    finetune(load(Finetune, [], small), lambda *state: told.append(state[1:]))
    assert (1, 1, "1 of 20 images that cannot be read are left out of the figures") in told
    metrics = json.loads((tmp_path / "a" / "model.json").read_text())["metrics"]
    evaluating.evaluate(load(Evaluate, [], [f"images={images.uri}", f"run={tmp_path}/a", f"output={tmp_path}/b.json"]))
    figures = json.loads((tmp_path / "b.json").read_text())
    assert (figures["samples"], len(figures["rejected"])) == (19, 1)
    assert [figures[name] for name in ("top1", "loss")] == pytest.approx([metrics["val_top1"], metrics["val_loss"]])
