"""Keys that nothing reads are refused by name, by what a verb is given."""

import pytest

from seit_ray.config import Finetune, FitTokenizer, load
from seit_ray.verbs import fit_tokenizer as fitting
from seit_ray.verbs.command.unread import check_augment_keys, check_finetune_keys, check_fit_keys, said, unread_of
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
    "model.stem_width=96": "model.stem_width without model.stem_layers; expected none, .*; set them, or leave it out",
    "augment.synonym_share=0.5": "augment.synonym_share with augment.synonym_prob 0.0; expected none, .*; set augment.",
    "augment.num_synonyms=3": "augment.num_synonyms with augment.synonym_prob 0.0",
    "augment.adapt_share=0.4": "augment.adapt_share with augment.adapt none; expected none, .*; set augment.adapt, or",
    "augment.adapt_cutmix_alpha=1": "augment.adapt_cutmix_alpha with augment.adapt none",
    "augment.max_angle=9": "augment.max_angle with augment.adapt none",
    "augment.adapt=none augment.adapt_run=a": "augment.adapt_run with augment.adapt none",
    "augment.crop_area=[0.2,1]": "augment.crop_area with augment.random_crop False",
    "augment.color_adapt_prob=0.5 augment.noise_std=2": "augment.noise_std with augment.noise_prob 0.0",
    "augment.color_share=0.5": "augment.color_share with augment.noise_prob 0.0",
    "augment.color_before_crop=true": "augment.color_before_crop with augment.noise_prob 0.0",
    "augment.mix_mode=pair": "augment.mix_mode with augment.mixup_alpha 0.0",
}
IMAGES = {
    "augment.random_crop=true": "augment.random_crop with images; expected none, since it is not read; give dataset",
    "augment.noise_prob=0.5": "augment.noise_prob with images",
    "augment.adapt=pixels": "augment.adapt with images",
    "model.stem_kernel=4": "model.stem_kernel with images",
    "model.inputs=codebook": "model.inputs with images",
    "model.grid_side=2": "model.grid_side with images",
    "model.stem_width=32": "model.stem_width without model.stem_layers",
    "model.dropout=0.5": "model.dropout with images",
    "task=segment augment.mix_prob=0.5": "augment.mix_prob with images",
    "augment.mix_prob=0.5": "augment.mix_prob with augment.mixup_alpha 0.0",
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


def test_augmentation_that_is_on_is_read():
    on = [
        *(
            "augment.synonym_prob=0.5",
            "augment.synonym_share=0.5",
            "augment.random_crop=true",
            "augment.crop_aspect=[1,2]",
        ),
        *("augment.color_adapt_prob=0.5", "augment.color_share=0.5", "augment.adapt=pixels", "augment.adapt_share=0.4"),
        *("augment.adapt_mixup_alpha=1", "augment.mix_mode=pair", "augment.affine_prob=0"),
    ]
    assert check_augment_keys(load(Finetune, [], ["dataset=a", "run=a", *on])) is None
    check_augment_keys(load(Finetune, [], ["dataset=a", "run=a", "augment.adapt=pixels"]))  # which implies another key


def test_what_a_sweep_turns_off_is_read_in_other_trials():
    config = load(Finetune, [], ["dataset=a", "run=a", "augment.noise_std=0.5"])
    assert list(unread_of(config.augment)) == [("noise_std", "noise_prob")]
    check_augment_keys(config, searched={"augment.noise_prob"})
    with pytest.raises(ValueError, match=r"augment.noise_std with augment.noise_prob 0.0"):
        check_augment_keys(config, searched={"augment.noise_std", "loop.epochs"})
