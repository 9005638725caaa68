"""Keys/s of a listing into a manifest against one stream of pages, from an S3 server that takes its time.

python -m tests.benchmarks.listing_rate [--keys N] [--folders N] [--seconds S] [--cpus N]

The server runs in a process of its own and sends each page of 1,000 keys after `--seconds`; `--folders 0`: a flat
bucket. One stream: page after page, counted and nothing else. Ours: from the bucket to the manifest, by this process,
and with `--cpus` by Ray tasks too; with the most memory of this process. Then processor time an image: to list a piece,
which tasks do, and to gather the pieces, which one process does, of as many keys in a folder that answers at once.
"""

import argparse
import contextlib
import importlib
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from bisect import bisect_right

from seit_ray.images.listing import list_images
from seit_ray.images.piece_makers import make_here
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import ONE_STREAM, WHOLE, Entries, Folder
from tests.benchmarks.listing_server import keys_of

PAGE = 1000
ETAG = "0123456789abcdef0123456789abcdef"


@contextlib.contextmanager
def server(number: int, folders: int, seconds: float):
    """Its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(word) for word in (port, number, folders, seconds)]
    process = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.listing_server", *words])
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def told_by(address: str) -> tuple[int, float]:
    """(listing requests since this was asked last, processor time of the server so far, s)."""
    found = json.loads(urllib.request.urlopen(f"{address}/requests").read())
    return found["requests"], found["processor_s"]


def one_stream(source: Folder) -> int:
    """Objects of the source, page after page."""
    service, token, number = source._store().service, None, 0
    while True:
        page = service.page("bucket", "", token=token)
        number += len(page.objects)
        token = page.token
        if token is None:
            return number


class MadeFolder(Folder):
    """A folder that lists images at once."""

    keys: tuple[str, ...] = ()

    def list_some(self, *, on_skipped=None, stretch=WHOLE):
        after, until = stretch
        keys = self.keys[
            bisect_right(self.keys, after) : len(self.keys) if until is None else bisect_right(self.keys, until)
        ]
        for start in range(0, len(keys), PAGE):
            names = list(keys[start : start + PAGE])
            number = len(names)
            yield Entries(names, [110_000] * number, ["2026-01-01T00:00:00+00:00"] * number, [ETAG] * number)

    def cuts(self, after, most, listed=0):
        return []

    def check_readable(self):
        pass


def microseconds_an_image(keys: list[str]) -> tuple[float, float]:
    """Processor time of (pieces, gathering) an image."""
    source = MadeFolder("/nowhere")
    source.keys = tuple(keys)
    listed = 0.0

    def timed(pieces, todo, on_listed):
        nonlocal listed
        for counts in make_here(pieces, todo, on_listed):
            listed = time.process_time() - start
            yield counts

    with tempfile.TemporaryDirectory() as name:
        start = time.process_time()
        list_images(source, SourceSettings(), Folder(name), val_fraction=0.0, seed=0, make=timed)
        whole = time.process_time() - start
    return listed / len(keys) * 1e6, (whole - listed) / len(keys) * 1e6


def listed_by(source: Folder, make, number: int) -> float:
    """Seconds from the bucket to its manifest."""
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        manifest = list_images(source, SourceSettings(), Folder(name), val_fraction=0.0, seed=0, make=make)
        seconds = time.perf_counter() - start
    assert sum(split.num_images for split in manifest.splits.values()) == number
    return seconds


def most_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the rates, their ratios and the memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=10**6)
    parser.add_argument("--folders", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0.05)
    parser.add_argument("--cpus", type=int, default=0)
    options = parser.parse_args()
    with server(options.keys, options.folders, options.seconds) as address:
        source = Folder(
            "s3://bucket", endpoint_url=address, access_key_id="a", secret_access_key="b", region="us-east-1"
        )
        print(f"{options.keys} keys in {options.folders} folders, {options.seconds * 1000:.0f} ms a page")
        _, served = told_by(address)
        start, work = time.perf_counter(), time.process_time()
        assert one_stream(source) == options.keys
        plain, work = time.perf_counter() - start, time.process_time() - work
        requests, now = told_by(address)
        print(
            f"one stream: {plain:.1f} s, of it {work:.1f} s of processor time ({now - served:.1f} s of the server); "
            f"{requests} requests",
            flush=True,
        )
        before, work = most_mib(), time.process_time()
        here = listed_by(source, None, options.keys)
        work = time.process_time() - work
        (requests, served), served_before = told_by(address), now
        print(
            f"to the manifest, one process: {here:.1f} s, of it {work:.1f} s of processor time "
            f"({served - served_before:.1f} s of the server), ratio {plain / here:.1f}; {requests} requests; "
            f"{most_mib() - before:.0f} MiB more memory",
            flush=True,
        )
        if options.cpus:
            by_tasks(source, options, address, plain)
    listed, gathered = microseconds_an_image(keys_of(options.keys, options.folders))
    print(f"processor time an image: {listed:.1f} us to list, {gathered:.1f} us to gather")


def first_of(source: Folder) -> str:
    """A page, by a process that has to import what listing takes."""
    list_module = importlib.import_module("seit_ray.distributed.data.list_job")
    time.sleep(1)  # so that each of the processes gets one of these
    return f"{list_module.__name__} {next(source.list_some(stretch=ONE_STREAM)).names[0]}"


def by_tasks(source: Folder, options: argparse.Namespace, address: str, plain: float) -> None:
    """Print the same for Ray tasks, whose processes have started before."""
    import ray

    from seit_ray.distributed.cluster import connected
    from seit_ray.distributed.data.list_job import make_on_tasks

    with connected("local", num_cpus=options.cpus) as cluster:
        make = make_on_tasks(lambda: contextlib.nullcontext(cluster))
        begun = [ray.remote(num_cpus=1)(first_of).remote(source) for _ in range(options.cpus)]
        ray.get(begun)  # workers start, and import
        told_by(address)
        work, before = time.process_time(), most_mib()
        tasks = listed_by(source, make, options.keys)
        work = time.process_time() - work
    requests, _ = told_by(address)
    print(
        f"to the manifest, tasks on {options.cpus} CPUs: {tasks:.1f} s, of it {work:.1f} s of processor time of the "
        f"driver, ratio {plain / tasks:.1f}; {requests} requests; {most_mib() - before:.0f} MiB more memory of the "
        "driver",
        flush=True,
    )


if __name__ == "__main__":
    main()
