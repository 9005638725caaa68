"""The plan verb: hand-computed tables, measured ones, and mistakes in one line."""

import pytest
import yaml

from seit_ray.config import PlanCost
from seit_ray.report.costs import prices_of
from seit_ray.verbs.command.main import main
from seit_ray.verbs.plan import PRICES, plan
from tests.tiny_images import contents, image_files, write_files, write_tokenizer

MINE = {
    "currency": "EUR",
    "note": "made up",
    "storage": {"per_gb_month": 0.02, "per_1000_reads": 0.001, "per_1000_writes": 0.01},
    "instances": {"n1": {"cpus": 10, "gpus": 0, "network_gbit_per_s": 8, "per_hour": 2.0}},
}


@pytest.fixture
def prices(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(yaml.safe_dump(MINE))
    return str(path)


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main(["plan", *arguments])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_plan_by_hand(prices):
    rates = {
        "decode_per_core": 100,
        "encode_per_core": 400,
        "listed_per_s": 1e9,
        "gathered_per_s": 1e9,
        "parts_per_s": 1e6,
    }
    more = {
        "rows_per_shard": 10_000,
        "image_bytes": 1e5,
        "token_bytes": 1000,
        "key_bytes": 100,
        "hours": 1.1,
        "startup_s": 360,
    }
    rows = dict(plan(PlanCost(prices=prices, instance="n1", rates=rates, counts=(2_880_000, 28_800_000), **more)))
    assert rows["a node: n1"] == "800 images/s; bottleneck: decode"
    assert rows["bytes an image"] == "100,000 -> 1,100 (keys and labels included)"
    # 2.88e6 / 800 = 3600 s, and 360 s to start; 0.001 * 2,880 reads, 0.01 * (2.88 + 4 * 0.288) writes; 288 GB * 0.02
    assert rows["2.88e+06 images"] == (
        "2 nodes, 0.6 h; 2.40 EUR of nodes, 2.92 of requests; 288 -> 3.2 GB, 5.76 -> 0.06 EUR a month"
    )
    # 2.88e7 / 8,800 = 3273 s, 360 s to start, and 2,880 records at 450/s to end: 3639 s of 11 nodes at 2 EUR an hour
    assert rows["2.88e+07 images"].startswith("11 nodes, 1.0 h; 22.24 EUR of nodes, 29.20 of requests")
    assert rows["prices"] == f"{prices}: made up"
    fixed = dict(plan(PlanCost(prices=prices, instance="n1", rates=rates, counts=(2_880_000,), num_nodes=2, **more)))
    assert fixed["2.88e+06 images"].startswith("2 nodes, 0.6 h; 2.40 EUR of nodes")


def test_the_bottleneck_moves(prices):
    def bottleneck(**rates):
        rows = dict(plan(PlanCost(prices=prices, instance="n1", rates=rates)))
        return rows["a node: n1"].rpartition(" ")[2]

    assert bottleneck(fetch_mb_per_s=1) == "fetch"
    assert bottleneck(decode_per_core=1e4, encode_per_core=1e2) == "encode"
    assert bottleneck(decode_per_core=1e2, encode_per_core=1e4) == "decode"


def test_the_example_prices_are_prices_and_say_that_they_are_examples():
    found = prices_of(yaml.safe_load(PRICES.read_text()))
    assert PlanCost().instance in found.instances
    assert "EXAMPLES, to be edited" in PRICES.read_text()
    assert "example" in found.note


def test_measured_here_and_given_rates_win(tmp_path, prices):
    images = write_files(tmp_path / "images", image_files(40))
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    before = contents(images)
    asked = {"prices": prices, "instance": "n1", "measure": True, "images": images.uri, "tokenizer": tokenizer.uri}
    seen = []
    rows = dict(plan(PlanCost(**asked, sample_images=10), lambda *state: seen.append(state)))
    assert rows["rates"].startswith("measured here on 10 images")
    assert rows["fetch a node"].endswith("MB/s")
    assert ("measure", 10, 10, "images") in seen
    rows = dict(plan(PlanCost(**asked, image_bytes=5e4, rates={"decode_per_core": 7})))
    assert rows["decode"] == "7 images/s a core"
    assert rows["bytes an image"] == "50,000 -> 18 (keys and labels included)"  # 16 tokens in Parquet, and 10
    assert contents(images) == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["instance=n2"], "instance 'n2'; expected one of ['c7i"),
        (["prices=/no/such.yaml"], "config file /no/such.yaml: No such file"),
        (["measure=true"], "key measure without images and tokenizer; expected images=FOLDER"),
        (["measure=true", "images=a"], "key measure without tokenizer; expected tokenizer=FOLDER"),
        (["images=a"], "key images without measure; expected both"),
        (["counts=[0]"], "key counts.0 is 0"),
        (["hours=0.01"], "0.01 hours for 1e+06 images; expected more than 0.0838"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_mistakes(capsys, arguments, text, dry):
    assert text in refused(capsys, *arguments, *dry)


def test_the_table_is_printed(capsys):
    main(["plan", "counts=[1000000]"])
    shown = capsys.readouterr().out
    assert "1e+06 images" in shown
    assert "bottleneck: encode" in shown
