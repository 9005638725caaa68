"""Probes during pre-training: the same figures on any ranks, and training does not notice."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from seit_ray.batches.crop import Centred, center_crop_tokens
from seit_ray.batches.store import TokenStore
from seit_ray.batches.stream import TokenStream
from seit_ray.evaluation.knn import knn_probe
from seit_ray.evaluation.linear_probe import linear_probe
from seit_ray.evaluation.probe import encoder_of, probe_metrics
from seit_ray.evaluation.rankme import rankme
from seit_ray.shards import TokenDataset
from tests.evaluation.probing import main as probe_in_process
from tests.tiny_dataset import learnable_rows, write_dataset
from tests.tiny_trainers import CPU, damaged, tiny_classifier, tiny_masked, tiny_store
from tests.warm import processes as warm

ROOT = Path(__file__).parents[2]


def probed(model=None, train=None, val=None, **settings):
    """Metrics of a model on learnable rows."""
    return probe_metrics(
        model or tiny_masked(), train or tiny_store(96), val or tiny_store(48, seed=1), 4, CPU, **settings
    )


def without_label(store, rows):
    """The store with those rows unlabelled."""
    labels = store.labels.copy()
    labels[rows] = -1
    return replace(store, labels=labels)


def test_metrics_are_those_of_both_probes_on_the_features():
    model, train, val = tiny_masked().eval(), tiny_store(96), tiny_store(48, seed=1)
    rows = [
        value
        for store in (train, val)
        for value in (model.features(torch.from_numpy(store.tokens.astype(np.int64))), torch.from_numpy(store.labels))
    ]
    fitted = linear_probe(*rows, 4)
    expected = {"probe_linear_top1": fitted.top1, "probe_knn_top1": knn_probe(*rows, 4, k=9).top1}
    expected["probe_rankme"] = rankme(rows[0])
    found = probed(model, train, val, k=9, batch_size=11)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1 / 48)
    assert min(found["probe_linear_top1"], found["probe_knn_top1"]) > 0.5  # the codes tell the class, even untrained
    assert {name: value for name, value in found.items() if name not in expected} == {
        **{"probe_linear_ridge": fitted.l2, "probe_linear_epochs": 50},
        **{"probe_knn_k": 9, "probe_knn_temperature": 0.07},
        **{"probe_train_samples": 96, "probe_val_samples": 48, "probe_rankme_samples": 96},
    }


@pytest.mark.parametrize(("methods", "others"), [(("knn",), ("linear", "rankme")), (("rankme",), ("linear", "knn"))])
def test_only_what_is_asked_for(methods, others):
    found = probed(methods=methods)
    assert any(name.startswith(f"probe_{methods[0]}") for name in found)
    assert not [name for name in found for other in others if name.startswith(f"probe_{other}")]


def test_settings_of_a_probe_act_and_stand_beside_its_figure():
    train = tiny_store(96)
    rows = [torch.from_numpy(s.tokens.astype(np.int64)) for s in (train, tiny_store(48, seed=1))]
    model = tiny_masked().eval()
    labels = [torch.from_numpy(s.labels) for s in (train, tiny_store(48, seed=1))]
    pairs = (model.features(rows[0]), labels[0], model.features(rows[1]), labels[1])
    found = probed(model, ridge=30.0, epochs=3, k=50, temperature=2.0, methods=("linear", "knn"))
    assert found["probe_linear_top1"] == linear_probe(*pairs, 4, l2=30.0, max_iterations=3).top1
    assert found["probe_knn_top1"] == knn_probe(*pairs, 4, k=50, temperature=2.0).top1
    assert [found[f"probe_{n}"] for n in ("linear_ridge", "linear_epochs", "knn_k", "knn_temperature")] == [
        30,
        3,
        50,
        2,
    ]
    assert found["probe_linear_top1"] != probed(model)["probe_linear_top1"]


def test_a_classifier_is_probed_before_its_head():
    model = tiny_classifier()
    with torch.no_grad():
        model.head.weight.zero_()
    assert probed(model)["probe_knn_top1"] > 0.5


@pytest.mark.parametrize("training", [True, False])
def test_training_does_not_notice(training):
    model = tiny_masked(dropout=0.5).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state, numbers = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first, again = probed(model), probed(model)
    assert first == again  # no dropout acts, whatever the mode
    assert model.training is training
    assert all(module.training is training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert np.random.get_state()[1].tolist() == numbers
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_the_mode_is_restored_after_an_error():
    model = tiny_masked()
    train = TokenStore(np.zeros((8, 9), np.uint16), np.arange(8) % 4)
    with pytest.raises(ValueError, match="crop the tokens"):
        probed(model, train)
    assert model.training


def test_rows_without_a_label_are_left_out():
    train, val = tiny_store(96), tiny_store(48, seed=1)
    wrong = replace(train, tokens=np.concatenate([train.tokens, np.zeros((5, 16), np.uint16)]))
    wrong = replace(wrong, labels=np.concatenate([train.labels, np.full(5, -1)]))
    probes = {"methods": ("linear", "knn")}
    assert probed(train=wrong, **probes) == probed(train=train, **probes)
    assert probed(train=wrong)["probe_rankme_samples"] == 101
    kept = np.arange(20, 48)
    fewer = TokenStore(val.tokens[kept], val.labels[kept])
    assert probed(val=without_label(val, slice(0, 20)))["probe_knn_top1"] == probed(val=fewer)["probe_knn_top1"]


def test_rows_of_val_that_cannot_be_read_are_left_out():
    val, methods = tiny_store(48, seed=1), {"methods": ("linear", "knn")}
    fewer = TokenStore(val.tokens[20:], val.labels[20:])
    assert probed(val=damaged(val, range(20)), **methods) == probed(val=fewer, **methods)
    nothing = probed(val=damaged(val, range(48)), **methods)
    assert nothing == {"probe_train_samples": 96, "probe_val_samples": 0}


def test_nothing_to_tell_apart_leaves_what_needs_no_labels():
    train, val = tiny_store(24), tiny_store(24, seed=1)
    model = tiny_masked()
    rank = probed(model, train, methods=("rankme",))
    assert set(rank) == {"probe_rankme", "probe_rankme_samples"}
    assert 1 < rank["probe_rankme"] < 24
    assert probed(model, without_label(train, slice(None))) == rank
    assert probed(model, train, without_label(val, slice(None))) == rank
    assert probed(model, replace(train, labels=np.zeros_like(train.labels))) == rank
    assert probe_metrics(model, train, None, 0, CPU) == rank
    assert probed(model, without_label(train, slice(None)), methods=("linear", "knn")) == {}


def test_few_rows_lower_k():
    assert probed(train=tiny_store(8), k=20)["probe_knn_top1"] >= 0


def test_a_larger_grid_is_seen_through_its_middle():
    model = tiny_masked()
    rows = learnable_rows(40, side=6)
    labels = rows.meta["label"].to_numpy().astype(np.int64)
    large, small = (
        TokenStore(tokens, labels) for tokens in (rows.tokens, center_crop_tokens(rows.tokens, (6, 6), (4, 4)))
    )
    shown = Centred(large, (6, 6), (4, 4))
    assert probed(model, shown, small) == probed(model, small, small)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="probe method 'svm'; expected some of linear, knn, rankme"):
        probed(methods=("knn", "svm"))
    with pytest.raises(ValueError, match="model Linear to probe"):
        encoder_of(torch.nn.Linear(2, 2))


def test_two_processes_find_what_one_finds(tmp_path):
    command = [sys.executable, "-m", "tests.evaluation.probing", str(tmp_path), "2", "1"]
    with warm.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as second:
        probe_in_process(tmp_path, 1, 0)
        probe_in_process(tmp_path, 2, 0)
        errors = second.communicate(timeout=120)[1]
    assert second.returncode == 0, errors
    alone, *together = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert len(alone) == 2
    assert alone[0].keys() >= {"probe_linear_top1", "probe_knn_top1", "probe_rankme"}
    assert together == [alone, alone]


def test_a_probe_reads_the_labels_of_a_streamed_split_once(tmp_path, monkeypatch):
    dataset = TokenDataset(write_dataset(tmp_path / "tokens", sizes={"train": 60, "val": 20}, rows_per_shard=5))
    read = []
    for name in ("read_columns", "read_shard"):
        real = getattr(TokenDataset, name)

        def spy(self, split, shard, *more, real=real, name=name):
            read.append((name, split, shard.name))
            return real(self, split, shard, *more)

        monkeypatch.setattr(TokenDataset, name, spy)
    train, val = (TokenStream(dataset, split, memory_bytes=1, need_labels=True) for split in ("train", "val"))
    probe_metrics(tiny_masked(), train, val, 4, CPU, max_train=30, max_val=10)
    assert len(read) == len(set(read))  # each column of labels, and each shard, at most once
    assert sum(name == "read_columns" for name, *_ in read) == 12 + 4
    probe_metrics(tiny_masked(), train, val, 4, CPU, max_train=30, max_val=10)
    assert sum(name == "read_columns" for name, *_ in read) == 12 + 4
