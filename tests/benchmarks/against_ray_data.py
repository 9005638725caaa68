"""The tokenising job against what one would write in thirty lines of plain Ray Data: same images, tokenizer and cores.

python tests/benchmarks/against_ray_data.py IMAGES [--image-size S] [--patch-size P] [--codes K] [--rounds N]

Both list, read, decode, encode and write Parquet with the tokens of each image, on a ray that runs already; seconds are
of the whole job. The plain pipeline stops at the first damaged image, keeps no keys in order, and cannot go on after a
kill; its pixels are resized by Ray, ours by us. Rounds alternate; the ratio is of the best times.
"""

import argparse
import contextlib
import tempfile
import time

import numpy as np
import ray
import torch

from seit_ray.config import Tokenize
from seit_ray.distributed.cluster import connected
from seit_ray.distributed.data.tokenize_begin import TokenizeJob
from seit_ray.distributed.data.tokenize_job import run_tokenize_job
from seit_ray.images.listing import list_images
from seit_ray.images.sample import read_pixels
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid_fit import fit_centroids
from seit_ray.tokenizers.files import load_tokenizer, save_tokenizer


class Encode:
    """An actor of the plain pipeline."""

    def __init__(self, folder: str):
        torch.set_num_threads(1)
        self.tokenizer, _ = load_tokenizer(Folder(folder))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        images = torch.from_numpy(np.ascontiguousarray(batch["image"].transpose(0, 3, 1, 2)))
        return {"path": batch["path"], "tokens": self.tokenizer.encode(images).numpy().astype(np.uint16)}


def plain_seconds(images: str, tokenizer: str, output: str, size: int, actors: int) -> float:
    """The plain pipeline, from the first call to the last file."""
    start = time.perf_counter()
    data = ray.data.read_images(images, size=(size, size), mode="RGB", include_paths=True)
    data = data.map_batches(
        Encode,
        fn_constructor_args=(tokenizer,),
        batch_size=256,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=0,
    )
    data.write_parquet(output)
    return time.perf_counter() - start


def our_seconds(source: Folder, tokenizer: Folder, output: Folder, cluster) -> float:
    """The tokenising job."""
    start = time.perf_counter()
    job = TokenizeJob(source, SourceSettings(), tokenizer, output, Tokenize(max_reject_fraction=1.0).settings())
    run_tokenize_job(job, lambda: contextlib.nullcontext(cluster))
    return time.perf_counter() - start


def main() -> None:
    """Print the times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--patch-size", type=int, default=8)
    parser.add_argument("--codes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work, source = Folder(name), Folder(options.images)
        manifest = list_images(source, SourceSettings(), work.join("manifest"), val_fraction=0.0, seed=0)
        total = sum(split.num_images for split in manifest.splits.values())
        rows = manifest.sample(next(iter(manifest.splits)), 200, 0)
        pixels, _ = read_pixels(rows, source, image_size=options.image_size, resize="squash")
        tokenizer, _ = fit_centroids(
            torch.from_numpy(pixels), patch_size=options.patch_size, codebook_size=options.codes, iterations=3
        )
        save_tokenizer(tokenizer, work.join("tokenizer"))
        plain, ours = [], []
        with connected() as cluster:
            for number in range(options.rounds):
                where = work.join("tokenizer")
                output = work.join(f"plain{number}").uri
                plain.append(plain_seconds(source.uri, where.uri, output, options.image_size, int(cluster.num_cpus)))
                ours.append(our_seconds(source, where, work.join(f"ours{number}"), cluster))
                print(
                    f"round {number}: {total} images; plain Ray Data {plain[-1]:.1f} s, the job {ours[-1]:.1f} s",
                    flush=True,
                )
        print(f"best: plain {min(plain):.1f} s, the job {min(ours):.1f} s, ratio {min(plain) / min(ours):.2f}")


if __name__ == "__main__":
    main()
