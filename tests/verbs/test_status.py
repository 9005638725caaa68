"""seit-ray status: what it tells of a tokenising job's folder, begun, killed, continued and finished."""

import json
import os
import re
from dataclasses import asdict, replace

import pyarrow as pa
import pytest

from seit_ray.images.manifest import load_manifest
from seit_ray.progress import Times
from seit_ray.shards import job_state
from seit_ray.shards.appending import first_shards
from seit_ray.shards.job_state import Written, read_state
from seit_ray.shards.parquet import REJECTED_SCHEMA
from seit_ray.shards.parts import Part, PartFiles, list_parts
from seit_ray.storage import Folder
from seit_ray.storage.lock import Lock, locked
from seit_ray.verbs.command.main import main
from seit_ray.verbs.status import is_alive, rates, rows_of
from tests.images.made_manifests import records, write
from tests.tiny_dataset import learnable_rows, reject_table, write_dataset
from tests.verbs.command.test_main import mistake

NOW = 1_700_000_000.0
IMAGES, REJECTS = 10, 2  # images a part; of each part's images
PLAN = {"images": "/data", "rows_per_shard": IMAGES}


def begin(output, *, train=40, val=15, **plan):
    """A job that has listed its images; returns its output."""
    work = output.join("_work")
    work.write("plan.json", json.dumps({**PLAN, **plan}).encode())
    rows = [*records(train, split="train"), *(replace(r, key=f"v{r.key}") for r in records(val, split="val"))]
    write(work.join("manifest"), rows, rows_per_part=IMAGES)
    return output


def write_part(output, split, index, num_rows, rejected, base=None):
    """A part of that many rows and these rejects; behind those of `base`."""
    files = PartFiles(output, records_of(output), "plain", num_codes=16, num_classes=4, first=first_shards(base))
    rows = learnable_rows(num_rows)
    listed = pa.table({"key": pa.array([], pa.string()), "state": pa.array([], pa.int64())})
    return files.write(split, index, rows, rejected, listed, times=Times(), peak_bytes=0)


def records_of(output):
    """Where the records of a job lie."""
    return output.join("_work", "records")


def tokenise(output, split, index, *, written, rejected=REJECTS, images=IMAGES):
    """A finished part."""
    made = write_part(output, split, index, images - rejected, reject_table(rejected))
    os.utime(f"{output.uri}/_work/records/{made.name}", (written, written))


@pytest.fixture
def output(tmp_path):
    """A job with three of six parts, ten seconds apart."""
    folder = begin(Folder(tmp_path / "tokens"))
    for i, (split, index) in enumerate([("train", 0), ("val", 0), ("train", 2)]):
        tokenise(folder, split, index, written=NOW - 30 + 10 * i)
    return folder


def told(output, now=NOW):
    """Row -> text."""
    return dict(rows_of(read_state(output), now))


def test_a_job_that_runs(output):
    with locked(output, "_lock.json"):
        rows = told(output)
        assert rows["state"] == "tokenising, running"
        assert re.fullmatch(rf"\S+@\S+, process {os.getpid()}, last sign of life \d s ago", rows["lock"])
    assert (rows["train"], rows["train parts"]) == ("20 of 40 images (50.0%)", "2 of 4")
    assert (rows["val"], rows["val parts"]) == ("10 of 15 images (66.7%)", "1 of 2")
    assert rows["last part"] == "10 s ago"
    assert rows["speed"] == "1.0 images/s of late, 1.0 on average"
    assert rows["left"] == "25 s"
    assert rows["rejected"] == "6 images, 20.00% of those done"
    assert "shards" not in rows


def test_a_job_that_was_killed(output):
    rows = told(output)
    assert rows["state"] == "tokenising, not running: the same command continues"
    assert rows["lock"] == "free"
    assert rows["left"] == "25 s once it is continued"
    holder = replace(Lock(output, "_lock.json").holder, started="1", time=NOW)  # another process had this number
    output.write("_lock.json", json.dumps(asdict(holder)).encode())
    rows = told(output)
    assert rows["state"].startswith("tokenising, not running")
    assert rows["lock"].endswith(": it has ended")


def test_a_holder_on_another_machine_lives_as_long_as_it_gives_signs():
    holder = replace(Lock(Folder("/nowhere"), "x").holder, machine="another", time=NOW)
    assert is_alive(holder, NOW + 100)
    assert not is_alive(holder, NOW + 200)


def test_a_job_that_has_listed_nothing_yet(tmp_path):
    output = Folder(tmp_path)
    with locked(output, "_lock.json"):
        assert told(output)["state"] == "starting"
        output.write("_work/plan.json", json.dumps(PLAN).encode())
        assert told(output)["state"] == "listing images, running"
    assert told(output) == {"state": "listing images, not running: the same command continues", "lock": "free"}


def test_all_parts_done_and_the_marker_being_written(output):
    for split, index, images in [("train", 1, 10), ("train", 3, 10), ("val", 1, 5)]:
        tokenise(output, split, index, written=NOW, images=images)
    rows = told(output)
    assert rows["state"] == "writing the marker, not running: the same command continues"
    assert (rows["train"], rows["train parts"]) == ("40 of 40 images (100.0%)", "4 of 4")
    assert (rows["val"], rows["val parts"]) == ("15 of 15 images (100.0%)", "2 of 2")
    assert "left" not in rows


def test_the_commonest_reasons_come_first(output, monkeypatch):
    reasons = [("gone", 1), ("not an image", 5), ("too large", 2)]
    table = pa.table(
        {"key": [f"k{i}" for i in range(8)], "reason": [r for r, n in reasons for _ in range(n)]}, REJECTED_SCHEMA
    )
    write_part(output, "train", 1, 2, table)
    rows = rows_of(read_state(output), NOW)
    begin = [name for name, _ in rows].index("rejected")
    assert rows[begin][1].startswith("14 images, ")
    assert rows[begin + 1 : begin + 3] == [("rejected 5", "not an image"), ("rejected 3", "no image: bad-0.jpg")]
    largest = output.size("train/rejected-00001.parquet")
    monkeypatch.setattr(job_state, "LOOK_BYTES", largest)  # that with most rejects is looked at, and no other
    assert read_state(output).reasons == dict(reasons)
    assert told(output)["rejected"].endswith("; reasons of 8 of them")


def test_many_reasons_are_cut_short(output):
    for index in (1, 3):
        tokenise(output, "train", index, written=NOW, rejected=0)
    table = pa.table({"key": [f"k{i}" for i in range(30)], "reason": [f"reason {i}" for i in range(30)]})
    write_part(output, "val", 1, 1, table.cast(REJECTED_SCHEMA))
    assert rows_of(read_state(output), NOW)[-1] == ("", "and 24 more reasons")


def test_parts_that_are_damaged_or_empty(output):
    records_of(output).write("train/000001.8.2.json", b"")  # as a power cut leaves it: not done
    records_of(output).write("train/000003.8.2.json", b"a record")
    output.write("train/rejected-00003.parquet", b"cut off")
    records_of(output).write("train/notes.txt", b"x")
    for part in (Part("train", 1, 10, 0), Part("train", 1, 9, 1)):  # two processes made it: it will be made again
        records_of(output).write(part.name, b"a record")
    state = read_state(output)
    assert sorted(len([w for w in state.parts if w.part.split == split]) for split in ("train", "val")) == [1, 3]
    assert state.reasons.total() == 6
    assert told(output)["rejected"].endswith("; reasons of 6 of them")


def test_parts_are_those_that_a_job_would_find(output):
    found = [part for parts in list_parts(records_of(output)).values() for part in parts.values()]
    state = read_state(output)
    assert sorted((p.split, p.index, p.rows, p.rejected) for p in found) == sorted(
        (w.part.split, w.part.index, w.part.rows, w.part.rejected) for w in state.parts
    )
    assert state.listed == {
        name: (s.num_images, s.num_parts) for name, s in load_manifest(output.join("_work/manifest")).splits.items()
    }


def test_a_finished_dataset(tmp_path):
    output = write_dataset(tmp_path, sizes={"train": 25, "val": 8})
    assert told(output) == {
        "state": "finished",
        "lock": "free",
        "train": "27 listed = 25 written + 2 rejected, 3 shards",
        "val": "10 listed = 8 written + 2 rejected, 1 shards",
        "rejected": "4 images",
        "rejected 2": "no image: bad-1.jpg",
    }
    begin(output)  # a kill between marker and clean-up leaves the work
    assert told(output)["state"] == "finished"


def test_reasons_of_a_finished_dataset_are_bounded(tmp_path, monkeypatch):
    output = write_dataset(tmp_path, num_rejected=1)
    monkeypatch.setattr(job_state, "LOOK_BYTES", 0)
    assert told(output)["rejected"] == "2 images; reasons of 0 of them"
    assert told(write_dataset(tmp_path / "clean", num_rejected=0))["rejected"] == "none"


@pytest.mark.parametrize("finished", [True, False])
def test_many_tables_of_rejects_are_a_few_requests(tmp_path, monkeypatch, finished):
    """A listing for their sizes, and one call for the tables of most rejects."""
    output = write_dataset(tmp_path, num_rejected=1) if finished else begin(Folder(tmp_path))
    for index in range(0 if finished else 4):
        tokenise(output, "train", index, written=NOW, rejected=1 + index)
    calls = []
    for name in ("read_many", "size"):
        monkeypatch.setattr(Folder, name, counted(getattr(Folder, name), calls))
    monkeypatch.setattr(job_state, "LOOK_TABLES", 2)
    reasons = read_state(output).reasons
    assert reasons.total() == (2 if finished else 7)
    assert [len(names) for names in calls if isinstance(names, list) and "rejected-" in names[0]] == [2]
    assert not [name for name in calls if "rejected-" in name]


def counted(function, calls):
    """The function, whose first arguments are kept."""

    def call(folder, given, **more):
        calls.append(given)
        return function(folder, given, **more)

    return call


def test_images_that_are_appended(tmp_path):
    output = write_dataset(tmp_path)
    marker = json.loads(output.read("dataset.json"))
    plan = {**marker["plan"], "manifest": "0123"}
    info = replace(read_state(output).dataset, plan=plan)
    output.write("dataset.json", info.to_json())
    begin(output, train=20, val=0, appends_to="0123")
    write_part(output, "train", 0, 9, reject_table(1, 5), base=info)
    assert output.exists("train/shard-00003.parquet")  # behind the three that are part of the dataset
    rows = told(output)
    assert rows["state"].startswith("tokenising to append to the finished dataset, not running")
    assert rows["train"] == "27 listed = 25 written + 2 rejected, 3 shards"
    assert (rows["train to do"], rows["train parts"]) == ("10 of 20 images (50.0%)", "1 of 2")
    assert read_state(output).reasons == {"no image: bad-5.jpg": 1}  # of what is added, not of the dataset


def test_a_job_that_ends_while_it_is_looked_at(tmp_path, monkeypatch):
    output = begin(write_dataset(tmp_path))
    output.write("later.json", output.read("dataset.json"))
    output.delete("dataset.json")

    def ends(folder):
        manifest = load_manifest(folder)
        output.write("dataset.json", output.read("later.json"))
        output.delete_tree("_work")
        return manifest

    monkeypatch.setattr(job_state, "load_manifest", ends)
    assert told(output)["state"] == "finished"


def part(time, images=10):
    return Written(Part("train", 0, images, 0), NOW + time)


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ([], (None, None)),
        ([part(0)], (None, None)),
        ([part(0), part(0)], (None, None)),  # times of whole seconds
        ([part(10), part(0), part(20)], (1.0, 1.0)),
        ([part(0), part(10), part(1000), part(1005)], (2.0, 20 / 15)),  # a kill between them does not count
        ([part(0), part(100), part(400), part(402)], (20 / 302, 30 / 402)),  # the last five minutes
    ],
)
def test_rates(parts, found):
    assert rates(parts) == found


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("photos/1.jpg", b"x", "is no output of a tokenising job; expected dataset.json or unfinished work"),
        ("_work/other", b"x", "is no output of a tokenising job"),
        ("dataset.json", b'{"format', "dataset.json cannot be read"),
        ("_work/plan.json", b'{"images', "_work/plan.json cannot be read (Unterminated string"),
        ("_work/plan.json", b"[]", "_work/plan.json cannot be read (holds a list)"),
        ("_lock.json", b'{"pid": 3}', "_lock.json cannot be read"),
        ("_lock.json", b"\xff", "_lock.json cannot be read"),
    ],
)
def test_a_folder_that_is_none_of_ours_or_damaged(capsys, tmp_path, name, content, error):
    Folder(tmp_path).write(name, content)
    assert error in mistake(capsys, "status", str(tmp_path))


def test_a_damaged_manifest(capsys, output):
    output.write("_work/manifest/manifest.json", b"{")
    assert "manifest.json cannot be read" in mistake(capsys, "status", output.uri)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["/no/such/folder"], "/no/such/folder does not exist"),
        ([], "the following arguments are required: OUTPUT"),
        (["a", "b"], "2 folders; expected the output of one job"),
        (["a", "storage.zone=x"], "unknown key storage.zone"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(capsys, words, error):
    assert error in mistake(capsys, "status", *words)


def test_on_the_command_line(capsys, output):
    main(["status", output.uri])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == output.uri
    assert lines[2] == "state        tokenising, not running: the same command continues"


def test_in_a_bucket_with_the_storage_keys_of_the_verbs(capsys, output, s3_server):
    place = f"s3://{s3_server.create_bucket('status-verb')}/tokens"
    remote = Folder(place, **s3_server.credentials)
    for entry in output.list(include_hidden=True):
        remote.write(entry.name, output.read(entry.name))
    keys = [f"storage.{key}={value}" for key, value in s3_server.credentials.items()]
    main(["status", place, *keys])
    lines = capsys.readouterr().out.splitlines()
    assert "train        20 of 40 images (50.0%)" in lines
    assert re.fullmatch(r"last part    \d+ s ago", next(line for line in lines if line.startswith("last part")))
    wrong = [key.replace("testing", "hunter2") for key in keys]
    error = mistake(capsys, "status", place, *wrong)
    assert f"{place} is not accessible" in error
    assert "hunter2" not in error


def test_looking_takes_no_lock(output):
    with locked(output, "_lock.json") as lock:
        before = output.read("_lock.json")
        read_state(output)
        assert output.read("_lock.json") == before
        lock.check()
