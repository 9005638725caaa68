"""Images/s of the tokenising job on Ray against a bare decode+encode loop, one process a core, same libraries.

python tests/benchmarks/tokenize_rate.py [IMAGES] [--copies N] [--image-size S] [--patch-size P] [--codes K] ...

Both sides read, decode, encode and keep tokens; the job also moves them through Ray and writes a dataset. Its steady
rate is that of the last three quarters of the images. Rounds alternate, since other work on the machine disturbs both;
the ratio is of the best rates. On a busy machine the processor time of the same stretch says more.
"""

import argparse
import contextlib
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from seit_ray.config import Tokenize
from seit_ray.images.decode import MODES, decode_image
from seit_ray.images.fetch import fetch_images
from seit_ray.images.listing import list_images
from seit_ray.images.sample import read_pixels
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer, save_tokenizer

SAMPLE = Path(__file__).parents[2] / "pipelines" / "sample" / "fashion_mnist_test.parquet"
SOURCE = SourceSettings()
BARE_ROWS = 256  # that the bare loop has in memory at a time
SETTLED = 0.25  # share of the images after which the job is in steady state


def bare_worker(
    index: int, workers: int, manifest, source: Folder, tokenizer_folder: Folder, decode: str, barrier, rates
) -> None:
    """Every `workers`-th part: fetch, decode, encode; the seconds it took."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    tokenizer, _ = load_tokenizer(tokenizer_folder)
    parts = [(name, i) for name, s in manifest.splits.items() for i in range(s.num_parts)][index::workers]
    barrier.wait()
    start, cpu_start = time.perf_counter(), time.process_time()
    for split, i in parts:
        rows = manifest.read_part(split, i)
        pairs = list(zip(rows["key"].to_pylist(), rows["uri"].to_pylist(), strict=True))
        images = [
            decode_image(d, image_size=tokenizer.image_size, resize=tokenizer.resize, mode=decode).pixels
            for d in fetch_images(pairs, source)
        ]
        tokenizer.encode(torch.from_numpy(np.stack(images))).numpy().astype("uint16")
    rates.put((time.perf_counter() - start, time.process_time() - cpu_start))


def bare_rate(manifest, total: int, source: Folder, tokenizer_folder: Folder, decode: str) -> tuple[float, float]:
    """(images/s of one process a core, from a common start to the last one's end; their processor time, s)."""
    context, workers = multiprocessing.get_context("spawn"), os.cpu_count()
    barrier, seconds = context.Barrier(workers), context.Queue()
    arguments = (workers, manifest, source, tokenizer_folder, decode, barrier, seconds)
    processes = [context.Process(target=bare_worker, args=(i, *arguments)) for i in range(workers)]
    for process in processes:
        process.start()
    found = [seconds.get() for _ in processes]
    for process in processes:
        process.join()
    return total / max(wall for wall, _ in found), sum(cpu for _, cpu in found)


def kind_of(command: str) -> str:
    """What a process below this one does."""
    if command.startswith("ray::"):
        return "actors" if "MapWorker" in command else "tasks"
    return "ray"


def processor_times(kind_of: Callable[[str], str] = kind_of) -> Counter:
    """Seconds of processor time so far of this process and those below it, by what they do."""
    parents, seconds, kinds = {}, {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it has ended
            continue
        pid = int(entry.name)
        parents[pid], kinds[pid] = int(fields[1]), kind_of(command)
        seconds[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    ours, last = {os.getpid()}, set()
    while ours != last:
        last, ours = ours, ours | {pid for pid, parent in parents.items() if parent in ours}
    times: Counter = Counter()
    for pid in ours & seconds.keys():
        times["driver" if pid == os.getpid() else kinds[pid]] += seconds[pid]
    return times


def per_image(seconds: Counter, num: int) -> str:
    """Microseconds an image by kind of process, and their sum, in words."""
    each = ", ".join(f"{kind} {value / num * 1e6:.0f}" for kind, value in sorted(seconds.items()))
    return f"{seconds.total() / num * 1e6:.0f} ({each})"


def ray_rate(
    source: Folder,
    total: int,
    tokenizer_folder: Folder,
    output: Folder,
    cluster,
    decode: str,
    rows_per_shard: int | None,
) -> tuple[float, float, float, str]:
    """(steady images/s, seconds to the first finished part, seconds in all, processor time in words)."""
    from seit_ray.distributed.data.tokenize_begin import TokenizeJob
    from seit_ray.distributed.data.tokenize_job import run_tokenize_job

    moments: list[tuple[float, int]] = []
    times: list[Counter] = []
    start = time.perf_counter()

    def on_progress(phase: str, done: int, _total: int, _note: str) -> None:
        if phase == "tokenise" and done:
            moments.append((time.perf_counter() - start, done))
            if (done >= total * SETTLED and not times) or done == total:
                times.append(processor_times())

    settings = Tokenize(decode=decode, rows_per_shard=rows_per_shard).settings()
    job = TokenizeJob(source, SOURCE, tokenizer_folder, output, settings)
    run_tokenize_job(job, lambda: contextlib.nullcontext(cluster), on_progress)
    whole = time.perf_counter() - start
    # The pipeline is full when its first part is done: what was under way then would count as done in no time.
    (since, done), (last, _) = next(m for m in moments if m[1] >= total * SETTLED), moments[-1]
    return (total - done) / (last - since), moments[0][0], whole, per_image(times[-1] - times[0], total - done)


def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", default=str(SAMPLE))
    parser.add_argument("--copies", type=int, default=1, help="link a folder of images this many times over")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--patch-size", type=int, default=4)
    parser.add_argument("--codes", type=int, default=256)
    parser.add_argument("--decode", choices=MODES, default="exact")
    parser.add_argument("--rows-per-shard", type=int)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()

    import torch

    from seit_ray.distributed.cluster import connected
    from seit_ray.tokenizers.centroid_fit import fit_centroids

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
        manifest = list_images(source, SOURCE, work.join("manifest"), val_fraction=0.0, seed=0, rows_per_part=BARE_ROWS)
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
                bare, bare_cpu_s = bare_rate(manifest, total, source, work.join("tokenizer"), options.decode)
                rate, first, whole, times = ray_rate(
                    source,
                    total,
                    work.join("tokenizer"),
                    work.join(f"out{round_number}"),
                    cluster,
                    options.decode,
                    options.rows_per_shard,
                )
                best_bare, best_ray = max(bare, best_bare), max(rate, best_ray)
                print(
                    f"round {round_number}: {total} images; bare loop {bare:.0f}/s; ray job {rate:.0f}/s steady, first "
                    f"part after {first:.1f} s, {whole:.1f} s in all",
                    flush=True,
                )
                bare_us = bare_cpu_s / total * 1e6
                print(f"processor time, us an image: bare loop {bare_us:.0f}; steady ray job {times}", flush=True)
        print(f"best: bare {best_bare:.0f}/s, ray {best_ray:.0f}/s steady, ratio {best_ray / best_bare:.2f}")


if __name__ == "__main__":
    main()
