"""Images/s of the tokenising job on Ray against a bare decode+encode loop, one process a core, same libraries.

python tests/benchmarks/tokenize_rate.py [IMAGES] [--copies N] [--image-size S] [--patch-size P] [--codes K] ...

Both sides read, decode, encode and keep tokens; the job also moves them through Ray and writes a dataset. Rounds
alternate, since other work on the machine disturbs both; the ratio is of the best rates.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

from seit_ray.config import TokenizeSettings
from seit_ray.images.decode import decode_image
from seit_ray.images.fetch import fetch_images
from seit_ray.images.listing import list_images
from seit_ray.images.sample import read_pixels
from seit_ray.storage import Folder
from seit_ray.tokenizers import load_tokenizer, save_tokenizer

SAMPLE = Path(__file__).parents[2] / "pipelines" / "sample" / "fashion_mnist_test.parquet"
SOURCE = {"kind": "auto"}


def bare_worker(index: int, workers: int, manifest, source: Folder, tokenizer_folder: Folder, barrier, rates) -> None:
    """Every `workers`-th slice: fetch, decode, encode; the seconds it took."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    tokenizer, _ = load_tokenizer(tokenizer_folder)
    slices = [(name, i) for name, s in manifest.splits.items() for i in range(s.num_slices)][index::workers]
    barrier.wait()
    start = time.perf_counter()
    for split, i in slices:
        rows = manifest.read_slice(split, i)
        pairs = list(zip(rows["key"].to_pylist(), rows["uri"].to_pylist(), strict=True))
        images = [
            decode_image(d, image_size=tokenizer.image_size, resize=tokenizer.resize).pixels
            for d in fetch_images(pairs, source)
        ]
        tokenizer.encode(torch.from_numpy(np.stack(images))).numpy().astype("uint16")
    rates.put(time.perf_counter() - start)


def bare_rate(manifest, total: int, source: Folder, tokenizer_folder: Folder) -> float:
    """Images/s of one process a core, from a common start to the last one's end."""
    context, workers = multiprocessing.get_context("spawn"), os.cpu_count()
    barrier, seconds = context.Barrier(workers), context.Queue()
    arguments = (workers, manifest, source, tokenizer_folder, barrier, seconds)
    processes = [context.Process(target=bare_worker, args=(i, *arguments)) for i in range(workers)]
    for process in processes:
        process.start()
    longest = max(seconds.get() for _ in processes)
    for process in processes:
        process.join()
    return total / longest


def ray_rate(
    source: Folder, total: int, tokenizer_folder: Folder, output: Folder, cluster
) -> tuple[float, float, float]:
    """(steady images/s from the first finished slice on, seconds to that slice, seconds in all)."""
    from seit_ray.distributed.tokenize_job import TokenizeJob, run_tokenize_job

    moments: list[tuple[float, int]] = []
    start = time.perf_counter()

    def on_progress(phase: str, done: int, _total: int, _note: str) -> None:
        if phase == "tokenise" and done:
            moments.append((time.perf_counter() - start, done))

    settings = TokenizeSettings().model_dump()
    source_settings = {"image_column": "image", **SOURCE}
    run_tokenize_job(TokenizeJob(source, source_settings, tokenizer_folder, output, settings), cluster, on_progress)
    (first, done), (last, _) = moments[0], moments[-1]
    return (total - done) / (last - first), first, time.perf_counter() - start


def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", default=str(SAMPLE))
    parser.add_argument("--copies", type=int, default=1, help="link a folder of images this many times over")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--patch-size", type=int, default=4)
    parser.add_argument("--codes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()

    import torch

    from seit_ray.distributed.cluster import connected
    from seit_ray.tokenizers.centroid import fit_centroids

    with tempfile.TemporaryDirectory() as name:
        work, source = Folder(name), Folder(options.images)
        if options.copies > 1:
            for copy in range(options.copies):
                Path(name, "images").mkdir(exist_ok=True)
                Path(name, "images", f"copy{copy}").mkdir()
                for entry in source.list():
                    Path(name, "images", f"copy{copy}", entry.name.replace("/", "-")).symlink_to(
                        Path(source.uri, entry.name)
                    )
            source = work.join("images")
        manifest = list_images(source, SOURCE, work.join("manifest"), val_fraction=0.0, seed=0)
        total = sum(s.num_images for s in manifest.splits.values())
        rows = manifest.sample(next(iter(manifest.splits)), 500, 0)
        pixels, _ = read_pixels(rows, source, image_size=options.image_size, resize="squash")
        tokenizer, _ = fit_centroids(
            torch.from_numpy(pixels), patch_size=options.patch_size, codebook_size=options.codes, iterations=5
        )
        save_tokenizer(tokenizer, work.join("tokenizer"))
        best_bare = best_ray = 0.0
        with connected() as cluster:
            for round_number in range(options.rounds):
                bare = bare_rate(manifest, total, source, work.join("tokenizer"))
                rate, first, whole = ray_rate(
                    source, total, work.join("tokenizer"), work.join(f"out{round_number}"), cluster
                )
                best_bare, best_ray = max(bare, best_bare), max(rate, best_ray)
                print(
                    f"round {round_number}: {total} images; bare loop {bare:.0f}/s; ray job {rate:.0f}/s steady, first "
                    f"slice after {first:.1f} s, {whole:.1f} s in all",
                    flush=True,
                )
        print(f"best: bare {best_bare:.0f}/s, ray {best_ray:.0f}/s steady, ratio {best_ray / best_bare:.2f}")


if __name__ == "__main__":
    main()
