"""The verbs with a class a pixel: dry run, training, evaluation with its report, label maps of new images."""

import csv
import io
import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from seit_ray import config
from seit_ray.distributed.data import predict_job
from seit_ray.shards.parquet import parquet_table
from seit_ray.storage import Folder
from seit_ray.storage.lock import LockedError, locked
from seit_ray.verbs.evaluate import check as check_evaluate
from seit_ray.verbs.evaluate import evaluate
from seit_ray.verbs.finetune import check as check_finetune
from seit_ray.verbs.finetune import finetune, given
from seit_ray.verbs.inspect_tokens import inspect_tokens
from seit_ray.verbs.predict import check as check_predict
from seit_ray.verbs.predict import predict
from tests.images.sources.made_pairs import write_pairs
from tests.tiny_classifiers import write_classifier
from tests.tiny_dataset import write_dataset
from tests.tiny_images import contents
from tests.tiny_maps import VOID, camvid_files, scene, write_camvid, write_map_dataset
from tests.verbs.killed import killed_at

LOCAL = {"num_workers": 0}
MODEL = {"size": "nano", "width": 32, "depth": 2, "num_heads": 2, "token_dim": 8, "stem_kernel": 1, "drop_path": 0}
SEGMENT = {"head_width": 16, "aux_width": 16}
SOURCE = {"masks": "masks", "void": VOID, "num_classes": 3}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Scenes, their tokens, and a segmenter that was trained on them by the verb."""
    place = tmp_path_factory.mktemp("place")
    scenes = write_camvid(place / "scenes", {"train": 24, "val": 5})
    write_map_dataset(place / "tokens", scenes)
    finetune(training(place))
    return place


def training(place, **more):
    given = {
        "task": "segment",
        "dataset": str(place / "tokens"),
        "output": str(place),
        "run": "segmenter",
        "model": MODEL,
        "segment": SEGMENT,
        "loop": {"epochs": 6, "global_batch_size": 8, "trackers": []},
        "optimizer": {"lr": 3e-3, "warmup_epochs": 1, "layer_decay": 1.0},
        "workers": LOCAL,
    }
    return config.Finetune(**{**given, **more})


def test_a_finished_run_is_told_with_its_metrics_and_refuses_another_head(place):
    rows = dict(finetune(training(place)))
    assert "mean accuracy" in rows["val mIoU"]
    assert rows["next"].startswith("seit-ray evaluate dataset=")
    with pytest.raises(ValueError, match=r"segment.head 'uper' \(now 'linear'\)"):
        finetune(training(place, segment={**SEGMENT, "head": "linear"}))


def test_evaluation_leaves_figures_a_table_a_picture_and_a_page(place):
    rows = dict(evaluate(config.Evaluate(dataset=str(place / "tokens"), run=str(place / "segmenter"))))
    assert rows["val images"] == "5 listed = 5 evaluated + 0 rejected"
    run = Folder(place / "segmenter")
    figures = json.loads(run.read("segments-val.json"))
    assert {"miou", "miou_standard_error", "classes", "samples"} <= set(figures)
    assert "pictures" not in figures
    lines = list(csv.DictReader(io.StringIO(run.read("segments-val.csv").decode())))
    assert [line["class"] for line in lines] == ["0", "1", "2", "mean"]
    assert float(lines[-1]["iou"]) == pytest.approx(figures["miou"])
    assert Image.open(io.BytesIO(run.read("segments-val.png"))).size[1] > 3 * 190
    page = run.read("segments-val.html").decode()
    assert "IoU" in page
    assert "data:image/png" in page


def test_images_are_evaluated_too_and_keys_of_classifiers_are_refused(place):
    more = {"images": str(place / "scenes"), "run": str(place / "segmenter")}
    more["tokenizer"] = str(place / "tokens" / "tokenizer")
    assert dict(check_evaluate(config.Evaluate(**more, source=SOURCE)))["run"].endswith("weights model")
    evaluate(config.Evaluate(**more, source=SOURCE))
    on_tokens = config.Evaluate(dataset=str(place / "tokens"), run=str(place / "segmenter"))
    evaluate(on_tokens)
    both = [json.loads(Folder(place / "segmenter").read(f"segments-{kind}val.json")) for kind in ("images-", "")]
    assert both[0]["miou"] == pytest.approx(both[1]["miou"])
    with pytest.raises(ValueError, match=r"without source.masks for .*, a segmenter"):
        evaluate(config.Evaluate(**more))
    for key, value in {"occlusion": [0.5], "mirror": True}.items():
        with pytest.raises(ValueError, match=rf"{key} with .*, a segmenter"):
            evaluate(on_tokens.model_copy(update={key: value}))


def test_a_report_that_a_kill_cut_short_is_written_by_the_same_command(place, tmp_path, monkeypatch):
    named = {"dataset": str(place / "tokens"), "run": str(place / "segmenter"), "output": f"{tmp_path}/cut.json"}
    with monkeypatch.context() as killing:
        killed_at(killing, "cut.json")
        with pytest.raises(KeyboardInterrupt):
            evaluate(config.Evaluate(**named))
    assert (tmp_path / "cut.html").exists()
    assert check_evaluate(config.Evaluate(**named))
    with locked(Folder(tmp_path), "_cut.lock"), pytest.raises(LockedError):
        evaluate(config.Evaluate(**named))
    evaluate(config.Evaluate(**named))
    assert {*contents(Folder(tmp_path))} == {f"cut.{ending}" for ending in ("csv", "html", "json", "png")}


def test_a_dataset_of_pairs_is_verified_and_shown_with_its_maps(place, tmp_path):
    sheet = tmp_path / "sheet.png"
    rows = dict(inspect_tokens(config.InspectTokens(dataset=str(place / "tokens"), contact_sheet=str(sheet))))
    assert rows["classes of label maps"] == "3 (0, 1, 2)"
    assert rows["label maps"].endswith("3 classes, void 3 there")
    assert rows["verified"]
    with Image.open(sheet) as shown:
        assert shown.size[1] == 2 * 80 + 4  # decoded tokens and maps, each five times as large


def predicting(place, out, **more):
    return config.Predict(
        **{
            "images": str(place / "new"),
            "run": str(place / "segmenter"),
            "tokenizer": str(place / "tokens" / "tokenizer"),
            "output": str(out),
            "num_actors": 0,
            "rows_per_part": 3,
            **more,
        }
    )


@pytest.fixture
def new_images(place):
    """Seven new images, one of which cannot be read; written once."""
    folder = Folder(place / "new")
    for name, data in camvid_files({"train": 6}, first=70).items():
        if "/images/" in name:
            folder.write(name.replace("train/images/", "street/"), data)
    folder.write("street/broken.png", b"no picture")
    return folder


def test_label_maps_of_new_images_are_png_of_their_size_by_the_values_of_the_source(place, new_images, tmp_path):
    rows = dict(predict(predicting(place, tmp_path / "out")))
    assert rows["images"] == "7 listed = 6 predicted + 1 rejected"
    assert rows["label maps"].endswith("out/*/maps/*.png")
    out = Folder(tmp_path / "out")
    names = [name for name in contents(out) if name.endswith(".parquet") and "rejected" not in name]
    tables = [parquet_table(out.read(name)).to_pylist() for name in sorted(names)]
    found = {row["key"]: row for table in tables for row in table}
    right = []
    for seed in range(70, 76):
        row = found[f"street/{seed:04d}.png"]
        assert row["map"] == f"train/maps/street/{seed:04d}.png.png"
        values = np.asarray(Image.open(io.BytesIO(out.read(row["map"]))))
        assert values.shape == (row["height"], row["width"]) == (20, 24)
        assert {*np.unique(values).tolist()} <= {0, 1, 2}
        right.append((values == scene(seed)[1]).mean())
    assert np.mean(right) > 0.6
    marker = json.loads(out.read("predictions.json"))
    assert sum(marker["counts"]["labels"].values()) == 6 * 20 * 24
    assert {file["name"] for file in marker["parts"]} == {n for n in contents(out) if n.endswith((".png", ".parquet"))}
    assert not [name for name in contents(out) if name.startswith("_work")]


def test_a_killed_prediction_continues_and_ends_in_the_same_files(place, new_images, tmp_path, monkeypatch):
    predict(predicting(place, tmp_path / "whole"))

    class Killed(BaseException):
        pass

    write = predict_job.SegmentParts.stored
    calls = []

    def stored(self, *arguments):
        calls.append(arguments[1])
        done = write(self, *arguments)
        if len(calls) == 2:
            raise Killed
        return done

    monkeypatch.setattr(predict_job.SegmentParts, "stored", stored)
    with pytest.raises(Killed):
        predict(predicting(place, tmp_path / "cut"))
    predict(predicting(place, tmp_path / "cut"))
    assert calls == [0, 1, 2]  # what stood was not made again
    whole, cut = (contents(Folder(tmp_path / name)) for name in ("whole", "cut"))
    same = [name for name in whole if name.endswith((".png", ".parquet"))]
    assert same
    assert all(whole[name] == cut[name] for name in same)
    assert {*whole} == {*cut}


def test_outputs_and_keys_that_a_segmenter_has_not_are_refused(place, new_images, tmp_path):
    for more, what in (
        ({"output": str(tmp_path / "out.csv")}, "a segmenter; expected a folder, into which its label maps go as PNG"),
        ({"top_k": 3}, "top_k or probabilities for .*, a segmenter"),
    ):
        for call in (check_predict, predict):
            with pytest.raises(ValueError, match=what):
                call(predicting(place, tmp_path / "out", **more))


def test_a_dry_run_says_what_would_be_trained_and_what_does_not_fit(place, tmp_path):
    assert dict(check_finetune(training(place, run="other")))["steps"].startswith("18 of 8 samples")
    model = {key: value for key, value in MODEL.items() if key not in ("token_dim", "stem_kernel")}
    pixels = {"image_size": 16, "patch_size": 4}
    images = {"dataset": None, "images": str(place / "scenes"), "pixels": pixels, "model": model}
    rows = dict(check_finetune(training(place, run="other", source=SOURCE, **images)))
    assert rows["found"] == "train 24, val 5"
    assert rows["label maps"] == "a class a pixel, by values 0 to 2; void 3"
    tars, settings = write_pairs(Folder(tmp_path / "tars"), "tar", {"train": 6, "val": 2}, absent={4})
    rows = check_finetune(training(place, run="other", source=settings, **images | {"images": tars.uri}))
    assert dict(rows)["found"] == "train 6, val 2"
    assert "1 listed whose label map cannot be read: no label map: there is no 0004" in dict(rows)["note"]
    plain = write_dataset(tmp_path / "plain")
    for more, what in (
        ({"dataset": plain.uri}, "has no label maps"),
        (images, "expected the folder of their label maps; set source.masks"),
        ({**images, "source": SOURCE, "pixels": {"resize": "crop"}}, "resize 'crop' of images with label maps"),
        ({"segment": {"stride": 9}}, "segment.stride 9 of windows of 8 tokens a side"),
        ({"model": {**MODEL, "grid_side": 9}}, "model.grid_side 9; expected at most 8"),
    ):
        with pytest.raises(ValueError, match=what):
            check_finetune(training(place, run="other", **more))


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"augment": {"cutmix_alpha": 1.0}}, "augment.cutmix_alpha with task=segment; expected it with labels"),
        ({"augment": {"swap_prob": 0.5}}, "augment.swap_prob with task=segment"),
        ({"model": {"pool": "cls"}}, "model.pool with task=segment"),
        ({"task": "classify"}, "keys of segment with task=classify"),
        ({"segment": {"head_width": 12}}, "head_width"),
    ],
)
def test_keys_of_the_other_task_are_refused(tmp_path, more, what):
    with pytest.raises(ValueError, match=what):
        training(tmp_path, **more)


def test_a_classifier_is_no_segmenter_and_says_so(place, tmp_path):
    run = write_classifier(tmp_path / "classifier", Folder(place / "tokens"), class_names=("0", "1", "2"))
    with pytest.raises(ValueError, match="images without a label"):
        evaluate(config.Evaluate(dataset=str(place / "tokens"), run=run.uri))


def test_the_next_command_evaluates_the_same_images_with_the_same_classes():
    source = {"masks": "masks", "num_classes": 3, "void": 11, "exclude": ["a b/*"], "listing": "elsewhere"}
    pixels = {"val_fraction": 0.1, "seed": 4}
    trained = config.Finetune(task="segment", images="my photos", run="a", source=source, pixels=pixels)
    words = shlex.split(given(trained))
    evaluated = config.load(config.Evaluate, [], [*words, "run=a"])
    assert (evaluated.images, evaluated.source.settings()) == (
        trained.images,
        replace(trained.source.settings(), listing=None),
    )
    tars = config.Finetune(task="segment", images="tars", run="a", source={"mask_column": "seg.png", "num_classes": 3})
    assert given(tars) == "images=tars source.num_classes=3 source.mask_column=seg.png"
    assert (evaluated.val_fraction, evaluated.seed) == (0.1, 4)


def test_images_are_evaluated_again_and_a_part_of_them_apart(place):
    given = {"images": str(place / "scenes"), "run": str(place / "segmenter"), "tokenizer": f"{place}/tokens/tokenizer"}
    evaluate(config.Evaluate(**given, source=SOURCE))
    evaluate(config.Evaluate(**given, source=SOURCE))  # the same again
    part = config.Evaluate(**given, source={**SOURCE, "limit": 2})
    with pytest.raises(ValueError, match=r"segments-images-val.json holds figures of source .*; set output=FILE.json"):
        evaluate(part)


@pytest.mark.parametrize("void", [0, 1])
def test_maps_whose_classes_have_other_numbers_are_refused(place, void):
    given = {"images": str(place / "scenes"), "run": str(place / "segmenter"), "tokenizer": f"{place}/tokens/tokenizer"}
    moved = config.Evaluate(**given, source={**SOURCE, "void": void}, output=f"{place}/moved-{void}.json")
    for asked in (check_evaluate, evaluate):
        with pytest.raises(ValueError, match=rf"label maps with void {void}; expected 3, by which .* numbers"):
            asked(moved)
