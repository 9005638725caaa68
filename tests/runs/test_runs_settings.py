"""What else a run can be told: SeiT's input and stem, crops, augmentation, averages, probes, transfer, pixels."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from seit_ray import config
from seit_ray.models.about import read_about
from seit_ray.models.build import build_model
from seit_ray.models.exports import import_model
from seit_ray.models.weights import load_weights
from seit_ray.runs.evaluate_images import evaluate_images
from seit_ray.runs.evaluate_tokens import evaluate_tokens
from seit_ray.runs.finetune import finetune as run_finetune
from seit_ray.runs.finetune import pixel_settings, token_settings
from seit_ray.runs.pretrain import pretrain as run_pretrain
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.training.metrics import read_metrics
from tests.runs.test_runs import AUGMENT, LOOP, OPTIMIZER, SMALL, augment_settings
from tests.tiny_dataset import write_dataset
from tests.tiny_images import image_files, write_files
from tests.tiny_trainers import CPU

PIXELS = {"adapt": "pixels", "color_before_crop": True}
SEIT = {"inputs": "codebook", "stem_kernel": 4, "stem_stride": 2, "stem_padding": 1}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """8x8 tokens, 64 + 24 samples; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes={"train": 64, "val": 24}, side=8)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """40 pictures of two classes to train on, 12 held out."""
    files = {f"train/{name}": data for name, data in image_files(40).items()}
    files |= {f"val/{name}": data for name, data in image_files(12, first=40).items()}
    return write_files(tmp_path_factory.mktemp("pictures"), files)


@pytest.fixture(scope="module")
def pretrained(dataset, tmp_path_factory):
    """A finished pre-training run; not to be changed."""
    run = Folder(tmp_path_factory.mktemp("runs")).join("mtm")
    pretrain(dataset, run)
    return run


@pytest.fixture(scope="module")
def seen():
    """Settings -> losses of every step."""
    return {}


@pytest.fixture(scope="module")
def seen_models():
    """Settings of the model -> losses of every step."""
    return {}


def pretrain(dataset, run, *, probe=None, augment=AUGMENT, **model):
    return run_pretrain(
        dataset=dataset,
        run=run,
        model=config.Model(**{**SMALL, "stem_kernel": 2, **model}).settings(),
        masking=config.Masking().settings(),
        augment=augment,
        adapt_run=None,
        probe=config.Probe(**(probe or {})).settings(),
        loop=LOOP,
        optimizer=OPTIMIZER,
        world=CPU,
    )


def finetune(run, *, loop=None, augment=AUGMENT, model=None, **data):
    return run_finetune(
        run=run,
        model=config.Classifier(**{**SMALL, "stem_kernel": 2, **(model or {})}).settings(),
        label_smoothing=0.1,
        augment=augment,
        loop=replace(LOOP, **(loop or {})),
        optimizer=OPTIMIZER,
        world=CPU,
        **data,
    )


def weights_of(run):
    return load_weights(run.read("model.safetensors"))


def test_seit_trains_on_codebook_rows_with_its_stem(dataset, tmp_path):
    run = Folder(tmp_path / "seit")
    metrics = finetune(run, dataset=dataset, model=SEIT, loop={"epochs": 16})
    assert metrics["val_top1"] > 0.7
    model, about = import_model(run, "classifier")
    assert model.patch_grid == (4, 4)
    assert "codebook" not in about["settings"]
    codebook = load_weights(dataset.read("tokenizer/tokenizer.safetensors"))["codebook"]
    assert torch.equal(model.token_emb.codebook, codebook)
    assert not [name for name in weights_of(run) if name.startswith("token_emb")]
    figures = evaluate_tokens(dataset=dataset, run=run, split="val", batch_size=7, world=CPU)
    assert figures["top1"] == pytest.approx(metrics["val_top1"])


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": "learned"},
        {"stem_kernel": 2, "stem_padding": 0},
        {"stem_stride": 3, "stem_padding": 1},
        {"stem_layers": 1},
        {"stem_layers": 2},
        {"stem_layers": 1, "stem_width": 16},
        {"standardize": True},
        {"standardize": True, "stem_layers": 1},
        {"pool": "cls"},
        {"drop_path": 0.5},
        {"grid_side": 6},
        {"depth": 1},
    ],
    ids=lambda change: ",".join(f"{k}={v}" for k, v in change.items()),
)
def test_every_option_of_the_model_changes_the_training(dataset, tmp_path, seen_models, change):
    """And what is exported is what was trained: evaluated by another process, it gives the same."""
    for name, model in (("plain", SEIT), (str(change), {**SEIT, **change})):
        if name not in seen_models:
            run = Folder(tmp_path / str(len(seen_models)))
            noisy = augment_settings(noise_prob=0.5)  # maps and tokens enter the model on different ways
            loop = {"epochs": 1, "log_every_steps": 1}
            metrics = finetune(run, dataset=dataset, model=model, augment=noisy, loop=loop)
            figures = evaluate_tokens(dataset=dataset, run=run, split="val", batch_size=7, world=CPU)
            assert figures["loss"] == pytest.approx(metrics["val_loss"], rel=1e-5)
            seen_models[name] = tuple(record["train_loss"] for record in read_metrics(run))
    assert all(0 < loss < 10 for loss in seen_models[str(change)])
    assert len(set(seen_models.values())) == len(seen_models)


def test_rows_are_pixels_of_a_centroid_tokenizer_only():
    """The side of its patches goes to the model; rows of another tokenizer, and images, are none."""
    settings = config.Classifier(**SMALL, inputs="codebook", stem_layers=2, stem_pixels=True).settings()
    tokenizer = CentroidTokenizer(torch.rand(5, 48), image_size=8, patch_size=4)
    inputs = SimpleNamespace(tokenizer=tokenizer, grid=(2, 2), num_codes=5, num_classes=3)
    model = build_model("classifier", **token_settings(settings, inputs))
    assert [layer.stride[0] for layer in model.patch_embed.early if hasattr(layer, "stride")] == [2, 2]
    plain = token_settings(replace(settings, stem_pixels=False), inputs)
    assert "pixel_side" not in plain
    inputs.tokenizer = SimpleNamespace(codebook=tokenizer.codebook, family="vit_vqgan")
    with pytest.raises(ValueError, match="stem_pixels with a vit_vqgan tokenizer; expected a centroid tokenizer"):
        token_settings(settings, inputs)
    with pytest.raises(ValueError, match="stem_pixels or standardize with images; expected neither"):
        pixel_settings(settings, inputs, 4)


def test_layers_before_the_stem_of_pixels(images, tmp_path):
    pixels = config.Pixels(image_size=16, patch_size=4, crop_area=(0.5, 1.0)).settings()
    data = {"images": images, "source": config.Source().settings(), "pixels": pixels}
    model = {"stem_layers": 1, "stem_width": 8}
    run = Folder(tmp_path / "run")
    finetune(run, loop={"epochs": 1, "global_batch_size": 8}, model=model, **data)
    assert import_model(run, "classifier")[0].patch_embed.early[0].weight.shape == (8, 3, 3, 3)


@pytest.mark.parametrize("random_crop", [False, True])
@pytest.mark.parametrize("inputs", ["codebook", "learned"])
def test_the_model_may_see_a_crop_of_the_grid(dataset, tmp_path, inputs, random_crop):
    run = Folder(tmp_path / "run")
    settings = augment_settings(random_crop=random_crop, crop_area=(0.3, 1.0))
    metrics = finetune(run, dataset=dataset, model={"inputs": inputs, "grid_side": 6}, augment=settings)
    model, about = import_model(run, "classifier")
    assert (model.grid, model.patch_grid) == ((6, 6), (3, 3))
    assert about["grid"] == [8, 8]
    figures = evaluate_tokens(dataset=dataset, run=run, split="val", batch_size=7, world=CPU)
    assert figures["top1"] == pytest.approx(metrics["val_top1"])


def test_a_crop_larger_than_the_grid_is_refused(dataset, tmp_path):
    with pytest.raises(ValueError, match="grid_side 9; expected at most 8"):
        finetune(Folder(tmp_path / "run"), dataset=dataset, model={"grid_side": 9})


@pytest.mark.parametrize(
    "change",
    [
        {"synonym_prob": 1.0},
        {"synonym_prob": 1.0, "num_synonyms": 2},
        {"synonym_prob": 1.0, "synonym_metric": "cosine"},
        {"swap_prob": 1.0},
        {"random_crop": True},
        {"random_crop": True, "crop_area": (0.5, 0.9)},
        {"noise_prob": 1.0},
        {"noise_prob": 1.0, "noise_std": 0.1},
        {"color_adapt_prob": 1.0},
        {"cutmix_alpha": 1.0},
        {"cutmix_alpha": 1.0, "mix_mode": "pair"},
        {"mixup_alpha": 0.8},
        {"random_crop": True, "crop_aspect": (0.4, 0.5)},
        {"noise_prob": 1.0, "noise_scale": 0.1},
        {"noise_prob": 1.0, "color_share": 0.5},
        {"noise_prob": 0.5, "color_adapt_prob": 0.5},
        {"noise_prob": 0.5, "color_adapt_prob": 0.5, "color_per": "batch"},
        {"noise_prob": 1.0, "random_crop": True},
        {"noise_prob": 1.0, "random_crop": True, "color_before_crop": True},
        {"cutmix_alpha": 1.0, "mix_prob": 0.5},
        {"cutmix_alpha": 1.0, "mixup_alpha": 0.8, "mix_mode": "pair"},
        {"cutmix_alpha": 1.0, "mixup_alpha": 0.8, "mix_mode": "pair", "switch_prob": 0.9},
        {"swap_prob": 1.0, "reference": True},
        PIXELS,
        {**PIXELS, "adapt_share": 1.0},
        {**PIXELS, "flip_prob": 0.0},
        {**PIXELS, "affine_prob": 1.0},
        {**PIXELS, "affine_prob": 1.0, "max_angle": 5.0},
        {**PIXELS, "affine_prob": 1.0, "max_translate": 0.5},
        {**PIXELS, "affine_prob": 1.0, "max_shear": 40.0},
        {**PIXELS, "affine_prob": 1.0, "reference": True},
        {**PIXELS, "adapt_mixup_alpha": 0.8},
        {**PIXELS, "adapt_cutmix_alpha": 1.0},
    ],
    ids=lambda change: ",".join(f"{k}={v}" for k, v in change.items()),
)  # fmt: skip
def test_every_augmentation_changes_the_training(dataset, tmp_path, seen, change):
    loop = {"epochs": 1, "log_every_steps": 1}
    for name, settings in (("plain", {}), (str(change), change)):
        if name not in seen:
            run = Folder(tmp_path / str(len(seen)))
            finetune(run, dataset=dataset, augment=augment_settings(**settings), model=SEIT, loop=loop)
            seen[name] = tuple(record["train_loss"] for record in read_metrics(run))
    assert all(0 < loss < 10 for loss in seen[str(change)])
    assert len(set(seen.values())) == len(seen)  # each differs from the plain run and from every other


def test_pre_training_sees_crops(dataset, tmp_path):
    losses = [
        pretrain(dataset, Folder(tmp_path / name), augment=augment_settings(random_crop=crop), grid_side=6)[
            "train_loss"
        ]
        for name, crop in (("centre", False), ("random", True))
    ]
    assert losses[0] != losses[1]
    assert import_model(Folder(tmp_path / "random"), "mtm")[0].patch_grid == (3, 3)


def test_pixels_of_another_tokenizer_are_refused(dataset, tmp_path):
    with pytest.raises(ValueError, match=r"augment\.adapt is tokenadapt: set augment\.adapt_run"):
        finetune(Folder(tmp_path / "run"), dataset=dataset, augment=augment_settings(adapt="tokenadapt"))


def test_averaged_weights_are_exported_and_evaluated(dataset, tmp_path):
    run = Folder(tmp_path / "run")
    metrics = finetune(run, dataset=dataset, loop={"ema_decay": 0.5})
    raw, averaged = (import_model(run, "classifier", weights)[0].state_dict() for weights in ("model", "ema"))
    assert not torch.equal(raw["head.weight"], averaged["head.weight"])
    for weights, prefix in (("model", "val_"), ("ema", "ema_val_")):
        figures = evaluate_tokens(dataset=dataset, run=run, split="val", batch_size=7, world=CPU, weights=weights)
        assert figures["loss"] == pytest.approx(metrics[prefix + "loss"], rel=1e-5)


def test_without_averages_there_are_none_to_take(dataset, tmp_path):
    run = Folder(tmp_path / "run")
    finetune(run, dataset=dataset)
    with pytest.raises(
        ValueError, match=r"has no averaged weights; expected ema.safetensors; train with loop.ema_decay"
    ):
        import_model(run, "classifier", "ema")
    with pytest.raises(ValueError, match="weights 'last'; expected one of model, ema, best"):
        import_model(run, "classifier", "last")


def test_probes_at_the_epochs_that_are_due(dataset, tmp_path):
    run = Folder(tmp_path / "probed")
    last = pretrain(dataset, run, probe={"every_epochs": 2, "k": 5})
    probed = [record["epoch"] for record in read_metrics(run) if "probe_knn_top1" in record]
    assert probed == [2.0]
    assert last["probe_linear_top1"] > 0.5  # the classes of this dataset show in its tokens
    plain = Folder(tmp_path / "plain")
    pretrain(dataset, plain)
    losses = [[r["train_loss"] for r in read_metrics(of)] for of in (run, plain)]
    assert losses[0] == losses[1]  # looking changes nothing


def test_transfer_to_another_grid_and_other_classes(dataset, pretrained, tmp_path):
    other = write_dataset(tmp_path / "tokens", sizes={"train": 32, "val": 8}, side=6, num_classes=3, tokenizer_seed=0)
    with pytest.raises(ValueError, match="made with"):
        finetune(Folder(tmp_path / "strict"), dataset=other, init_from=pretrained)
    run = Folder(tmp_path / "run")
    finetune(run, dataset=other, init_from=pretrained, transfer=True, loop={"epochs": 1})
    assert import_model(run, "classifier")[0].patch_grid == (3, 3)


def test_transfer_starts_from_the_trained_blocks(dataset, pretrained, tmp_path):
    run = Folder(tmp_path / "run")
    model = {"train_only": "attention", "grid_side": 6}
    finetune(run, dataset=dataset, init_from=pretrained, transfer=True, model=model)
    before, after = weights_of(pretrained), weights_of(run)
    for name in ("blocks.0.mlp.fc1.weight", "norm.weight", "cls_token", "patch_embed.proj.weight"):
        assert torch.equal(before[name], after[name]), name
    assert not torch.equal(before["blocks.0.attn.qkv.weight"], after["blocks.0.attn.qkv.weight"])
    assert after["pos_embed"].shape[1] == 10


def test_from_tokens_to_pixels(pretrained, images, tmp_path):
    run = Folder(tmp_path / "pixels")
    pixels = config.Pixels(image_size=16, patch_size=4, crop_area=(0.5, 1.0)).settings()
    source = config.Source().settings()
    data = {"images": images, "source": source, "pixels": pixels, "init_from": pretrained, "transfer": True}
    metrics = finetune(run, loop={"epochs": 8, "global_batch_size": 8}, **data)
    assert metrics["val_top1"] > 0.8  # colours tell these classes apart
    model, about = import_model(run, "classifier")
    assert (model.grid, model.patch_grid) == ((16, 16), (4, 4))
    assert (about["settings"]["inputs"], about["image_size"]) == ("pixels", 16)
    trained = read_about(pretrained, "mtm")["settings"]
    assert json.loads(json.dumps(trained))["size"] == about["settings"]["size"]


def test_figures_of_val_are_those_of_evaluate_though_an_image_cannot_be_read(images, tmp_path):
    place, run = Folder(tmp_path / "pictures"), Folder(tmp_path / "run")
    write_files(place, {entry.name: images.read(entry.name) for entry in images.list("")})
    place.write("val/dog/00041.png", b"no picture")
    pixels = config.Pixels(image_size=16, patch_size=4).settings()
    source = config.Source().settings()
    metrics = finetune(run, loop={"epochs": 1, "global_batch_size": 8}, images=place, source=source, pixels=pixels)
    found = evaluate_images(
        images=place,
        source=source,
        run=run,
        split="val",
        val_fraction=0.0,
        seed=0,
        tokenizer=None,
        weights="model",
        batch_size=5,
        world=CPU,
    )
    assert (found["samples"], found["listed"], len(found["rejected"])) == (11, 12, 1)
    for name in ("loss", "top1", "top5"):
        assert metrics[f"val_{name}"] == pytest.approx(found[name], rel=1e-5)


def test_unlabelled_pictures_are_no_training_set(tmp_path):
    folder = write_files(tmp_path / "flat", {f"{i}.png": data for i, data in enumerate(image_files(6).values())})
    data = {"images": folder, "source": config.Source().settings()}
    with pytest.raises(ValueError, match="has 6 images without a label"):
        finetune(Folder(tmp_path / "run"), pixels=config.Pixels(image_size=16, patch_size=4).settings(), **data)


def test_the_hold_out_of_pixels_does_not_depend_on_the_seed_of_the_training(tmp_path):
    folder = write_files(tmp_path / "pictures", image_files(40))

    def held_out(name, pixels=None, **loop):
        run = Folder(tmp_path / name)
        settings = {"image_size": 16, "patch_size": 4, "val_fraction": 0.3, **(pixels or {})}
        data = {"images": folder, "source": config.Source().settings(), "pixels": config.Pixels(**settings).settings()}
        seen = []
        hooks = {"on_metrics": seen.append}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "seit_ray.runs.finetune.train_and_export",
                lambda *a, **more: seen.append(a[3].val.stream.keys(np.arange(len(a[3].val)))),
            )
            finetune(run, loop={"global_batch_size": 8, **loop}, **data, **hooks)
        return sorted(seen[0])

    first = held_out("a", seed=0)
    assert 4 <= len(first) <= 20
    assert held_out("b", seed=1) == first
    assert held_out("c", {"seed": 1}) != first


@pytest.mark.parametrize("weights", ["ema", "best"])
def test_fine_tuning_may_start_from_averaged_or_best_weights(dataset, tmp_path, weights):
    source = Folder(tmp_path / "source")
    finetune(source, dataset=dataset, loop={"ema_decay": 0.9, "keep_best": "val_loss", "epochs": 3})
    starts = []
    for chosen in ("model", weights):
        run = Folder(tmp_path / chosen)
        loop = {"epochs": 1, "global_batch_size": 64}  # one step, at rate 0: the start itself
        finetune(run, dataset=dataset, init_from=source, init_weights=chosen, loop=loop)
        starts.append(weights_of(run)["blocks.0.mlp.fc1.weight"])
        assert torch.equal(starts[-1], load_weights(source.read(f"{chosen}.safetensors"))["blocks.0.mlp.fc1.weight"])
    assert weights == "best" or not torch.equal(*starts)


def test_weights_that_a_run_has_not_are_no_start(dataset, pretrained, tmp_path):
    with pytest.raises(ValueError, match="has no averaged weights"):
        finetune(Folder(tmp_path / "run"), dataset=dataset, init_from=pretrained, init_weights="ema")


def test_evaluation_is_in_the_precision_of_the_run(dataset, tmp_path, monkeypatch):
    run = Folder(tmp_path / "run")
    metrics = finetune(run, dataset=dataset, loop={"precision": "bf16"})
    about = json.loads(run.read("model.json"))
    assert (about["precision"], about["device"]) == ("bf16", "cpu")
    figures = evaluate_tokens(dataset=dataset, run=run, split="val", batch_size=512, world=CPU)
    assert figures["loss"] == pytest.approx(metrics["val_loss"], rel=1e-6)
    run.write("model.json", json.dumps({**about, "device": "cuda"}).encode())  # trained elsewhere: fp32 on a CPU
    exact = evaluate_tokens(dataset=dataset, run=run, split="val", batch_size=512, world=CPU)
    assert exact["loss"] != figures["loss"]


def test_a_split_that_does_not_fit_is_streamed_to_be_evaluated(dataset, tmp_path, monkeypatch):
    run = Folder(tmp_path / "run")
    metrics = finetune(run, dataset=dataset)
    monkeypatch.setattr("seit_ray.batches.stream.memory_budget", lambda given: 1)
    monkeypatch.setattr("seit_ray.batches.store.TokenStore.read", None)  # would be called
    figures = evaluate_tokens(dataset=dataset, run=run, split="val", batch_size=7, world=CPU)
    assert figures["loss"] == pytest.approx(metrics["val_loss"], rel=1e-5)
