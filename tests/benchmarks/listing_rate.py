"""Keys/s of a listing of several folders at a time against one stream of pages, of a server that takes its time.

python tests/benchmarks/listing_rate.py [--keys N] [--folders N] [--seconds S]

The server is made up: each page of 1,000 keys comes after `--seconds`. So this is the waiting that is saved, without
the work on each key, which is the same on both sides; the most memory of the process is printed too. Then that work:
processor time an image from an entry to the manifest, of as many keys in a folder that answers at once.
"""

import argparse
import resource
import tempfile
import time

from seit_ray.images.listing import list_images
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Entry, Folder
from seit_ray.storage.listing import listed
from tests.storage.made_bucket import MadeBucket


def one_stream(ask):
    """Page after page."""
    page = ask()
    yield from page.objects
    while page.token is not None:
        page = ask(token=page.token)
        yield from page.objects


def seconds_of(items, expected: int) -> float:
    """How long a listing takes."""
    start = time.perf_counter()
    assert sum(1 for _ in items) == expected
    return time.perf_counter() - start


class MadeFolder(Folder):
    """A folder that lists `keys` of images at once."""

    keys: tuple[str, ...] = ()

    def list(self, prefix="", include_hidden=False, on_skipped=None):
        return (Entry(key, 110_000, "2026-01-01T00:00:00+00:00") for key in self.keys)

    def check_readable(self):
        pass


def microseconds_an_image(keys: list[str]) -> float:
    """Processor time of listing and manifest."""
    source = MadeFolder("/nowhere")
    source.keys = tuple(keys)
    with tempfile.TemporaryDirectory() as name:
        start = time.process_time()
        list_images(source, SourceSettings(), Folder(name), val_fraction=0.1, seed=0)
        return (time.process_time() - start) / len(keys) * 1e6


def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=10**6)
    parser.add_argument("--folders", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0.05)
    options = parser.parse_args()
    each = options.keys // options.folders
    keys = [f"train/{folder:05}/{number:07}.jpg" for folder in range(options.folders) for number in range(each)]
    bucket = MadeBucket(keys, seconds=options.seconds)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours = seconds_of(listed(bucket.ask, ""), len(keys))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    requests, bucket.requests = bucket.requests, 0
    plain = seconds_of(one_stream(bucket.ask), len(keys))
    print(f"{len(keys)} keys in {options.folders} folders: one stream {plain:.1f} s, {bucket.requests} requests;")
    print(
        f"several folders at a time {ours:.1f} s, {requests} requests, {grown:.0f} MiB more; ratio {plain / ours:.1f}"
    )
    print(f"from an entry to the manifest: {microseconds_an_image(keys):.1f} us of processor time an image")


if __name__ == "__main__":
    main()
