"""The kNN probe: the votes of a loop written out, right scores, bad input named."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seit_ray.evaluation import knn
from seit_ray.evaluation.knn import KnnResult, knn_probe, label_ranks


def drawn(count, num_classes=4, width=6, seed=0):
    """features [N, D] around one centre a class, and labels [N]."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(num_classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(0, num_classes, (count,), generator=generator)
    return centres[labels] + torch.randn(count, width, generator=generator), labels


def by_hand(train, train_y, test, test_y, num_classes, k, temperature):
    """The same score, a row and a neighbour at a time, in double precision."""
    hits = [0, 0]
    for row, label in zip(test.double().tolist(), test_y.tolist(), strict=True):
        similar = []
        for other, its in zip(train.double().tolist(), train_y.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(row, other, strict=True))
            similar.append((dot / math.hypot(*row) / math.hypot(*other), its))
        votes = dict.fromkeys(range(num_classes), 0.0)
        for similarity, its in sorted(similar, reverse=True)[:k]:
            votes[its] += math.exp(similarity / temperature)
        ranked = [c for c in sorted(votes, key=lambda c: (-votes[c], c)) if votes[c]]
        hits = [hits[0] + (label in ranked[:1]), hits[1] + (label in ranked[:5])]
    return [h / len(test) for h in hits]


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 40), st.integers(1, 15), st.floats(0.02, 2.0))
def test_scores_are_those_of_a_loop(seed, num_classes, num_train, k, temperature):
    train, test = drawn(num_train, num_classes, seed=seed), drawn(13, num_classes, seed=seed + 1)
    k = min(k, num_train)
    found = knn_probe(*train, *test, num_classes, k=k, temperature=temperature)
    assert [found.top1, found.top5] == pytest.approx(by_hand(*train, *test, num_classes, k, temperature))


def test_chunks_do_not_show(monkeypatch):
    train, test = drawn(50, 7), drawn(31, 7, seed=1)
    whole = knn_probe(*train, *test, 7, k=9)
    for values in (1, 50 * 4, 50 * 31):
        monkeypatch.setattr(knn, "CHUNK_VALUES", values)
        assert knn_probe(*train, *test, 7, k=9) == whole


def test_each_row_is_its_own_nearest():
    features, labels = drawn(60)
    assert knn_probe(features, labels, features, labels, 4, k=1) == KnnResult(1.0, 1.0)
    assert knn_probe(features * 1000, labels, features, labels, 4, k=1).top1 == 1.0  # lengths do not matter


def test_the_nearer_outvote_the_many_as_the_temperature_falls():
    train = torch.tensor([[1.0, 0.0], [0.9, 0.4], [0.9, -0.4]])
    arguments = (train, torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.0]]), torch.tensor([0]), 2)
    assert knn_probe(*arguments, k=3, temperature=0.05).top1 == 1.0
    assert knn_probe(*arguments, k=3, temperature=1.0).top1 == 0.0
    assert knn_probe(*arguments, k=3, temperature=1e-6).top1 == 1.0  # and nothing overflows


def test_a_class_without_a_neighbour_is_no_hit():
    x = torch.eye(3)
    found = knn_probe(x, torch.tensor([0, 0, 1]), x[:1], torch.tensor([2]), 3, k=3)
    assert found == KnnResult(0.0, 0.0)


def test_of_equal_votes_the_lower_class_comes_first():
    votes = torch.tensor([[2.0, 2.0, 0.0], [2.0, 2.0, 0.0], [1.0, 3.0, 2.0]])
    assert label_ranks(votes, torch.tensor([0, 1, 0])).tolist() == [0, 1, 2]
    assert label_ranks(votes[:1], torch.tensor([2])).item() >= 5


def test_integers_arrays_and_inference_tensors_are_taken():
    features, labels = drawn(40)
    pixels = (features * 20 + 128).clamp(0, 255).byte()
    found = knn_probe(pixels, labels.int(), pixels, labels, 4, k=5)
    assert knn_probe(pixels.numpy(), labels.numpy(), pixels.numpy(), labels.numpy(), 4, k=5) == found
    with torch.inference_mode():
        frozen = pixels * 1
    assert knn_probe(frozen, labels, frozen, labels, 4, k=5) == found


def wrong_input():
    x, y = torch.randn(8, 3), torch.arange(8) % 4
    yield "train labels from 0 to 3; expected 0 to 2", (x, y, x, y, 3), {}
    yield "test labels from -1 to 2", (x, y, x, y - 1, 4), {}
    yield r"train features of shape \(0, 3\)", (x[:0], y[:0], x, y, 4), {}
    yield "width 3 and test features of width 2", (x, y, x[:, :2], y, 4), {}
    yield "test features with NaN", (x, y, x / 0, y, 4), {}
    yield "k 9 of 8 train rows; expected 1 to 8", (x, y, x, y, 4), {"k": 9}
    yield "k 0", (x, y, x, y, 4), {"k": 0}
    yield "temperature 0", (x, y, x, y, 4), {"k": 3, "temperature": 0}
    yield "temperature nan", (x, y, x, y, 4), {"k": 3, "temperature": math.nan}


@pytest.mark.parametrize(("message", "arguments", "settings"), list(wrong_input()))
def test_wrong_input_is_named(message, arguments, settings):
    with pytest.raises(ValueError, match=message):
        knn_probe(*arguments, **settings)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_agrees_with_the_cpu():
    train, test = drawn(400), drawn(200, seed=1)
    on_gpu = knn_probe(train[0].cuda(), train[1], test[0].cuda(), test[1], 4)
    assert on_gpu.top1 == pytest.approx(knn_probe(*train, *test, 4).top1, abs=0.01)
