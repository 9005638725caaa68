"""Keys/s of a listing of several folders at a time against one stream of pages, of a server that takes its time.

python tests/benchmarks/listing_rate.py [--keys N] [--folders N] [--seconds S]

The server is made up: each page of 1,000 keys comes after `--seconds`. So this is the waiting that is saved, without
the work on each key, which is the same on both sides; the most memory of the process is printed too.
"""

import argparse
import resource
import time

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


if __name__ == "__main__":
    main()
