"""The search of a GPU, on the CPU: the ids of the other search, and nothing in it that waits for a device."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from seit_ray.tokenizers import device_search
from seit_ray.tokenizers.device_search import search_on_device, search_roughly
from seit_ray.tokenizers.search import CentroidSearch
from tests.tokenizers.test_search import brute_force, flat_patches, random_points

# What has a result whose size, or whose value, the host has to ask the device for.
WAITING = ("nonzero", "_local_scalar_dense", "unique", "bincount", "masked_select", "item", "is_nonzero", "equal")


class NothingWaits(TorchDispatchMode):
    """An error for each operation that waits for the device; counts the others."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert not any(name == waits or name.startswith(f"{waits}_") for waits in WAITING), name
        assert not (name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])), "index by bool"
        self.calls += 1
        return function(*args, **(kwargs or {}))


def near_ties(offset=0.0, width=48, pairs=40):
    """Points (and centroids) on the borders of pairs of centroids that differ by little."""
    first = random_points(pairs, width) + offset
    second = first + 1e-3 * random_points(pairs, width, seed=1)
    return (first + second) / 2 + 1e-5 * random_points(pairs, width, seed=2), torch.cat([first, second])


def equal_centroids():
    once = random_points(17, 12, seed=1)
    return torch.cat([random_points(200, 12), once]), torch.cat([once, once, once.flip(0)])


def symmetric_centroids():
    centroids = torch.tensor([[4.0, 0.0], [0.0, 4.0], [0.0, -4.0], [-4.0, 0.0]]).repeat(1, 100)
    return torch.stack([centroids[0] * 0, centroids[1] + centroids[3], centroids[3] + centroids[2]]), centroids


CASES = {
    "flat": lambda: (flat_patches(900, 48), flat_patches(300, 48, seed=1)),
    "one code": lambda: (flat_patches(9, 48), flat_patches(1, 48, seed=1)),
    "integers": lambda: ((flat_patches(500, 48) * 255).round().to(torch.uint8), flat_patches(90, 48, seed=1)),
    "near ties": near_ties,
    "near ties far away": lambda: near_ties(1000.0),
    "equal": equal_centroids,
    "symmetric": symmetric_centroids,
    "none": lambda: (torch.empty(0, 12), random_points(5, 12)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("chunk", [1, 1 << 25])
def test_it_finds_what_the_other_search_finds_and_never_waits(case, chunk, monkeypatch):
    monkeypatch.setattr(device_search, "CHUNK_SCORES", chunk)
    points, centroids = CASES[case]()
    other = CentroidSearch(centroids)
    with NothingWaits() as mode:
        ids, distances = search_on_device(points, centroids, other.origin)
    assert mode.calls > 5
    expected = other(points)
    assert ids.dtype == torch.int64
    assert torch.equal(ids, expected[0])
    torch.testing.assert_close(distances, expected[1], rtol=1e-4, atol=1e-5)


def test_near_ties_are_settled_as_brute_force_does():
    points, centroids = near_ties()
    ids, _ = search_on_device(points, centroids, centroids.mean(0))
    assert ids.tolist() == brute_force(points, centroids).argmin(1).tolist()


def test_the_other_search_does_wait():
    """Else the test above would show nothing."""
    with pytest.raises(AssertionError, match="nonzero"), NothingWaits():
        CentroidSearch(random_points(20, 12))(random_points(50, 12))


@pytest.mark.parametrize("case", CASES)
def test_a_rough_search_takes_what_is_nearly_as_near_and_waits_for_nothing(case):
    points, centroids = CASES[case]()
    before = torch.get_float32_matmul_precision()
    with NothingWaits():
        ids, distances = search_roughly(points, centroids, centroids.mean(0))
    assert torch.get_float32_matmul_precision() == before
    expected, least = CentroidSearch(centroids)(points)
    assert ids.shape == expected.shape
    values = points.double() / (255 if points.dtype == torch.uint8 else 1)
    found = (values - centroids[ids].double()).square().sum(1)
    scale = (values - centroids.mean(0)).square().sum(1) + 1e-6
    assert ((found - least) <= 1e-3 * scale).all()
    assert ((distances - least).abs() <= 1e-3 * scale).all()
