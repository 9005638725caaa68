"""k-means and the search of nearest centroids against faiss's flat search, on patches of photographs.

python tests/benchmarks/kmeans_rate.py IMAGES [--patch-size 16] [--codes 1024] [--patches 200000] [--threads 1]

Needs faiss-cpu (pip install faiss-cpu); without it only this project's figures are printed. Both get the same patches
and threads; indices are compared, and both objectives are computed in float64.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from seit_ray.images.decode import decode_image
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import image_patches
from seit_ray.tokenizers.device_search import as_floats
from seit_ray.tokenizers.kmeans import fit_kmeans
from seit_ray.tokenizers.search import nearest, search_for


def read_patches(folder: Folder, size: int, patch_size: int, num: int) -> torch.Tensor:
    """uint8 [num,3*p*p]: of each image squashed to `size`, and again to smaller sizes until there are enough."""
    names = sorted(entry.name for entry in folder.list() if entry.name.lower().endswith((".jpg", ".jpeg", ".png")))
    found, have = [], 0
    while have < num:
        if size < patch_size:
            raise SystemExit(f"{have} patches in {folder.uri}; expected {num}; give more images or fewer patches")
        for name in names:
            pixels = decode_image(folder.read(name), image_size=size, resize="squash").pixels
            found.append(image_patches(torch.from_numpy(pixels)[None], size, patch_size))
            have += len(found[-1])
        size = size * 3 // 4 // patch_size * patch_size
    order = torch.randperm(have, generator=torch.Generator().manual_seed(0))
    return torch.cat(found)[order[:num]]


def objective(points: torch.Tensor, centroids: torch.Tensor) -> float:
    """Mean squared distance to the nearest, in float64."""
    ids = nearest(points, centroids)[0]
    parts = zip(points.split(1 << 14), ids.split(1 << 14), strict=True)
    return sum(float((as_floats(x).double() - centroids[i].double()).square().sum()) for x, i in parts) / len(points)


def seconds(work, rounds: int) -> tuple[float, object]:
    """(median wall time, last result)."""
    times, result = [], None
    for _ in range(rounds):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    for name, value in (("image-size", 512), ("patch-size", 16), ("codes", 1024), ("patches", 200_000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, value in (("iterations", 20), ("threads", 1), ("rounds", 3), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    points = read_patches(Folder(args.images), args.image_size, args.patch_size, args.patches)
    print(f"{len(points)} patches of width {points.shape[1]}, K {args.codes}, {args.threads} threads")

    fit_s, found = seconds(
        lambda: fit_kmeans(points, args.codes, iterations=args.iterations, seed=args.seed, tolerance=0.0), 1
    )
    ours = objective(points, found.centroids)
    print(f"k-means, {args.iterations} iterations: {fit_s:.1f} s, objective {ours:.5f}")
    queries = points[-65536:]
    chosen = search_for(queries, found.centroids)
    used = "whole scores" if chosen.basis is None else f"{chosen.basis.shape[1]} directions"
    search_s, ids = seconds(lambda: chosen(queries)[0], args.rounds)
    print(f"search ({used}): {search_s / len(queries) * 1e6:.2f} us a patch")
    try:
        import faiss
    except ImportError:
        print("faiss is not installed: nothing to compare with")
        return
    faiss.omp_set_num_threads(args.threads)
    floats = as_floats(points).numpy()
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(found.centroids.numpy())
    other_s, (_, theirs) = seconds(lambda: index.search(floats[-len(queries) :], 1), args.rounds)
    theirs = torch.from_numpy(theirs[:, 0])
    apart = (theirs != ids).nonzero()[:, 0]
    exact = [
        (as_floats(queries[apart]).double() - found.centroids[chosen_ids[apart]].double()).square().sum(1)
        for chosen_ids in (ids, theirs)
    ]
    print(
        f"faiss search: {other_s / len(queries) * 1e6:.2f} us a patch, {other_s / search_s:.2f} times ours, "
        f"equal ids {1 - len(apart) / len(ids):.6f}; of {len(apart)} others, ours is no farther in float64 in "
        f"{int((exact[0] <= exact[1]).sum())}"
    )
    kmeans = faiss.Kmeans(
        points.shape[1], args.codes, niter=args.iterations, seed=args.seed, max_points_per_centroid=len(points)
    )
    other_s, _ = seconds(lambda: kmeans.train(floats), 1)
    theirs = objective(points, torch.from_numpy(kmeans.centroids))
    print(
        f"faiss k-means: {other_s:.1f} s, {other_s / fit_s:.2f} times ours, objective {theirs:.5f}, "
        f"{theirs / ours:.4f} of ours"
    )


if __name__ == "__main__":
    main()
