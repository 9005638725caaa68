"""Pre-training by CCViT, on stored tokens and on images, and what goes on from it."""

import json
from dataclasses import replace

import pytest
import torch

from seit_ray import config
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.beit_transfer import as_timm, code_stem, pixel_stem
from seit_ray.models.exports import import_model
from seit_ray.runs.ccvit import pretrain_ccvit
from seit_ray.runs.evaluate_tokens import evaluate_tokens
from seit_ray.runs.finetune import finetune as run_finetune
from seit_ray.runs.settings import PixelSettings
from seit_ray.storage import Folder
from seit_ray.training.metrics import read_metrics
from seit_ray.training.requests import Requests, Stopped
from tests.tiny_dataset import write_dataset
from tests.tiny_images import image_files, write_files, write_tokenizer
from tests.tiny_trainers import CPU

SMALL = {"size": "nano", "width": 32, "depth": 2, "num_heads": 2, "stem_kernel": 2, "dropout": 0.0}
LOOP = config.Loop(epochs=2, global_batch_size=16, log_every_steps=2, trackers=[]).settings()
OPTIMIZER = config.Optimizer(lr=3e-3, warmup_epochs=0.5).settings()
NO_CHANGE = {"crop_area": None, "flip_prob": 0.0}
IMAGES = {"image_size": 16, "val_fraction": 0.25}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """48 + 16 samples of 4x4 tokens of 4x4 pixels; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes={"train": 48, "val": 16}, patch_size=4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """40 pictures of 16x16 and a tokenizer of 4x4 patches; not to be changed."""
    place = Folder(tmp_path_factory.mktemp("photos"))
    write_files(place.join("images"), image_files(40))
    write_tokenizer(place.join("tokenizer"))
    return place


def pretrain(run, *, dataset=None, photos=None, loop=LOOP, pixels=None, probe=None, dtm=None, model=None, **ccvit):
    """A run of CCViT; keywords are keys of its section."""
    given = {"dataset": dataset} if dataset else {"images": photos.join("images"), "source": SourceSettings()}
    if photos:
        given["tokenizer"] = photos.join("tokenizer")
    section = config.PretrainPixels(**{**IMAGES, **(NO_CHANGE if pixels is None else pixels)})
    return pretrain_ccvit(
        run=run,
        model=config.Model(**{**SMALL, **(model or {})}).settings(),
        ccvit=config.Ccvit(**{"head_layers": 1, "num_near": 3, **ccvit}).settings(),
        augment=config.Augment().settings(),
        pixels=section.settings(),
        probe=config.Probe(**(probe or {})).settings(),
        loop=loop,
        optimizer=OPTIMIZER,
        world=CPU,
        dtm=dtm.settings() if dtm else None,
        **given,
    )


def finetune(run, *, init_from=None, dataset=None, photos=None, transfer=False, **model):
    given = {"dataset": dataset}
    if photos:
        sizes = PixelSettings(image_size=16, patch_size=8, val_fraction=0.25, crop_area=None)
        given = {"images": photos.join("images"), "source": SourceSettings(), "pixels": sizes}
    return run_finetune(
        run=run,
        init_from=init_from,
        transfer=transfer,
        model=config.Classifier(**{**SMALL, "inputs": "codebook", **model}).settings(),
        label_smoothing=0.0,
        augment=config.Augment().settings(),
        loop=replace(LOOP, epochs=1),
        optimizer=OPTIMIZER,
        world=CPU,
        **given,
    )


@pytest.fixture(scope="module")
def on_tokens(dataset, tmp_path_factory):
    """A finished run on centroid rows; not to be changed."""
    run = Folder(tmp_path_factory.mktemp("runs")).join("ccvit")
    pretrain(run, dataset=dataset, probe={"every_epochs": 1}, loop=replace(LOOP, epochs=6))
    return run


@pytest.fixture(scope="module")
def on_images(photos, tmp_path_factory):
    """A finished run on images; not to be changed."""
    run = Folder(tmp_path_factory.mktemp("runs")).join("pixels")
    pretrain(run, photos=photos, pixels={}, probe={"every_epochs": 1})
    return run


def test_it_learns_from_tokens_and_says_so(on_tokens):
    records = read_metrics(on_tokens)
    assert records[-1]["train_loss"] < 0.95 * records[0]["train_loss"]
    names = {
        "val_loss",
        "val_masked_accuracy",
        "val_code_loss",
        "val_pixel_loss",
        "probe_linear_top1",
        "probe_knn_top1",
    }
    assert names <= records[-1].keys()
    _, about = import_model(on_tokens, "ccvit")
    assert about["settings"]["unit"] == 2
    assert about["grid"] == [4, 4]
    first = json.loads(on_tokens.read("first_batch.json"))
    assert first["pictures"] == ["stored", "seen", "original", "corrupted", "target"]
    assert on_tokens.exists("first_batch.png")


def test_it_is_continued_exactly(dataset, on_tokens, tmp_path):
    run = Folder(tmp_path / "again")
    requests = Requests()
    loop = replace(LOOP, epochs=6, checkpoint_every_steps=7)

    def stop(record):
        requests.stop = requests.stop or record["step"] >= 7

    with pytest.raises(Stopped):
        interrupted(run, dataset, loop, requests, stop)
    interrupted(run, dataset, loop, Requests(), lambda record: None)
    assert run.read("model.safetensors") == on_tokens.read("model.safetensors")


def interrupted(run, dataset, loop, requests, on_metrics):
    pretrain_ccvit(
        run=run,
        dataset=dataset,
        model=config.Model(**SMALL).settings(),
        ccvit=config.Ccvit(head_layers=1, num_near=3).settings(),
        augment=config.Augment().settings(),
        pixels=config.PretrainPixels(**IMAGES, **NO_CHANGE).settings(),
        probe=config.Probe(every_epochs=1).settings(),
        loop=loop,
        optimizer=OPTIMIZER,
        world=CPU,
        requests=requests,
        on_metrics=on_metrics,
    )


def test_classifiers_of_tokens_and_of_pixels_go_on_from_it(dataset, photos, on_tokens, tmp_path):
    run = Folder(tmp_path / "tokens")
    finetune(run, init_from=on_tokens, dataset=dataset)
    figures = evaluate_tokens(dataset=dataset, run=run, split="val", batch_size=7, world=CPU)
    assert figures["samples"] == 16
    start = import_model(on_tokens, "ccvit")[0].state_dict()
    run = Folder(tmp_path / "one")
    with_rate_0(run, dataset=dataset, init_from=on_tokens)
    found, about = import_model(run, "classifier")
    assert about["settings"]["encoder"] == "beit"
    for name in ("patch_embed.proj.weight", "blocks.1.gamma_2", "rel_pos_bias.relative_position_bias_table"):
        torch.testing.assert_close(found.state_dict()[name], start[name])
    run = Folder(tmp_path / "pixels")
    with_rate_0(run, photos=photos, init_from=on_tokens, transfer=True)
    pixels = import_model(run, "classifier")[0].state_dict()
    torch.testing.assert_close(pixels["patch_embed.proj.weight"], pixel_stem(start["patch_embed.proj.weight"]))
    again = Folder(tmp_path / "again")
    finetune(again, init_from=run, dataset=dataset, transfer=True)
    assert import_model(again, "classifier")[1]["settings"]["inputs"] == "codebook"


def with_rate_0(run, **given):
    """A classifier after one step at rate 0: the start itself."""
    settings = {"inputs": "codebook"} if "dataset" in given else {}
    sizes = PixelSettings(image_size=16, patch_size=8, val_fraction=0.25, crop_area=None)
    photos = given.pop("photos", None)
    if photos:
        given |= {"images": photos.join("images"), "source": SourceSettings(), "pixels": sizes}
    run_finetune(
        run=run,
        model=config.Classifier(**{**SMALL, **settings}).settings(),
        label_smoothing=0.0,
        augment=config.Augment().settings(),
        loop=replace(LOOP, epochs=1, global_batch_size=24 if photos else 48),
        optimizer=OPTIMIZER,
        world=CPU,
        **given,
    )


def test_images_are_seen_as_published_and_go_on_as_pixels(photos, on_images, tmp_path):
    record = read_metrics(on_images)[-1]
    assert {"val_loss", "val_masked_accuracy", "probe_knn_top1"} <= record.keys()
    _, about = import_model(on_images, "ccvit")
    assert (about["image_size"], about["patch_size"], about["settings"]["kernel"]) == (16, 8, 8)
    metrics = finetune(Folder(tmp_path / "pixels"), init_from=on_images, photos=photos)
    assert metrics["step"] == 1


def test_decoded_tokens_are_learnt_from_as_pixels(dataset, tmp_path):
    runs = [Folder(tmp_path / name) for name in ("plain", "cropped")]
    plain = pretrain(runs[0], dataset=dataset, sees="pixels", probe={"every_epochs": 2})
    assert {"val_masked_accuracy", "probe_knn_top1"} <= plain.keys()
    cropped = pretrain(runs[1], dataset=dataset, sees="pixels", pixels={})
    assert plain["train_loss"] != cropped["train_loss"]


def test_it_is_timms_model_too(on_tokens, on_images):
    for run in (on_tokens, on_images):
        model, _ = import_model(run, "ccvit")
        timm_model = as_timm(model)
        inputs = torch.randint(16, (2, 16)) if run is on_tokens else torch.randint(256, (2, 3, 16, 16)).byte()
        maps = model.embed(inputs)
        if run is on_tokens:
            squares = maps.view(2, 3, 4, 4, 4, 4).permute(0, 1, 4, 2, 5, 3).reshape(2, 3, 16, 16)
            mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
            maps = (squares - mean) / std
        torch.testing.assert_close(timm_model.forward_features(maps)[:, 1:], model.patch_features(inputs))


def test_stems_turn_into_each_other():
    weight = torch.randn(5, 192, 2, 2)
    assert torch.equal(code_stem(pixel_stem(weight), 8), weight)
    with pytest.raises(ValueError, match="expected a multiple"):
        code_stem(pixel_stem(weight), 3)


def test_another_encoder_than_the_runs_is_an_error(dataset, on_tokens, tmp_path):
    with pytest.raises(ValueError, match=r"model.encoder vit with a run of beit .* expected beit"):
        finetune(Folder(tmp_path / "a"), init_from=on_tokens, dataset=dataset, encoder="vit")
    with pytest.raises(ValueError, match=r"set model\.inputs=codebook"):
        finetune(Folder(tmp_path / "b"), init_from=on_tokens, dataset=dataset, inputs="learned")


OPTIONS = [
    {"loss": "two_ce_shared"},
    {"loss": "two_ce_soft_shared"},
    {"replace": "random"},
    {"replace": "none"},
    {"num_masked": 1},
    {"num_replaced": 2},
    {"min_block": 3},
    {"num_near": 5},
    {"soft_tau": 2.0},
    {"pixel_weight": 0.5},
    {"min_std": 0.5},
    {"early_layers": 2},
    {"head_layers": 2},
    {"layer_scale": 0.5},
    {"sees": "pixels"},
    {"dtm": config.Dtm(weight=1.0, target="codebook")},
    {"model": {"stem_kernel": 1}},
    {"model": {"stem_kernel": 1, "grid_side": 3}},
]


@pytest.fixture(scope="module")
def usual(dataset, tmp_path_factory):
    """Metrics of a short run with the defaults."""
    run = Folder(tmp_path_factory.mktemp("usual") / "run")
    return pretrain(run, dataset=dataset, loop=replace(LOOP, epochs=1, eval_every_epochs=9), num_replaced=1)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: "-".join(map(str, option.items())))
def test_every_option_changes_something(dataset, usual, option, tmp_path):
    loop = replace(LOOP, epochs=1, eval_every_epochs=9)
    chosen = {"num_replaced": None if option.get("replace") == "none" else 1, **option}
    found = pretrain(Folder(tmp_path / "run"), dataset=dataset, loop=loop, **chosen)
    assert found["train_loss"] != usual["train_loss"]


@pytest.mark.parametrize("pixels", [{"crop_area": (0.3, 0.5)}, {"flip_prob": 1.0}, {"color_jitter": 0.5}])
def test_every_option_of_pixels_changes_something(photos, pixels, tmp_path):
    loop = replace(LOOP, epochs=1, eval_every_epochs=9)
    losses = [
        pretrain(Folder(tmp_path / str(i)), photos=photos, loop=loop, pixels={**NO_CHANGE, **changes})["train_loss"]
        for i, changes in enumerate(({}, pixels))
    ]
    assert losses[0] != losses[1]
