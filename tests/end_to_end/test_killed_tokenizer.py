"""kill -9 of the driver of a tokenising job; the same command then ends in the bytes of an undisturbed run."""

import re

import pytest

from seit_ray.config import InspectTokens, TokenizeImages, load
from seit_ray.shards import TokenDataset
from seit_ray.storage import Folder
from seit_ray.verbs.inspect_tokens import inspect_tokens
from seit_ray.verbs.tokenize_images import tokenize_images
from tests.end_to_end.processes import LOCAL_RAY, kill_when, succeed
from tests.tiny_images import contents, image_bytes, write_files, write_tokenizer

NUM_IMAGES, ROWS = 800, 4
SETTINGS = (
    *LOCAL_RAY,
    f"tokenize.rows_per_shard={ROWS}",
    "tokenize.val_fraction=0.1",
    "tokenize.num_actors=1",
    "tokenize.max_reject_fraction=0.1",
)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The keys that name images (every fiftieth damaged) and tokenizer."""
    place = tmp_path_factory.mktemp("given")
    pictures = [image_bytes(("cat", "dog")[i % 2], i, side=400, format="JPEG") for i in range(100)]
    names = [f"{('cat', 'dog')[i % 2]}/{i:05d}.jpg" for i in range(NUM_IMAGES)]
    files = {name: pictures[i % 100] if i % 50 else pictures[0][:300] for i, name in enumerate(names)}
    write_files(place / "images", files)
    write_tokenizer(place / "tokenizer", image_size=32)
    return [f"images={place / 'images'}", f"tokenizer={place / 'tokenizer'}", *SETTINGS]


def finished_parts(output):
    """Names of those that stand in an unfinished dataset's folder."""
    return {entry.name for entry in output.join("_work", "records").list()}


@pytest.mark.slow
def test_killed_at_half(ray_cluster, given, tmp_path):
    undisturbed, output = Folder(tmp_path / "undisturbed"), Folder(tmp_path / "killed")
    tokenize_images(load(TokenizeImages, [], [*given, f"output={undisturbed.uri}"]))
    total = sum(-(-split.listed // ROWS) for split in TokenDataset(undisturbed).info.splits.values())
    assert total > 190

    kill_when(lambda: len(finished_parts(output)) >= total / 2, "tokenize_images", *given, f"output={output.uri}")
    made = finished_parts(output)
    assert total / 2 <= len(made) < total
    assert not output.exists("dataset.json")

    rerun = succeed("tokenize_images", *given, f"output={output.uri}")
    assert f" {total - len(made)} of {total} parts to do" in rerun.stderr  # nothing is made twice
    assert re.search(r"train +\d+ listed = \d+ written \+ \d+ rejected", rerun.stdout)
    kept, expected = contents(output), contents(undisturbed)
    assert {name for name in kept if "_work" in name} == set()
    assert kept.pop("tokenize_images.run.json") != expected.pop("tokenize_images.run.json")  # time, command
    assert kept == expected  # dataset.json too

    info = TokenDataset(output).info
    assert sum(split.listed for split in info.splits.values()) == NUM_IMAGES
    assert sum(split.rejected for split in info.splits.values()) == NUM_IMAGES // 50
    keys = [key for name in info.splits for key in TokenDataset(output).read_split(name).meta["key"].to_pylist()]
    assert len(keys) == len(set(keys)) == NUM_IMAGES * 49 // 50
    shown = dict(inspect_tokens(InspectTokens(dataset=output.uri)))
    assert shown["verified"] == "checksums, counts and code range of every shard"
