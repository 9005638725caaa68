"""Images/s of an epoch of our stream of images, beside torchvision's ImageFolder and DataLoader, on the same files.

python tests/benchmarks/image_stream_rate.py [--zip photographs.zip] [--copies 2] [--image-size 224] [--small 3000]
                                             [--workers 2] [--batch 64] [--rounds 3]

All give shuffled batches of uint8 pixels: decoded, resized to a square by Pillow's bicubic filter. The stream is read
by as many training processes of a node, a share of each batch to each, as the loader has processes, and by a single one
with as many threads. Rounds alternate, each in a process of its own, so that nothing is kept; the best counts, by the
clock and by the processor time of all processes. Beside photographs, 32x32 PNG.
"""

import argparse
import contextlib
import importlib
import io
import multiprocessing
import os
import resource
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

from seit_ray.batches.images import SHARD_ROWS, open_images
from seit_ray.images.decoded import Decoding
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import Manifest
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder

Way = Callable[[Path, argparse.Namespace, int, int], int]


def by_thread(place: Path, options: argparse.Namespace, size: int, seed: int) -> int:
    """Images of an epoch of our stream in one process of many threads."""
    torch.set_num_threads(options.workers)
    with listed(place) as (manifest, source):
        return share_of_epoch(manifest, source, options, size, seed, (0, 1))


def by_process(place: Path, options: argparse.Namespace, size: int, seed: int) -> int:
    """Images of an epoch of our stream in many processes of one thread."""
    torch.set_num_threads(1)
    os.environ["LOCAL_WORLD_SIZE"] = str(options.workers)  # as whoever starts a training says it
    with listed(place) as (manifest, source), ProcessPoolExecutor(options.workers, FORK) as processes:
        given = manifest, source, options, size, seed
        shares = [(rank, options.workers) for rank in range(options.workers)]
        return sum(done.result() for done in [processes.submit(share_of_epoch, *given, share) for share in shares])


@contextlib.contextmanager
def listed(place: Path) -> Iterator[tuple[Manifest, Folder]]:
    """The listing of a folder, beside it."""
    with tempfile.TemporaryDirectory() as listing:
        source, folder = Folder(place), Folder(listing)
        yield list_images(source, SourceSettings(), folder, val_fraction=0.0, seed=0, rows_per_part=SHARD_ROWS), source


def share_of_epoch(
    manifest: Manifest, source: Folder, options: argparse.Namespace, size: int, seed: int, share: tuple[int, int]
) -> int:
    """Images that one of so many processes sees of an epoch."""
    stream, (rank, world_size), seen = open_images(manifest, source, Decoding(size, "squash"))["train"], share, 0
    for step in range(len(stream) // options.batch):
        rows = np.array_split(stream.step_rows(options.batch, seed, step), world_size)[rank]
        seen += len(stream.host_batch(rows).inputs)
    stream.close()
    return seen


def by_loader(place: Path, options: argparse.Namespace, size: int, seed: int) -> int:
    """Images of an epoch of torchvision's folder."""
    torch.set_num_threads(1)
    resize = v2.Resize((size, size), interpolation=InterpolationMode.BICUBIC)
    images = ImageFolder(str(place), v2.Compose([resize, v2.PILToTensor()]))
    generator, how = torch.Generator().manual_seed(seed), {"batch_size": options.batch, "drop_last": True}
    loader = DataLoader(images, shuffle=True, generator=generator, num_workers=options.workers, **how)
    return sum(len(pixels) for pixels, _ in loader)


FIRST_USED = ("pandas", "simplejpeg")  # which pyarrow loads for its first array, as every worker of Ray has, and ours

FORK = multiprocessing.get_context("fork")  # of a process that has imported all; usage counts from nought
WAYS: dict[str, Way] = {
    "stream, each worker a process": by_process,
    "stream, one process, each worker a thread": by_thread,
    "ImageFolder + DataLoader": by_loader,
}


def measure(sink: Connection, way: Way, *given: object) -> None:
    """In a process of its own: send (images, seconds, processor seconds)."""
    wall = time.perf_counter()
    seen = way(*given)  # type: ignore[arg-type]
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    sink.send((seen, time.perf_counter() - wall, sum(usage.ru_utime + usage.ru_stime for usage in used)))


def rates(place: Path, options: argparse.Namespace, size: int) -> dict[str, tuple[float, float]]:
    """Way -> the best images/s by the clock, and by processor time."""
    best = dict.fromkeys(WAYS, (0.0, 0.0))
    for name in FIRST_USED:
        importlib.import_module(name)
    for seed in range(options.rounds):
        for name, way in WAYS.items():
            source, sink = FORK.Pipe(duplex=False)
            process = FORK.Process(target=measure, args=(sink, way, place, options, size, seed))
            process.start()
            seen, wall, used = source.recv()
            process.join()
            best[name] = max(best[name][0], seen / wall), max(best[name][1], seen / used)
    return best


def write_photographs(place: Path, archive: str, copies: int) -> None:
    """The files of an archive, some times over, in two classes."""
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in opened.namelist() if name.lower().endswith((".jpeg", ".jpg"))]
        for copy in range(copies):
            for number, name in enumerate(names):
                folder = place / ("even", "odd")[number % 2]
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{copy}-{Path(name).name}").write_bytes(opened.read(name))


def write_small(place: Path, number: int) -> None:
    """PNG of 32x32 pixels in two classes."""
    generator = np.random.default_rng(0)
    for index in range(number):
        folder, sink = place / ("even", "odd")[index % 2], io.BytesIO()
        folder.mkdir(parents=True, exist_ok=True)
        rough = generator.integers(256, size=(8, 8, 3), dtype=np.uint8)
        Image.fromarray(rough).resize((32, 32), Image.Resampling.BICUBIC).save(sink, "PNG")
        (folder / f"{index:06d}.png").write_bytes(sink.getvalue())


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zip", help="an archive of photographs; without one, small files alone")
    numbers = {"copies": 2, "image-size": 224, "small": 3000, "workers": 2, "batch": 64, "rounds": 3}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, {options.workers} workers")
    with tempfile.TemporaryDirectory() as name:
        sets = [("32x32 PNG", Path(name, "small"), 32)]
        write_small(sets[0][1], options.small)
        if options.zip:
            sets.append((f"photographs at {options.image_size}", Path(name, "photographs"), options.image_size))
            write_photographs(sets[1][1], options.zip, options.copies)
        for what, place, size in sets:
            for way, (by_clock, by_processor) in rates(place, options, size).items():
                print(f"{what}, {way}: {by_clock:,.0f} images/s, {by_processor:,.0f} a second of processor time")


if __name__ == "__main__":
    main()
