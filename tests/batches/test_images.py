"""Images that are decoded as they are needed: the same pixels however few are held, on resume, for any workers."""

import gc
import io
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from seit_ray.batches import image_shards, memory, shared
from seit_ray.batches import images as module
from seit_ray.batches.image_shards import ImageShards
from seit_ray.batches.images import ImageRows, ImageStream, ReadImages, open_images
from seit_ray.batches.sampler import rank_span
from seit_ray.evaluation.batches import eval_batches
from seit_ray.images import decode_image, reading
from seit_ray.images.decoded import Decoding
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import load_manifest
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder, StorageError
from seit_ray.training.world import World
from tests.tiny_images import image_bytes, image_files, write_files
from tests.tiny_maps import camvid_settings, write_camvid

SIZE = 12
DECODING = Decoding(SIZE, "squash")
ROW_BYTES = DECODING.pixel_bytes + 8
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """And readers that need nothing: budgets here are of some rows."""
    monkeypatch.setattr(module, "SHARD_ROWS", 10)
    monkeypatch.setattr(memory, "CHUNK_BYTES", 0)


@pytest.mark.parametrize(
    ("gib", "processes", "threads", "side", "readers"),
    [(32, 1, 16, 224, 16), (8, 1, 16, 224, 12), (32, 8, 8, 224, 6), (1, 1, 16, 224, 1), (0.25, 1, 16, 224, 1)],
)
def test_what_readers_need_is_part_of_the_memory(monkeypatch, gib, processes, threads, side, readers):
    """Two chunks of encoded images and one of pixels each, 64 MiB at most; of all processes of a node."""
    monkeypatch.setattr(memory, "CHUNK_BYTES", 64 << 20)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    budget, row_bytes = int(gib * 2**30), 3 * side * side + 8
    reader_bytes = (128 << 20) + min(64 << 20, 256 * row_bytes)
    found, held = memory.shared_out(budget, 5000, row_bytes, threads)
    assert found == readers
    assert held == max(budget - processes * readers * reader_bytes, budget // 2)
    assert held + processes * readers * reader_bytes <= budget or readers == 1
    assert memory.shared_out(budget, 3, row_bytes, threads)[0] == min(readers, 3)


def test_a_stream_holds_what_its_readers_leave(source, tmp_path, monkeypatch):
    manifest = listing_of(source, tmp_path)
    before = stream_of(manifest, source, 40)
    monkeypatch.setattr(memory, "CHUNK_BYTES", 4 * ROW_BYTES)  # a reader has 12 rows of the 40
    after = stream_of(manifest, source, 40)
    assert (before.held.rows_held, after.held.rows_held) == (40, 28)
    assert after.held.num_readers == 1


@pytest.fixture
def source(tmp_path):
    return write_files(tmp_path / "photos", {f"train/{name}": data for name, data in image_files(95).items()})


def listing_of(source, tmp_path, **settings):
    folder = Folder(tmp_path / "listing")
    more = {"val_fraction": 0.0, "seed": 0, "rows_per_part": 10}
    return list_images(source, SourceSettings(**settings), folder, **more)


def stream_of(manifest, source, rows_held, split="train", **more):
    rows = more.pop("rows", None) or ImageRows(manifest, split)
    return ImageStream(rows, source, DECODING, memory_bytes=rows_held * ROW_BYTES, **more)


def plainly(manifest, source, split="train"):
    """(pixels, labels) of a split in a plain loop."""
    tables = [manifest.read_part(split, part) for part in range(manifest.splits[split].num_parts)]
    rows = [row for table in tables for row in table.to_pylist()]
    datas = [source.read(row["uri"].removeprefix(source.uri + "/")) for row in rows]
    pixels = [decode_image(data, image_size=SIZE, resize="squash").pixels for data in datas]
    return np.stack(pixels), np.array([row["label"] for row in rows])


@pytest.mark.parametrize("rows_held", [1, 20, 45, 1000])
def test_images_are_those_of_the_listing_however_few_are_held(source, tmp_path, rows_held):
    manifest = listing_of(source, tmp_path)
    stream = stream_of(manifest, source, rows_held)
    pixels, labels = plainly(manifest, source)
    assert len(stream) == 95
    assert stream.labels.tolist() == labels.tolist()
    for rows in (np.random.default_rng(0).permutation(95), np.array([94, 0, 94]), slice(7, 33), slice(0, 0)):
        found = stream.batch(rows, CPU)
        assert found.inputs.dtype == torch.uint8
        assert np.array_equal(found.inputs.numpy(), pixels[rows])
        assert found.labels.tolist() == labels[rows].tolist()
        assert stream.held.num_held <= max(20, rows_held)


def test_all_are_shuffled_where_they_fit_and_as_many_as_half_the_memory_holds_else(source, tmp_path):
    manifest = listing_of(source, tmp_path)
    whole, half = stream_of(manifest, source, 300), stream_of(manifest, source, 40)
    assert (whole.shuffle_rows, half.shuffle_rows) == (95, 20)
    assert whole.describe() == "95 images, 0 MiB in memory"
    assert half.describe() == "95 images decoded ahead, 0 MiB of them in memory, shuffled 20 at a time"
    seen = np.concatenate([half.step_rows(8, 0, step) for step in range(12)])[:95]
    assert sorted(seen.tolist()) == list(range(95))
    again = whole.in_order(20)
    assert np.concatenate([again.step_rows(8, 0, step) for step in range(12)])[:95].tolist() == seen.tolist()


@pytest.mark.parametrize("rows_held", [40, 200])
def test_a_run_goes_on_mid_epoch_with_other_workers(source, tmp_path, rows_held):
    """Two ranks, then, from within an epoch on, three that begin anew from the listing on disk."""
    whole = stream_of(listing_of(source, tmp_path), source, rows_held)
    for world_size, steps in ((2, range(5)), (3, range(5, 9))):
        manifest = load_manifest(Folder(tmp_path / "listing"))
        ranks = [stream_of(manifest, source, rows_held) for _ in range(world_size)]
        for step in steps:
            parts = [rank_span(16, rank, world_size) for rank in range(world_size)]
            rows = [stream.step_rows(16, 0, step)[part] for stream, part in zip(ranks, parts, strict=True)]
            found = [stream.host_batch(some).inputs for stream, some in zip(ranks, rows, strict=True)]
            everyone = whole.step_rows(16, 0, step)
            assert np.concatenate(rows).tolist() == everyone.tolist()
            assert torch.equal(torch.cat(found), whole.host_batch(everyone).inputs)


def test_what_one_process_has_decoded_another_need_not(source, tmp_path, monkeypatch):
    manifest = listing_of(source, tmp_path)
    first, second = (stream_of(manifest, source, 1000) for _ in range(2))
    expected = first.host_batch(slice(0, 95)).inputs

    def never(*_, **__):
        raise AssertionError("decoded again")

    monkeypatch.setattr(ImageShards, "fill", never)
    assert torch.equal(second.host_batch(slice(0, 95)).inputs, expected)


def test_an_unreadable_image_has_the_next_of_its_shard_in_its_place(tmp_path):
    files = {f"cat/{number:02}.png": image_bytes("cat", number) for number in range(14)}
    files |= {f"dog/{number:02}.png": image_bytes("dog", number) for number in range(6)}
    lost = {"cat/03.png": b"no picture", "cat/09.png": b"", "cat/10.png": files["cat/10.png"][:50]}  # three are borne
    source = write_files(tmp_path / "photos", files | lost)
    manifest, told = listing_of(source, tmp_path), []
    stream = stream_of(manifest, source, 100, on_progress=lambda *state: told.append(state))
    found = stream.host_batch(slice(0, 20))
    keys = sorted(files)
    names = [*keys]
    names[3], names[9], names[10] = keys[4], keys[0], keys[11]  # behind the last of a shard comes its first
    expected = [decode_image(files[name], image_size=SIZE, resize="squash").pixels for name in names]
    assert np.array_equal(found.inputs.numpy(), np.stack(expected))
    assert found.labels.tolist() == [int(name.startswith("dog")) for name in names]
    notes = [note for phase, _, _, note in told if phase == "train faults"]
    assert notes[-1].startswith("3 images that cannot be read, others in their place; the last: cat/")
    assert ("decode train", 20, 20, "images") in told


def damaged_listing(tmp_path, num):
    """Of so many images, two of which are none: numbers 3 and num - 1."""
    files = {f"cat/{number:03}.png": image_bytes("cat", number) for number in range(num // 2)}
    files |= {f"dog/{number:03}.png": image_bytes("dog", number) for number in range(num // 2)}
    lost = {"cat/003.png": b"no picture", f"dog/{num // 2 - 1:03}.png": b""}
    source = write_files(tmp_path / "photos", files | lost)
    return listing_of(source, tmp_path), source


def test_figures_are_of_the_images_that_can_be_read(tmp_path):
    manifest, source = damaged_listing(tmp_path, 24)
    told = []
    stream = stream_of(manifest, source, 20, on_progress=lambda *state: told.append(state))
    read = ReadImages(stream)
    assert (len(read), read.labels.tolist()) == (24, [0] * 12 + [1] * 12)
    assert not told  # nothing is decoded before it is asked for
    whole = stream.batch(slice(0, 24), CPU)
    for rows, places in ((slice(2, 5), [0, 2]), (slice(20, 24), [0, 1, 2]), (np.array([23, 4, 3, 0]), [1, 3])):
        batch = read.batch(rows, CPU)
        numbers = np.arange(24)[rows][places]
        assert batch.places.tolist() == places
        assert torch.equal(batch.inputs, whole.inputs[numbers])
        assert batch.labels.tolist() == whole.labels[numbers].tolist()
    assert read.batch(slice(4, 23), CPU).places is None
    assert read.batch(slice(3, 4), CPU).inputs.shape == (0, 3, SIZE, SIZE)
    notes = [(done, total, note) for _, done, total, note in told if "left out" in note]
    assert notes == [(n, n, f"{n} of 24 images that cannot be read are left out of the figures") for n in (1, 2)]


def test_an_evaluation_decodes_no_image_twice(tmp_path):
    """Of chunks that end with shards, however few are held: what cannot be read is found on the way."""
    manifest, source = damaged_listing(tmp_path, 90)
    stream = stream_of(manifest, source, 20)
    read = ReadImages(stream)
    for evaluation in (1, 2):
        found = list(eval_batches(read, 10, World(device=CPU)))
        assert sum(len(batch.inputs) for _, _, batch in found) == 88
        assert stream.shards.decoded <= 90 * evaluation
    rows = np.concatenate([np.arange(90)[rows] for _, rows, _ in found])
    assert rows.tolist() == [n for n in range(90) if n not in (3, 89)]


def test_a_node_decodes_its_own_chunks_of_an_evaluation(tmp_path, monkeypatch):
    """And the shard behind each of them, which its one reader reads ahead."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    manifest, source = damaged_listing(tmp_path, 160)
    seen = []
    for rank in range(4):
        stream = stream_of(manifest, source, 400)
        found = list(eval_batches(ReadImages(stream), 10, World(rank, 4, CPU)))
        seen += [np.arange(160)[rows] for _, rows, _ in found]
        for coming in list(stream.held._coming.values()):
            coming.result()
        assert 40 <= stream.shards.decoded <= 80
    assert sorted(np.concatenate(seen).tolist()) == [n for n in range(160) if n not in (3, 159)]


def test_chunks_are_asked_for_as_slices_though_an_image_cannot_be_read(tmp_path, monkeypatch):
    """What follows a slice is read ahead; what follows numbers one by one is not."""
    manifest, source = damaged_listing(tmp_path, 24)
    stream, asked = stream_of(manifest, source, 100), []
    plain = stream.held.rows
    monkeypatch.setattr(stream.held, "rows", lambda rows, names: asked.append(rows) or plain(rows, names))
    for _ in eval_batches(ReadImages(stream), 10, World(device=CPU)):
        assert len(asked) == 3 or {*stream.held._coming, *stream.held._held} >= {len(asked)}
    assert asked == [slice(0, 10), slice(10, 20), slice(20, 24)]


def test_too_many_that_cannot_be_read(tmp_path):
    files = {f"cat/{number:03}.png": image_bytes("cat", number) for number in range(40)}
    files |= {f"cat/{10 * number:03}.png": b"no picture" for number in range(4)}
    source = write_files(tmp_path / "photos", files)
    stream = stream_of(listing_of(source, tmp_path), source, 100)
    with pytest.raises(ValueError, match=r"4 of 40 images in split 'train' of .* cannot be read, the last cat/0.0.png"):
        stream.host_batch(slice(0, 40))


def test_nothing_that_can_be_read(tmp_path):
    source = write_files(tmp_path / "photos", {f"cat/{number}.png": b"no picture" for number in range(3)})
    stream = stream_of(listing_of(source, tmp_path), source, 100)
    with pytest.raises(ValueError, match=r"none of 3 images around cat/\d.png: not an image.* can be read"):
        stream.host_batch(slice(0, 2))


def test_a_sample_is_seeded_and_kept_in_memory(source, tmp_path):
    manifest = listing_of(source, tmp_path)
    pixels, labels = plainly(manifest, source)
    streams = [
        open_images(manifest, source, DECODING, max_images=23, seed=seed, memory_gib=1.0)["train"] for seed in (0, 0, 1)
    ]
    found = [stream.host_batch(slice(0, 23)) for stream in streams]
    assert all(len(stream) == 23 for stream in streams)
    assert torch.equal(found[0].inputs, found[1].inputs)
    assert not torch.equal(found[0].inputs, found[2].inputs)
    ids = manifest.sample("train", 23, 0)["id"].to_pylist()
    assert np.array_equal(found[0].inputs.numpy(), pixels[ids])
    assert streams[0].labels.tolist() == found[0].labels.tolist() == labels[ids].tolist()
    assert len(open_images(manifest, source, DECODING, max_images=1000)["train"]) == 95


def test_splits_share_the_memory_by_their_images(tmp_path):
    files = {f"train/{name}": data for name, data in image_files(60).items()}
    files |= {f"val/{name}": data for name, data in image_files(20, first=60).items()}
    source = write_files(tmp_path / "photos", files)
    gib = 40 * ROW_BYTES / 2**30
    streams = open_images(listing_of(source, tmp_path), source, DECODING, memory_gib=gib)
    assert {name: stream.held.rows_held for name, stream in streams.items()} == {"train": 30, "val": 20}


def test_another_picture_of_the_same_name_is_not_taken_for_it(source, tmp_path):
    before = stream_of(listing_of(source, tmp_path), source, 100)
    first = before.host_batch(slice(0, 10)).inputs
    sink = io.BytesIO()
    Image.new("RGB", (9, 9), (255, 0, 0)).save(sink, "PNG")
    name = load_manifest(Folder(tmp_path / "listing")).read_part("train", 0)["uri"][0].as_py()
    source.write(name.removeprefix(source.uri + "/"), sink.getvalue())
    after = stream_of(listing_of(source, tmp_path), source, 100)
    found = after.host_batch(slice(0, 10)).inputs
    assert not torch.equal(found[0], first[0])
    assert found[0, 0].min() == 255
    assert torch.equal(found[1:], first[1:])


def test_images_have_the_keys_of_their_source(source, tmp_path):
    stream = stream_of(listing_of(source, tmp_path), source, 40)
    keys = [row["key"] for part in range(10) for row in stream.images.read(part).to_pylist()]
    assert stream.keys(np.array([94, 3, 3, 50])) == [keys[94], keys[3], keys[3], keys[50]]
    assert len(set(keys)) == 95


def test_all_threads_decode_the_first_shard_and_none_is_left_with_a_whole_one(tmp_path, monkeypatch):
    """Three threads meet within one shard of nine images, in pieces of three; the batch is that of a plain loop."""
    monkeypatch.setattr(image_shards, "PIECE_ROWS", 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    source = write_files(tmp_path / "photos", {f"train/{name}": data for name, data in image_files(9).items()})
    manifest = listing_of(source, tmp_path)
    all_three, threads, plain = threading.Barrier(3, timeout=30), set(), ImageShards.decode_piece

    def met(self, arrays, rows, contents, first):
        threads.add(threading.get_ident())
        all_three.wait()  # passes only when three work at once
        return plain(self, arrays, rows, contents, first)

    monkeypatch.setattr(ImageShards, "decode_piece", met)
    stream = stream_of(manifest, source, 100)
    assert stream.held.num_readers == 1  # there is one shard
    found = stream.host_batch(slice(0, 9))
    assert len(threads) == 3
    pixels, labels = plainly(manifest, source)
    assert np.array_equal(found.inputs.numpy(), pixels)
    assert found.labels.tolist() == labels.tolist()


def is_good(data):
    return data.startswith(b"\x89PNG")


def after(keys, key, files):
    """The next key of a shard that can be read; behind the last comes the first."""
    place = keys.index(key)
    return next(other for other in [*keys[place:], *keys] if is_good(files[other]))


@pytest.mark.parametrize(("piece_rows", "chunk_rows", "threads"), [(1, 3, 4), (3, 4, 2), (4, 256, 3), (16, 256, 1)])
def test_batches_do_not_depend_on_pieces_chunks_or_threads(tmp_path, monkeypatch, piece_rows, chunk_rows, threads):
    """Nor do stand-ins: an image that cannot be read has the same one in its place, in another piece too."""
    files = {f"train/{name}": data for name, data in image_files(27).items()}
    files["train/cat/00012.png"], files["train/dog/00025.png"] = b"", b"no picture"
    source = write_files(tmp_path / "photos", files)
    manifest = listing_of(source, tmp_path)
    parts = [[row["key"] for row in manifest.read_part("train", part).to_pylist()] for part in range(3)]
    stand_in = [key if is_good(files[key]) else after(keys, key, files) for keys in parts for key in keys]
    expected = np.stack([decode_image(files[key], image_size=SIZE, resize="squash").pixels for key in stand_in])
    monkeypatch.setattr(image_shards, "PIECE_ROWS", piece_rows)
    monkeypatch.setattr(image_shards, "PIECE_BYTES", 0)
    monkeypatch.setattr(reading, "CHUNK_ROWS", chunk_rows)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    stream = stream_of(manifest, source, 100)
    rows = np.concatenate([stream.step_rows(9, 5, step) for step in range(6)])
    found = [stream.host_batch(rows[start : start + 9]).inputs for start in range(0, 54, 9)]
    assert np.array_equal(torch.cat(found).numpy(), expected[rows])
    assert found[0].is_contiguous()


@pytest.mark.parametrize(
    ("side", "num", "threads", "expected"),
    [(224, 256, 2, 16), (32, 256, 2, 128), (32, 256, 3, 86), (32, 9, 4, 16), (64, 256, 1, 85), (4096, 1, 8, 16)],
)
def test_pieces_of_small_images_are_larger(tmp_path, side, num, threads, expected):
    shards = ImageShards(None, "train", num, Folder(tmp_path), Decoding(side, "squash"), num_threads=threads)
    assert shards.piece_rows(num) == expected


def test_few_files_wait_to_be_decoded(tmp_path, monkeypatch):
    """Of a shard two chunks of files are in memory: a third is read when the first is decoded."""
    monkeypatch.setattr(image_shards, "PIECE_ROWS", 2)
    source = write_files(tmp_path / "photos", {f"train/{name}": data for name, data in image_files(10).items()})
    manifest, state, plain = (
        listing_of(source, tmp_path),
        {"read": 0, "decoded": 0, "most": 0},
        ImageShards.decode_piece,
    )
    plain_chunks = image_shards.read_chunks

    def watched(*arguments):
        for chunk in plain_chunks(*arguments):
            state["read"] += 1
            state["most"] = max(state["most"], state["read"] - state["decoded"])
            yield chunk

    def meanwhile(self, *arguments):
        while state["read"] < min(5, state["decoded"] + 2):  # the next chunk is read while this one is decoded
            time.sleep(0.001)
        lost = plain(self, *arguments)
        state["decoded"] += 1
        return lost

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(reading, "CHUNK_ROWS", 2)
    monkeypatch.setattr(image_shards, "read_chunks", watched)
    monkeypatch.setattr(ImageShards, "decode_piece", meanwhile)
    stream_of(manifest, source, 100).host_batch(slice(0, 10))
    assert state == {"read": 5, "decoded": 5, "most": 2}


def test_a_storage_that_fails_ends_the_shard_which_may_be_read_again(source, tmp_path, monkeypatch):
    stream, plain = stream_of(listing_of(source, tmp_path), source, 1000), image_shards.read_chunks
    monkeypatch.setattr(image_shards, "PIECE_ROWS", 2)

    def failing(*arguments):
        for rows, contents in plain(*arguments):
            yield rows, [*contents[:5], StorageError("away", "unavailable"), *contents[6:]]

    with monkeypatch.context() as patch:
        patch.setattr(image_shards, "read_chunks", failing)
        with pytest.raises(StorageError, match="away"):
            stream.host_batch(slice(0, 10))
    pixels, _ = plainly(stream.images.manifest, source)
    assert np.array_equal(stream.host_batch(slice(0, 10)).inputs.numpy(), pixels[:10])


def test_what_a_node_shares_goes_with_the_stream(source, tmp_path, monkeypatch):
    """At once, not when Python next looks for what refers to itself."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(shared, "MEMORY", tmp_path / "memory")
    (tmp_path / "memory").mkdir()
    shared._SEEN.clear()
    stream = stream_of(listing_of(source, tmp_path), source, 1000)
    for step in range(3):
        stream.host_batch(stream.step_rows(95, 0, step))
    assert list((tmp_path / "memory").rglob("*.data"))
    gc.disable()
    try:
        stream.close()
        del stream
        for _ in range(100):  # until its threads have ended
            if not (left := list((tmp_path / "memory").rglob("*.data"))):
                break
            time.sleep(0.05)
        assert not left
    finally:
        gc.enable()


def test_pixels_that_processes_share_are_called_by_the_versions_of_their_maps_too(tmp_path):
    """A job whose listing is older reads another map under the same name."""
    images = write_camvid(tmp_path / "scenes", {"train": 2})
    decoding, names = Decoding(SIZE, "squash", masks=True), []
    for number in range(3):
        manifest = list_images(images, camvid_settings(), Folder(tmp_path / f"{number}"), val_fraction=0.0, seed=0)
        names.append(image_shards.key_of(manifest.read_part("train", 0), decoding))
        if number == 1:
            images.write("train/masks/0001.png", images.read("train/masks/0000.png"))
    assert names[0] == names[1] != names[2]
