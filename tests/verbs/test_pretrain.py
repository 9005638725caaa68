"""The verb that pre-trains: by each objective, and one line, before anything is done, for what does not fit."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from seit_ray.config import Sweep, load
from seit_ray.config.sweep import stage_configs
from seit_ray.models.exports import import_model
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.marker import MARKER
from seit_ray.storage import Folder
from seit_ray.verbs.command.arguments import VERBS
from seit_ray.verbs.command.pretrain_checks import check_pretrain
from seit_ray.verbs.finetune import check as check_finetune
from seit_ray.verbs.pretrain import check, pretrain, run_name
from seit_ray.verbs.sweep_trials import trial_of
from tests.tiny_classifiers import write_classifier
from tests.tiny_dataset import write_dataset
from tests.tiny_images import image_files, write_files, write_tokenizer

ROOT = Path(__file__).parents[2]
MODEL = "model.size=nano model.width=32 model.depth=2 model.num_heads=2 model.stem_kernel=2"
DECODER = "model.decoder_width=16 model.decoder_depth=1 model.decoder_num_heads=2"
LOOP = "loop.epochs=1 loop.global_batch_size=16 loop.trackers=[] optimizer.lr=1e-3 optimizer.warmup_epochs=0"
SMALL = f"{MODEL} {DECODER} {LOOP} workers.num_workers=0"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """tokens/, second/ of the same rows, photos/, tokenizer/, seen/, classifier/ and target/; not to be changed."""
    place = tmp_path_factory.mktemp("place")
    write_dataset(place / "tokens", sizes={"train": 40, "val": 10}, patch_size=4)
    write_dataset(place / "second", sizes={"train": 40, "val": 10}, side=2, tokenizer_seed=3)
    write_dataset(place / "fewer", sizes={"train": 30})
    write_files(place / "photos", image_files(30))
    write_tokenizer(place / "tokenizer")
    write_tokenizer(place / "seen" / "tokenizer")
    write_classifier(Folder(place / "classifier"), Folder(place / "seen"))
    write_classifier(Folder(place / "target"), Folder(place / "tokens"))
    return place


def config_of(place, words, output):
    """The config of a command; folders that stand in it are those of the place."""
    overrides = [word.replace("@", f"{place}/") for word in words.split()]
    return load(VERBS["pretrain"], [], [*overrides, f"output={output}", "run=a"])


IMAGES = "images=@photos pixels.image_size=16 pixels.val_fraction=0.2"
RUNS = {
    "ccvit": f"objective=ccvit dataset=@tokens ccvit.head_layers=1 ccvit.num_near=3 {SMALL}",
    "ccvit_images": f"objective=ccvit {IMAGES} ccvit.tokenizer=@tokenizer ccvit.head_layers=1 {SMALL}",
    "dtm": f"objective=dtm dataset=@tokens loop.ema_decay=0.9 {SMALL}",
    "dtm_stream": f"objective=dtm dataset=@tokens dtm.target=stream dtm.target_dataset=@second {SMALL}",
    "dtm_images": f"objective=dtm {IMAGES} pixels.patch_size=4 dtm.target=average loop.ema_decay=0.9 {SMALL}",
}


@pytest.mark.parametrize("name", RUNS)
def test_it_checks_trains_and_says_what_comes_next(place, name, tmp_path):
    config = config_of(place, RUNS[name], tmp_path)
    assert ("objective", name.partition("_")[0]) in check(config)
    rows = dict(pretrain(config))
    assert rows["run"].endswith("/a")
    assert rows["next"].startswith("seit-ray finetune images=" if "images" in name else "seit-ray finetune dataset=")
    assert ("val accuracy of masked tokens" in rows) == (name != "dtm_images")
    kind = {"dtm": "mtm", "dtm_stream": "mtm"}.get(name, name.partition("_")[0])
    assert import_model(Folder(tmp_path / "a"), kind)[1]["kind"] == kind
    pictures = json.loads((tmp_path / "a" / "first_batch.json").read_text())["pictures"]
    assert pictures[-1] == ("target" if "ccvit" in name else "groups")
    words = shlex.split(rows["next"].replace("run=NAME", "run=b"))[2:]
    more = f"workers.num_workers=0 loop.epochs=2 loop.global_batch_size=10 optimizer.warmup_epochs=0 output={tmp_path}"
    found = load(VERBS["finetune"], [], [*words, *more.split()])
    if found.images:
        assert (found.pixels.image_size, found.pixels.patch_size) == (16, 8 if "ccvit" in name else 4)
    assert check_finetune(found)


@pytest.mark.parametrize("name", ["ccvit", "ccvit_images", "dtm"])
def test_a_dry_run_imports_neither_torch_nor_ray(place, name, tmp_path):
    words = RUNS[name].replace("@", f"{place}/").split()
    variables = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-X", "importtime", "-m", "seit_ray", "pretrain", *words, "--dry-run"]
    done = subprocess.run(
        [*command, f"output={tmp_path}", "run=a"], env=variables, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    packages = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "seit_ray" in packages
    assert not packages & {"torch", "ray", "timm", "torchvision"}


MISTAKES = {
    "objective=ccvit": "expected one of them",
    "objective=ccvit dataset=@tokens images=@photos": "expected one of them",
    "images=@photos": "images with objective mtm",
    "dataset=@tokens ccvit.num_masked=3": "ccvit.num_masked with objective mtm",
    "dataset=@tokens dtm.weight=1": "dtm.weight with objective mtm",
    "dataset=@tokens pixels.flip_prob=0": "pixels.flip_prob with objective mtm",
    "dataset=@tokens augment.cutmix_alpha=1": "augment.cutmix_alpha of a pre-training, which has no labels",
    "dataset=@tokens augment.synonym_prob=0.5 augment.num_synonyms=20": "augment.num_synonyms 20 of 16 codes",
    "objective=ccvit dataset=@tokens masking.loss=bce": "masking.loss with objective ccvit on tokens",
    "objective=ccvit dataset=@tokens pixels.flip_prob=0": "pixels.flip_prob with objective ccvit on tokens",
    "objective=ccvit dataset=@tokens ccvit.sees=pixels augment.random_crop=true": "augment.random_crop with objective",
    "objective=ccvit dataset=@tokens dtm.levels=3": "set dtm.weight",
    "objective=ccvit dataset=@tokens ccvit.tokenizer=@tokenizer": "the dataset has its own",
    "objective=ccvit dataset=@tokens ccvit.num_masked=9": "of 4 (2x2)",
    "objective=ccvit dataset=@tokens ccvit.num_near=16": "ccvit.num_near 16 of 16 codes",
    "objective=ccvit dataset=@tokens ccvit.early_layers=3": "early_layers 3 of 2 blocks",
    "objective=ccvit dataset=@tokens model.stem_kernel=3": "grid 4x4 in patches of 3x3",
    "objective=ccvit dataset=@tokens ccvit.sees=pixels model.grid_side=2": "expected whole grids",
    "objective=ccvit images=@photos": "ccvit.tokenizer None with images",
    "objective=ccvit images=@photos ccvit.tokenizer=@tokenizer pixels.image_size=18": "of 4x4 patches; expected a",
    f"objective=ccvit {IMAGES} ccvit.tokenizer=@tokenizer pixels.patch_size=4": "4x4 pixels; expected 8, which",
    "objective=ccvit images=@photos ccvit.tokenizer=@tokenizer ccvit.sees=codebook": "ccvit.sees codebook with images",
    "objective=ccvit images=@photos ccvit.tokenizer=@photos": "no tokenizer in",
    "objective=ccvit images=@photos ccvit.tokenizer=@tokenizer ccvit.replace=near ccvit.num_near=99": "near 99 of 16 c",
    "objective=ccvit images=@photos ccvit.tokenizer=@tokenizer ccvit.soft_tau=1 ccvit.num_near=16": "near 16 of 16 c",
    "objective=ccvit dataset=@tokens masking.reference=true": "masking.reference with objective ccvit on tokens",
    "objective=dtm dataset=@tokens": "dtm.target average with loop.ema_decay 0",
    "objective=dtm images=@photos": "dtm.target teacher with dtm.teacher None",
    "objective=dtm images=@photos dtm.target=codebook": "dtm.target codebook on images alone",
    "objective=dtm images=@photos dtm.target=run dtm.target_run=@classifier": "expected one that reads stored tokens",
    "objective=dtm images=@photos dtm.target=average loop.ema_decay=0.9 dtm.loss=labels": "dtm.loss labels with",
    "objective=dtm images=@photos dtm.target=average loop.ema_decay=0.9 pixels.image_size=20": "in patches of 16x16",
    "objective=dtm images=@photos dtm.target=average loop.ema_decay=0.9 dtm.num_masked=999": "999 masked",
    "objective=dtm dataset=@tokens dtm.target=codebook dtm.num_masked=3": "dtm.num_masked beside another objective",
    "objective=dtm dataset=@tokens dtm.target=codebook dtm.target_run=@classifier": "set dtm.target=run",
    "objective=dtm dataset=@tokens dtm.target=teacher": "dtm.target teacher of stored tokens",
    "objective=dtm dataset=@tokens dtm.target=run": "dtm.target run without dtm.target_run",
    "objective=dtm dataset=@tokens dtm.target=run dtm.target_run=@photos": "no finished run in",
    "objective=dtm dataset=@tokens dtm.target=stream dtm.target_dataset=@fewer": "30 rows in split 'train'",
    "objective=dtm dataset=@tokens dtm.target=stream dtm.target_dataset=@second augment.swap_prob=.1": "moves tokens",
    "objective=dtm dataset=@tokens dtm.target=average loop.ema_decay=0.9 dtm.on=codes": "dtm.on codes with dtm.target",
    "objective=dtm dataset=@tokens dtm.target=codebook dtm.label_share=0.1": "dtm.label_share 0.1 with dtm.loss",
    "objective=dtm dataset=@tokens dtm.target=codebook dtm.loss=labels dtm.distance=l1": "dtm.distance l1 with",
    "objective=ccvit dataset=@tokens dtm.weight=1 dtm.target=codebook dtm.loss=labels": "dtm.loss labels with",
    "dataset=@tokens masking.mask_ratio_max=0.2": "mask ratio minimum 0.4, maximum 0.2",
    "dataset=@tokens masking.mask_ratio_min=1": "mask_ratio_min 1.0 of 4 units",
    "dataset=@tokens masking.mask_ratio_std=0 masking.mask_ratio_mu=0.2": "fixed mask ratio 0.2",
    "dataset=@tokens masking.label_smoothing=0.1 masking.loss=bce": "label_smoothing 0.1 with loss 'bce'",
    "dataset=@tokens model.width=18": "width 18 for sin-cos positions",
    "dataset=@tokens augment.adapt=pixels augment.adapt_mixup_alpha=1": "augment.adapt_mixup_alpha of a pre-training",
    "dataset=@tokens augment.adapt_run=@classifier": "holds a model of kind 'classifier'",
    "dataset=@tokens augment.synonym_share=0.5": "augment.synonym_share with augment.synonym_prob 0.0",
    "objective=ccvit dataset=@tokens ccvit.soft_tau=1 ccvit.loss=two_ce_soft_shared": "soft_tau 1.0 with loss two_ce_s",
    "objective=ccvit dataset=@tokens dtm.weight=1 dtm.target=codebook dtm.max_removed=5": "at most 5 merges of 4 token",
    "objective=dtm dataset=@tokens dtm.target=codebook dtm.max_removed=5": "at most 5 merges of 4 tokens",
    "objective=dtm dataset=@tokens dtm.target=codebook dtm.on=codes dtm.max_removed=17": "at most 17 merges of 16 toke",
    f"objective=dtm {IMAGES} pixels.patch_size=8 dtm.target=average loop.ema_decay=0.9 dtm.max_removed=5": "5 merges o",
    "objective=dtm dataset=@tokens dtm.target=stream dtm.target_dataset=@second model.stem_kernel=1": "grid 2x2 of the",
    "objective=dtm dataset=@tokens dtm.target=run dtm.target_run=@target": "target sees 4x4 in 4x4 patches; expected 4",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line_before_work_begins(place, words, tmp_path):
    default = "" if "num_near" in words else "ccvit.num_near=3"
    default = default if "objective=ccvit dataset" in words else ""
    config = config_of(place, f"{MODEL} {default} {words}", tmp_path)
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the message is compared below
        check_pretrain(config)
    text = str(caught.value)
    assert MISTAKES[words] in text
    assert "\n" not in text
    assert "expected" in text


def test_another_tokenizer_than_centroids_is_refused(place, tmp_path):
    folder = write_dataset(tmp_path / "tokens", sizes={"train": 4})
    folder.write(MARKER, replace(TokenDataset(folder).info, family="vit_vqgan").to_json())
    config = config_of(place, f"objective=ccvit dataset={folder.uri}", tmp_path)
    with pytest.raises(ValueError, match=r"tokenizer vit_vqgan of .* expected a centroid tokenizer"):
        check_pretrain(config)


def test_a_sweep_goes_through_keys_of_every_objective(place, tmp_path):
    keys = {"dataset": f"{place}/tokens", "output": str(tmp_path), "run": "s", "metric": "train_loss"}
    space = {"ccvit.num_masked": [1, 2], "ccvit.replace": ["near", "random"]}
    part = {"objective": "ccvit", "ccvit": {"num_near": 3}}
    sweep = Sweep.model_validate({**keys, "space": space, "pretrain": part})
    configs = stage_configs(sweep, {"ccvit.num_masked": 2, "ccvit.replace": "random"})
    assert (configs["pretrain"].ccvit.num_masked, configs["pretrain"].ccvit.num_near) == (2, 3)
    assert run_name(configs["pretrain"]) == "seit_ray.runs.ccvit:pretrain_ccvit"
    assert check_pretrain(configs["pretrain"])
    trials = [trial_of(sweep, {"ccvit.num_masked": n, "ccvit.replace": "near"}) for n in (1, 2)]
    assert trials[0].name != trials[1].name
    assert trials[0].stages[0].function == "seit_ray.runs.ccvit:pretrain_ccvit"
    assert trials[0].stages[0].arguments["ccvit"].num_masked == 1


def test_classifiers_read_rows_of_the_codebook_from_beit(place, tmp_path):
    pretrain(config_of(place, RUNS["ccvit"], tmp_path))
    words = [f"dataset={place}/tokens", f"init_from={tmp_path}/a", f"output={tmp_path}", "run=b", *MODEL.split()]
    for more, text in (
        (["model.inputs=learned"], "set model.inputs=codebook"),
        (["model.encoder=vit", "model.inputs=codebook"], "with a run of beit"),
    ):
        with pytest.raises(ValueError, match=text.replace(".", r"\.")):
            check_finetune(load(VERBS["finetune"], [], [*words, *more]))
    images = [f"images={place}/photos", *words[1:]]
    with pytest.raises(ValueError, match="expected transfer=true"):
        check_finetune(load(VERBS["finetune"], [], images))
