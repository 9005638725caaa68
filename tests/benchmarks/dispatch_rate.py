"""Processor time of driver and head for handing out the parts of a large job, whose decoding and encoding cost nothing.

python -m tests.benchmarks.dispatch_rate [--images N] [--nodes 2 4 8] [--cpus-per-node 1]

On pretended nodes of this machine, each with one CPU, a small store and no dashboard. An image costs the driver what
its part costs, divided by the images a part: the figure is printed by part and by image, and with the head's own
processes (GCS and its raylet).
"""

import argparse
import contextlib
import logging
import time
from collections import Counter

from ray.cluster_utils import Cluster

from seit_ray.distributed.cluster import connected
from seit_ray.distributed.data import parts
from seit_ray.images.manifest_writing import default_part_rows
from seit_ray.shards.parts import Part
from tests.benchmarks.tokenize_rate import kind_of, processor_times
from tests.warm.processes import for_ray


class Nothing(parts.PartWorker):
    """Finishes every part at once."""

    def __init__(self, rows: int, **options):
        self.rows = rows

    def finish(self, split: str, index: int) -> Part:
        return Part(split, index, self.rows, 0)

    def part(self, *arguments):
        raise AssertionError("never called")

    records = None


def kind_by_node(command: str) -> str:
    """What a process below this one does: of Ray's own, whether it is of the head."""
    kind = kind_of(command)
    is_of_head = "--head" in command or "gcs_server" in command or "log_monitor" in command
    return "head" if kind == "ray" and is_of_head else kind


def seconds_of(num_images: int, num_nodes: int, cpus: int) -> tuple[int, float, Counter]:
    """(parts, seconds in all, processor time by kind of process) of a job on so many nodes."""
    rows = default_part_rows(num_images)
    todo = [("train", index) for index in range(-(-num_images // rows))]
    head = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    with for_ray():  # all of a node but its raylet is forked from a process that has its libraries: less memory
        cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(num_nodes):
            cluster.add_node(num_cpus=cpus, object_store_memory=76 << 20, wait=False)
    try:
        cluster.wait_for_nodes(600)
        with connected(cluster.address) as found:
            moments: list[tuple[float, Counter]] = []

            def on_part(part: Part) -> None:
                if not moments:  # the pool has begun: starting its processes is no dispatch
                    moments.append((time.perf_counter(), processor_times(kind_by_node)))

            start = time.perf_counter()
            options = {"num_actors": num_nodes * cpus, "gpus_per_actor": 0, "on_part": on_part}
            parts.map_parts(todo, Nothing, (rows,), cluster=found, **options)
            took = processor_times(kind_by_node) - moments[0][1]
            return len(todo), time.perf_counter() - start, took
    finally:
        with contextlib.suppress(AssertionError):  # of a process that takes long to end
            cluster.shutdown()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10**7)
    parser.add_argument("--nodes", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--cpus-per-node", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("ray").setLevel(logging.ERROR)
    for nodes in options.nodes:
        num, wall, took = seconds_of(options.images, nodes, options.cpus_per_node)
        words = ", ".join(f"{kind} {value:.2f}" for kind, value in sorted(took.items()))
        driver, head = took["driver"], took["head"]
        print(
            f"{nodes} nodes: {options.images} images in {num} parts, {wall:.1f} s in all; processor time, s: {words}; "
            f"driver {1e3 * driver / num:.1f} ms a part, {1e6 * driver / options.images:.2f} us an image; "
            f"with the head {1e6 * (driver + head) / options.images:.2f} us",
            flush=True,
        )


if __name__ == "__main__":
    main()
