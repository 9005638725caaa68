"""Two tokenising jobs with one output: one works, the other is told so; neither ever writes between the other's."""

import json

import pytest

from seit_ray.storage import Folder
from seit_ray.storage.lock import LockedError, locked
from tests.distributed.data.jobs import run
from tests.distributed.data.oracle import check_complete, check_same
from tests.end_to_end.processes import here
from tests.tiny_images import image_files, write_files, write_tokenizer

FILES = image_files(120)
LOCK = "_lock.json"


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """(images, tokenizer)."""
    place = tmp_path_factory.mktemp("given")
    return write_files(place / "images", FILES), write_tokenizer(place / "tokenizer")


@pytest.fixture(scope="module")
def undisturbed(ray_cluster, given, tmp_path_factory):
    """The folder of a dataset made by one job alone."""
    output = Folder(tmp_path_factory.mktemp("undisturbed"))
    run(ray_cluster, *given, output)
    return output


@pytest.fixture
def output(tmp_path):
    return Folder(tmp_path / "tokens")


def at_half(action):
    """Progress that acts once, when half is done."""
    done_with = []

    def on_progress(phase, done, total, note):
        if phase == "tokenise" and 2 * done >= total and not done_with:
            done_with.append(1)
            action()

    return on_progress


@pytest.mark.parametrize("mode", ["create", "append"])
def test_a_second_job_is_refused_while_the_first_works(ray_cluster, given, output, undisturbed, mode):
    refused = []

    def second():
        with pytest.raises(LockedError, match="expected one job at a time") as error:
            run(ray_cluster, *given, output, mode=mode)
        refused.append(str(error.value))

    run(ray_cluster, *given, output, on_progress=at_half(second))
    assert len(refused) == 1
    assert output.uri in refused[0]
    check_same(output, undisturbed, set(FILES))


def test_a_job_whose_lock_was_taken_stops_and_the_other_finishes(ray_cluster, given, output):
    def take():
        held = json.loads(output.read(LOCK))
        output.write(LOCK, json.dumps({**held, "token": "other", "started": "1", "time": 0.0}).encode())

    with pytest.raises(LockedError, match="was taken over by"):
        run(ray_cluster, *given, output, on_progress=at_half(take))
    assert not output.exists("dataset.json")
    assert json.loads(output.read(LOCK))["token"] == "other"  # not released by who has lost it
    notes = []
    run(ray_cluster, *given, output, on_progress=lambda *state: notes.append(state[3]))
    assert notes[0].startswith("taken over from")
    check_complete(output, set(FILES))


def test_a_finished_dataset_needs_no_lock(ray_cluster, given, output):
    first = run(ray_cluster, *given, output)
    with locked(output, LOCK):
        assert run(ray_cluster, *given, output).info == first.info
        output.write("_work/plan.json", b"{}")  # as if the job that made it were at its clean-up
        assert run(ray_cluster, *given, output).info == first.info
        assert output.exists("_work/plan.json")
    run(ray_cluster, *given, output)
    check_complete(output, set(FILES))


def test_the_verb_says_so_in_one_line(ray_cluster, given, output):
    keys = [f"images={given[0].uri}", f"tokenizer={given[1].uri}", f"output={output.uri}"]
    with locked(output, LOCK) as lock:
        done = here("tokenize_images", *keys)
        assert done.returncode == 2
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith(
            f"error: {output.uri} is being written to by {lock.holder.user}@{lock.holder.host}, process "
        )
        assert [entry.name for entry in output.list(include_hidden=True)] == [LOCK]
