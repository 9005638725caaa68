"""A study of transfer on tiny images, in this process: its cells, and that each starts from what it says."""

import csv
import io
import json
from functools import partial

import pytest
import timm
import torch
from safetensors.torch import save as save_tensors

from seit_ray.config import StudyTransfer, load
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.weights import load_weights
from seit_ray.runs.settings import PixelSettings
from seit_ray.shards.dataset import TokenDataset
from seit_ray.storage import Folder
from seit_ray.studies import transfer_stages
from seit_ray.studies.image_set import ImageSet
from seit_ray.studies.lines import Line
from seit_ray.studies.methods import METHODS
from seit_ray.studies.transfer_report import efficiency_rows
from seit_ray.studies.transfer_stages import refuse_other_images
from seit_ray.studies.trials import Outcome, read_outcomes, trial_folder
from seit_ray.training.world import World
from seit_ray.verbs.command.study_checks import check_transfer
from seit_ray.verbs.study_transfer import check, study_of_transfer, study_transfer, unheeded
from tests.tiny_images import image_files, write_files

SHORT = {
    "loop": {"epochs": 1, "global_batch_size": 30, "trackers": []},
    "optimizer": {"lr": 3e-3, "warmup_epochs": 0.5},
}
COLUMNS = ["probe_tokens", "finetune_tokens", "finetune_new_tokens", "finetune_pixels"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """a/ of three classes, b/ of two others of them; not to be changed."""
    place = Folder(tmp_path_factory.mktemp("sets"))
    for name, classes, first in (("a", ("cat", "dog", "emu"), 0), ("b", ("emu", "dog"), 1000)):
        write_files(place.join(name, "train"), image_files(60, classes=classes, first=first))
        write_files(place.join(name, "val"), image_files(20, classes=classes, first=first + 500))
    return place


CCVIT = {"early_layers": 1, "head_layers": 1, "num_near": 4}


def transfer_config(sets, output, *words, **changes):
    """A small study; of the trainings what its rows read, unless `changes` say more."""
    rows = changes.get("rows", StudyTransfer.model_fields["rows"].default)
    learnt = [METHODS[row].objective for row in rows if row in METHODS]
    trained = {"pretrain": {**SHORT, **({"ccvit": CCVIT} if "ccvit" in learnt else {})}} if learnt else {}
    trained |= {"supervised": SHORT} if {"supervised", "pixels"} & set(rows) else {}
    values = {
        "images": sets.uri_of("a"),
        "targets": [sets.uri_of("b")],
        "output": str(output),
        "seeds": [0],
        "columns": COLUMNS,
        "pixels": {"image_size": 16, "patch_size": 4, "crop_area": None},
        "tokenizer": {"patch_size": 4, "codebook_size": 8},
        "model": {"size": "nano", "width": 32, "depth": 2, "num_heads": 2, "drop_path": 0.0},
        **trained,
        "finetune": SHORT,
        "trials": {"max_concurrent": 0},
        **changes,
    }
    return load(StudyTransfer, [], [*(f"{key}={json.dumps(value)}" for key, value in values.items()), *words])


@pytest.fixture(scope="module")
def finished(sets, tmp_path_factory):
    """(config, folder, rows) of a study with every row; not to be changed."""
    rows = ["scratch", "supervised", "mtm", "ccvit", "dtm", "pixels"]
    config = transfer_config(sets, tmp_path_factory.mktemp("transfer"), rows=rows)
    return config, Folder(config.output), study_transfer(config)


def table(folder):
    found = csv.DictReader(io.StringIO(folder.read("table.csv").decode()))
    return {(line["target"], line["row"], line["column"]): line for line in found}


def test_every_cell_is_measured(finished):
    _, folder, rows = finished
    lines = table(folder)
    cells = {("b", row, column) for row in ("scratch", "supervised", "mtm", "ccvit", "dtm") for column in COLUMNS}
    assert set(lines) == cells | {("b", "pixels", "finetune_pixels")}
    assert all(line["seeds"] == "1" and line["test_images"] == "20" for line in lines.values())
    assert all(0 <= float(line["top1"]) <= 1 for line in lines.values())
    assert float(lines["b", "supervised", "probe_tokens"]["top1"]) > 0.7  # two classes, told by colour
    assert dict(rows)["b, mtm"].startswith("probe_tokens ")
    page = folder.read("report.html").decode()
    assert "Transfer to b" in page
    assert page.count("<svg") == 1


NEW_ROWS = [
    "scratch_ccvit",
    "mtm",
    *("dtm_codebook", "dtm_run", "dtm_stream"),
    "ccvit_dtm",
    "ccvit_images",
    "dtm_images",
]


@pytest.fixture(scope="module")
def morphed(sets, tmp_path_factory):
    """(config, rows, what each pre-training was given) of a study with the rows that have targets of their own."""
    place, given = tmp_path_factory.mktemp("morphed"), []
    Folder(place).write("teacher.safetensors", save_tensors(timm.create_model("test_vit", num_classes=0).state_dict()))
    dtm = {"teacher": "test_vit", "teacher_weights": str(place / "teacher.safetensors")}
    config = transfer_config(
        sets,
        place / "study",
        rows=NEW_ROWS,
        columns=["probe_tokens", "finetune_tokens"],
        pretrain={**SHORT, "ccvit": CCVIT, "dtm": dtm},
        pixels={"image_size": 40, "patch_size": 4, "crop_area": None, "max_images": 60},  # in 10x10, as the teacher
        second_codebook_size=16,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("pretrain_tokens", "pretrain_ccvit", "pretrain_dtm"):
            patch.setattr(transfer_stages, name, partial(noting, given, name, getattr(transfer_stages, name)))
        rows = study_transfer(config)
    return config, rows, given


def noting(given, name, pretrain, **arguments):
    """Pre-train, and note how."""
    given.append((name, arguments))
    return pretrain(**arguments)


def test_every_target_of_morphing_and_pre_training_on_images_have_rows(morphed):
    config, _, given = morphed
    found = [
        (name, arguments["dtm"].target if arguments.get("dtm") else None, arguments["loop"].ema_decay)
        for name, arguments in given
    ]
    assert found == [
        ("pretrain_tokens", None, 0.0),
        ("pretrain_tokens", "codebook", 0.0),
        ("pretrain_tokens", "stream", 0.0),
        ("pretrain_ccvit", None, 0.996),  # beside CCViT: the moving average
        ("pretrain_ccvit", None, 0.0),
        ("pretrain_dtm", "teacher", 0.0),
        ("pretrain_tokens", "run", 0.0),
    ]
    arguments = dict(
        zip(("mtm", "codebook", "stream", "ccvit_dtm", "ccvit_images", "teacher", "run"), given, strict=True)
    )
    assert arguments["run"][1]["sources"].run == arguments["mtm"][1]["run"]
    second = TokenDataset(arguments["stream"][1]["sources"].dataset).info
    assert second.codebook_size == 16
    assert second.grid == TokenDataset(arguments["mtm"][1]["dataset"]).info.grid == (10, 10)
    assert arguments["ccvit_images"][1]["images"].uri == arguments["teacher"][1]["images"].uri == config.images
    lines = table(Folder(config.output))
    assert set(lines) == {("b", row, column) for row in NEW_ROWS for column in config.columns}
    assert not any(line["failed"] for line in lines.values())
    cells = {
        (t.settings["row"], t.settings["column"]): t for t in study_of_transfer(config).trials if "row" in t.settings
    }
    for row in ("scratch_ccvit", "ccvit_images", "dtm_images"):
        about = json.loads(cells[row, "finetune_tokens"].stages[-1].arguments["run"].read("model.json"))
        assert (about["settings"]["encoder"], about["settings"]["inputs"]) == ("beit", "codebook")


def test_probes_say_neighbours_and_rank_and_trainings_how_fast_they_were(morphed):
    config, rows, _ = morphed
    for (_, row, column), line in table(Folder(config.output)).items():
        words = dict(rows)[f"b, {row}"]
        if column == "probe_tokens":
            assert 0.3 < float(line["knn_top1"]) <= 1
            assert 1 <= float(line["rankme"]) <= 32
            assert f"kNN {100 * float(line['knn_top1']):.1f}, RankMe {float(line['rankme']):.1f}" in words
        else:
            assert not line["knn_top1"]
    page = Folder(config.output).read("report.html").decode()
    assert "RankMe, probe, tokens" in page
    assert "Training on A" in page
    trials = csv.DictReader(io.StringIO(Folder(config.output).read("trials.csv").decode()))
    rates = {line["made"]: line["samples_per_s"] for line in trials if line["made"].startswith("pre-training")}
    assert len(rates) == 7
    assert all(float(rate) > 0 for rate in rates.values())


def test_storage_efficient_pre_training_compares_the_same_bytes(finished):
    _, folder, rows = finished
    made = {o.settings["made"]: o.figures for o in read_outcomes(folder) if "made" in o.settings}
    tokens, pixels = (made[f"pre-training {row}, seed 0"] for row in ("supervised", "pixels"))
    assert 0 < pixels["bytes"] <= tokens["bytes"]
    assert pixels["images"] < tokens["images"] == 60
    assert pixels["steps"] == tokens["steps"]
    ways = {name: text for name, text in rows if "->" in name or "scratch on" in name}
    assert "b: from scratch on tokens of the target" in ways
    assert "b: tokens of A, supervised -> tokens of the target" in ways
    assert "b: tokens of A, supervised -> pixels of the target" in ways
    assert "of A)" in ways["b: pixels of A -> pixels of the target"]
    assert "Storage-efficient pre-training" in folder.read("report.html").decode()


def test_cells_start_from_their_row_and_read_their_column(finished):
    config, folder, _ = finished
    study = study_of_transfer(config)
    cells = {
        (trial.settings["row"], trial.settings["column"]): (trial, trial.stages[-1].arguments)
        for trial in study.trials
        if "row" in trial.settings
    }
    datasets = {name: TokenDataset(cells["mtm", name][1]["store"].join("data")).info for name in COLUMNS[1:3]}
    own = TokenDataset(trial_folder(folder, cells["mtm", "finetune_tokens"][0].needs[0]).join("store", "data")).info
    assert own.tokenizer == datasets["finetune_tokens"].tokenizer != datasets["finetune_new_tokens"].tokenizer
    a_run = cells["mtm", "finetune_tokens"][1]["start"]
    assert cells["scratch", "finetune_tokens"][1]["start"] is None
    about = json.loads(cells["mtm", "finetune_pixels"][1]["run"].read("model.json"))
    assert (about["init_from"], about["image_size"]) == (a_run.uri, 16)
    assert about["settings"]["inputs"] == "pixels"
    fine = load_weights(cells["ccvit", "finetune_tokens"][1]["run"].read("model.safetensors"))
    assert not torch.isnan(next(iter(fine.values()))).any()
    assert json.loads(cells["ccvit", "finetune_tokens"][1]["run"].read("model.json"))["settings"]["encoder"] == "beit"


def test_a_target_that_is_set_a_is_listed_and_tokenised_once(sets, tmp_path):
    config = transfer_config(sets, tmp_path / "new", rows=["scratch"], targets=[sets.uri_of("a"), sets.uri_of("b")])
    trials = study_of_transfer(config).trials
    made = [trial.settings for trial in trials if "row" not in trial.settings]
    assert [next(iter(settings.values())) for settings in made] == [
        *("list of A", "list of target b", "tokens"),
        *("tokens of the same tokenizer b", "tokens of its own tokenizer b"),
    ]
    of_a = {t.settings["column"]: t.stages[-1].arguments for t in trials if t.settings.get("target") == "a"}
    assert of_a["finetune_tokens"]["store"] == of_a["finetune_new_tokens"]["store"] == trials[2].stages[-1].run
    assert of_a["finetune_pixels"]["listing"] == trials[0].stages[-1].run


def test_a_study_that_has_ended_does_nothing_again(finished):
    config, folder, _ = finished
    before = {entry.name: folder.version(entry.name) for entry in folder.list("trials/")}
    tables = [folder.read(name) for name in ("table.csv", "trials.csv")]
    study_transfer(config)
    assert {name: folder.version(name) for name in before} == before
    assert [folder.read(name) for name in ("table.csv", "trials.csv")] == tables


def test_a_study_continued_with_other_rows_or_targets_is_refused(finished, sets):
    config, _, _ = finished
    with pytest.raises(ValueError, match=r"other arms: now without b, ccvit, probe_tokens \| b, ccvit, "):
        check(transfer_config(sets, config.output, rows=["scratch", "supervised", "mtm", "dtm", "pixels"]))
    with pytest.raises(ValueError, match=r"other arms: now without b, .* and with a, scratch, probe_tokens"):
        check(transfer_config(sets, config.output, images=sets.uri_of("b"), targets=[sets.uri_of("a")]))


def test_pixels_that_are_no_longer_those_that_the_study_listed_are_refused(sets, tmp_path):
    place = Folder(tmp_path / "b")
    write_files(place, {entry.name: sets.join("b").read(entry.name) for entry in sets.join("b").list()})
    data, pixels = ImageSet(place, SourceSettings()), PixelSettings()
    listing = Folder(tmp_path / "listing")
    data.listed(listing)
    refuse_other_images(Folder(tmp_path / "run"), data, listing, pixels, World())
    place.delete(next(entry.name for entry in place.list("train/")))
    for _ in range(2):
        with pytest.raises(ValueError, match="has other images than when the study listed them; expected the same"):
            refuse_other_images(Folder(tmp_path / "other"), data, listing, pixels, World())


def test_what_some_rows_do_not_heed_is_said(sets, tmp_path):
    config = transfer_config(sets, tmp_path / "new", rows=["scratch", "mtm", "ccvit"], model={"stem_layers": 2})
    trials = [trial for trial in study_of_transfer(config).trials if "row" in trial.settings]
    layers = {trial.settings["row"]: trial.stages[-1].arguments["model"].stem_layers for trial in trials}
    assert layers == {"scratch": 2, "mtm": 0, "ccvit": 0}
    assert said(check(config)) == ["model.stem_layers 2 by rows mtm (0), ccvit (0), whose encoders fix it"]
    assert said(check(transfer_config(sets, tmp_path / "new", rows=["pixels", "mtm"]))) == []


UNREAD = {  # of rows and columns that are left out, as those of a recipe may be
    "rows=[mtm] supervised.loop.epochs=9": ["section supervised, as none of the rows mtm is trained so"],
    "rows=[scratch,supervised] pretrain.loop.epochs=99 pretrain.dtm.levels=3": [
        "section pretrain, as none of the rows scratch, supervised is trained so"
    ],
    "rows=[mtm] columns=[probe_tokens]": ["section finetune, as none of the columns probe_tokens is trained so"],
    "rows=[mtm] pretrain.dtm.levels=3": ["section pretrain.dtm, as none of the rows mtm reads it"],
    "rows=[mtm] pretrain.ccvit.num_near=3": ["section pretrain.ccvit, as none of the rows mtm reads it"],
    "rows=[ccvit] pretrain.ccvit.num_near=4 pretrain.masking.loss=bce": [
        "section pretrain.masking, as none of the rows ccvit reads it"
    ],
    "rows=[ccvit] pretrain.ccvit.sees=pixels pretrain.augment.random_crop=true": [
        "section pretrain.augment, as none of the rows ccvit reads it"
    ],
    "rows=[mtm,dtm] pretrain.dtm.teacher=test_vit second_codebook_size=16": [
        "pretrain.dtm.teacher, as the row dtm_images alone reads it",
        "second_codebook_size, as the row dtm_stream alone reads it",
    ],
    "rows=[mtm] model.stem_layers=2": ["model.stem_layers 2 by rows mtm (0), whose encoders fix it"],
    "rows=[mtm,dtm,supervised] pretrain.dtm.levels=3 supervised.loop.epochs=9": [],
}
WRONG = {
    "rows=[mtm] finetune.augment.synonym_share=0.5": "finetune.augment.synonym_share with finetune.augment.synonym_pro",
    "rows=[mtm] supervised.augment.synonym_share=0.5": "supervised.augment.synonym_share with supervised.augment.syn",
    "rows=[mtm] pretrain.masking.mask_ratio_max=0.2": "row mtm: mask ratio minimum 0.4, maximum 0.2",
    "rows=[scratch] model.width=30": "row scratch: width 30 with num_heads 4",
    "rows=[mtm] pretrain.augment.synonym_prob=1 pretrain.augment.num_synonyms=8": "row mtm: augment.num_synonyms 8 of",
    "rows=[mtm] pretrain.loop.keep_best=val_topp1": "loop.keep_best val_topp1",
    "rows=[ccvit] pretrain.ccvit.num_near=8": "row ccvit: ccvit.num_near 8 of 8 codes; expected fewer",
    "rows=[ccvit] pretrain.ccvit.early_layers=5": "row ccvit: early_layers 5 of 4 blocks",
    "rows=[ccvit_images] pretrain.ccvit.num_masked=17": "row ccvit_images: 17 masked and 2 replaced patches of 16",
    "rows=[dtm] pretrain.dtm.max_removed=17": "row dtm: 2 levels of at most 17 merges of 16 tokens",
    "rows=[mtm,dtm_run] pretrain.dtm.max_removed=17": "row dtm_run: 2 levels of at most 17 merges",
    "rows=[mtm] finetune.augment.adapt_run=SETS": "row mtm: no finished run in .*a; expected model.json",
    "rows=[scratch_ccvit] finetune.augment.max_shear=90 finetune.augment.adapt=pixels": "row scratch_ccvit: max_angle",
    "rows=[scratch] finetune.loop.keep_best=val_loss1": "loop.keep_best val_loss1; did you mean val_loss",
}


def words_of(sets, output, words):
    """The config of a study of these words, beside small sizes."""
    values = {"images": sets.uri_of("a"), "targets": [sets.uri_of("b")], "output": str(output)}
    values |= {"pixels": {"image_size": 16, "patch_size": 4}, "tokenizer": {"patch_size": 4, "codebook_size": 8}}
    values |= {"model": {"size": "nano"}, "finetune": {"loop": {"epochs": 99}}, "trials": {"max_concurrent": 0}}
    if "ccvit" in words and "num_near" not in words:
        values["pretrain"] = {"ccvit": {"num_near": 4}} if "rows=[scratch_ccvit]" not in words else {}
    given = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    return load(StudyTransfer, [], [*given, *words.replace("SETS", sets.uri_of("a")).split()])


@pytest.mark.parametrize("words", WRONG)
def test_what_would_end_a_row_is_told_by_the_dry_run(sets, tmp_path, words):
    with pytest.raises(ValueError, match=WRONG[words]) as caught:
        check(words_of(sets, tmp_path / "new", words))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("words", UNREAD)
def test_what_rows_that_are_left_out_would_read_is_said_and_not_refused(sets, words):
    config = words_of(sets, "new", words)
    check_transfer(config)
    assert said(unheeded(config)) == UNREAD[words]


def said(rows):
    """What is not heeded, a line each."""
    return [text for name, text in rows if name == "not heeded"]


def test_bytes_of_a_are_means_over_the_seeds():
    made = [
        Outcome(
            f"p{seed}", {"made": f"pre-training pixels, seed {seed}"}, "finished", figures={"bytes": b, "images": n}
        )
        for seed, b, n in ((0, 1000, 10), (1, 3000, 30))
    ]
    line = Line({"target": "b", "row": "pixels", "column": "finetune_pixels"}, (0.5, 0.7))
    assert efficiency_rows(made, [line]) == [("b", "pixels of A -> pixels of the target", "2 kB", "20", "60.0 +- 10.0")]


def test_the_plan_says_what_would_be_done(sets, tmp_path):
    rows = dict(check(transfer_config(sets, tmp_path / "new", rows=["scratch", "mtm"], seeds=[0, 1])))
    assert rows["trials"] == "16 that measure, 7 that make what these need"
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ["x/b", "y/b"]}, r"targets x/b, y/b; expected folders of different names; rename one"),
        ({"rows": ["scratch", "scratch"]}, r"rows scratch, scratch; expected each once"),
        ({"rows": ["pixels"], "columns": ["probe_tokens"]}, r"row pixels without a column of pixels; expected one"),
        ({"tokenizer": {"patch_size": 3}}, r"expected each to be a multiple of the next"),
        ({"model": {"stem_kernel": 2}}, r"model\.stem_kernel; expected none"),
        ({"model": {"encoder": "beit"}}, r"model\.encoder; expected none, as each row has its own"),
        ({"pretrain": {"dtm": {"target": "teacher"}}}, r"pretrain\.dtm\.target teacher; expected average or codebook"),
        ({"pretrain": {"dtm": {"target_run": "x"}}}, r"pretrain\.dtm\.target_run; expected none, as the study makes"),
        ({"rows": ["dtm_run"]}, r"row dtm_run without mtm, whose run it compares with; expected both; add mtm to rows"),
        ({"rows": ["dtm_images"]}, r"row dtm_images without pretrain\.dtm\.teacher; expected a timm model and the"),
        ({"targets": ["missing"]}, r"missing"),
        (
            {"pretrain": {"loop": {"seed": 1}}},
            r"pretrain\.loop\.seed 1; expected none, as the seed comes from seeds",
        ),
        ({"finetune": {"loop": {"seed": 2}}}, r"finetune\.loop\.seed 2; expected none"),
    ],
)
def test_mistakes_are_one_line_before_any_work(sets, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        check(transfer_config(sets, tmp_path / "new", **changes))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_target_without_a_class_in_common_is_refused(sets, tmp_path):
    place = Folder(tmp_path / "c")
    write_files(place.join("train"), image_files(6, classes=("cat", "dog")))
    write_files(place.join("val"), image_files(3, classes=("emu",)))
    with pytest.raises(ValueError, match="expected classes in common"):
        check(transfer_config(sets, tmp_path / "new", targets=[place.uri]))
