"""What tokenising a source costs, from rates and prices: time, money, storage, number of nodes, bottleneck."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

BYTES_OF_GB, BYTES_OF_MB = 1e9, 1e6
LISTING_CORES = 128  # that list at a time: as many as there are pieces
KEYS_A_PAGE, WRITES_A_PART = 1000, 4  # keys that a listing's request tells; shard, source, record, perhaps rejects


class TooShortError(ValueError):
    """A time in which no number of nodes does it."""


@dataclass(frozen=True)
class Rates:
    """How fast each step is: MB/s of a node's connection; images/s of one core, of one GPU (None: not known)."""

    fetch_mb_per_s: float | None
    decode_per_core: float
    encode_per_core: float | None = None
    encode_per_gpu: float | None = None


@dataclass(frozen=True)
class Driver:
    """How fast a core lists, and the one process is that gathers, hands out parts and adds up their records.

    listed_per_s, gathered_per_s: images/s of a core whose task lists, and of the driver, which writes the manifest.
    """

    listed_per_s: float
    gathered_per_s: float
    parts_per_s: float
    records_per_s: float
    images_per_part: int

    def parts(self, images: int) -> int:
        """Parts, each of which is a shard."""
        return math.ceil(images / self.images_per_part)

    def alone_s(self, images: int, cores: float) -> float:
        """Seconds of listing, by tasks on so many cores, and of the end, while no image is tokenised."""
        listing = images / (self.listed_per_s * max(1.0, min(cores, LISTING_CORES)))
        return listing + images / self.gathered_per_s + self.parts(images) / self.records_per_s

    def images_per_s(self) -> float:
        """What it hands out: no number of nodes is faster."""
        return self.parts_per_s * self.images_per_part


@dataclass(frozen=True)
class Instance:
    """A kind of node."""

    name: str
    cpus: float
    gpus: float
    network_gbit_per_s: float
    per_hour: float


@dataclass(frozen=True)
class Prices:
    """In one currency: nodes by the hour, storage by the GB and month, reads and writes by the thousand requests.

    Listing is priced as writing is, as S3 does.
    """

    currency: str
    note: str
    per_gb_month: float
    per_1000_reads: float
    per_1000_writes: float
    instances: dict[str, Instance]

    def instance(self, name: str) -> Instance:
        """The kind of node of that name; ValueError names the known ones."""
        if name not in self.instances:
            raise ValueError(f"instance {name!r}; expected one of {sorted(self.instances)}; add it to the prices")
        return self.instances[name]


@dataclass(frozen=True)
class Sizes:
    """Bytes an image: as it is, and what is stored of it."""

    image_bytes: float
    token_bytes: float


@dataclass(frozen=True)
class NodeRate:
    """images/s of a node, and which step sets it."""

    images_per_s: float
    bottleneck: str


@dataclass(frozen=True)
class Estimate:
    """Of tokenising `images`; money in the currency of the prices."""

    images: int
    nodes: int
    hours: float
    alone_hours: float
    compute: float
    requests: float
    before_gb: float
    after_gb: float
    before_month: float
    after_month: float


def node_rate(rates: Rates, instance: Instance, image_bytes: float) -> NodeRate:
    """The slowest of fetching, the cores' work and the GPUs' work, which overlap.

    Cores decode, and encode too where there is no GPU or none's rate is known; of two steps that share the cores, the
    one that takes more of their time is the bottleneck. ValueError when nothing is known that could encode.
    """
    fetch_mb = min(rates.fetch_mb_per_s or math.inf, instance.network_gbit_per_s * 1000 / 8)
    per_gpu = rates.encode_per_gpu if instance.gpus > 0 else None
    core_seconds = {"decode": 1 / rates.decode_per_core}
    if per_gpu is None:
        if rates.encode_per_core is None:
            raise ValueError(f"no rate of encoding on {instance.name}; expected one of its cores or GPUs; give it")
        core_seconds["encode"] = 1 / rates.encode_per_core
    limits = {
        "fetch": fetch_mb * BYTES_OF_MB / image_bytes,
        max(core_seconds, key=core_seconds.__getitem__): instance.cpus / sum(core_seconds.values()),
    }
    if per_gpu is not None:
        limits["encode"] = instance.gpus * per_gpu
    slowest = min(limits, key=limits.__getitem__)
    return NodeRate(limits[slowest], slowest)


def nodes_for(
    images: int, rate: NodeRate, driver: Driver, instance: Instance, *, hours: float, startup_s: float
) -> int:
    """Nodes that tokenise so many images within a time, start, listing and end included; ValueError when none can."""
    least_s = startup_s + driver.alone_s(images, LISTING_CORES)
    seconds = hours * 3600 - least_s
    if seconds <= 0 or images / driver.images_per_s() > seconds:
        needed = (least_s + images / driver.images_per_s()) / 3600
        raise TooShortError(
            f"{hours:g} hours for {images:.3g} images; expected more than {needed:.3g}, which start, listing, handing "
            "out parts and the end take on any number of nodes; raise hours"
        )
    nodes = max(1, math.ceil(images / (rate.images_per_s * seconds)))
    while seconds_of(images, rate, driver, instance, nodes) + startup_s > hours * 3600 * (1 + 1e-9):
        nodes += max(1, nodes // 50)  # of few nodes the cores take longer to list
    return nodes


def seconds_of(images: int, rate: NodeRate, driver: Driver, instance: Instance, nodes: int) -> float:
    """How long it takes once the nodes are there."""
    return images / min(rate.images_per_s * nodes, driver.images_per_s()) + driver.alone_s(
        images, instance.cpus * nodes
    )


def estimate(
    images: int,
    rate: NodeRate,
    driver: Driver,
    instance: Instance,
    prices: Prices,
    sizes: Sizes,
    *,
    nodes: int,
    startup_s: float,
    images_per_read: float,
) -> Estimate:
    """Time, money and storage of tokenising so many images on so many nodes."""
    alone_s = driver.alone_s(images, instance.cpus * nodes)
    hours = (seconds_of(images, rate, driver, instance, nodes) + startup_s) / 3600
    writes = images / KEYS_A_PAGE + driver.parts(images) * WRITES_A_PART
    before_gb, after_gb = (images * each / BYTES_OF_GB for each in (sizes.image_bytes, sizes.token_bytes))
    return Estimate(
        images=images,
        nodes=nodes,
        hours=hours,
        alone_hours=alone_s / 3600,
        compute=nodes * hours * instance.per_hour,
        requests=(images / images_per_read * prices.per_1000_reads + writes * prices.per_1000_writes) / 1000,
        before_gb=before_gb,
        after_gb=after_gb,
        before_month=before_gb * prices.per_gb_month,
        after_month=after_gb * prices.per_gb_month,
    )


def most_token_bytes(num_tokens: int, num_codes: int) -> float:
    """Bytes of an image's tokens when all codes are as frequent: no more than that is needed."""
    return num_tokens * math.log2(num_codes) / 8


def prices_of(values: Any) -> Prices:
    """Prices from the content of a price file; ValueError names what is missing or no price."""
    try:
        storage = values["storage"]
        instances = {str(name): instance_of(str(name), kind) for name, kind in values["instances"].items()}
        found = Prices(
            str(values["currency"]),
            str(values.get("note", "")),
            price(storage, "per_gb_month"),
            price(storage, "per_1000_reads"),
            price(storage, "per_1000_writes"),
            instances,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"prices without {error}; expected currency, storage and instances; compare with configs/prices.yaml"
        ) from error
    return found


def instance_of(name: str, values: Any) -> Instance:
    """A kind of node from its entry in a price file."""
    found = {key: price(values, key) for key in ("cpus", "gpus", "network_gbit_per_s", "per_hour")}
    if not found["cpus"] or not found["network_gbit_per_s"]:
        raise ValueError(f"instance {name} without cpus or network_gbit_per_s; expected more than 0; mend the prices")
    return Instance(name=name, **found)


def price(values: Any, key: str) -> float:
    """A number of a price file."""
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"price {key} {value!r}; expected a number, 0 or more; mend the prices")
    return float(value)
