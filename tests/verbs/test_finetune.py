"""Fine-tuning on pixels: what is held out there was held out of what it starts from; a step again, by itself."""

import json
from dataclasses import asdict, replace

import pytest

from seit_ray.config import Finetune, load
from seit_ray.models.variants import SIZES
from seit_ray.shards import TokenDataset
from seit_ray.storage import Folder
from seit_ray.verbs.finetune import check, check_data, finetune
from tests.tiny_dataset import write_dataset
from tests.tiny_images import contents, image_files, write_files
from tests.training.test_skipping import BadGradients

BASE = {"size": asdict(SIZES["base"]), "grid": [4, 4], "stem_kernel": 2, "token_dim": 32}


@pytest.fixture
def place(tmp_path):
    """photos/, tokens/ of them with a hold-out of their own, and mtm/, trained on these."""
    images = write_files(tmp_path / "photos", image_files(20))
    tokens = write_dataset(tmp_path / "tokens")
    info = TokenDataset(tokens).info
    plan = {"images": images.uri, "val_fraction": 0.2, "seed": 3}
    tokens.write("dataset.json", replace(info, plan=plan).to_json())
    about = {"kind": "mtm", "tokenizer": info.tokenizer, "data": tokens.uri, "settings": BASE}
    Folder(tmp_path / "mtm").write("model.json", json.dumps(about).encode())
    return tmp_path


def config_of(place, *more):
    keys = [f"images={place}/photos", f"init_from={place}/mtm", f"output={place}", "run=a", "transfer=true"]
    return load(Finetune, [], [*keys, *more])


@pytest.mark.parametrize("keys", [["pixels.val_fraction=0.2"], ["pixels.val_fraction=0.3", "pixels.seed=3"]])
def test_another_hold_out_than_that_of_the_tokens_is_refused(place, keys):
    with pytest.raises(ValueError, match=r"expected 0\.2 and 3, the hold-out of what .*mtm was trained on"):
        check_data(config_of(place, *keys))


def test_tokens_with_another_hold_out_than_that_of_the_tokens_of_the_run_are_refused(place):
    others = write_dataset(place / "others")
    plan = {"images": Folder(place / "photos").uri, "val_fraction": 0.2, "seed": 4}
    keys = [f"dataset={others.uri}", f"init_from={place}/mtm", f"output={place}", "run=a"]
    about = json.loads((place / "mtm" / "model.json").read_text()) | {"grid": [4, 4], "codebook_size": 16}
    (place / "mtm" / "model.json").write_text(json.dumps(about))
    for more in ([], ["transfer=true"]):
        others.write("dataset.json", replace(TokenDataset(others).info, plan=plan).to_json())
        with pytest.raises(ValueError, match=r"val_fraction 0.2 and seed 4; expected 0.2 and 3, the hold-out"):
            check_data(load(Finetune, [], [*keys, *more]))
        others.write("dataset.json", replace(TokenDataset(others).info, plan=plan | {"seed": 3}).to_json())
        assert check_data(load(Finetune, [], [*keys, *more])).uri == others.uri


def test_another_hold_out_than_that_of_a_run_on_the_same_images_is_refused(place):
    images = Folder(place / "photos").uri
    decided = {"images": images, "pixels.val_fraction": 0.2, "pixels.seed": 3}
    about = {"kind": "dtm", "image_size": 16, "data": images, "settings": BASE, "decided_by": decided}
    Folder(place / "mtm").write("model.json", json.dumps(about).encode())
    check_data(config_of(place, "pixels.val_fraction=0.2", "pixels.seed=3"))
    for keys in (["pixels.val_fraction=0.2"], ["pixels.val_fraction=0.3", "pixels.seed=3"]):
        with pytest.raises(ValueError, match=r"expected 0.2 and 3, the hold-out"):
            check_data(config_of(place, *keys))


@pytest.mark.parametrize(
    ("of_run", "of_training", "said"),
    [
        (
            {"image_size": 16, "patch_size": 4, "resize": "crop"},
            "dataset={place}/tokens model.inputs=codebook",
            "dataset with init_from; expected transfer=true, .* on images",
        ),
        (
            {"grid": [4, 4], "codebook_size": 16},
            "images={place}/photos",
            "images with init_from; expected transfer=true, .* on tokens",
        ),
    ],
)
def test_from_images_to_tokens_and_back_takes_a_transfer(place, of_run, of_training, said):
    about = {"kind": "dtm", "data": "elsewhere", "settings": BASE} | of_run
    Folder(place / "mtm").write("model.json", json.dumps(about).encode())
    keys = [*of_training.format(place=place).split(), f"init_from={place}/mtm", f"output={place}", "run=a"]
    with pytest.raises(ValueError, match=said):
        check_data(load(Finetune, [], keys))
    assert check_data(load(Finetune, [], [*keys, "transfer=true"]))


def test_the_same_hold_out_and_other_images_are_fine(place):
    photos, elsewhere = Folder(place / "photos").uri, write_files(place / "others", image_files(20))
    same = check_data(config_of(place, "pixels.val_fraction=0.2", "pixels.seed=3", "loop.seed=5"))
    assert same.uri == photos
    assert check_data(config_of(place)).uri == photos  # nothing is held out here
    found = check_data(config_of(place, f"images={elsewhere.uri}", "pixels.val_fraction=0.5"))
    assert found.uri == elsewhere.uri
    (place / "tokens" / "dataset.json").unlink()
    assert check_data(config_of(place, "pixels.val_fraction=0.5")).uri == photos  # the tokens are not at hand any more


SHORT = ["loop.epochs=3", "optimizer.warmup_epochs=1"]
TOO_MUCH = {
    "model.stem_kernel=3": "grid 4x4 under a stem of kernel 3, stride 3",
    "model.grid_side=2 model.stem_kernel=4": "grid 2x2 under a stem of kernel 4",
    "augment.synonym_prob=0.5 augment.num_synonyms=16": "augment.num_synonyms 16 of 16 codes; expected 1 to 15",
    "model.encoder=beit model.inputs=codebook model.standardize=true": "model.standardize True with encoder beit",
    "model.encoder=beit model.inputs=codebook model.stem_layers=2": "model.stem_layers 2 with encoder beit",
    "model.encoder=beit model.inputs=codebook model.stem_padding=1": "model.stem_stride 2 and stem_padding 1 with",
    "model.stem_kernel=1 model.stem_padding=1": "stem kernel 1, stride 1, padding 1; expected",
    "augment.adapt=pixels augment.max_shear=90": "max_shear 90.0; expected 0 or more, and a shear below 90 degrees",
    "augment.adapt=pixels augment.noise_prob=1 augment.color_before_crop=false": "color_before_crop False with TokenA",
    "augment.adapt_run={place}/mtm": "mtm holds a model of kind 'mtm'; expected 'tokenadapt'",
    "augment.adapt_run={place}/adapt": "adapt was made with tokenizer 'other'",
    "augment.adapt_run={place}/whole model.grid_side=2": r"TokenAdapt of grids .* to \(4, 4\); expected .* to \(2, 2\)",
    "init_from={place}/mtm model.width=48": "mtm has a model of width 768; expected 48, .*; set model.width=768",
    "init_from={place}/mtm model.depth=2": "mtm has a model of depth 12; expected 2",
    "init_from={place}/mtm model.token_dim=8": "mtm has a model of token_dim 32; expected 8",
    "init_from={place}/mtm model.inputs=codebook": "mtm has a model of inputs learned; expected codebook",
    "init_from={place}/mtm model.stem_layers=1": "mtm has a model of stem_layers 0; expected 1",
    "init_from={place}/mtm model.grid_side=2": "mtm sees 2x2 patches; expected the 1x1 of the model here",
    "init_from={place}/mtm model.stem_kernel=4": "mtm has a model of stem_kernel 2; expected 4",
    "init_from={place}/mtm transfer=true model.depth=2": "mtm has a model of depth 12; expected 2",
    "init_from={place}/mtm transfer=true model.token_dim=8": "mtm has a model of token_dim 32; expected 8",
}


@pytest.mark.parametrize("keys", TOO_MUCH)
def test_numbers_that_do_not_fit_the_tokens_are_told_by_the_dry_run(place, keys):
    about = json.loads((place / "mtm" / "model.json").read_text())
    adapter = {"kind": "tokenadapt", "settings": {"grid": [4, 4], "out_grid": [4, 4]}}
    for name, written in (
        ("mtm", about | {"grid": [4, 4], "codebook_size": 16}),
        ("adapt", adapter | {"tokenizer": "other"}),
        ("whole", adapter | {"tokenizer": about["tokenizer"]}),
    ):
        Folder(place / name).write("model.json", json.dumps(written).encode())
    words = keys.format(place=place).split()
    config = load(Finetune, [], [f"dataset={place}/tokens", f"output={place}", "run=a", *words])
    with pytest.raises(ValueError, match=TOO_MUCH[keys]):
        check(config)
    if "init_from" in keys:  # the same without what does not fit
        fitting = [word for word in words if not word.startswith("model.")]
        check_data(load(Finetune, [], [f"dataset={place}/tokens", f"output={place}", "run=a", *fitting]))


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (["pixels.patch_size=3"], "pixels.image_size 16; expected a multiple of pixels.patch_size 3"),
        ([*SHORT, "loop.global_batch_size=1000"], r"photos: .*1000"),
        ([*SHORT, "loop.global_batch_size=20", "pixels.max_images=5"], r"photos: .*20"),
    ],
)
def test_numbers_that_do_not_fit_the_images_are_told_by_the_dry_run(place, keys, text):
    sizes = ["pixels.image_size=16", "pixels.patch_size=4", "pixels.val_fraction=0.2", "pixels.seed=3"]
    with pytest.raises(ValueError, match=text):
        check(config_of(place, *sizes, *keys))


def test_images_that_are_all_held_out_are_told_by_the_dry_run(tmp_path):
    images = write_files(tmp_path / "photos", {f"val/{name}": data for name, data in image_files(6).items()})
    config = load(Finetune, [], [f"images={images.uri}", f"output={tmp_path}", "run=a", "model.size=nano"])
    with pytest.raises(ValueError, match=r"photos has no train split but val; expected one"):
        check(config)


def test_shares_of_one_sample_add_up_to_one_at_most(place):
    for one, other in (("synonym_prob", "swap_prob"), ("noise_prob", "color_adapt_prob")):
        with pytest.raises(ValueError, match=rf"{one} \+ augment.{other} of 1 at most, .*; they are 1.2"):
            config_of(place, f"augment.{one}=0.7", f"augment.{other}=0.5")


SMALL = [
    *("workers.num_workers=0", "model.size=nano", "model.width=32", "model.depth=1", "model.num_heads=2"),
    *("model.stem_kernel=1", "loop.epochs=2", "loop.global_batch_size=16", "optimizer.warmup_epochs=0"),
]


def test_a_step_again_of_a_run_that_is_not_there_writes_nothing(place):
    pixels = ["model.stem_kernel=2", "pixels.image_size=16", "pixels.patch_size=4"]  # its default: pixels have none
    config = config_of(place, *SMALL, *pixels, "replay=3", "init_from=null", "transfer=false")
    with pytest.raises(ValueError, match=r"replay 3 of .*a; expected a step that was not finite and is kept: none"):
        finetune(config)
    assert not (place / "a").exists()


def test_a_step_again_from_the_command_line(tmp_path, monkeypatch):
    dataset = write_dataset(tmp_path / "tokens", sizes={"train": 48, "val": 16})
    keys = [f"dataset={dataset.uri}", f"output={tmp_path}/runs", "run=a", *SMALL, "loop.max_skipped_steps=2"]
    with monkeypatch.context() as patch:
        patch.setattr("seit_ray.runs.finetune.SupervisedObjective", lambda **settings: BadGradients(**settings))
        with pytest.raises(ValueError, match=r"with replay=1 shows where they come from"):
            finetune(load(Finetune, [], keys))
        before = contents(Folder(tmp_path / "runs"))
        rows = dict(finetune(load(Finetune, [], [*keys, "replay=1"])))
    assert rows["step"] == "1, as it was; nothing was written"
    assert rows["gradient norm"] in ("nan", "inf")
    assert rows["not finite first in"] == "none"  # the loss is finite, its gradients are not
    assert "and" in rows["gradients not finite of"]
    assert contents(Folder(tmp_path / "runs")) == before
    with pytest.raises(ValueError, match=r"replay 3 of .*; expected a step that was not finite and is kept: 1"):
        finetune(load(Finetune, [], [*keys, "replay=3"]))
