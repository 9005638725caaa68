"""Products that are exact stay so in a training that has said otherwise for its own."""

import pytest
import torch

from seit_ray.tokenizers.codebook import nearest_in_codebook
from seit_ray.tokenizers.exact import exact_products
from seit_ray.tokenizers.search import CentroidSearch, principal_directions
from tests.tokenizers.test_search import flat_patches


@pytest.fixture
def tf32():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def test_a_block_of_exact_products_gives_back_what_was_set(tf32):
    assert torch.backends.cudnn.allow_tf32
    with exact_products(torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32  # of convolutions
    assert torch.get_float32_matmul_precision() == "high"
    assert torch.backends.cudnn.allow_tf32


def search():
    points, centroids = flat_patches(300, 48), flat_patches(40, 48, seed=1)
    found = CentroidSearch(centroids, principal_directions(points, 8))
    found(points, found.coordinates(points))


@pytest.mark.parametrize("work", [search, lambda: nearest_in_codebook(torch.rand(50, 8), torch.rand(20, 8), "l2")])
def test_searches_compute_in_full_precision(work, tf32, monkeypatch):
    seen = []
    for name in ("mm", "addmm"):
        real = getattr(torch, name)

        def spy(*args, real=real, **kwargs):
            seen.append((torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu")))
            return real(*args, **kwargs)

        monkeypatch.setattr(torch, name, spy)
    with torch.autocast("cpu", torch.bfloat16):
        work()
    assert set(seen) == {("highest", False)}
