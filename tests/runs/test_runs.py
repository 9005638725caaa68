"""From a token dataset to a trained and evaluated model, as the pipelines call it."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from seit_ray import config
from seit_ray.models.exports import import_model
from seit_ray.runs.evaluate_tokens import evaluate_tokens
from seit_ray.runs.finetune import finetune as run_finetune
from seit_ray.runs.pretrain import pretrain as run_pretrain
from seit_ray.shards import TokenDataset
from seit_ray.storage import Folder
from seit_ray.training.checkpoints import load_checkpoint
from seit_ray.training.metrics import read_metrics
from tests.tiny_dataset import write_dataset
from tests.tiny_trainers import CPU

SMALL = {
    "size": "nano",
    "width": 32,
    "depth": 2,
    "num_heads": 2,
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_num_heads": 2,
    "token_dim": 8,
    "stem_kernel": 1,
}
LOOP = config.Loop(epochs=2, global_batch_size=16, log_every_steps=3).settings()


def augment_settings(**settings):
    """The augment section as a run takes it: the folder of adapt_run comes apart."""
    return config.Augment(**settings).settings()


AUGMENT = augment_settings()
OPTIMIZER = config.Optimizer(lr=5e-3, warmup_epochs=0.5).settings()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A labelled dataset of 64 + 24 samples; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes={"train": 64, "val": 24})


@pytest.fixture(scope="module")
def pretrained(dataset, tmp_path_factory):
    """A finished pre-training run; not to be changed."""
    run = Folder(tmp_path_factory.mktemp("runs")).join("mtm")
    pretrain(dataset, run)
    return run


def pretrain(dataset, run, loop=LOOP, **model):
    return run_pretrain(
        dataset=dataset,
        run=run,
        model=config.Model(**{**SMALL, **model}).settings(),
        masking=config.Masking().settings(),
        augment=AUGMENT,
        adapt_run=None,
        probe=config.Probe().settings(),
        loop=loop,
        optimizer=OPTIMIZER,
        world=CPU,
    )


def finetune(dataset, run, init_from=None, loop=LOOP, synonym_share=0.0, **model):
    return run_finetune(
        dataset=dataset,
        run=run,
        init_from=init_from,
        model=config.Classifier(**{**SMALL, **model}).settings(),
        label_smoothing=0.1,
        augment=augment_settings(synonym_prob=1.0 if synonym_share else 0.0, synonym_share=synonym_share),
        loop=loop,
        optimizer=OPTIMIZER,
        world=CPU,
    )


def evaluate(dataset, run, split="val", batch_size=7):
    return evaluate_tokens(dataset=dataset, run=run, split=split, batch_size=batch_size, world=CPU)


def test_pretrain_then_finetune_then_evaluate(dataset, pretrained, tmp_path):
    run = Folder(tmp_path / "classifier")
    metrics = finetune(dataset, run, pretrained, loop=replace(LOOP, epochs=8))
    assert metrics["step"] == 32
    assert metrics["val_top1"] > 0.8
    figures = evaluate(dataset, run)
    assert (figures["split"], figures["samples"]) == ("val", 24)
    for name in ("top1", "top5", "loss"):
        assert figures[name] == pytest.approx(metrics[f"val_{name}"], abs=1e-6)
    labels = TokenDataset(dataset).read_split("val").meta["label"].to_pylist()
    shares = figures["per_class_top1"]
    assert list(shares) == [f"class {i}" for i in range(4)]
    hits = sum(shares[f"class {label}"] for label in labels)
    assert hits / 24 == pytest.approx(figures["top1"])
    assert json.loads(json.dumps(figures)) == figures
    assert evaluate(dataset, run, "train", batch_size=64)["samples"] == 64


def test_pretraining_writes_a_model_and_metrics(dataset, pretrained):
    info = TokenDataset(dataset).info
    _, about = import_model(pretrained, "mtm")
    assert (about["tokenizer"], about["grid"], about["codebook_size"]) == (info.tokenizer, [4, 4], 16)
    assert about["class_names"] == info.class_names
    record = read_metrics(pretrained)[-1]
    assert about["metrics"] == record
    assert {"train_loss", "val_loss", "val_masked_accuracy", "lr", "epoch"} <= record.keys()
    assert load_checkpoint(pretrained)[1]["tokenizer"] == info.tokenizer


def test_pretraining_is_a_function_of_its_seed(dataset, pretrained, tmp_path):
    again, other = Folder(tmp_path / "again"), Folder(tmp_path / "other")
    pretrain(dataset, again)
    pretrain(dataset, other, loop=replace(LOOP, seed=1))
    assert again.read("model.safetensors") == pretrained.read("model.safetensors")
    assert other.read("model.safetensors") != pretrained.read("model.safetensors")


def test_fine_tuning_starts_from_the_encoder_and_a_new_head(dataset, pretrained, tmp_path):
    states = []
    for name, init_from in (("from", pretrained), ("scratch", None)):
        loop = replace(LOOP, epochs=1, global_batch_size=64)  # one step, at rate 0: the start itself
        finetune(dataset, Folder(tmp_path / name), init_from, loop=loop)
        states.append(import_model(Folder(tmp_path / name), "classifier")[0].state_dict())
    encoder = import_model(pretrained, "mtm")[0].state_dict()
    for name in ("token_emb.word_embeddings.weight", "blocks.1.mlp.fc1.weight", "cls_token", "norm.weight"):
        torch.testing.assert_close(states[0][name], encoder[name])
    assert not torch.allclose(states[1]["blocks.1.mlp.fc1.weight"], encoder["blocks.1.mlp.fc1.weight"])
    assert states[0]["head.weight"].abs().max() < 1e-3


def test_synonyms_are_of_the_datasets_own_codebook(dataset, tmp_path):
    losses = [
        finetune(dataset, Folder(tmp_path / name), synonym_share=share)["train_loss"]
        for name, share in (("none", 0.0), ("some", 0.5), ("again", 0.5))
    ]
    assert losses[0] != pytest.approx(losses[1], abs=1e-4)
    assert losses[1] == losses[2]
    shutil.copytree(dataset.uri, tmp_path / "tokens")
    (tmp_path / "tokens" / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="no tokenizer in"):
        finetune(Folder(tmp_path / "tokens"), Folder(tmp_path / "new"), synonym_share=0.5)


def test_an_unlabelled_dataset_is_pretrained_on_but_not_fine_tuned(tmp_path):
    dataset = write_dataset(tmp_path / "tokens", sizes={"train": 32}, num_classes=0)
    metrics = pretrain(dataset, Folder(tmp_path / "mtm"))
    assert metrics["step"] == 4
    assert not [name for name in metrics if name.startswith("val")]
    with pytest.raises(ValueError, match="tokens has 32 of 32 images without a label; expected a label for each"):
        finetune(dataset, Folder(tmp_path / "run"))
    assert list(Folder(tmp_path / "run").list()) == []


def test_one_class_is_too_few(tmp_path):
    dataset = write_dataset(tmp_path / "tokens", num_classes=1)
    with pytest.raises(ValueError, match="has 1 classes; expected at least 2"):
        finetune(dataset, Folder(tmp_path / "run"))


def test_tokens_of_another_tokenizer_are_refused_with_both_named(dataset, pretrained, tmp_path):
    other = write_dataset(tmp_path / "tokens", sizes={"train": 64, "val": 24}, tokenizer_seed=1)
    marks = [TokenDataset(folder).info.tokenizer for folder in (dataset, other)]
    assert marks[0] != marks[1]
    classifier = Folder(tmp_path / "classifier")
    finetune(dataset, classifier)
    for refused in (
        lambda: finetune(other, Folder(tmp_path / "new"), pretrained),
        lambda: pretrain(other, pretrained),
        lambda: finetune(other, classifier),
        lambda: evaluate(other, classifier),
    ):
        with pytest.raises(ValueError, match=f"made with tokenizer '{marks[0]}'; expected '{marks[1]}'") as caught:
            refused()
        assert "\n" not in str(caught.value)
    assert list(Folder(tmp_path / "new").list()) == []


def test_another_number_of_classes_is_refused(dataset, tmp_path):
    run = Folder(tmp_path / "run")
    finetune(dataset, run)
    fewer = write_dataset(tmp_path / "tokens", num_classes=3)
    with pytest.raises(ValueError, match=r"tokens has 3 classes; expected the 4 that .*run was trained with"):
        evaluate(fewer, run)


def test_kinds_of_run_are_not_mixed_up(dataset, pretrained, tmp_path):
    run = Folder(tmp_path / "run")
    finetune(dataset, run)
    with pytest.raises(ValueError, match=r"holds a model of kind 'mtm'; expected 'classifier'"):
        evaluate(dataset, pretrained)
    with pytest.raises(ValueError, match="made with kind 'classifier'; expected 'mtm'"):
        pretrain(dataset, run)
    with pytest.raises(ValueError, match=r"made with init_from None; expected '.*mtm'"):
        finetune(dataset, run, pretrained)


def test_a_smaller_encoder_does_not_fit(dataset, pretrained, tmp_path):
    with pytest.raises(ValueError, match=r"has a model of depth 2; expected 1, .*; set model.depth=2"):
        finetune(dataset, Folder(tmp_path / "run"), pretrained, depth=1)


def test_without_val_split_there_is_nothing_to_evaluate_on(tmp_path):
    dataset = write_dataset(tmp_path / "tokens", sizes={"train": 32})
    run = Folder(tmp_path / "run")
    metrics = finetune(dataset, run)
    assert not [name for name in metrics if name.startswith("val")]
    with pytest.raises(ValueError, match=r"split 'val' of .*; expected one of \['train'\]"):
        evaluate(dataset, run)


def test_a_dataset_without_train_split_is_refused(tmp_path):
    dataset = write_dataset(tmp_path / "tokens", sizes={"val": 32})
    with pytest.raises(ValueError, match=r"split 'train' of .*; expected one of \['val'\]"):
        pretrain(dataset, Folder(tmp_path / "run"))


def test_a_finished_run_is_left_as_it_is(dataset, tmp_path):
    run = Folder(tmp_path / "run")
    first = finetune(dataset, run)
    before = {entry.name: run.read(entry.name) for entry in run.list() if "tensorboard" not in entry.name}
    assert finetune(dataset, run) == first
    assert {name: run.read(name) for name in before} == before


def test_a_finished_run_says_what_it_was_wherever_it_is_given_again(dataset, tmp_path):
    run = Folder(tmp_path / "run")
    metrics = pretrain(dataset, run, loop=replace(LOOP, epochs=1))
    about = json.loads(run.read("model.json"))
    elsewhere = json.dumps({**about, "precision": "bf16", "device": "cuda"}).encode()
    run.write("model.json", elsewhere)
    assert pretrain(dataset, run, loop=replace(LOOP, epochs=1)) == metrics
    assert run.read("model.json") == elsewhere
    run.delete("model.json")  # killed between the last checkpoint and the model
    assert pretrain(dataset, run, loop=replace(LOOP, epochs=1)) == metrics
    assert json.loads(run.read("model.json")) == about


def test_progress_and_metrics_are_handed_on(dataset, tmp_path):
    states, records = [], []
    run_finetune(
        dataset=dataset,
        run=Folder(tmp_path / "run"),
        init_from=None,
        model=config.Classifier(**SMALL).settings(),
        label_smoothing=0.0,
        augment=AUGMENT,
        loop=LOOP,
        optimizer=OPTIMIZER,
        world=CPU,
        on_progress=lambda *state: states.append(state),
        on_metrics=records.append,
    )
    assert states[0] == ("train", 0, 8, "started, 64 rows in memory, 0 MiB")
    assert [state[1:3] for state in states[1:]] == [(3, 8), (4, 8), (6, 8), (8, 8)]
    assert "val top-1" in states[-1][3]
    assert "samples/s" in states[1][3]
    assert [record["step"] for record in records] == [4, 8]
