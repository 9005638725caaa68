"""Estimates against numbers worked out by hand."""

import pytest

from seit_ray.report.costs import (
    Driver,
    Instance,
    NodeRate,
    Prices,
    Rates,
    Sizes,
    estimate,
    most_token_bytes,
    node_rate,
    nodes_for,
    prices_of,
)

CPUS = Instance("cpus", cpus=10, gpus=0, network_gbit_per_s=8, per_hour=2.0)  # 8 Gbit/s: 1000 MB/s
GPUS = Instance("gpus", cpus=10, gpus=2, network_gbit_per_s=8, per_hour=5.0)
PRICES = Prices(
    "USD", "", per_gb_month=0.02, per_1000_reads=0.0004, per_1000_writes=0.005, instances={"cpus": CPUS, "gpus": GPUS}
)
DRIVER = Driver(listed_per_s=1e3, gathered_per_s=2e4, parts_per_s=5, records_per_s=10, images_per_part=1000)
VALUES = {
    "currency": "EUR",
    "storage": {"per_gb_month": 0.02, "per_1000_reads": 0.0004, "per_1000_writes": 0.005},
    "instances": {"n1": {"cpus": 4, "gpus": 0, "network_gbit_per_s": 10, "per_hour": 0.5}},
}


@pytest.mark.parametrize(
    ("rates", "instance", "image_bytes", "images_per_s", "bottleneck"),
    [
        (Rates(None, 100, 400), CPUS, 100_000, 800, "decode"),  # 10 / (1/100 + 1/400)
        (Rates(None, 400, 100), CPUS, 100_000, 800, "encode"),
        (Rates(50, 100, 400), CPUS, 100_000, 500, "fetch"),  # 50 MB/s at 0.1 MB
        (Rates(5000, 100, 400), CPUS, 2_000_000, 500, "fetch"),  # the connection is slower than what was measured
        (Rates(None, 100, 400, 900), GPUS, 100_000, 1000, "decode"),  # the cores need not encode
        (Rates(None, 100, None, 300), GPUS, 100_000, 600, "encode"),
        (Rates(None, 100, 400, 300), CPUS, 100_000, 800, "decode"),  # no GPU there
        (Rates(None, 100, 400), GPUS, 100_000, 800, "decode"),  # a GPU, but who knows how fast
    ],
)
def test_a_node_is_as_fast_as_its_slowest_step(rates, instance, image_bytes, images_per_s, bottleneck):
    found = node_rate(rates, instance, image_bytes)
    assert found.images_per_s == pytest.approx(images_per_s)
    assert found.bottleneck == bottleneck


def test_without_a_rate_of_encoding():
    with pytest.raises(ValueError, match="no rate of encoding on cpus; expected one of its cores or GPUs"):
        node_rate(Rates(None, 100, None, 300), CPUS, 1e5)


@pytest.mark.parametrize(
    ("images", "hours", "nodes"),
    [(1, 1, 1), (2_990_000, 1, 1), (3_000_001, 1, 2), (29_990_000, 1, 10), (6_590_000, 2, 1)],
)
def test_nodes_that_meet_a_time(images, hours, nodes):
    free = Driver(1e12, 1e12, 1e9, 1e9, 1000)
    found = nodes_for(images, NodeRate(1000, "decode"), free, CPUS, hours=hours, startup_s=600)
    assert found == nodes  # 3000 s, 6600 s of work


def test_a_time_in_which_nothing_starts():
    with pytest.raises(ValueError, match=r"0.1 hours for 1 images; expected more than 0.167, which start, listing"):
        nodes_for(1, NodeRate(1000, "decode"), DRIVER, CPUS, hours=0.1, startup_s=600)


def test_what_one_process_does_is_counted():
    assert DRIVER.parts(10_001) == 11
    assert DRIVER.alone_s(100_000, 10) == pytest.approx(10 + 5 + 10)  # listed, gathered, and 100 records
    assert DRIVER.alone_s(100_000, 0.5) == pytest.approx(100 + 5 + 10)  # what has half a core lists on it
    assert DRIVER.alone_s(100_000, 10**6) == pytest.approx(100 / 128 + 5 + 10)  # there are no more pieces
    # 3600 s less 15.4 to 25 s alone: 100,000 images in 3,575 s
    assert nodes_for(100_000, NodeRate(1, "decode"), DRIVER, CPUS, hours=1, startup_s=0) == 28
    with pytest.raises(ValueError, match=r"1 hours for 4e\+07 images; expected more than 3.98"):  # of these 1.75 alone
        nodes_for(4 * 10**7, NodeRate(1e9, "decode"), DRIVER, CPUS, hours=1, startup_s=0)


def test_nodes_are_added_where_few_cores_would_list_for_too_long():
    driver = Driver(listed_per_s=1e3, gathered_per_s=1e9, parts_per_s=1e9, records_per_s=1e9, images_per_part=1000)
    # 7,200,000 images: 7,200 s on one core; on n nodes of 10 cores 720 / n, and 7,200 / n to tokenise
    assert nodes_for(7_200_000, NodeRate(1000, "decode"), driver, CPUS, hours=1, startup_s=0) == 3


def test_an_estimate():
    rate, sizes = NodeRate(800, "decode"), Sizes(100_000, 1_100)
    driver = Driver(
        listed_per_s=1e4, gathered_per_s=1.25e5, parts_per_s=100, records_per_s=1000, images_per_part=10_000
    )
    found = estimate(10**8, rate, driver, CPUS, PRICES, sizes, nodes=5, startup_s=360, images_per_read=1)
    # 1e8 / (800 * 5) s, listed in 200 s on 50 cores and gathered in 800 s, 10,000 records in 10 s
    hours = (25_000 + 360 + 1000 + 10) / 3600
    assert found.hours == pytest.approx(hours)
    assert found.alone_hours == pytest.approx(1010 / 3600)
    assert found.compute == pytest.approx(5 * hours * 2.0)
    assert found.requests == pytest.approx(40.0 + 0.7)  # 100,000 pages and 4 files of 10,000 parts
    assert (found.before_gb, found.after_gb) == pytest.approx((10_000, 110))
    assert (found.before_month, found.after_month) == pytest.approx((200, 2.2))
    packed = estimate(10**8, rate, driver, CPUS, PRICES, sizes, nodes=5, startup_s=360, images_per_read=100)
    assert packed.requests == pytest.approx(0.4 + 0.7)
    many = estimate(10**8, rate, driver, CPUS, PRICES, sizes, nodes=10**6, startup_s=0, images_per_read=1)
    alone = 1e4 / 128 + 800 + 10
    assert many.hours == pytest.approx((100 + alone) / 3600)  # 10,000 parts, 100 a second: no nodes help


@pytest.mark.parametrize(("tokens", "codes", "size"), [(1024, 256, 1024), (64, 2, 8), (1024, 1, 0)])
def test_bytes_of_tokens_of_equal_frequency(tokens, codes, size):
    assert most_token_bytes(tokens, codes) == pytest.approx(size)


def test_prices_from_values():
    prices = prices_of(VALUES)
    assert (prices.currency, prices.note, prices.per_gb_month) == ("EUR", "", 0.02)
    assert prices.instance("n1") == Instance("n1", 4, 0, 10, 0.5)
    with pytest.raises(ValueError, match=r"instance 'n2'; expected one of \['n1'\]; add it to the prices"):
        prices.instance("n2")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "prices without 'storage'"),
        (None, "prices without"),
        ({**VALUES, "instances": []}, "prices without"),
        ({**VALUES, "instances": {"n": {"cpus": 1}}}, "prices without 'gpus'"),
        (
            {**VALUES, "storage": {"per_gb_month": "a", "per_1000_reads": 0, "per_1000_writes": 0}},
            "price per_gb_month 'a'; expected a number",
        ),
        (
            {**VALUES, "storage": {"per_gb_month": -1, "per_1000_reads": 0, "per_1000_writes": 0}},
            "price per_gb_month -1; expected",
        ),
        (
            {**VALUES, "storage": {"per_gb_month": float("nan"), "per_1000_reads": 0, "per_1000_writes": 0}},
            "price per_gb_month nan",
        ),
        ({**VALUES, "instances": {"n": {**VALUES["instances"]["n1"], "cpus": 0}}}, "instance n without cpus"),
    ],
)
def test_prices_that_are_none(values, text):
    with pytest.raises(ValueError, match=text):
        prices_of(values)
