"""Parts of a manifest, handed out by Ray Data to a pool of actors, each of which owns the part that it works on.

A row of the Ray dataset is one part, and the only operator is the pool: whatever the number of nodes, the driver does
as much as there are parts. With a GPU an actor has its images decoded by tasks on any node's CPUs, which it starts
itself; without one it decodes where it encodes. Either way it has two parts: while one is encoded, the other's first
images are read, with a GPU decoded too, or what was made of them is written.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import ray
import torch

from seit_ray.distributed.cluster import user_error
from seit_ray.distributed.data.attempts import Attempts, check_attempts
from seit_ray.distributed.data.decoding import SPAN_BYTES, decoded_by_tasks
from seit_ray.distributed.resources import Resources
from seit_ray.images.careful import decoded_carefully
from seit_ray.images.decoded import DecodedImages, Decoding, decoded_chunks
from seit_ray.images.manifest import load_manifest
from seit_ray.progress import Times
from seit_ray.shards.parts import Part, finished_part
from seit_ray.storage import Folder
from seit_ray.storage.patience import patiently
from seit_ray.training.device_memory import is_out_of_memory, keep_to_share

T = TypeVar("T")
PART_FIELDS = [field.name for field in fields(Part)]
ACTOR_BYTES = 1 << 30  # that an actor may take beside its libraries, whatever the images
MAX_ACTORS = 32_768
PARTS_AN_ACTOR = 2  # at a time: what comes next is read, with a GPU decoded, while one is written
PARTS_GIVEN = 2 * PARTS_AN_ACTOR  # to an actor with a GPU, which has many; what waits for one cannot go to another
TWO_THREADS: dict[str, Any] = {"max_concurrent_calls_per_actor": PARTS_AN_ACTOR, "enable_true_multi_threading": True}
GROW_FROM = 0.875  # of the parts that the actors can have given: then Ray starts more, as it does by default
LEAST_TASKS, MOST_TASKS = 2, 64  # decoding tasks that a part has started


@dataclass(frozen=True)
class PartSource:
    """What the actors of a job read: the parts of a manifest, whose images are in a source."""

    manifest: Folder
    images: Folder
    decoding: Decoding
    work: Folder  # for notes on attempts


class PartWorker(ABC):
    """An actor, or a plain object: parts of a manifest -> what is stored of them. gpu_share: 0 for a CPU."""

    def __init__(
        self,
        source: PartSource,
        *,
        gpu_share: float = 0.0,
        num_tasks: int = 0,
        num_threads: int = 0,
        memory_bytes: int | None = None,
        is_actor: bool = False,
    ):
        self.source, self.num_tasks, self.num_threads = source, num_tasks, num_threads
        self.memory_bytes, self.is_actor = memory_bytes, is_actor
        self.turn = threading.RLock()  # to encode, and to decode here: two parts would need twice the memory
        self.attempts = Attempts(source.work.join("attempts"))
        # Ray may count a GPU that this torch cannot use: a build for CPUs, a test's node
        self.device = torch.device("cuda" if gpu_share and torch.cuda.is_available() else "cpu")
        keep_to_share(self.device, gpu_share)
        manifest = self.patiently(lambda: load_manifest(source.manifest))
        assert manifest is not None  # the job has listed
        self.manifest = manifest

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One row each of the parts (split, index) -> their counts."""
        pairs = zip(batch["split"], batch["index"], strict=True)
        made = [self.finish(str(split), int(index)) for split, index in pairs]
        return {name: np.array([getattr(part, name) for part in made]) for name in PART_FIELDS}

    def finish(self, split: str, index: int) -> Part:
        """A part, from its rows in the manifest to what is stored."""
        standing = self.patiently(lambda: finished_part(self.records, split, index))
        if standing is not None:  # Ray hands a part out again where it missed the answer
            return standing
        earlier = self.patiently(lambda: self.attempts.earlier(split, index))
        if self.is_actor:  # a process of the user's own may be ended as often as they like
            check_attempts(split, index, earlier)
        if not earlier:
            self.patiently(lambda: self.attempts.begin(split, index, 0))
        try:
            times = Times()
            listed = self.patiently(lambda: self.manifest.read_part(split, index))
            with contextlib.ExitStack() as held:
                chunks = self.decoded(listed, times, is_careful=earlier > 0)
                decoded = held.enter_context(contextlib.closing(chunks))
                held.enter_context(contextlib.nullcontext() if self.num_tasks else self.turn)
                times.skip()
                if earlier:
                    self.patiently(lambda: self.attempts.begin(split, index, earlier))
                store = self.part(split, index, decoded, times)
                if not earlier:  # one that is noted again would be blamed for another that ends this process
                    held.close()
                return self.stored(split, index, earlier, store)
        except RuntimeError as error:
            # whatever this process asks of a broken device fails from here on: Ray starts another
            if self.is_actor and is_broken_device(error):
                print(f"part {index} of {split}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            raise

    def stored(self, split: str, index: int, earlier: int, store: Callable[[], Part]) -> Part:
        """Store what a part has become, and forget how often it was begun."""
        part = self.patiently(store)
        self.patiently(lambda: self.attempts.end(split, index, earlier))
        return part

    def patiently(self, function: Callable[[], T]) -> T:
        """A call of the storage, made again while it does not answer."""
        return patiently(function, self.source.decoding.patience_s)

    @property
    @abstractmethod
    def records(self) -> Folder:
        """Where the record of a finished part lies."""

    def decoded(self, listed: pa.Table, times: Times, *, is_careful: bool) -> Generator[DecodedImages]:
        """The images of a part, some at a time; what is decoded here is read from now on."""
        images, decoding = self.source.images, self.source.decoding
        if is_careful:  # something has ended this process: perhaps an image
            return decoded_carefully(listed, images, decoding)
        if self.num_tasks:
            return decoded_by_tasks(listed, images, decoding, self.num_tasks, self.memory_bytes)
        return decoded_chunks(listed, images, decoding, num_threads=self.num_threads, times=times)

    @abstractmethod
    def part(self, split: str, index: int, decoded: Iterable[DecodedImages], times: Times) -> Callable[[], Part]:
        """What stores what becomes of a part's images, all of which are used. times: where the time goes."""


def is_broken_device(error: RuntimeError) -> bool:
    """Whether an error of CUDA leaves its context unusable; a lack of memory does not."""
    return "CUDA error" in str(error) and not is_out_of_memory(error)


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def map_parts(
    todo: list[tuple[str, int]],
    worker: type[PartWorker],
    arguments: tuple[Any, ...],
    *,
    cluster: Resources,
    num_actors: int | None,
    gpus_per_actor: float | None,
    memory_mib: int | None = None,
    on_part: Callable[[Part], None],
) -> None:
    """Have actors of `worker` finish the given (split, part) pairs; ValueError for what a user can mend.

    They are made of `arguments`, gpu_share, num_tasks and memory_bytes. memory_mib: what Ray keeps free for each actor
    and each decoding task; nothing when None, for an autoscaler starts no node whose type says nothing of memory.
    """
    gpus = cluster.gpus_each(gpus_per_actor)
    memory_bytes = memory_mib << 20 if memory_mib is not None else None
    check_fits(cluster, gpus, memory_bytes)
    least, most = pool_sizes(cluster, gpus, num_actors, len(todo))
    rows = [{"split": split, "index": index} for split, index in todo]
    given = PARTS_GIVEN if gpus else PARTS_AN_ACTOR
    ray.data.DataContext.get_current().raise_original_map_exception = True  # else the user's mistake is lost in Ray's
    data: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    data = data.map_batches(
        worker,
        batch_size=1,
        batch_format="numpy",
        fn_constructor_args=arguments,
        fn_constructor_kwargs={
            "gpu_share": gpus,
            "num_tasks": tasks_each(cluster, most) if gpus else 0,
            "memory_bytes": memory_bytes,
            "is_actor": True,
        },
        compute=ray.data.ActorPoolStrategy(
            min_size=least, max_size=most, max_tasks_in_flight_per_actor=given, **TWO_THREADS
        ),
        num_gpus=gpus or None,
        # With a GPU the decoding tasks own the CPUs; without one the actor decodes. On a local ray nothing else runs,
        # and an actor that Ray forgets at the end of a job would keep a CPU from what comes next in this process.
        num_cpus=0 if gpus or cluster.is_local else 1,
        memory=memory_bytes,
    )
    with growing_from(data, GROW_FROM * given / PARTS_AN_ACTOR):
        take(data, on_part)


@contextlib.contextmanager
def growing_from(data: ray.data.Dataset, share: float) -> Iterator[None]:
    """Ray starts more actors where they have this many times the parts that they work on at a time."""
    growth = data.context.autoscaling_config  # that of all datasets of this process
    before, growth.actor_pool_util_upscaling_threshold = growth.actor_pool_util_upscaling_threshold, share
    try:
        yield
    finally:
        growth.actor_pool_util_upscaling_threshold = before


def take(data: ray.data.Dataset, on_part: Callable[[Part], None]) -> None:
    """Have the parts of a dataset finished, and tell of each; a user's mistake as itself."""
    finished: Any = iter(data.iter_rows())
    try:
        for row in finished:
            on_part(Part(row["split"], int(row["index"]), int(row["rows"]), int(row["rejected"])))
    except Exception as error:
        mistake = user_error(error)
        if mistake is None:
            raise
        raise mistake from error
    finally:
        finished.close()  # else the actors keep their CPUs as long as somebody keeps the traceback


def check_fits(cluster: Resources, gpus_each: float, memory_bytes: int | None) -> None:
    """ValueError when a local ray, which cannot grow, will never hold one actor: it would be waited for without end."""
    short = []
    if gpus_each > cluster.num_gpus:
        short.append(f"{gpus_each:g} GPUs of {cluster.num_gpus:g}")
    if (memory_bytes or 0) > cluster.memory_bytes:
        short.append(f"{(memory_bytes or 0) >> 20} MiB of {int(cluster.memory_bytes) >> 20}")
    if short and cluster.is_local:
        raise ValueError(
            f"an actor needs {' and '.join(short)} that this machine has; expected no more; lower gpus_per_actor or "
            "memory_mib, or name a cluster with --address"
        )


def pool_sizes(cluster: Resources, gpus_each: float, wanted: int | None, num_parts: int) -> tuple[int, int]:
    """(least, most) actors: what the GPUs hold, else one a core; where a cluster may grow, up to one a part.

    One with a GPU is enough to begin: an autoscaling cluster may have none yet.
    """
    holds = int(cluster.num_gpus / gpus_each + 1e-9) if gpus_each else int(cluster.num_cpus)
    holds = int(min(holds, max(1.0, cluster.memory_bytes / ACTOR_BYTES)))
    room = min(num_parts, MAX_ACTORS)
    if wanted is not None:
        most = min(wanted, room)
    else:
        most = max(1, min(holds, room)) if cluster.is_local else room
    return (1 if gpus_each else max(1, min(most, holds))), max(1, most)


def tasks_each(cluster: Resources, num_actors: int) -> int:
    """Decoding tasks that each part has started: all CPUs are busy, some tasks wait, and the object store has room."""
    parts = PARTS_AN_ACTOR * max(1.0, min(num_actors, cluster.num_gpus))
    room = max(1.0, cluster.object_store_bytes / 2 / SPAN_BYTES / parts)
    return int(min(MOST_TASKS, room, max(LEAST_TASKS, math.ceil(1.5 * cluster.num_cpus / parts))))
