"""Keys that nothing reads are refused by name, by what a verb is given."""

import pytest

from seit_ray.config import Finetune, FitTokenizer, load
from seit_ray.verbs import fit_tokenizer as fitting
from seit_ray.verbs.command.unread import check_finetune_keys, check_fit_keys, said
from seit_ray.verbs.finetune import check_data

TOKENIZER = ["images=photos", "output=out"]
VQGAN = "tokenizer=vit_vqgan"
FITS = {
    "vit_vqgan.codebook_size=512": "vit_vqgan.codebook_size with tokenizer centroid; expected none, since it",
    "loop.epochs=3": "loop.epochs with tokenizer centroid",
    "optimizer.lr=1": "optimizer.lr with tokenizer centroid",
    "workers.num_workers=3": "workers.num_workers with tokenizer centroid",
    "replay=3": "replay with tokenizer centroid",
    f"{VQGAN} centroid.codebook_size=99": "centroid.codebook_size with tokenizer vit_vqgan",
    f"{VQGAN} vit_vqgan.published=a.pt vit_vqgan.patch_size=4": "vit_vqgan.patch_size with vit_vqgan.published",
    f"{VQGAN} vit_vqgan.published=a.pt seed=4": "seed with vit_vqgan.published",
    f"{VQGAN} vit_vqgan.published=a.pt loop.epochs=4": "loop.epochs with vit_vqgan.published",
}
TOKENS = {
    "pixels.flip_prob=0.9": "pixels.flip_prob with dataset; expected none, since it is not read; give images",
    "source.kind=parquet": "source.kind with dataset",
    "init_weights=best": "init_weights without init_from",
    "model.train_only=attention": "model.train_only without init_from; expected none, .*; name a finished run",
    "model.inputs=codebook model.token_dim=7": "model.token_dim with model.inputs codebook",
}
IMAGES = {
    "augment.random_crop=true": "augment.random_crop with images; expected none, since it is not read; give dataset",
    "augment.noise_prob=0.5": "augment.noise_prob with images",
    "augment.adapt=pixels": "augment.adapt with images",
    "model.stem_kernel=4": "model.stem_kernel with images",
    "model.inputs=codebook": "model.inputs with images",
    "model.grid_side=2": "model.grid_side with images",
    "model.dropout=0.5": "model.dropout with images",
    "task=segment augment.mix_prob=0.5": "augment.mix_prob with images",
}


@pytest.mark.parametrize("keys", FITS)
def test_the_other_tokenizers_keys(keys):
    given = TOKENIZER if "published" not in keys else TOKENIZER[1:]
    config = load(FitTokenizer, [], [*given, *keys.split()])
    for asked in (check_fit_keys, fitting.check, fitting.fit_tokenizer):
        with pytest.raises(ValueError, match=FITS[keys]):
            asked(config)


@pytest.mark.parametrize("data", ["dataset", "images"])
def test_the_other_inputs_keys(data):
    cases = TOKENS if data == "dataset" else IMAGES
    for keys, text in cases.items():
        config = load(Finetune, [], [f"{data}=somewhere", "run=a", *keys.split()])
        with pytest.raises(ValueError, match=text):
            check_data(config)


def test_what_is_read_is_let_through():
    fit = load(FitTokenizer, [], [*TOKENIZER, VQGAN, "loop.epochs=3", "seed=4", "replay=3", "vit_vqgan.width=64"])
    assert check_fit_keys(fit) is None
    check_fit_keys(load(FitTokenizer, [], [*TOKENIZER, "centroid.codebook_size=9", "val_fraction=0.1"]))
    images = [
        "images=a",
        "run=a",
        "augment.mixup_alpha=0.8",
        "model.dropout=0",
        "model.stem_layers=1",
        "source.limit=3",
    ]
    check_finetune_keys(load(Finetune, [], images), starts=False)
    tokens = ["dataset=a", "run=a", "init_from=b", "init_weights=ema", "model.train_only=attention"]
    assert check_finetune_keys(load(Finetune, [], tokens), starts=True) is None


def test_the_first_key_that_says_something():
    config = load(Finetune, [], ["dataset=a", "run=a", "pixels.seed=0", "pixels.flip_prob=0.1"])
    assert said(config, "pixels") == said(config, "pixels.flip_prob") == "pixels.flip_prob"
    assert said(config, "pixels.seed") is None  # the default, said again
    assert said(config, "dataset") == "dataset"
