"""kill -9 of whatever runs in a tokenising job: the same command ends in the bytes of an undisturbed run."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from seit_ray.shards.parts import list_parts
from seit_ray.storage import Folder
from tests.distributed.data.jobs import Interruption, interrupt_when, run
from tests.distributed.data.oracle import check_complete, check_same
from tests.distributed.killing import NUM_IMAGES, ROOT, SETTINGS, Killer, descendants, end_of_driver
from tests.end_to_end.processes import LOCAL_RAY, processes_of, wait_for_end_of_session, warm_environment
from tests.tiny_images import contents, image_bytes, image_files, write_files, write_tokenizer
from tests.warm import processes as warm

FILES = {f"{('cat', 'dog')[i % 2]}/{i:04}.jpg": i for i in range(NUM_IMAGES)}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images that take some milliseconds to decode; every fortieth is damaged."""
    pictures = [image_bytes(("cat", "dog")[i % 2], i, side=400, format="JPEG") for i in range(40)]
    files = {name: pictures[i % 40] if i % 40 else pictures[0][:300] for name, i in FILES.items()}
    return write_files(tmp_path_factory.mktemp("images"), files)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), image_size=32)


@pytest.fixture(scope="module")
def undisturbed(ray_cluster, images, tokenizer, tmp_path_factory):
    """The folder of a dataset made in one go."""
    output = Folder(tmp_path_factory.mktemp("undisturbed"))
    run(ray_cluster, images, tokenizer, output, **SETTINGS)
    check_complete(output, set(FILES))
    return output


@pytest.fixture
def output(tmp_path):
    return Folder(tmp_path / "tokens")


@pytest.fixture
def keys(images, tokenizer, output):
    """What a user types."""
    settings = [f"tokenize.{name}={value}" for name, value in SETTINGS.items()]
    return [f"images={images.uri}", f"tokenizer={tokenizer.uri}", f"output={output.uri}", *LOCAL_RAY, *settings]


@pytest.mark.slow
def test_killed_workers(ray_cluster, images, tokenizer, undisturbed, output):
    """An actor, and the one that comes in its place."""
    killer = Killer("TokenizeParts", 2, 0.1)
    run(ray_cluster, images, tokenizer, output, on_progress=killer, **SETTINGS)
    assert len(killer.killed) == 2
    check_same(output, undisturbed, set(FILES))


@pytest.mark.slow
def test_a_node_that_goes_down(undisturbed, output, keys):
    assert end_of_driver("node", *keys) == 0
    check_same(output, undisturbed, set(FILES))


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["list", "tokenise", "marker", "clean up"])
def test_killed_drivers(ray_cluster, images, tokenizer, undisturbed, output, keys, moment):
    """On the ray that is there: it ends what the killed driver had."""
    assert end_of_driver(moment, *keys, f"cluster.address={ray_cluster.address}") == -signal.SIGKILL
    assert output.exists("_lock.json")
    assert output.exists("dataset.json") == (moment == "clean up")
    made = sum(map(len, list_parts(output.join("_work", "records")).values()))
    assert (made > 0) == (moment != "list")
    notes = []
    run(ray_cluster, images, tokenizer, output, on_progress=lambda *state: notes.append(state[3]), **SETTINGS)
    if moment != "clean up":  # at once, though workers of the killed driver may still be ending
        assert "taken over from" in notes[0]
    check_same(output, undisturbed, set(FILES))


@pytest.mark.slow
def test_sigterm_ends_a_job_cleanly(ray_cluster, images, tokenizer, undisturbed, output, keys):
    process = warm.Popen(
        [sys.executable, "pipelines/tokenize_images.py", *keys],
        cwd=ROOT,
        env=warm_environment(),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while len(list_parts(output.join("_work", "records")).get("train", {})) < 5:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert json.loads(output.read("_lock.json"))["pid"] == process.pid
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, printed
    assert "Traceback" not in printed
    wait_for_end_of_session(process.pid)
    assert processes_of(process.pid) == {}
    assert not output.exists("_lock.json")
    assert not output.exists("dataset.json")
    run(ray_cluster, images, tokenizer, output, **SETTINGS)
    check_same(output, undisturbed, set(FILES))


def test_halves_of_files_do_not_stay(ray_cluster, images, tokenizer, undisturbed, output):
    """What a writer that is killed half way leaves goes; what others put there, whatever its name, stays."""
    with pytest.raises(Interruption):
        run(
            ray_cluster,
            images,
            tokenizer,
            output,
            on_progress=interrupt_when(lambda phase, done, total: phase == "tokenise" and done == total),
            **SETTINGS,
        )
    mark = "0123456789abcdef" * 2
    for name in (
        "train/shard-00000.parquet",
        "_source/train/part-00000.parquet",
        "tokenizer/tokenizer.json",
        "dataset.json",
    ):
        place, _, base = name.rpartition("/")
        output.write(f"{place}/.{base}.{mark}.tmp" if place else f".{base}.{mark}.tmp", b"half")
    others = [
        "train/shard-00099.parquet",
        "_source/cat.jpg",
        "laion/shard-00000.tar",
        "notes/rejected.csv",
        "train/.x.tmp",
    ]
    for name in others:
        output.write(name, b"mine")
    run(ray_cluster, images, tokenizer, output, **SETTINGS)
    assert [output.read(name) for name in others] == [b"mine"] * len(others)
    for name in others:
        output.delete(name)
    check_same(output, undisturbed, set(FILES))


@pytest.mark.parametrize(("source", "target"), [("data/source", "data"), ("data", "data/tokens"), ("data", "data")])
def test_an_output_that_overlaps_the_images_is_refused_before_anything_is_written(
    ray_cluster, tokenizer, tmp_path, source, target
):
    images = write_files(tmp_path / source, image_files(3))
    before = contents(images)
    with pytest.raises(ValueError, match=r"expected two folders, neither of them in the other"):
        run(ray_cluster, images, tokenizer, Folder(tmp_path / target))
    assert contents(images) == before
    assert not list((tmp_path / target).glob("_*"))


def test_a_folder_with_files_of_others_is_refused_before_anything_is_written(ray_cluster, images, tokenizer, output):
    output.write("notes.txt", b"mine")
    with pytest.raises(ValueError, match=r"holds notes\.txt, which this program did not write there"):
        run(ray_cluster, images, tokenizer, output, **SETTINGS)
    assert contents(output) == {"notes.txt": b"mine"}


def test_the_helper_sees_the_workers_of_this_process(ray_cluster):
    assert any("raylet" in title for title in descendants(os.getpid()).values())
