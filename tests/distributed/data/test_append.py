"""New images to a finished dataset: in new shards behind the old ones, which stay; other changes are seen and named."""

import os
import shutil

import pytest

from seit_ray.shards import TokenDataset
from seit_ray.shards.marker import MARKER
from seit_ray.storage import Folder, objects
from tests.distributed.data.jobs import Interruption, interrupt_when, run
from tests.distributed.data.oracle import check_complete, keys_of
from tests.tiny_images import contents, image_bytes, image_files, write_files, write_tokenizer

FIRST = image_files(150, classes=("dog", "emu")) | {"dog/broken.png": b"no picture"}
ADDED = image_files(70, classes=("dog", "cat", "emu"), first=500) | {"emu/broken.png": b""}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the images lie; a dataset knows the path."""
    return tmp_path_factory.mktemp("source")


@pytest.fixture(scope="module")
def finished(ray_cluster, tokenizer, place):
    """(first images, their dataset): not to be changed."""
    images, output = write_files(place / "images", FIRST), Folder(place / "finished")
    run(ray_cluster, images, tokenizer, output)
    shutil.copytree(place / "images", place / "first images")
    return place / "first images", place / "finished"


@pytest.fixture
def images(finished, place):
    """The first images, as they were."""
    shutil.rmtree(place / "images")
    shutil.copytree(finished[0], place / "images")
    return Folder(place / "images")


@pytest.fixture
def output(finished, images, tmp_path):
    """A finished dataset of the first images."""
    shutil.copytree(finished[1], tmp_path / "tokens")
    return Folder(tmp_path / "tokens")


def rows_by_key(dataset):
    """key -> (name of its class, tokens)."""
    names = dataset.info.class_names
    found = {}
    for split in dataset.info.splits:
        rows = dataset.read_split(split)
        labels = [names[label] for label in rows.meta["label"].to_pylist()]
        found |= dict(zip(rows.meta["key"].to_pylist(), zip(labels, rows.tokens.tolist(), strict=True), strict=True))
    return found


def test_added_images_go_behind_the_old_ones(ray_cluster, images, tokenizer, output, tmp_path):
    before, old = contents(output), TokenDataset(output).info
    write_files(images, ADDED)
    notes = []
    dataset = run(
        ray_cluster,
        images,
        tokenizer,
        output,
        mode="append",
        on_progress=lambda *state: notes.append((state[0], state[3])),
    )
    check_complete(output, set(FIRST) | set(ADDED))
    after = contents(output)
    kept = {name for name in before if name.split("/")[-1].startswith("shard-")}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    for name, split in old.splits.items():
        assert dataset.info.splits[name].shards[: len(split.shards)] == split.shards
        assert len(dataset.info.splits[name].shards) > len(split.shards)
    assert dataset.info.class_names == ["dog", "emu", "cat"]  # numbers that are in use stay
    assert set(keys_of(dataset)[1]) == {"dog/broken.png", "emu/broken.png"}
    assert next(note for phase, note in notes if phase == "compare").startswith(f"{len(ADDED)} added (cat/")

    at_once = run(ray_cluster, images, tokenizer, Folder(tmp_path / "at once"))
    assert rows_by_key(dataset) == rows_by_key(at_once)
    assert dataset.info.tokenizer == at_once.info.tokenizer
    assert dataset.histogram().tolist() == at_once.histogram().tolist()


def test_append_after_append_and_with_nothing_to_add(ray_cluster, images, tokenizer, output):
    listed = set(FIRST)
    for i in range(2):
        more = image_files(9, classes=("dog", "cat"), first=1000 + 9 * i)
        write_files(images, more)
        listed |= set(more)
        run(ray_cluster, images, tokenizer, output, mode="append")
        check_complete(output, listed)
    before, notes = contents(output), []
    run(ray_cluster, images, tokenizer, output, mode="append", on_progress=lambda *state: notes.append(state[3]))
    assert notes[-1] == "already complete: no images were added"
    assert contents(output) == before


def test_a_first_run_may_say_append_too(ray_cluster, images, tokenizer, output, tmp_path):
    folder = Folder(tmp_path / "anew")
    run(ray_cluster, images, tokenizer, folder, mode="append")
    assert contents(folder) == contents(output)


def test_a_rerun_without_append_leaves_new_images_alone_unless_asked_to_compare(ray_cluster, images, tokenizer, output):
    before, notes = contents(output), []
    run(ray_cluster, images, tokenizer, output, check_source=True, on_progress=lambda *state: notes.append(state[3]))
    assert notes[-1] == "already complete, of the same images"
    write_files(images, {"cat/new.png": image_bytes("cat", 9), "dog/00000.png": image_bytes("dog", 10, side=20)})
    images.delete("emu/00001.png")
    run(ray_cluster, images, tokenizer, output)
    with pytest.raises(ValueError, match="has changed since") as error:
        run(ray_cluster, images, tokenizer, output, check_source=True)
    told = "1 added (cat/new.png), 1 removed (emu/00001.png), 1 changed (dog/00000.png)"
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert contents(output) == before


def test_an_overwritten_image_of_the_same_size_is_seen(ray_cluster, images, tokenizer, output):
    path = images.uri_of("dog/00000.png")
    state = os.stat(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))
    with pytest.raises(ValueError, match=r"1 changed \(dog/00000.png\)"):
        run(ray_cluster, images, tokenizer, output, check_source=True)


def test_changed_images_are_refused_by_append_and_removed_ones_told(ray_cluster, images, tokenizer, output):
    before = contents(output)
    write_files(images, {"cat/new.png": image_bytes("cat", 9), "dog/00000.png": image_bytes("dog", 10, side=20)})
    images.delete("emu/00001.png")
    with pytest.raises(ValueError, match="expected images that are only added") as error:
        run(ray_cluster, images, tokenizer, output, mode="append")
    assert "1 changed (dog/00000.png)" in str(error.value)
    assert "tokenize.keep_changed=true" in str(error.value)
    assert contents(output) == before
    notes = []
    dataset = run(
        ray_cluster,
        images,
        tokenizer,
        output,
        mode="append",
        keep_changed=True,
        on_progress=lambda *state: notes.append(state[3]),
    )
    assert "1 added (cat/new.png), 1 removed (emu/00001.png), 1 changed (dog/00000.png)" in notes
    check_complete(output, set(FIRST) | {"cat/new.png"})  # tokens need no image any more
    assert dataset.info.splits["train"].rows + dataset.info.splits["val"].rows == 151


def test_a_rejected_image_that_was_mended_is_tried_again(ray_cluster, images, tokenizer, output):
    write_files(images, {"dog/broken.png": image_bytes("cat", 77)})
    dataset = run(ray_cluster, images, tokenizer, output, mode="append")
    check_complete(output, set(FIRST))
    assert keys_of(dataset)[1] == []
    run(ray_cluster, images, tokenizer, output, check_source=True)
    write_files(images, {"dog/broken.png": image_bytes("cat", 78, side=20)})
    with pytest.raises(ValueError, match=r"1 changed \(dog/broken.png\)"):
        run(ray_cluster, images, tokenizer, output, mode="append")


def test_other_settings_and_tokenizers_are_refused(ray_cluster, images, tokenizer, output, tmp_path):
    before = contents(output)
    write_files(images, ADDED)
    with pytest.raises(ValueError, match="encoding 'plain'"):
        run(ray_cluster, images, tokenizer, output, mode="append", encoding="compact")
    other = write_tokenizer(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match=r"expected the same .* tokenizer"):
        run(ray_cluster, images, other, output, mode="append")
    assert contents(output) == before


@pytest.mark.parametrize("moment", ["tokenise", "last part", "marker", "clean up"])
def test_a_killed_append_leaves_the_dataset_and_a_rerun_ends_it(
    ray_cluster, images, tokenizer, output, tmp_path, monkeypatch, moment
):
    undisturbed = Folder(tmp_path / "undisturbed")
    shutil.copytree(output.uri, undisturbed.uri)
    write_files(images, ADDED)
    run(ray_cluster, images, tokenizer, undisturbed, mode="append")
    old = TokenDataset(output).info

    with monkeypatch.context() as patched:
        if moment == "marker":
            write = Folder.write
            patched.setattr(
                Folder, "write", lambda self, name, data: stop() if name == MARKER else write(self, name, data)
            )
        if moment == "clean up":
            patched.setattr("seit_ray.distributed.data.tokenize_job.clean_up", stop)
        share = {"tokenise": 0.5, "last part": 0.999}.get(moment, 2)
        condition = interrupt_when(lambda phase, done, total: phase == "tokenise" and done > share * total)
        with pytest.raises(Interruption):
            run(ray_cluster, images, tokenizer, output, mode="append", on_progress=condition)
    if moment != "clean up":
        assert TokenDataset(output).info == old
        assert len(keys_of(TokenDataset(output))[0]) == len(FIRST) - 1  # as good as before
        run(ray_cluster, images, tokenizer, output)  # without append: leaves what was begun
        assert output.exists("_work/plan.json")
    notes = []
    run(ray_cluster, images, tokenizer, output, mode="append", on_progress=lambda *state: notes.append(state[3]))
    if moment in ("last part", "marker"):
        assert any(note.startswith("0 of") for note in notes)
    check_complete(output, set(FIRST) | set(ADDED))
    assert contents(output) == contents(undisturbed)


def stop(*_):
    raise Interruption


def test_an_append_that_fails_leaves_the_dataset_as_it_was(ray_cluster, images, tokenizer, output, monkeypatch):
    before = contents(output)
    write_files(images, ADDED)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("seit_ray.distributed.data.commit.read_records", full)
        with pytest.raises(OSError, match="No space"):
            run(ray_cluster, images, tokenizer, output, mode="append")
    found = contents(output)
    assert {name: found[name] for name in before} == before  # what was begun lies beside it, for the next call
    assert len(keys_of(TokenDataset(output))[0]) == len(FIRST) - 1
    run(ray_cluster, images, tokenizer, output, mode="append")
    check_complete(output, set(FIRST) | set(ADDED))


def test_a_dataset_that_does_not_say_what_it_was_made_of(ray_cluster, images, tokenizer, output):
    dataset = TokenDataset(output)
    dataset.info.source = {}
    output.write(MARKER, dataset.info.to_json())
    for settings in ({"mode": "append"}, {"check_source": True}):
        with pytest.raises(ValueError, match="does not say which images it was made of"):
            run(ray_cluster, images, tokenizer, output, **settings)
    assert not output.exists("_work/plan.json")


def test_labels_that_come_and_tables_of_numbers(ray_cluster, tokenizer, tmp_path):
    source, output = (
        write_files(tmp_path / "flat", {f"{i}.png": image_bytes("emu", i) for i in range(6)}),
        Folder(tmp_path / "tokens"),
    )
    run(ray_cluster, source, tokenizer, output)
    write_files(source, {"cat/7.png": image_bytes("cat", 7)})
    with pytest.raises(ValueError, match="has classes now"):
        run(ray_cluster, source, tokenizer, output, mode="append")

    table, numbers = Folder(tmp_path / "flat"), Folder(tmp_path / "numbers")
    table.write("list.csv", b"uri,label\n0.png,0\n1.png,2\n")
    place = Folder(table.uri_of("list.csv"))
    run(ray_cluster, place, tokenizer, numbers, val_fraction=0.0)
    table.write("list.csv", b"uri,label\n0.png,0\n1.png,2\n2.png,4\n3.png,1\n")
    dataset = run(ray_cluster, place, tokenizer, numbers, val_fraction=0.0, mode="append")
    assert dataset.info.class_names == ["0", "1", "2", "3", "4"]
    assert dataset.read_split("train").meta["label"].to_pylist() == [0, 2, 4, 1]
    assert dataset.info.splits["train"].label_counts == [1, 1, 1, 0, 1]
    table.write("list.csv", b"uri,label\n0.png,0\n1.png,1\n2.png,4\n3.png,1\n")
    with pytest.raises(ValueError, match=r"1 changed \(1.png\)"):  # another label
        run(ray_cluster, place, tokenizer, numbers, val_fraction=0.0, mode="append")


def test_append_in_a_bucket(ray_cluster, tokenizer, s3_server, monkeypatch):
    monkeypatch.setattr(objects, "SETTLE_S", 0.2)
    bucket = Folder(f"s3://{s3_server.create_bucket('append')}", **s3_server.credentials)
    images, output = write_files(bucket.join("images"), image_files(20)), bucket.join("tokens")
    run(ray_cluster, images, tokenizer, output)
    images.write("cat/00000.png", image_bytes("cat", 0))  # the same again: its ETag is the same
    run(ray_cluster, images, tokenizer, output, check_source=True)
    more = image_files(8, first=50)
    write_files(images, more)
    run(ray_cluster, images, tokenizer, output, mode="append")
    check_complete(output, set(image_files(20)) | set(more))
    images.write("dog/00001.png", image_bytes("dog", 0))
    with pytest.raises(ValueError, match=r"1 changed \(dog/00001.png\)"):
        run(ray_cluster, images, tokenizer, output, check_source=True)
