"""The quickstart: what its phases are set to, and one small run with its report."""

import json

import pytest

from seit_ray.config import Quickstart, RunAll, load
from seit_ray.models.exports import import_model
from seit_ray.storage import Folder
from seit_ray.studies.stopwatch import seconds_of
from seit_ray.verbs.quickstart import PHASES, parts, quickstart, sized
from seit_ray.verbs.run_all import phases
from tests.report.browser import overflows
from tests.report.test_page import Outline
from tests.tiny_images import contents, image_files, write_files

SMALL = [
    "centroid={image_size: 16, patch_size: 4, codebook_size: 16}",
    "tokenize={val_fraction: 0.3, num_actors: 1}",
    "workers.num_workers=0",
    "finetune.model={size: nano, depth: 1}",
    "finetune.loop={epochs: 1, global_batch_size: 20}",
    "finetune.optimizer.warmup_epochs=0",
]
PRETRAINED = [
    "pre_train=true",
    "pretrain.model={size: nano, depth: 1}",
    "pretrain.loop={epochs: 1, global_batch_size: 20}",
    "pretrain.optimizer.warmup_epochs=0",
]


def config_of(images, output, *more, files=()):
    return load(Quickstart, list(files), [f"images={images}", f"output={output}", *more])


def test_pre_training_is_a_phase_only_where_it_is_asked_for():
    plain, first = (config_of("/photos", "/out", *SMALL, *more) for more in ([], PRETRAINED))
    assert [*parts(plain)] == ["fit_tokenizer", "tokenize_images", "finetune", "evaluate"]
    assert [*parts(first)] == [*PHASES]
    assert parts(plain)["finetune"].init_from is None
    assert parts(first)["finetune"].init_from == "/out/pretrain"


def test_run_all_pre_trains_unless_told_not_to():
    words = ["images=/photos", "output=/all"]
    assert [*phases(load(RunAll, [], words))] == [*PHASES]
    assert "pretrain" in phases(load(RunAll, ["run_all_nano"], words))
    assert "pretrain" not in phases(load(RunAll, [], [*words, "pre_train=false"]))


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["pretrain.loop.epochs=50"], "section pretrain with pre_train=false; expected pre_train=true"),
        (["pre_train=true", "finetune.model.inputs=codebook"], "inputs codebook and stem_layers 0 with pre_train"),
        (["pre_train=true", "finetune.model.stem_layers=2"], "inputs learned and stem_layers 2 with pre_train"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(more, line):
    with pytest.raises(ValueError, match=line):
        config_of("/photos", "/out", *more)


@pytest.mark.parametrize(
    ("side", "stem", "found"),
    [
        (28, "{stem_kernel: 3, stem_stride: 2, stem_padding: 1}", 28),
        (33, "{stem_kernel: 3, stem_stride: 2, stem_padding: 1}", 28),
        (90, "{stem_kernel: 3, stem_stride: 2, stem_padding: 1}", 44),
        (37, "{stem_kernel: 2}", 32),
        (37, "{stem_kernel: 1}", 36),
        (5, "{stem_kernel: 3, stem_stride: 2, stem_padding: 1}", 4),
        (2, "{stem_kernel: 2}", 8),
    ],
)
def test_small_images_are_not_enlarged(tmp_path, side, stem, found):
    write_files(tmp_path / "photos", image_files(6, side=side))
    words = ["centroid={image_size: 44, patch_size: 4}", f"finetune.model={stem}", "enlarge=false"]
    config = config_of(tmp_path / "photos", tmp_path / "out", *words)
    assert sized(config).centroid.image_size == found
    assert sized(sized(config)) == sized(config)
    assert sized(config.model_copy(update={"enlarge": True})).centroid.image_size == 44


def test_the_recipe_sees_the_sample_as_it_is():
    config = sized(load(Quickstart, ["quickstart"], []))
    assert config.centroid.image_size == 28
    assert "pretrain" not in parts(config)


@pytest.fixture(scope="module")
def made(ray_cluster, tmp_path_factory):
    """(config, output, table) of a quickstart with pre-training."""
    place = tmp_path_factory.mktemp("made")
    write_files(place / "photos", image_files(60))
    config = config_of(place / "photos", place / "out", *SMALL, *PRETRAINED)
    return config, Folder(place / "out"), dict(quickstart(config))


def test_the_table_compares_equal_bytes(made):
    _, output, rows = made
    figures = json.loads(output.read("finetune/evaluate-val.json"))
    found = f"{figures['top1']:.2%} +- {figures['standard_error']:.2%}"
    assert rows["top-1, transformer on tokens"] == found
    compared = [row for row in rows if row.startswith(("top-1, logistic", "the same on "))]
    assert len(compared) == 4
    assert rows["top-1, logistic regression on tokens"].endswith("%")
    assert rows["report"] == output.uri_of("report.html")
    assert set(seconds_of(output)) == set(PHASES)


def test_the_report_shows_all_that_was_found(made):
    config, output, _ = made
    page = output.read("report.html").decode()
    outline = Outline(page)
    assert outline.open == []
    titles = outline.texts("h2")
    assert titles[0] == "The same bytes, the same classifier"
    assert {"What tokens keep", "What the pre-trained model fills in", "Pre-training"} <= set(titles)
    assert {"What is taken for what", "What did what, and how long it took", "What to run next"} <= set(titles)
    cells = outline.texts("td")
    assert "all images, as tokens" in cells
    assert cells.index("all images, as tokens, transformer") > cells.index("all images, as they are")
    assert any(cell.startswith("Ray Data") for cell in cells)
    commands = " ".join(outline.texts("pre"))
    assert "make quickstart IMAGES=" in commands
    assert output.uri_of("finetune") in commands
    assert config.images in page


def test_the_report_fits_the_screen(made, tmp_path):
    page = made[1].read("report.html").decode()
    assert overflows(page, tmp_path, (400, 1400)) == {400: [], 1400: []}


def test_the_same_command_again_changes_nothing_but_records_and_the_report(made):
    config, output, rows = made
    before, _ = contents(output), output.delete("report.html")
    assert dict(quickstart(config)) == rows
    now = contents(output)
    same = {name for name in before if name != "report.html" and not name.endswith(".history.jsonl")}
    assert {name: now[name] for name in same} == {name: before[name] for name in same}
    assert all(name.endswith(".history.jsonl") for name in now.keys() - before.keys())  # that it was called again
    assert "report.html" in now
    assert len(same) > 15


def test_without_pre_training_nothing_is_filled_in(made, tmp_path):
    """With a tokenizer that is there already; what is trained is the recipe's kind of classifier."""
    config, output, _ = made
    for file, data in contents(output.join("tokenizer")).items():
        Folder(tmp_path / "out" / "tokenizer").write(file, data)
    model = (
        "finetune.model={size: nano, depth: 1, inputs: codebook, standardize: true, stem_layers: 2, stem_pixels: true}"
    )
    flips = "finetune.augment={adapt: pixels, flip_prob: 1.0, affine_prob: 0.0}"
    words = [word for word in SMALL if not word.startswith("finetune.model")]
    again = config_of(config.images, tmp_path / "out", *words, model, flips)
    table = dict(quickstart(again))
    assert table["top-1, transformer on tokens"].endswith("%")
    found, about = import_model(Folder(tmp_path / "out" / "finetune"), "classifier")
    assert (len(found.patch_embed.early), about["settings"]["pixel_side"]) == (7, 4)
    titles = Outline((tmp_path / "out" / "report.html").read_text()).texts("h2")
    assert "What tokens keep" in titles
    assert not {"What the pre-trained model fills in", "Pre-training"} & set(titles)
