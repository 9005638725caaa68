"""k-means: exact assignment, a fit as good as others, repair of empty clusters."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from seit_ray.tokenizers.kmeans import assign, choose_start, fit_kmeans, fit_kmeans_parts, seed_rows, update
from seit_ray.tokenizers.points_part import PointsPart, one_part
from seit_ray.tokenizers.search import nearest

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
    assert [state[:3] for state in seen] == [("k-means", i + 1, 50) for i in range(len(seen))]
    assert seen[-1][3] == f"iterations, mean squared distance {found.objectives[-1]:.5f}"


def test_empty_clusters_move_to_the_farthest_points():
    near, far = random_points(50, 2) * 0.1, torch.tensor([[9.0, 9.0], [9.0, 9.0], [5.0, -9.0]])
    points = torch.cat([near, far])
    centroids = torch.tensor([[0.0, 0.0], [50.0, 50.0], [60.0, 60.0]])  # the last two are nobody's nearest
    each = one_part(PointsPart(points))
    each("prepare", None, points.mean(0))
    sums, counts, objective = assign(each, centroids, len(points))
    new, repaired = update(each, sums, counts, centroids)
    assert repaired == 2
    assert {tuple(row) for row in new[1:].tolist()} == {(9.0, 9.0), (5.0, -9.0)}  # not the equal points twice
    assert brute_force(points, new).min(1).values.mean() < objective


def test_fit_repairs_empty_clusters(monkeypatch):
    points = blobs(400, 4, centers=8, spread=0.01)
    bad_start = torch.cat([points[:1].repeat(7, 1) + 1e-4 * torch.arange(7)[:, None], points[:1] + 100])
    monkeypatch.setattr("seit_ray.tokenizers.kmeans.choose_start", lambda *_: bad_start)
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


@pytest.mark.parametrize("whole_numbers", [True, False])
@pytest.mark.parametrize("sizes", [(1000, 500), (3, 0, 1497), (500, 500, 500)])
def test_parts_give_what_one_gives(whole_numbers, sizes):
    points = blobs(1500, 12, centers=20, spread=0.1).clamp(0, 1)
    points = (points * 255).round().to(torch.uint8) if whole_numbers else points
    parts = [PointsPart(part) for part in points.split(sizes)]

    def each(name, *arguments):
        return [getattr(p, name)(*(a[i] if isinstance(a, list) else a for a in arguments)) for i, p in enumerate(parts)]

    settings = {"iterations": 12, "seed": 5, "tolerance": 0.0}
    found, alone = fit_kmeans_parts(each, sizes, 30, **settings), fit_kmeans(points, 30, **settings)
    assert found.counts.sum() == len(points)
    assert torch.equal(found.counts, alone.counts)
    assert found.objectives == pytest.approx(alone.objectives, rel=1e-6)
    if whole_numbers:
        assert torch.equal(found.centroids, alone.centroids)
    torch.testing.assert_close(found.centroids, alone.centroids)


def test_sums_follow_the_points_that_move():
    points = blobs(800, 6, centers=9)
    part = PointsPart(points)
    part.prepare(None, points.mean(0))
    for seed in range(3):
        centroids = points[torch.randperm(800, generator=torch.Generator().manual_seed(seed))[:9]]
        sums, counts, objective = part.assign(centroids)
        ids = nearest(points, centroids)[0]
        expected = torch.zeros(9, 6, dtype=torch.float64).index_add_(0, ids, points.double())
        torch.testing.assert_close(sums, expected)
        assert counts.tolist() == torch.bincount(ids, minlength=9).tolist()
        assert objective == pytest.approx(brute_force(points, centroids).min(1).values.sum().item(), rel=1e-5)


def test_only_what_a_fit_ends_with_is_sought_exactly():
    """On its way a GPU may take centroids that are nearly as near; a CPU never does."""
    points, asked = blobs(600, 6, centers=9), []
    part = one_part(PointsPart(points))

    def each(name, *arguments):
        asked.extend([arguments[1]] if name == "assign" else [])
        return part(name, *arguments)

    found = fit_kmeans_parts(each, [600], 9, iterations=3, seed=0, tolerance=0.0)
    assert asked == [True] * 3 + [False]
    rough, exact = (part("assign", found.centroids, roughly)[0] for roughly in (True, False))
    assert torch.equal(rough[1], exact[1])
    assert rough[2] == exact[2]


def test_the_better_start_is_taken():
    generator = torch.Generator().manual_seed(0)
    clusters = blobs(4000, 4, centers=40, spread=1e-3)  # random points miss a third of them
    start = choose_start(clusters[:2000], clusters[2000:], 40, generator)
    assert (brute_force(clusters, start).min(1).values < 0.01).double().mean() > 0.9
    dense = torch.randn(4000, 40, generator=generator)
    dense[::50] *= 8  # outliers, which D^2 sampling takes for clusters
    start = choose_start(dense[:2000], dense[2000:], 40, generator)
    assert (start.norm(dim=1) < 20).sum() > 30


def test_as_many_centroids_as_points():
    points = random_points(16, 3)
    assert fit_kmeans(points, 16, iterations=3, seed=0).objectives[-1] == pytest.approx(0.0, abs=1e-7)


def test_seeds_are_spread_over_the_data():
    points = blobs(2000, 3, centers=12, spread=1e-3)
    seeds = points[seed_rows(points, 12, torch.Generator().manual_seed(0))]
    assert brute_force(points, seeds).min(1).values.max() < 0.01  # random points miss some of the 12 blobs
