"""Time, cost and storage of tokenising, before anything is rented; nothing is written, a dry run is the same.

seit-ray plan instance=c7i.8xlarge hours=12
seit-ray plan measure=true images=photos/ tokenizer=runs/tokenizer
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seit_ray.config import PlanCost
from seit_ray.config.loading import RECIPES
from seit_ray.progress import Progress, silent
from seit_ray.verbs.command.places import Rows, folder_of, listed

if TYPE_CHECKING:
    from seit_ray.report.costs import Estimate, Prices, Rates, Sizes
    from seit_ray.report.rates import Measured

PRICES = RECIPES / "prices.yaml"
IMAGE_BYTES = 110_000  # of ImageNet
OF_DRIVER = ("listed_per_s", "gathered_per_s", "parts_per_s")
RECORDS_PER_S = 450.0  # added up, written into the marker and cleaned up behind, at the end
DECODE_PER_CORE, ENCODE_PER_CORE = 250.0, 100.0  # images/s: JPEGs of ImageNet to 256 pixels; 1,024 patches, K 1024


def plan(config: PlanCost, progress: Progress = silent) -> Rows:
    """The table to print: what is assumed, then a row a number of images."""
    from seit_ray.images.manifest_writing import default_part_rows
    from seit_ray.report import costs

    prices = read_prices(config)
    instance = prices.instance(config.instance)
    found = measured(config, progress)
    rates = chosen_rates(config, found)
    sizes = chosen_sizes(config, found)
    rate = costs.node_rate(rates, instance, sizes.image_bytes)
    rows = assumptions(config, found, rates, sizes)
    rows.append((f"a node: {instance.name}", f"{rate.images_per_s:,.0f} images/s; bottleneck: {rate.bottleneck}"))
    for images in config.counts:
        rows_a_part = config.rows_per_shard or default_part_rows(images)
        given = config.rates
        driver = costs.Driver(given.listed_per_s, given.gathered_per_s, given.parts_per_s, RECORDS_PER_S, rows_a_part)
        try:
            nodes = config.num_nodes or costs.nodes_for(
                images, rate, driver, instance, hours=config.hours, startup_s=config.startup_s
            )
        except costs.TooShortError as error:
            if images == min(config.counts):
                raise
            rows.append((f"{images:.3g} images", str(error)))
            continue
        guess = costs.estimate(
            images,
            rate,
            driver,
            instance,
            prices,
            sizes,
            nodes=nodes,
            startup_s=config.startup_s,
            images_per_read=config.images_per_read,
        )
        rows.append((f"{images:.3g} images", words(guess, prices.currency)))
    return [*rows, ("prices", f"{config.prices or PRICES.name}{': ' * bool(prices.note)}{prices.note}")]


def check(config: PlanCost) -> Rows:
    """The same: nothing is written."""
    return plan(config)


def read_prices(config: PlanCost) -> Prices:
    """The prices of the file that the config names."""
    from seit_ray.config.loading import read_yaml
    from seit_ray.report.costs import prices_of

    return prices_of(read_yaml(config.prices or str(PRICES)))


def measured(config: PlanCost, progress: Progress) -> Measured | None:
    """Rates of this machine on a sample; None when they are not to be measured."""
    names = ("images", "tokenizer")
    if not config.measure:
        given = [name for name in names if getattr(config, name)]
        if given:
            raise ValueError(f"key {given[0]} without measure; expected both; add measure=true, or leave it out")
        return None
    if not (config.images and config.tokenizer):
        missing = [name for name in names if not getattr(config, name)]
        raise ValueError(f"key measure without {' and '.join(missing)}; expected {missing[0]}=FOLDER; add it")

    import torch

    from seit_ray.report.rates import measure_rates
    from seit_ray.tokenizers.files import load_tokenizer

    source = folder_of(config.images, config.storage)
    tokenizer, _ = load_tokenizer(folder_of(config.tokenizer, config.storage))
    with listed(source, config.source, val_fraction=0.0, seed=config.seed, on_progress=progress) as manifest:
        split = max(manifest.splits, key=lambda name: manifest.splits[name].num_images)
        return measure_rates(
            manifest.sample(split, config.sample_images, config.seed),
            source,
            tokenizer,
            image_column=config.source.image_column,
            device="cuda" if torch.cuda.is_available() else "cpu",
            on_progress=progress,
        )


def chosen_rates(config: PlanCost, found: Measured | None) -> Rates:
    """Given rates, else measured ones, else those of this module."""
    from seit_ray.report.costs import Rates

    chosen: dict[str, Any] = {"fetch_mb_per_s": None}
    chosen |= {"decode_per_core": DECODE_PER_CORE, "encode_per_core": ENCODE_PER_CORE}
    for known in (vars(found.rates) if found else {}, config.rates.model_dump()):
        chosen |= {name: value for name, value in known.items() if value is not None and name not in OF_DRIVER}
    return Rates(**chosen)


def chosen_sizes(config: PlanCost, found: Measured | None) -> Sizes:
    """Bytes an image before and after: given, else measured, else those of ImageNet and of grid and K."""
    from seit_ray.report.costs import Sizes, most_token_bytes

    tokens = config.token_bytes or (
        found.packed_bytes if found else most_token_bytes(config.grid[0] * config.grid[1], config.codebook_size)
    )
    return Sizes(config.image_bytes or (found.image_bytes if found else IMAGE_BYTES), tokens + config.key_bytes)


def assumptions(config: PlanCost, found: Measured | None, rates: Rates, sizes: Sizes) -> Rows:
    """What the figures are made of."""
    from seit_ray.report import costs

    fetch = "as its connection" if rates.fetch_mb_per_s is None else f"{rates.fetch_mb_per_s:,.0f} MB/s"
    gpu = "" if rates.encode_per_gpu is None else f", {rates.encode_per_gpu:,.0f}/s a GPU"
    origin = f"measured here on {found.images} images ({found.device})" if found else "given or usual, not measured"
    return [
        ("rates", origin),
        ("fetch a node", fetch),
        ("decode", f"{rates.decode_per_core:,.0f} images/s a core"),
        ("encode", f"{rates.encode_per_core:,.0f} images/s a core{gpu}"),
        ("listing", f"{config.rates.listed_per_s:,.0f} images/s a core, {costs.LISTING_CORES} cores at most"),
        ("driver", f"{config.rates.gathered_per_s:,.0f} images/s gathered, {config.rates.parts_per_s:,.0f} parts/s"),
        ("bytes an image", f"{sizes.image_bytes:,.0f} -> {sizes.token_bytes:,.0f} (keys and labels included)"),
    ]


def words(guess: Estimate, currency: str) -> str:
    """An estimate in one line."""
    nodes = f"{guess.nodes:,} node{'s' * (guess.nodes > 1)}"
    alone = f" ({guess.alone_hours:,.1f} of it listing and end)" if guess.alone_hours > 0.05 * guess.hours else ""
    return (
        f"{nodes}, {guess.hours:,.1f} h{alone}; {guess.compute:,.2f} {currency} of nodes, {guess.requests:,.2f} of "
        f"requests; "
        f"{guess.before_gb:,.0f} -> {guess.after_gb:,.1f} GB, {guess.before_month:,.2f} -> {guess.after_month:,.2f} "
        f"{currency} a month"
    )
