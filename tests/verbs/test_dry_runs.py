"""Dry runs: every mistake that shows without the work, and the plan, without torch, ray, or a trace."""

import importlib
import json
import shutil
from pathlib import Path

import pytest

from seit_ray.config import load
from seit_ray.shards.synonyms import write_synonyms
from seit_ray.storage import Folder
from seit_ray.verbs.command.arguments import VERBS
from tests.end_to_end.processes import here
from tests.tiny_classifiers import write_classifier
from tests.tiny_dataset import write_dataset
from tests.tiny_images import image_files, write_files, write_tokenizer
from tests.verbs.light import run_light

ROOT = Path(__file__).parents[2]
NAMES = ("photos", "tokenizer", "out")
HELD_OUT = "tokenize.val_fraction=0.3 centroid.codebook_size=64 finetune.loop.global_batch_size=8"
COMMANDS = {
    "quickstart": f"images=photos output=new {HELD_OUT}",
    "fit_tokenizer": "images=photos output=new",
    "tokenize_images": "images=photos tokenizer=tokenizer output=new",
    "export_tokens": "dataset=tokens output=new",
    "recode_tokens": "dataset=tokens output=new encoding=plain",
    "inspect_tokens": "dataset=tokens",
    "pretrain": "dataset=tokens output=new run=a workers.num_workers=1",
    "finetune": "dataset=tokens output=new run=a workers.num_workers=1",
    "sweep": "dataset=tokens output=new run=a metric=train_loss space={optimizer.lr:[1e-3,1e-4]}",
    "evaluate": "images=photos run=classifier split=train",
    "predict": "images=photos run=classifier output=new/a.csv",
    "run_all": f"images=photos output=new {HELD_OUT} pretrain.loop.global_batch_size=8",
    "study_storage_curve": "images=sets/a output=new trials.max_concurrent=0 loop.global_batch_size=4",
    "study_transfer": "images=sets/a targets=[sets/b] output=new "
    + " ".join(f"{k}.loop.global_batch_size=4" for k in ("pretrain", "supervised", "finetune")),
    "plan": "",
    "study_continual": "images=photos output=new num_steps=3 val_fraction=0.3",
}
# These read tensors: weights to be imported, codebooks of releases, a tokenizer whose geometry is tried.
SHARED = ("numpy", "pyarrow.parquet", "PIL.Image", "safetensors.numpy")
WITH_TORCH = {"import_tokens", "import_weights", "train_tokenadapt"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """photos/, tokenizer/, tokens/ of them, classifier/; not to be changed."""
    from tests.tiny_dataset import write_dataset

    place = Folder(tmp_path_factory.mktemp("place"))
    write_files(place.join("photos"), image_files(30, classes=("cat", "dog", "emu")))
    for name in ("a/train", "a/val", "b/train", "b/val"):
        write_files(place.join("sets", name), image_files(6, classes=("cat", "dog", "emu")))
    write_tokenizer(place.join("tokenizer"))
    write_dataset(Path(place.join("tokens").uri), sizes={"train": 40, "val": 10})
    write_tokenizer(place.join("seen", "tokenizer"))
    write_classifier(place.join("classifier"), place.join("seen"))
    return place


def test_every_verb_has_a_dry_run_here():
    assert set(COMMANDS) | WITH_TORCH == set(VERBS)


@pytest.fixture(scope="module")
def dry(place, tmp_path_factory):
    """What came of each dry run, by its verb."""
    commands = [[verb, *words.split(), "--dry-run"] for verb, words in COMMANDS.items()]
    said = run_light(commands, tmp_path_factory.mktemp("said") / "dry", cwd=place.uri, shared=SHARED)
    return dict(zip(COMMANDS, said, strict=True))


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_dry_run_imports_neither_torch_nor_ray_and_writes_nothing(place, dry, verb):
    done = dry[verb]
    assert done.returncode == 0, done.stderr[-2000:]
    assert "dry run, nothing is done" in done.stdout
    assert "seit_ray" in done.packages  # so it is seen what is imported
    assert not done.packages & {"torch", "ray", "timm", "torchvision"}
    assert not Path(place.uri, "new").exists() or not any(p.is_file() for p in Path(place.uri, "new").rglob("*"))


def test_a_dry_run_tells_what_is_left_out_and_what_looks_odd(tmp_path):
    from seit_ray.config import FitTokenizer
    from seit_ray.verbs.fit_tokenizer import check

    photos = write_files(Folder(tmp_path / "photos"), image_files(4, classes=("cat",)))
    write_files(photos, {"cat/a.heic": b"", "cat/b.HEIC": b"", "notes.txt": b""})
    rows = check(FitTokenizer(images=photos.uri, output=str(tmp_path / "out")))
    assert ("left out", "2 .heic, 1 .txt") in rows
    assert ("note", "one class in all, 'cat': if it is none, point at the folder of the class folders") in rows


def test_a_dry_run_refuses_a_dataset_that_was_begun_with_other_settings(tmp_path):
    from seit_ray.config import TokenizeImages, load
    from seit_ray.distributed.data.tokenize_begin import begin
    from seit_ray.tokenizers.about import read_about
    from seit_ray.verbs.tokenize_images import check, job_of

    write_files(Folder(tmp_path / "photos"), image_files(4, classes=("cat", "dog")))
    about = read_about(write_tokenizer(Folder(tmp_path / "tokenizer")))
    keys = [f"{key}={tmp_path}/{name}" for key, name in zip(("images", "tokenizer", "output"), NAMES, strict=True)]
    config = load(TokenizeImages, [], keys)
    begin(job_of(config), job_of(config).plan(about["fingerprint"]), None)
    assert ("output", f"{tmp_path}/out (writable)") in check(config)
    for key in ("tokenize.encoding=compact", "tokenize.val_fraction=0.5", "tokenize.rows_per_shard=3"):
        with pytest.raises(ValueError, match=rf"out was made with {key.partition('=')[0].partition('.')[2]} "):
            check(load(TokenizeImages, [], [*keys, key]))


def test_a_dry_run_refuses_predictions_that_were_begun_with_other_settings(place, tmp_path):
    from seit_ray.config import Predict, load
    from seit_ray.verbs.predict import check, job_of

    for name in ("a.csv", "b"):
        keys = [f"images={place.uri}/photos", f"run={place.uri}/classifier", f"output={tmp_path}/{name}"]
        config = load(Predict, [], keys)
        job_of(config).output.begin(job_of(config).plan())
        assert ("images", f"{place.uri}/photos") in check(config)
        for key, said in (("top_k=2", "top_k"), ("split=val", "split"), (f"images={place.uri}/sets", "images")):
            with pytest.raises(ValueError, match=rf"{name} was made with other {said} "):
                check(load(Predict, [], [*keys, key]))
        check(load(Predict, [], [*keys, "top_k=2", "overwrite=true"]))


def test_a_dry_run_refuses_to_rewrite_over_another_dataset(place, tmp_path):
    from seit_ray.config import RecodeTokens, load
    from seit_ray.verbs.recode_tokens import check, recode_tokens

    keys = [f"dataset={place.uri}/tokens", f"output={tmp_path}/out", "encoding=compact"]
    recode_tokens(load(RecodeTokens, [], keys))
    assert ("encoding", "plain -> compact") in check(load(RecodeTokens, [], keys))
    with pytest.raises(ValueError, match="out holds another token dataset; expected none, or the same rewriting"):
        check(load(RecodeTokens, [], [*keys, "rows_per_shard=7"]))


@pytest.mark.parametrize(
    ("verb", "key", "message"),
    [
        ("pretrain", "model.width=7", "width 7 with num_heads 4; expected a width that the heads divide"),
        ("finetune", "model.num_heads=7", "width 128 with num_heads 7; expected a width that the heads divide"),
        ("pretrain", "model.stem_kernel=3", "grid 4x4 in patches of 3x3; expected a multiple in both"),
        ("pretrain", "model.grid_side=3", "grid 3x3 in patches of 2x2; expected a multiple in both"),
        ("pretrain", "model.dropout=1", "model.dropout"),
        ("finetune", "model.drop_path=1", "model.drop_path"),
    ],
)
def test_sizes_that_no_model_has_are_told_before_a_run_begins(tmp_path, verb, key, message):
    dataset = write_dataset(tmp_path / "tokens", sizes={"train": 40, "val": 10}).uri
    keys = [
        f"dataset={dataset}",
        f"output={tmp_path}/runs",
        "run=a",
        "loop.global_batch_size=20",
        "model.size=nano",
        key,
    ]
    done = here(verb, *keys, "--dry-run")
    assert done.returncode == 2
    assert message in done.stderr


TRAINED = "run=a output=new loop.epochs=1 loop.global_batch_size=4 optimizer.warmup_epochs=0 workers.num_workers=0"
OF_TOKENS = f"dataset=tokens {TRAINED} model.size=nano"
OF_PIXELS = f"{TRAINED} model.size=nano pixels.image_size=16 pixels.patch_size=4"
VQGAN = "images=photos output=new tokenizer=vit_vqgan vit_vqgan.image_size=16 vit_vqgan.size=nano workers.num_workers=0"
TEACHER = f"images=photos objective=dtm {OF_PIXELS} dtm.teacher_weights=tokens/dataset.json dtm.teacher"
REFUSED = {
    "synonyms of the table": ("finetune", f"{OF_TOKENS} augment.synonym_prob=1 augment.num_synonyms=3"),
    "synonyms of the codebook": ("pretrain", f"{OF_TOKENS} augment.synonym_prob=1 augment.num_synonyms=16"),
    "workers": ("pretrain", OF_TOKENS.replace("size=4", "size=1").replace("workers=0", "workers=2")),
    "a range of workers": (
        "finetune",
        OF_TOKENS.replace("size=4", "size=1").replace("workers=0", "workers=[2,4]"),
    ),
    "kept by val": ("finetune", f"{OF_TOKENS.replace('tokens', 'noval', 1)} loop.keep_best=val_top1"),
    "kept by labels": (
        "pretrain",
        f"{OF_TOKENS.replace('tokens', 'nolabel', 1)} probe.every_epochs=1 loop.keep_best=probe_linear_top1",
    ),
    "kept by val of images": ("finetune", f"images=photos {OF_PIXELS} loop.keep_best=val_top1"),
    "no labels": ("finetune", f"images=flat {OF_PIXELS}"),
    "one class": ("finetune", f"images=photos/cat {OF_PIXELS} source.find_splits=false"),
    "unknown teacher": ("pretrain", f"{TEACHER}=vit_nano"),
    "no weights": ("pretrain", f"{TEACHER}=vit_tiny_patch16_224 dtm.teacher_weights=none.pt"),
    "another teacher": ("pretrain", f"{TEACHER}=vit_tiny_patch16_224 dtm.teacher_weights=timm/a.pt"),
    "patches of the teacher": ("pretrain", f"{TEACHER}=vit_base_patch16_224 dtm.teacher_weights=timm/a.pt"),
    "centroids": ("fit_tokenizer", "images=photos output=new centroid.image_size=16 centroid.codebook_size=256"),
    "width": ("fit_tokenizer", f"{VQGAN} vit_vqgan.width=30"),
    "stride": ("fit_tokenizer", f"{VQGAN} vit_vqgan.adversarial_weight=1 vit_vqgan.discriminator_layers=6"),
    "unknown network": (
        "fit_tokenizer",
        f"{VQGAN} vit_vqgan.perceptual_network=resnet vit_vqgan.perceptual_weights=tokens/dataset.json",
    ),
    "network without weights": ("fit_tokenizer", f"{VQGAN} vit_vqgan.perceptual_network=resnet18"),
    "batch of a tokenizer": (
        "fit_tokenizer",
        f"{VQGAN} vit_vqgan.init_images=0 loop.epochs=1 optimizer.warmup_epochs=0",
    ),
    "start of a codebook": ("fit_tokenizer", f"{VQGAN} vit_vqgan.codebook_size=512 loop.global_batch_size=4"),
    "batch of TokenAdapt": (
        "train_tokenadapt",
        f"images=photos tokenizer=tokenizer {TRAINED} loop.global_batch_size=64",
    ),
}


@pytest.fixture(scope="module")
def more(place):
    """The place, with datasets and images that lack something."""
    torch = pytest.importorskip("torch")
    write_dataset(Path(place.join("noval").uri), sizes={"train": 40})
    write_dataset(Path(place.join("nolabel").uri), sizes={"train": 40, "val": 10}, num_classes=0)
    write_synonyms(place.join("tokens"), torch.arange(1, 17).view(16, 1) % 16)
    write_files(place.join("flat"), {f"{n}.png": data for n, data in enumerate(image_files(9).values())})
    sizes = {"img_size": 32, "patch_size": 16}
    about = {"architecture": "vit_base_patch16_224", "model_args": sizes}
    write_files(place.join("timm"), {"a.pt": b"", "config.json": json.dumps(about).encode()})
    return place


@pytest.mark.parametrize("what", REFUSED)
def test_a_dry_run_tells_what_the_run_refuses_in_its_words(more, what, monkeypatch):
    monkeypatch.chdir(more.uri)
    shutil.rmtree("new", ignore_errors=True)
    verb, words = REFUSED[what]
    module = importlib.import_module(f"seit_ray.verbs.{verb}")
    config = load(VERBS[verb], [], words.split())
    with pytest.raises(ValueError, match="; ") as told:
        module.check(config)
    assert not Path(more.uri, "new").exists()
    if config.workers.num_workers == 0 or verb == "fit_tokenizer":  # else of a cluster
        with pytest.raises(ValueError, match="; ") as refused:
            getattr(module, verb)(config)
        assert str(refused.value) in str(told.value)
