"""The nearest centroid: exact whatever the bounds, the batch and the ties."""

import pytest
import torch

from seit_ray.objectives.ccvit_losses import patch_pixels
from seit_ray.tokenizers import search
from seit_ray.tokenizers.search import CentroidSearch, nearest, principal_directions, search_for
from tests.recordings import Recording


def random_points(num, width, seed=0):
    return torch.rand(num, width, generator=torch.Generator().manual_seed(seed))


def brute_force(points, centroids):
    """Squared distances [N,K] in float64, from differences."""
    return (points.double()[:, None] - centroids.double()).square().sum(2)


def flat_patches(num, width, directions=6, seed=0):
    """Points float32 [num,width] between 0 and 1 that vary in few directions, as patches of photographs do."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(directions, width, generator=torch.Generator().manual_seed(9)) / width**0.5
    strength = 3 * 0.6 ** torch.arange(directions)
    points = torch.randn(num, directions, generator=generator) * strength @ basis
    return (0.5 + points + 0.02 * torch.randn(num, width, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize(("num", "width", "codes"), [(1, 3, 1), (500, 12, 7), (300, 48, 100), (70, 768, 65)])
def test_nearest_equals_brute_force(num, width, codes):
    points, centroids = random_points(num, width), random_points(codes, width, seed=1)
    exact = brute_force(points, centroids)
    ids, distances = nearest(points, centroids)
    assert ids.tolist() == exact.argmin(1).tolist()
    torch.testing.assert_close(distances, exact.min(1).values.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
def test_nearest_settles_near_ties(offset):
    # Points on the borders of pairs of centroids that differ by little: float32 scores alone are wrong often.
    width, pairs = 48, 40
    first = random_points(pairs, width) + offset
    second = first + 1e-3 * random_points(pairs, width, seed=1)
    points = (first + second) / 2 + 1e-5 * random_points(pairs, width, seed=2)
    centroids = torch.cat([first, second])
    ids = nearest(points, centroids)[0]
    assert ids.tolist() == brute_force(points, centroids).argmin(1).tolist()


@pytest.mark.parametrize("width", [3, 48, 768])
@pytest.mark.parametrize("codes", [1, 5, 17, 64])
def test_equal_centroids_give_the_lowest_id(width, codes):
    once = random_points(codes, width, seed=1)
    centroids = torch.cat([once, once, once.flip(0)])
    points = torch.cat([random_points(200, width), once])
    ids = nearest(points, centroids)[0]
    assert ids.tolist() == brute_force(points, once).argmin(1).tolist()


def test_exact_ties_of_different_centroids_give_the_lowest_id():
    centroids = torch.tensor([[4.0, 0.0], [0.0, 4.0], [0.0, -4.0], [-4.0, 0.0]]).repeat(1, 100)
    points = torch.stack([centroids[0] * 0, centroids[1] + centroids[3], centroids[3] + centroids[2]])
    assert nearest(points, centroids)[0].tolist() == [0, 1, 2]


def test_nearest_does_not_depend_on_the_batch(monkeypatch):
    once = random_points(20, 75, seed=1)
    points, centroids = random_points(257, 75), torch.cat([once, once + 1e-7, once])
    whole = nearest(points, centroids)[0]
    order = torch.randperm(257, generator=torch.Generator().manual_seed(2))
    assert torch.equal(nearest(points[order], centroids)[0], whole[order])
    for rows in (1, 3, 64, 100):
        parts = [nearest(part, centroids)[0] for part in points.split(rows)]
        assert torch.equal(torch.cat(parts), whole)
    monkeypatch.setattr("seit_ray.tokenizers.search.CHUNK_VALUES", 1)  # chunks of the least rows
    assert torch.equal(nearest(points, centroids)[0], whole)


def test_assignment_equals_the_golden_recording():
    record = Recording("ccvit")
    side = round((record["in/centroids"].shape[1] / 3) ** 0.5)
    patches = patch_pixels(record.pixels("in/images").float(), side).flatten(0, 1)
    ids = nearest(patches, record["in/centroids"])[0]
    assert ids.tolist() == record["out/assign/ids"].flatten().tolist()


@pytest.mark.parametrize("directions", [1, 4, 12, 48])
@pytest.mark.parametrize("codes", [1, 2, 37, 300])
def test_bounds_never_lose_the_nearest(directions, codes):
    points, centroids = flat_patches(900, 48), flat_patches(codes, 48, seed=1)
    basis = principal_directions(points - points.mean(0), directions)
    ids, distances = CentroidSearch(centroids, basis)(points)
    exact = brute_force(points, centroids)
    assert ids.tolist() == exact.argmin(1).tolist()
    torch.testing.assert_close(distances, exact.min(1).values.float(), rtol=1e-4, atol=1e-5)


def test_a_basis_of_nonsense_costs_time_and_no_exactness():
    points, centroids = random_points(500, 30), random_points(70, 30, seed=1)
    basis = torch.linalg.qr(torch.randn(30, 5, generator=torch.Generator().manual_seed(2)))[0]
    ids = CentroidSearch(centroids, basis)(points)[0]
    assert ids.tolist() == brute_force(points, centroids).argmin(1).tolist()


def test_ties_are_settled_behind_bounds():
    once = flat_patches(60, 48, seed=1)
    centroids = torch.cat([once, once + 1e-8, once])
    points = torch.cat([once, flat_patches(3000, 48)])
    found = CentroidSearch(centroids, principal_directions(points - points.mean(0), 12))
    assert found(points)[0].tolist() == CentroidSearch(centroids)(points)[0].tolist()
    assert found(once)[0].tolist() == list(range(60))


def test_bounds_leave_few_centroids_of_flat_patches():
    points, centroids = flat_patches(4000, 192), flat_patches(256, 192, seed=1)
    found = search_for(points, centroids)
    assert found.basis.shape[1] < 96
    assert found.candidates(points[:1000]) < 64
    plain = CentroidSearch(centroids)
    assert plain.basis is None
    assert torch.equal(found(points)[0], plain(points)[0])


def test_spread_in_all_directions_is_searched_whole():
    points, centroids = random_points(4000, 16), random_points(64, 16, seed=1)
    assert search_for(points, centroids).basis is None


def test_integers_stand_for_shares_of_255():
    points = (flat_patches(3000, 48) * 255).round().to(torch.uint8)
    centroids = flat_patches(90, 48, seed=1)
    for found in (CentroidSearch(centroids), search_for(points, centroids)):
        ids, distances = found(points)
        expected = found(points.float() / 255)
        assert torch.equal(ids, expected[0])
        assert torch.equal(distances, expected[1])


def test_known_coordinates_find_the_same():
    points, centroids = flat_patches(3000, 48), flat_patches(90, 48, seed=1)
    for found in (CentroidSearch(centroids), search_for(points, centroids)):
        assert torch.equal(found(points, found.coordinates(points))[0], found(points)[0])


def test_no_points():
    ids, distances = nearest(torch.empty(0, 12), random_points(5, 12))
    assert ids.shape == distances.shape == (0,)
    assert ids.dtype == torch.int64


def test_products_of_pairs():
    x, c = random_points(50, 40), random_points(30, 40, seed=1)
    row = torch.tensor([0, 0, 3, 3, 3, 49])
    column = torch.tensor([29, 1, 0, 7, 5, 2])
    expected = (x[row] * c[column]).sum(1)
    torch.testing.assert_close(search.pair_products(x, c, row, column), expected)
