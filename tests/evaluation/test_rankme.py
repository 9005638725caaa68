"""RankMe against the singular values themselves."""

import numpy as np
import pytest
import torch

from seit_ray.evaluation.rankme import rankme


def features(rows, width, rank, seed=0):
    """Random features of a rank."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, rank, generator=generator) @ torch.randn(rank, width, generator=generator)


@pytest.mark.parametrize(("rows", "width"), [(50, 12), (7, 30), (9, 9)])
def test_it_is_the_exponential_of_the_entropy_of_singular_values(rows, width):
    x = features(rows, width, min(rows, width))
    singular = np.linalg.svd(x.numpy().astype(float), compute_uv=False)
    shares = singular / singular.sum() + 1e-7
    assert rankme(x) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-5)
    assert 1 < rankme(x) < min(rows, width)


def test_its_bounds():
    assert rankme(torch.eye(8)) == pytest.approx(8, rel=1e-4)
    assert rankme(torch.ones(20, 8)) == pytest.approx(1, abs=1e-3)
    assert rankme(features(100, 16, 3)) < 3.01 < rankme(features(100, 16, 8))


def test_scale_type_and_order_do_not_matter():
    x = features(40, 10, 6)
    found = rankme(x)
    assert rankme(x * 1e-30) == pytest.approx(found, rel=1e-5)
    assert rankme(x.double() * 1e200) == pytest.approx(found, rel=1e-5)
    assert rankme(x[torch.arange(39, -1, -1)]) == pytest.approx(found, rel=1e-6)
    assert rankme(x.bfloat16()) == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (torch.zeros(3), "expected .N, D."),
        (torch.zeros(0, 4), "empty sides"),
        (torch.tensor([[1.0, float("nan")]]), "NaN or infinity"),
        (torch.zeros(3, 4), "all zero"),
    ],
)
def test_wrong_features_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        rankme(wrong)
