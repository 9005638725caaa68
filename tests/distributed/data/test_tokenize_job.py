"""The tokenising job on a local ray: nothing lost, nothing twice, the same bytes whatever happens on the way."""

import contextlib
import math
import os
import shutil

import pyarrow.parquet as pq
import pytest
import torch

from seit_ray.images import decode_image
from seit_ray.shards.parts import list_parts
from seit_ray.shards.verify import verify
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from tests.distributed.data.jobs import SETTINGS, Interruption, interrupt_when, run
from tests.tiny_images import contents, image_bytes, image_files, write_files, write_tokenizer

NUM_CODES = 300  # more than a byte holds
CLASSES = ("cat", "dog")
GOOD = image_files(290) | {
    "cat/größe und 猫.png": image_bytes("cat", 1001),
    "dog/two words.png": image_bytes("dog", 1002),
    "dog/grey.webp": image_bytes("dog", 1003, side=40, format="WEBP"),
}
TRUNCATED = image_bytes("cat", 1004, side=64, format="JPEG")
BAD = {
    "cat/cut off.jpg": TRUNCATED[: len(TRUNCATED) // 2],
    "cat/empty.png": b"",
    "dog/text.jpg": b"this is no picture",
}
REASONS = {
    "cat/cut off.jpg": "truncated: ",
    "cat/empty.png": "empty: 0 bytes",
    "dog/text.jpg": "not an image: ",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("images"), GOOD | BAD)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), num_codes=NUM_CODES)


@pytest.fixture(scope="module")
def undisturbed(ray_cluster, images, tokenizer, tmp_path_factory):
    """The dataset of all images, made in one go."""
    return run(ray_cluster, images, tokenizer, Folder(tmp_path_factory.mktemp("undisturbed")))


@pytest.fixture
def output(tmp_path):
    return Folder(tmp_path / "tokens")


def plain_tokens(files, tokenizer, **options):
    """Tokens [N,L] of encoded images in a plain loop in this process."""
    encoder, _ = load_tokenizer(tokenizer)
    size = encoder.image_size
    return [
        encoder.encode(torch.from_numpy(decode_image(data, image_size=size, **options).pixels)[None])[0].tolist()
        for data in files
    ]


def all_rows(dataset):
    """(key, label, tokens) of every split's rows, in order."""
    rows = [dataset.read_split(name) for name in dataset.info.splits]
    return [
        (key, label, tokens)
        for part in rows
        for key, label, tokens in zip(
            part.meta["key"].to_pylist(), part.meta["label"].to_pylist(), part.tokens.tolist(), strict=True
        )
    ]


def snapshot(folder, *, include_hidden=True):
    """name -> (inode, time of change) of the files on disk: tells a file that was written again."""
    states = {}
    for entry in folder.list(include_hidden=include_hidden):
        with contextlib.suppress(FileNotFoundError):  # an actor of an interrupted job ends its part, and its attempt
            states[entry.name] = os.stat(folder.uri_of(entry.name))
    return {name: (state.st_ino, state.st_mtime_ns) for name, state in states.items()}


def test_every_image_is_written_or_rejected(undisturbed):
    splits = undisturbed.info.splits
    assert set(splits) == {"train", "val"}
    assert all(s.listed == s.rows + s.rejected for s in splits.values())
    assert sum(s.listed for s in splits.values()) == len(GOOD) + len(BAD)
    assert sorted(key for key, _, _ in all_rows(undisturbed)) == sorted(GOOD)
    assert 0.1 < splits["val"].listed / (len(GOOD) + len(BAD)) < 0.3
    assert sum(s.source_bytes for s in splits.values()) == sum(map(len, GOOD.values()))
    assert verify(undisturbed) == []


def test_every_reject_has_its_reason(undisturbed):
    rejected = [row for split in undisturbed.info.splits for row in undisturbed.rejected(split).to_pylist()]
    assert {row["key"] for row in rejected} == set(BAD)
    for row in rejected:
        assert row["reason"].startswith(REASONS[row["key"]])
        assert "0x" not in row["reason"]


def test_tokens_and_labels_are_those_of_a_plain_loop(undisturbed, tokenizer):
    rows = all_rows(undisturbed)
    assert [tokens for _, _, tokens in rows] == plain_tokens([GOOD[key] for key, _, _ in rows], tokenizer)
    assert [label for _, label, _ in rows] == [CLASSES.index(key.partition("/")[0]) for key, _, _ in rows]
    assert undisturbed.info.class_names == list(CLASSES)
    assert max(max(tokens) for _, _, tokens in rows) > 255


def test_rows_are_in_the_order_of_keys_and_each_part_is_a_shard(undisturbed):
    for name, split in undisturbed.info.splits.items():
        keys = undisturbed.read_split(name).meta["key"].to_pylist()
        assert keys == sorted(keys, key=str.encode)
        rejected = {file.name.removeprefix("rejected-"): file.rows for file in split.rejects}
        *full, last = [shard.rows + rejected.get(shard.name.removeprefix("shard-"), 0) for shard in split.shards]
        assert set(full) == {SETTINGS["rows_per_shard"]}
        assert 0 < last <= SETTINGS["rows_per_shard"]
        for shard in split.shards:  # as any Parquet reader sees it
            assert pq.read_metadata(undisturbed.folder.uri_of(f"{name}/{shard.name}")).num_rows == shard.rows
    assert len(undisturbed.info.splits["train"].shards) > 2


def test_nothing_but_the_dataset_is_left(undisturbed):
    splits = undisturbed.info.splits.items()
    shards = {f"{name}/{shard.name}" for name, split in splits for shard in split.shards}
    rejected = {f"{name}/{file.name}" for name, split in splits for file in split.rejects}
    assert 0 < len(rejected) <= len(BAD)
    found = set(contents(undisturbed.folder))
    sources = {f"_source/{shard.replace('shard', 'part')}" for shard in shards}
    kept = {name for name in found if not name.startswith("tokenizer/")}
    assert shards | rejected | sources | {"dataset.json"} == kept


def test_a_rerun_changes_nothing(ray_cluster, undisturbed, images, tokenizer):
    before = snapshot(undisturbed.folder)
    progress = []
    again = run(ray_cluster, images, tokenizer, undisturbed.folder, on_progress=lambda *state: progress.append(state))
    assert again.info == undisturbed.info
    assert snapshot(undisturbed.folder) == before
    assert progress == [("tokenise", 1, 1, "already complete")]


def test_a_finished_dataset_without_one_of_its_files_is_not_complete(
    ray_cluster, undisturbed, images, tokenizer, output
):
    for name, data in contents(undisturbed.folder).items():
        output.write(name, data)
    for name in ("train/shard-00003.parquet", f"train/{undisturbed.info.splits['train'].rejects[0].name}"):
        data = output.read(name)
        output.delete(name)
        with pytest.raises(ValueError, match=rf"{name} is missing, or has another size"):
            run(ray_cluster, images, tokenizer, output)
        output.write(name, data)
    run(ray_cluster, images, tokenizer, output)


def test_another_tokenizer_is_refused(ray_cluster, undisturbed, images, tmp_path):
    other = write_tokenizer(tmp_path / "other", seed=1, num_codes=NUM_CODES)
    before = snapshot(undisturbed.folder)
    fingerprint = load_tokenizer(other)[1]["fingerprint"]
    with pytest.raises(ValueError, match=r"expected the same .* tokenizer") as error:
        run(ray_cluster, images, other, undisturbed.folder)
    assert f"tokenizer '{undisturbed.info.tokenizer}' (now '{fingerprint}')" in str(error.value)
    assert undisturbed.folder.uri in str(error.value)
    assert snapshot(undisturbed.folder) == before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rows_per_shard": 50}, "rows_per_shard 16 (now 50)"),
        ({"val_fraction": 0.5}, "val_fraction 0.2 (now 0.5)"),
        ({"decode": "fast"}, "decode 'exact' (now 'fast')"),
        ({"encoding": "compact", "seed": 3}, "seed 0 (now 3), encoding 'plain' (now 'compact')"),
    ],
)
def test_other_settings_are_refused(ray_cluster, undisturbed, images, tokenizer, settings, words):
    with pytest.raises(ValueError, match="expected the same images") as error:
        run(ray_cluster, images, tokenizer, undisturbed.folder, **settings)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_other_images_are_refused(ray_cluster, undisturbed, tokenizer, tmp_path):
    other = write_files(tmp_path / "images", image_files(2))
    with pytest.raises(ValueError, match="expected the same images") as error:
        run(ray_cluster, other, tokenizer, undisturbed.folder)
    assert f"images {undisturbed.info.plan['images']!r} (now {other.uri!r})" in str(error.value)


def test_batches_and_actors_do_not_show_in_the_result(ray_cluster, undisturbed, images, tokenizer, output):
    run(ray_cluster, images, tokenizer, output, batch_size=7, num_actors=2)
    assert contents(output) == contents(undisturbed.folder)


def test_too_many_rejects_end_the_job_and_a_larger_share_finishes_it(
    ray_cluster, undisturbed, images, tokenizer, output
):
    with pytest.raises(ValueError, match="could not be read") as error:
        run(ray_cluster, images, tokenizer, output, max_reject_fraction=0.001)
    count, _, rest = str(error.value).partition(" of ")
    assert 1 <= int(count) <= len(BAD)
    assert rest.startswith(f"{len(GOOD) + len(BAD)} images could not be read (the last: ")
    assert "; expected at most 0.1%" in rest
    assert "tokenize.max_reject_fraction" in rest
    assert not output.exists("dataset.json")
    run(ray_cluster, images, tokenizer, output, max_reject_fraction=0.02)
    assert contents(output) == contents(undisturbed.folder)


def test_interrupted_at_half(ray_cluster, undisturbed, images, tokenizer, output):
    with pytest.raises(Interruption):
        run(
            ray_cluster,
            images,
            tokenizer,
            output,
            on_progress=interrupt_when(lambda phase, done, total: phase == "tokenise" and done > total / 2),
        )
    made = list_parts(output.join("_work", "records"))
    shards = {f"{part.split}/shard-{part.index:05}.parquet" for some in made.values() for part in some.values()}
    assert len(shards) > 5
    before, first_notes = snapshot(output), []
    run(ray_cluster, images, tokenizer, output, on_progress=lambda *state: first_notes.append(state[3]))
    after = snapshot(output)
    assert {name: after[name] for name in shards} == {name: before[name] for name in shards}  # not made again
    parts = sum(len(split.shards) for split in undisturbed.info.splits.values())
    todo = int(first_notes[0].partition(" of ")[0])
    assert first_notes[0] == f"{todo} of {parts} parts to do"
    assert todo <= parts - len(shards)
    assert contents(output) == contents(undisturbed.folder)


def test_interrupted_between_shards_and_marker(ray_cluster, undisturbed, images, tokenizer, output, monkeypatch):
    with pytest.raises(Interruption):
        run(
            ray_cluster,
            images,
            tokenizer,
            output,
            on_progress=interrupt_when(lambda phase, done, total: phase == "tokenise" and done == total),
        )
    assert output.exists("train/shard-00000.parquet")
    assert not output.exists("dataset.json")
    phases = []
    with monkeypatch.context() as patched:  # and then between the marker and the clean-up
        patched.setattr(Folder, "delete_tree", interrupted)
        with pytest.raises(Interruption):
            run(ray_cluster, images, tokenizer, output, on_progress=lambda *state: phases.append(state))
    assert output.exists("dataset.json")
    assert output.exists("_work/plan.json")
    assert "0 of " in phases[0][3]  # no image was decoded again
    run(ray_cluster, images, tokenizer, output)
    assert contents(output) == contents(undisturbed.folder)


def interrupted(*_):
    """In the place of a function: the driver ends here."""
    raise Interruption


def test_empty_folder_and_missing_folder(ray_cluster, tokenizer, tmp_path, output):
    (tmp_path / "empty").mkdir()
    for name, words in (("empty", "no files"), ("missing", "does not exist")):
        source = Folder(tmp_path / name)
        with pytest.raises(ValueError, match=words) as error:
            run(ray_cluster, source, tokenizer, output)
        assert source.uri in str(error.value)
        assert "\n" not in str(error.value)


def test_a_source_without_images_leaves_nothing_behind(ray_cluster, tokenizer, tmp_path, output):
    source = Folder(tmp_path / "images")
    source.write("notes.txt", b"no images yet")
    for _ in range(2):  # the second time like the first: not a finished dataset of nothing
        with pytest.raises(ValueError, match="no images in"):
            run(ray_cluster, source, tokenizer, output, {"kind": "flat"})
    assert contents(output) == {}
    write_files(source, image_files(12))
    dataset = run(ray_cluster, source, tokenizer, output, {"kind": "folders"}, val_fraction=0.0)
    assert dataset.info.splits["train"].rows == 12


def test_a_table_with_splits_and_large_images(ray_cluster, tokenizer, tmp_path, output):
    files = {f"{name}.png": image_bytes(name, i, side=16 + 8 * i) for i, name in enumerate(["cat", "dog", "emu"])}
    source = write_files(tmp_path / "images", files)
    source.write(
        "list.csv",
        b"uri,species,part\ncat.png,feline,train\ndog.png,feline,validation\nemu.png,bird,train\n",
    )
    dataset = run(
        ray_cluster,
        Folder(source.uri_of("list.csv")),
        tokenizer,
        output,
        {"label_column": "species", "split_column": "part"},
        max_image_pixels=24 * 24,
        max_reject_fraction=0.5,
        encoding="plain",
    )
    assert dataset.info.class_names == ["bird", "feline"]
    assert {name: (s.listed, s.rows, s.rejected) for name, s in dataset.info.splits.items()} == {
        "train": (2, 1, 1),
        "val": (1, 1, 0),
    }
    assert dataset.rejected("train").to_pylist() == [
        {"key": "emu.png", "reason": "32x32 pixels; expected at most 576; raise max_image_pixels"}
    ]
    expected = plain_tokens([files["cat.png"], files["dog.png"]], tokenizer)
    assert all_rows(dataset) == [("cat.png", 1, expected[0]), ("dog.png", 1, expected[1])]
    assert pq.read_table(output.uri_of("val/shard-00000.parquet"))["tokens"].to_pylist() == [expected[1]]


@pytest.mark.parametrize("layout", ["bytes", "hugging face"])
def test_parquet_with_images(ray_cluster, tokenizer, tmp_path, output, layout):
    import pyarrow as pa

    pictures = [image_bytes(label, i) for i, label in enumerate(["cat", "dog"] * 10)]
    if layout == "bytes":
        columns = {"image": pictures, "label": [f"class {i % 2}" for i in range(20)]}
        names = ["class 0", "class 1"]
    else:
        columns = {
            "image": [{"bytes": p, "path": None} for p in pictures],
            "label": [i % 2 for i in range(20)],
        }
        names = ["0", "1"]
    source = Folder(tmp_path / "images")
    for part, split in enumerate(("train", "test")):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns).slice(part * 12, 12), sink, row_group_size=5)
        source.write(f"{split}-00000-of-00001.parquet", sink.getvalue().to_pybytes())
    dataset = run(ray_cluster, source, tokenizer, output, rows_per_shard=4)
    assert dataset.info.class_names == names
    assert {name: s.rows for name, s in dataset.info.splits.items()} == {"train": 12, "val": 8}
    expected = plain_tokens(pictures, tokenizer)
    order = [("train", i, i) for i in range(12)] + [("test", i, i + 12) for i in range(8)]
    assert all_rows(dataset) == [(f"{split}.parquet#{row}", i % 2, expected[i]) for split, row, i in order]
    assert verify(dataset) == []


def test_shards_of_so_many_bytes(ray_cluster, tokenizer, tmp_path, output):
    files = {f"{i}.png": image_bytes("emu", i) for i in range(9)}
    source = write_files(tmp_path / "images", files)
    shard_mib = 4.5 * math.prod(load_tokenizer(tokenizer)[0].grid) * math.log2(NUM_CODES) / 8 / 2**20
    with pytest.raises(ValueError, match=r"shard_mib .* beside rows_per_shard 16; expected one"):
        run(ray_cluster, source, tokenizer, output, val_fraction=0.0, shard_mib=shard_mib)
    dataset = run(ray_cluster, source, tokenizer, output, val_fraction=0.0, shard_mib=shard_mib, rows_per_shard=None)
    assert [shard.rows for shard in dataset.info.splits["train"].shards] == [4, 4, 1]
    with pytest.raises(ValueError, match=r"rows_per_shard 4 \(now 9\)"):
        run(ray_cluster, source, tokenizer, output, val_fraction=0.0, shard_mib=2.2 * shard_mib, rows_per_shard=None)


def test_images_that_moved(ray_cluster, tokenizer, tmp_path, output):
    files = {f"cat/{i}.png": image_bytes("emu", i) for i in range(9)}
    source = write_files(tmp_path / "images", files)
    run(ray_cluster, source, tokenizer, output)
    moved = Folder(shutil.copytree(tmp_path / "images", tmp_path / "mounted elsewhere"))  # copies keep their times
    moved.write("cat/9.png", image_bytes("emu", 9))
    with pytest.raises(ValueError, match="expected the same images"):
        run(ray_cluster, moved, tokenizer, output, mode="append")
    dataset = run(ray_cluster, moved, tokenizer, output, mode="append", moved_from=source.uri)
    assert sorted(row[0] for row in all_rows(dataset)) == [f"cat/{i}.png" for i in range(10)]
    run(ray_cluster, source, tokenizer, output, check_source=False)  # the plan still names the first place


def test_a_listing_of_another_place_is_not_gone_on_with(ray_cluster, tokenizer, tmp_path, output):
    files = {f"cat/{i}.png": image_bytes("emu", i) for i in range(3)}
    source = write_files(tmp_path / "images", files)
    with pytest.raises(Interruption):
        run(ray_cluster, source, tokenizer, output, on_progress=interrupt_when(lambda phase, *_: phase == "tokenise"))
    moved = Folder(shutil.copytree(tmp_path / "images", tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match="is not finished, and its listing names images in"):
        run(ray_cluster, moved, tokenizer, output, moved_from=source.uri)
    assert len(all_rows(run(ray_cluster, source, tokenizer, output))) == 3


def test_images_without_labels(ray_cluster, tokenizer, tmp_path, output):
    files = {f"{i}.png": image_bytes("emu", i) for i in range(9)}
    dataset = run(ray_cluster, write_files(tmp_path / "images", files), tokenizer, output, val_fraction=0.0)
    assert dataset.info.class_names is None
    assert all_rows(dataset) == [
        (name, None, tokens) for name, tokens in zip(files, plain_tokens(files.values(), tokenizer), strict=True)
    ]
    assert verify(dataset) == []


def test_what_was_left_out_is_kept_with_the_dataset(ray_cluster, tokenizer, tmp_path, output):
    files = image_files(4, classes=("cat",)) | {"cat/a.heic": b"", "notes.txt": b""}
    dataset = run(ray_cluster, write_files(tmp_path / "images", files), tokenizer, output)
    assert dataset.info.left_out == {".heic": 1, ".txt": 1}
    assert dataset.info.notes == ["one class in all, 'cat': if it is none, point at the folder of the class folders"]
