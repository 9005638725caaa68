"""k-means: exact assignment, a fit as good as others, repair of empty clusters."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from seit_ray.tokenizers.kmeans import fit_kmeans, nearest, seed_centroids, update

GOLDEN = Path(__file__).parents[1] / "golden"


def random_points(num, width, seed=0):
    return torch.rand(num, width, generator=torch.Generator().manual_seed(seed))


def brute_force(points, centroids):
    """Squared distances [N,K] in float64, from differences."""
    return (points.double()[:, None] - centroids.double()).square().sum(2)


def blobs(num, width, centers, spread=0.05, seed=0):
    """Points around random centres."""
    generator = torch.Generator().manual_seed(seed)
    middle = torch.rand(centers, width, generator=generator)
    at = torch.randint(centers, (num,), generator=generator)
    return middle[at] + spread * torch.randn(num, width, generator=generator)


def lloyd(points, num, seed, iterations=60):
    """The objective of plain Lloyd from random points, as mean squared distance."""
    points = points.double()
    generator = torch.Generator().manual_seed(seed)
    centroids = points[torch.randperm(len(points), generator=generator)[:num]]
    for _ in range(iterations):
        ids = torch.cdist(points, centroids).argmin(1)
        for i in range(num):
            if (ids == i).any():
                centroids[i] = points[ids == i].mean(0)
    return torch.cdist(points, centroids).square().min(1).values.mean().item()


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
    monkeypatch.setattr("seit_ray.tokenizers.kmeans.CHUNK_VALUES", 1)  # chunks of 64 rows, the least
    assert torch.equal(nearest(points, centroids)[0], whole)


def test_assignment_equals_the_recording():
    record = np.load(GOLDEN / "ccvit_assign.npz")
    images = torch.from_numpy(record["in/images"]).float() / 255
    patches = images.view(2, 3, 14, 16, 14, 16).permute(0, 2, 4, 1, 3, 5).reshape(392, 768)
    ids = nearest(patches, torch.from_numpy(record["in/centroids"]))[0]
    assert ids.tolist() == record["out/assign/ids"].ravel().tolist()


def test_fit_is_as_good_as_the_recording():
    record = np.load(GOLDEN / "ccvit_kmeans.npz")
    points = torch.from_numpy(record["in/x"])
    found = fit_kmeans(points, 32, iterations=20, seed=0)
    assert found.objectives[-1] * len(points) <= record["f64/objective_per_iter"][-1] * 1.01


def test_last_objective_is_that_of_the_centroids():
    points = blobs(600, 6, centers=9)
    found = fit_kmeans(points, 9, iterations=5, seed=0)
    exact = brute_force(points, found.centroids).min(1).values.mean().item()
    assert found.objectives[-1] == pytest.approx(exact, rel=1e-5)
    assert found.centroids.shape == (9, 6)
    assert found.centroids.dtype == torch.float32


@pytest.mark.parametrize("seed", range(5))
def test_objective_never_rises(seed):
    points = blobs(2000, 12, centers=40, seed=seed)
    objectives = fit_kmeans(points, 50, iterations=30, seed=seed, tolerance=0.0).objectives
    assert len(objectives) > 3
    for before, after in itertools.pairwise(objectives):
        assert after <= before * (1 + 1e-6)


def test_fit_is_a_function_of_its_seed():
    points = blobs(1500, 12, centers=10)
    first, second = (fit_kmeans(points, 30, iterations=8, seed=3) for _ in range(2))
    other = fit_kmeans(points, 30, iterations=8, seed=4)
    assert torch.equal(first.centroids, second.centroids)
    assert first.objectives == second.objectives
    assert not torch.equal(first.centroids, other.centroids)


@pytest.mark.parametrize("centers", [8, 200])
def test_fit_is_as_good_as_the_best_of_random_starts(centers):
    points = blobs(1200, 8, centers=centers, spread=0.1)
    best = min(lloyd(points, 16, seed) for seed in range(8))
    fits = [fit_kmeans(points, 16, iterations=60, seed=seed, tolerance=0.0) for seed in range(3)]
    assert min(found.objectives[-1] for found in fits) <= 1.02 * best
    assert max(found.objectives[-1] for found in fits) <= 1.05 * best


def test_fit_stops_when_nothing_moves_and_reports_progress():
    points = torch.tensor([[0.0], [0.1], [1.0], [1.1], [5.0], [5.1]])
    seen = []
    found = fit_kmeans(points, 3, iterations=50, seed=0, on_progress=lambda *state: seen.append(state))
    assert sorted(found.centroids.flatten().tolist()) == pytest.approx([0.05, 1.05, 5.05])
    assert len(found.objectives) - 1 == len(seen) < 50
    assert seen == [(i + 1, 50) for i in range(len(seen))]


def test_empty_clusters_move_to_the_farthest_points():
    near, far = random_points(50, 2) * 0.1, torch.tensor([[9.0, 9.0], [9.0, 9.0], [5.0, -9.0]])
    points = torch.cat([near, far])
    centroids = torch.tensor([[0.0, 0.0], [50.0, 50.0], [60.0, 60.0]])  # the last two are nobody's nearest
    ids, distances = nearest(points, centroids)
    new, repaired = update(points, ids, distances, centroids)
    assert repaired == 2
    assert {tuple(row) for row in new[1:].tolist()} == {(9.0, 9.0), (5.0, -9.0)}  # not the equal points twice
    assert brute_force(points, new).min(1).values.mean() < distances.mean()


def test_fit_repairs_empty_clusters(monkeypatch):
    points = blobs(400, 4, centers=8, spread=0.01)
    bad_start = torch.cat([points[:1].repeat(7, 1) + 1e-4 * torch.arange(7)[:, None], points[:1] + 100])
    monkeypatch.setattr("seit_ray.tokenizers.kmeans.seed_centroids", lambda *_: bad_start)
    found = fit_kmeans(points, 8, iterations=60, seed=0)
    assert found.repaired >= 1
    assert torch.bincount(nearest(points, found.centroids)[0], minlength=8).min() > 0


def test_fewer_distinct_points_than_centroids_are_reproduced_exactly():
    points = torch.tensor([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]).repeat(20, 1)
    found = fit_kmeans(points, 10, iterations=4, seed=0)
    assert found.objectives[-1] == pytest.approx(0.0, abs=1e-12)
    assert torch.equal(found.centroids[nearest(points, found.centroids)[0]], points)


def test_fewer_points_than_centroids_are_an_error():
    with pytest.raises(ValueError, match="3 patches to fit 4 centroids; expected more") as caught:
        fit_kmeans(random_points(3, 2), 4, iterations=1, seed=0)
    assert "\n" not in str(caught.value)


def test_as_many_centroids_as_points():
    points = random_points(16, 3)
    assert fit_kmeans(points, 16, iterations=3, seed=0).objectives[-1] == pytest.approx(0.0, abs=1e-7)


def test_seeds_are_spread_over_the_data():
    points = blobs(2000, 3, centers=12, spread=1e-3)
    seeds = seed_centroids(points, 12, torch.Generator().manual_seed(0))
    assert brute_force(points, seeds).min(1).values.max() < 0.01  # random points miss some of the 12 blobs
