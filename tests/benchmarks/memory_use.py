"""Memory of the tokenising job by its number of images, and of listing many keys, local, of S3 and of an inventory.

python tests/benchmarks/memory_use.py [--rows 1000 10000 100000] [--keys 1000000] [--kinds local s3 inventory]

Figures are the largest seen, in MiB, without memory that is shared (Ray's object store). Pictures are links to those of
the bundled sample; local keys are links to empty files; the pages of S3 are made up, in place of the client;
the inventory is a Parquet file in no order.
"""

import argparse
import bisect
import contextlib
import multiprocessing
import os
import tempfile
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder, uris
from seit_ray.storage.objects import Objects
from seit_ray.storage.s3 import S3
from seit_ray.storage.s3_pages import OBJECTS

SAMPLE = Path(__file__).parents[2] / "pipelines" / "sample" / "fashion_mnist_test.parquet"
SOURCE = SourceSettings()
PER_FOLDER = 1000
STAGES = {"TokenizeParts": "tokenising actor", "decode_span": "decode worker"}


class MadeUpKeys:
    """In place of s3fs: a bucket of num keys, class-<folder>/<number>.jpg, in pages of 1000."""

    loop = None

    def __init__(self, num: int):
        self.num, self.pages = num, 0

    def split_path(self, path: str) -> tuple[str, str, None]:
        """(bucket, key, no version)."""
        bucket, _, key = path.partition("/")
        return bucket, key, None

    def call_s3(self, operation: str, **request) -> dict:
        """A page of list_objects_v2."""
        assert operation == "list_objects_v2", operation
        root, _, folder = request["Prefix"].partition("class-")
        self.pages += 1
        if "Delimiter" in request:
            folders = 0 if folder else -(-self.num // PER_FOLDER)
            found = [{"Prefix": f"{root}class-{i:05}/"} for i in range(folders)]
            return {"CommonPrefixes": found, "IsTruncated": False}

        def name_of(number: int) -> str:
            return f"{root}class-{number // PER_FOLDER:05}/{number:09}.jpg"

        first = int(folder[:5]) * PER_FOLDER if folder else 0
        end = min(self.num, first + PER_FOLDER) if folder else self.num
        behind = bisect.bisect_right(range(self.num), request.get("StartAfter", ""), key=name_of)
        start = int(request.get("ContinuationToken") or max(first, behind))
        stop = min(end, start + min(1000, request.get("MaxKeys", 1000)))
        names = [name_of(number) for number in range(start, stop)]
        more = ([109_000] * len(names), ["2026-01-01T00:00:00+00:00"] * len(names), [f"{hash(n):x}" for n in names])
        return {OBJECTS: (names, *more), "IsTruncated": stop < end, "NextContinuationToken": str(stop)}


def unshared_mib(pid: int | str) -> tuple[str, float]:
    """(command, MiB that only this process holds or maps from files); ('', 0) when it is gone."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return "", 0.0
    kib = [int(status.get(name, "0").split()[0]) for name in ("VmRSS", "RssShmem")]
    return command, (kib[0] - kib[1]) / 1024


class Watch(threading.Thread):
    """The largest memory of this process and of Ray's workers, by what they do."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most: dict[str, float] = {}
        self.known: dict[str, str] = {}  # process -> what it was seen doing
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            self.see("driver", unshared_mib("self")[1])
            for pid in filter(str.isdigit, os.listdir("/proc")):
                command, mib = unshared_mib(pid)
                stage = next(
                    (name for word, name in STAGES.items() if command.startswith("ray::") and word in command), ""
                )
                self.known.update({pid: stage} if stage else {})
                if command.startswith("ray::") and pid in self.known:
                    self.see(self.known[pid], mib)

    def see(self, who: str, mib: float) -> None:
        """Keep the largest."""
        self.most[who] = max(self.most.get(who, 0.0), mib)


def link_pictures(folder: Path, num: int) -> None:
    """That many small PNGs in folders per class, each file of the sample linked several times."""
    import pyarrow.parquet as pq

    table = pq.read_table(SAMPLE)
    column = table["image"].combine_chunks()
    originals = [value.as_py() for value in column]
    for number in range(num):
        target = folder / f"class-{number // PER_FOLDER:05}" / f"{number:07}.png"
        target.parent.mkdir(exist_ok=True, parents=True)
        first = folder.parent / "originals" / f"{number % len(originals)}.png"
        if not first.exists():
            first.parent.mkdir(exist_ok=True)
            data = originals[number % len(originals)]
            first.write_bytes(data["bytes"] if isinstance(data, dict) else data)
        target.hardlink_to(first)


def job_memory(work: str, num: int, results) -> None:
    """Peaks of one tokenising job."""
    import torch

    from seit_ray.config import Tokenize
    from seit_ray.distributed.cluster import connected
    from seit_ray.distributed.data.tokenize_begin import TokenizeJob
    from seit_ray.distributed.data.tokenize_job import run_tokenize_job
    from seit_ray.tokenizers.centroid_fit import fit_centroids
    from seit_ray.tokenizers.files import save_tokenizer

    folder, images = Folder(work), Folder(work).join("images")
    pixels = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tokenizer, _ = fit_centroids(pixels, patch_size=4, codebook_size=256, iterations=2)
    save_tokenizer(tokenizer, folder.join("tokenizer"))
    link_pictures(Path(work, "images"), num)
    watch, began = Watch(), time.perf_counter()
    with connected() as cluster:
        watch.start()
        settings = Tokenize().settings()
        job = TokenizeJob(images, SOURCE, folder.join("tokenizer"), folder.join("out"), settings)
        run_tokenize_job(job, lambda: contextlib.nullcontext(cluster))
        watch.over.set()
        watch.join()
    results.put((watch.most, time.perf_counter() - began))


def listing_memory(work: str, num: int, kind: str, results) -> None:
    """(MiB before, largest MiB, seconds) of writing a manifest of num keys."""
    from seit_ray.images.listing import list_images

    source, settings = Folder(work).join("empty"), SOURCE
    if kind == "inventory":
        Path(source.uri).mkdir()
        settings = SourceSettings(inventory=written_inventory(work, num))
    elif kind == "s3":
        store = Objects(S3(MadeUpKeys(num), 64))
        uris._connected = lambda *given: store
        store.check_readable = lambda path: None
        source = Folder("s3://bucket/images")
    else:
        for number in range(num):
            target = Path(source.uri, f"class-{number // PER_FOLDER:05}", f"{number:09}.jpg")
            if number % PER_FOLDER == 0:
                target.parent.mkdir(parents=True)
                target.touch()
                first = target
            else:
                target.hardlink_to(first)
    watch = Watch()
    watch.start()
    time.sleep(0.5)
    before, began = unshared_mib("self")[1], time.perf_counter()
    manifest = list_images(source, settings, Folder(work).join(f"manifest-{kind}"), val_fraction=0.1, seed=0)
    assert sum(split.num_images for split in manifest.splits.values()) == num
    seconds = time.perf_counter() - began
    watch.over.set()
    watch.join()
    results.put((before, watch.most["driver"], seconds))


def written_inventory(work: str, num: int) -> str:
    """An inventory of num keys, each once, in no order."""
    path = Path(work, "inventory.parquet")
    schema = pa.schema({"key": pa.string(), "size": pa.int64()})
    with pq.ParquetWriter(path, schema) as file:
        for start in range(0, num, 1 << 16):
            places = [place * 7_654_321 % num for place in range(start, min(num, start + (1 << 16)))]
            keys = [f"class-{place // PER_FOLDER:05}/{place:09}.jpg" for place in places]
            file.write_table(pa.table({"key": keys, "size": [109_000] * len(keys)}, schema=schema))
    return str(path)


def in_a_process(function, *arguments):
    """What a function puts into a queue, in a process of its own: memory is not given back."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=function, args=(*arguments, results))
    process.start()
    found = results.get()
    process.join()
    return found


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--keys", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--kinds", nargs="*", default=["local", "s3", "inventory"])
    options = parser.parse_args()
    for num in options.rows:
        with tempfile.TemporaryDirectory() as work:
            most, seconds = in_a_process(job_memory, work, num)
        words = ", ".join(f"{who} {mib:.0f} MiB" for who, mib in sorted(most.items()))
        print(f"job of {num} images: {words}; {seconds:.0f} s", flush=True)
    for kind in options.kinds:
        for num in options.keys:
            with tempfile.TemporaryDirectory() as work:
                before, most_mib, seconds = in_a_process(listing_memory, work, num, kind)
            print(f"listing {num} {kind} keys: {before:.0f} -> {most_mib:.0f} MiB; {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
