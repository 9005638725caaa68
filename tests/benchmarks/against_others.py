"""The tokenising job against what one would write with other tools: same images, tokenizer and cores.

python tests/benchmarks/against_others.py IMAGES [--rivals ray daft img2dataset] [--image-size S] [--patch-size P]
    [--codes K] [--rounds N]

All list, read, decode, encode and write Parquet with the tokens of each image; seconds are of the whole job, Ray's on a
ray that runs already. Rivals: thirty lines of plain Ray Data; the same in Daft, whose encoder is a class with as many
processes as cores; the resizer of img2dataset, which encodes what it has resized as JPEG, and a loop over what it
leaves, in as many processes. They stop at the first damaged image, keep no keys in order, and cannot go on after a
kill; each tool resizes in its own way. Rounds alternate; ratios are of the best times. Daft and img2dataset are no
dependencies of the project: pip install daft img2dataset.
"""

import argparse
import contextlib
import io
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from PIL import Image

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

BATCH = 256


class Encode:
    """An actor of the plain pipeline."""

    def __init__(self, folder: str):
        torch.set_num_threads(1)
        self.tokenizer, _ = load_tokenizer(Folder(folder))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"path": batch["path"], "tokens": self.tokens(batch["image"])}

    def tokens(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [B,H,W,3] -> uint16 [B,L]."""
        images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        return self.tokenizer.encode(images).numpy().astype(np.uint16)


def ray_data(images: str, tokenizer: str, output: str, size: int, cores: int) -> None:
    """The plain pipeline."""
    data = ray.data.read_images(images, size=(size, size), mode="RGB", include_paths=True)
    data = data.map_batches(
        Encode,
        fn_constructor_args=(tokenizer,),
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=cores),
        num_cpus=0,
    )
    data.write_parquet(output)


def daft_frame(images: str, tokenizer: str, output: str, size: int, cores: int) -> None:
    """A frame of paths, whose images Daft downloads, decodes and resizes."""
    import daft
    from daft.functions import convert_image, decode_image, download, resize

    @daft.cls(max_concurrency=cores, use_process=True)
    class Encoder:
        def __init__(self, folder: str):
            self.encode = Encode(folder)

        @daft.method.batch(return_dtype=daft.DataType.binary(), batch_size=BATCH)
        def __call__(self, pixels):  # type: ignore[no-untyped-def]  # Daft reads annotations as types of columns
            tokens = self.encode.tokens(np.stack(pixels.to_pylist()))
            return [row.tobytes() for row in tokens]

    encoder = Encoder(tokenizer)
    frame = daft.from_glob_path(f"{images.rstrip('/')}/**")
    pixels = resize(convert_image(decode_image(download(daft.col("path"))), "RGB"), size, size)
    frame = frame.select(daft.col("path"), encoder(pixels).alias("tokens"))
    frame.write_parquet(output)


def img2dataset_loop(images: str, tokenizer: str, output: str, size: int, cores: int) -> None:
    """Some files a process at a time."""
    files = sorted(str(path) for path in Path(images).rglob("*") if path.is_file())
    Path(output).mkdir()
    parts = [(number, files[start : start + BATCH]) for number, start in enumerate(range(0, len(files), BATCH))]
    context = multiprocessing.get_context("spawn")
    with context.Pool(cores, begin, (tokenizer, output, size)) as pool:
        for _ in pool.imap_unordered(resize_and_encode, parts):
            pass


def begin(tokenizer: str, output: str, size: int) -> None:
    """In a process of the loop."""
    from img2dataset.resizer import Resizer

    global state
    state = Encode(tokenizer), Resizer(size, "center_crop", resize_only_if_bigger=False), output


def resize_and_encode(part: tuple[int, list[str]]) -> None:
    """A file of tokens of some images."""
    number, files = part
    encode, resizer, output = state
    pixels = []
    for name in files:
        encoded, *_, error = resizer(io.BytesIO(Path(name).read_bytes()))
        assert error is None, error
        pixels.append(np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")))
    tokens = encode.tokens(np.stack(pixels))
    pq.write_table(pa.table({"path": files, "tokens": tokens.tolist()}), f"{output}/{number:05}.parquet")


RIVALS = {"ray": ray_data, "daft": daft_frame, "img2dataset": img2dataset_loop}


def our_seconds(source: Folder, tokenizer: Folder, output: Folder, cluster) -> float:
    """The tokenising job."""
    start = time.perf_counter()
    job = TokenizeJob(source, SourceSettings(), tokenizer, output, Tokenize(max_reject_fraction=1.0).settings())
    run_tokenize_job(job, lambda: contextlib.nullcontext(cluster))
    return time.perf_counter() - start


def rows_of(output: str) -> int:
    """Images that a rival has written."""
    return sum(pq.read_metadata(path).num_rows for path in Path(output).rglob("*.parquet"))


def fitted(source: Folder, work: Folder, image_size: int, patch_size: int, codes: int) -> tuple[Folder, int]:
    """(a tokenizer for the images, how many there are)."""
    manifest = list_images(source, SourceSettings(), work.join("manifest"), val_fraction=0.0, seed=0)
    rows = manifest.sample(next(iter(manifest.splits)), 200, 0)
    pixels, _ = read_pixels(rows, source, image_size=image_size, resize="squash")
    tokenizer, _ = fit_centroids(torch.from_numpy(pixels), patch_size=patch_size, codebook_size=codes, iterations=3)
    save_tokenizer(tokenizer, work.join("tokenizer"))
    return work.join("tokenizer"), sum(split.num_images for split in manifest.splits.values())


def main() -> None:
    """Print the times and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("--rivals", nargs="+", choices=list(RIVALS), default=["ray"])
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--patch-size", type=int, default=8)
    parser.add_argument("--codes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work, source = Folder(name), Folder(options.images)
        tokenizer, total = fitted(source, work, options.image_size, options.patch_size, options.codes)
        times: dict[str, list[float]] = {rival: [] for rival in ("ours", *options.rivals)}
        with connected() as cluster:
            for number in range(options.rounds):
                for rival in options.rivals:
                    output = f"{name}/{rival}{number}"
                    start = time.perf_counter()
                    images, cores = options.images, int(cluster.num_cpus)
                    RIVALS[rival](images, tokenizer.uri, output, options.image_size, cores)
                    times[rival].append(time.perf_counter() - start)
                    assert rows_of(output) == total, (rival, rows_of(output), total)
                times["ours"].append(our_seconds(source, tokenizer, work.join(f"ours{number}"), cluster))
                words = ", ".join(f"{rival} {seconds[-1]:.1f} s" for rival, seconds in times.items())
                print(f"round {number}: {total} images; {words}", flush=True)
        for rival in options.rivals:
            best, ours = min(times[rival]), min(times["ours"])
            print(f"best: {rival} {best:.1f} s, the job {ours:.1f} s, ratio {best / ours:.2f}")


if __name__ == "__main__":
    main()
