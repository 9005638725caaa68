"""Images read with their label maps: both of a tar or a row group together, in chunks whose bytes are bounded."""

import random

import pyarrow as pa
import pytest

from seit_ray.images.decoded import Decoding
from seit_ray.images.formats import ImageError
from seit_ray.images.listing import list_images
from seit_ray.images.pairs import Pair, pair_of
from seit_ray.images.reading import read_chunks
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder, StorageError
from tests.images.made_sources import write_parquet
from tests.images.made_tars import tar_bytes

PAIRS = SourceSettings(num_classes=3)


def noise(num, size, seed=0):
    rng = random.Random(seed)
    return [rng.randbytes(size) for _ in range(num)]


@pytest.fixture
def reads(monkeypatch):
    """Bytes of each read of the files that are opened, a list a file."""
    found, open_file = [], Folder.open

    def spied(folder, name, version=None):
        counts, file = [], open_file(folder, name, version)
        found.append(counts)
        read = file.read

        class Counted:
            def read(self, size=-1):
                data = read(size)
                counts.append(len(data))
                return data

            def __getattr__(self, name):
                return getattr(file, name)

            def __enter__(self):
                return self

            def __exit__(self, *error):
                file.close()

        return Counted()

    monkeypatch.setattr(Folder, "open", spied)
    return found


def manifest_rows(source, place):
    """The rows of a source of pairs, whose bytes are no pictures."""
    manifest = list_images(source, PAIRS, Folder(place), val_fraction=0.0, seed=0)
    return manifest.read_part("train", 0)


def chunks_of(rows, source, masks=True, **decoding):
    limits = Decoding(16, "squash", masks=masks, **decoding)
    return [contents for _, contents in read_chunks(rows, source, limits)]


@pytest.mark.parametrize("rows_per_chunk", [5, 256])
def test_images_and_maps_of_a_parquet_file_are_read_together_once(tmp_path, monkeypatch, reads, rows_per_chunk):
    images, masks = noise(24, 40_000), noise(24, 20_000, seed=1)
    source = Folder(tmp_path / "s")
    write_parquet(source, "a.parquet", {"image": images, "mask": masks}, row_group_size=8)
    rows = manifest_rows(source, tmp_path / "list")
    monkeypatch.setattr("seit_ray.images.reading.CHUNK_ROWS", rows_per_chunk)
    reads.clear()
    chunks = chunks_of(rows, source)
    assert [pair for contents in chunks for pair in contents] == [
        Pair(*pair) for pair in zip(images, masks, strict=True)
    ]
    assert len(reads) == 1
    assert sum(reads[0]) < 1.3 * source.size("a.parquet")
    reads.clear()
    assert [data for contents in chunks_of(rows, source, masks=False) for data in contents] == images
    assert sum(reads[0]) < 24 * 45_000  # no maps, where nobody asks for them


def test_images_and_maps_of_a_tar_are_read_together_once(tmp_path, reads):
    images, masks = noise(20, 3000), noise(20, 500, seed=1)
    source = Folder(tmp_path / "s")
    members = [m for n in range(20) for m in ((f"{n}.jpg", images[n]), (f"{n}.seg.png", masks[n]))]
    source.write("a.tar", tar_bytes(members))
    rows = manifest_rows(source, tmp_path / "list")
    reads.clear()
    (contents,) = chunks_of(rows, source)
    assert contents == [Pair(*pair) for pair in zip(images, masks, strict=True)]
    assert [len(found) for found in reads] == [1]


def test_bytes_of_maps_bound_a_chunk_too(tmp_path, monkeypatch):
    source = Folder(tmp_path / "s")
    members = [m for n in range(6) for m in ((f"{n}.jpg", bytes(100)), (f"{n}.seg.png", bytes(900)))]
    source.write("a.tar", tar_bytes(members))
    rows = manifest_rows(source, tmp_path / "list")
    monkeypatch.setattr("seit_ray.images.reading.CHUNK_BYTES", 2048)
    limits = {"max_bytes": 1000}
    monkeypatch.setattr(Decoding, "pixel_bytes", property(lambda self: 1))
    assert [len(contents) for contents in chunks_of(rows, source, **limits)] == [2, 2, 2]
    assert [len(contents) for contents in chunks_of(rows, source, masks=False, **limits)] == [6]
    write_parquet(source, "b.parquet", {"image": [bytes(100)] * 6, "mask": [bytes(900)] * 6}, row_group_size=6)
    rows = manifest_rows(source.join("b.parquet"), tmp_path / "rows")
    assert [len(contents) for contents in chunks_of(rows, source, **limits)] == [2, 2, 2]


def test_a_row_without_a_map_says_so_and_one_without_an_image_first(tmp_path):
    source = Folder(tmp_path / "s")
    structs = [{"bytes": b"m", "path": "1.png"}, {"bytes": None, "path": "2.png"}, None, {"bytes": b"m", "path": None}]
    columns = {"image": [b"i", b"i", b"i", None], "mask": pa.array(structs)}
    write_parquet(source, "a.parquet", columns)
    one, *others = chunks_of(manifest_rows(source, tmp_path / "list"), source)[0]
    assert one == Pair(b"i", b"m")
    assert [str(other)[:30] for other in others] == [
        "no label map: no bytes in the ",
        "no label map: no bytes in the ",
        "no bytes in the Parquet row; e",
    ]


def test_a_column_of_maps_in_some_files_alone_is_one_line(tmp_path):
    source = Folder(tmp_path / "s")
    write_parquet(source, "a.parquet", {"image": [b"i"], "mask": [b"m"]})
    write_parquet(source, "b.parquet", {"image": [b"i"]})
    with pytest.raises(
        ValueError, match=r"column 'mask' in .*b.parquet; expected one of \['image'\]; .*set mask_column"
    ):
        manifest_rows(source, tmp_path / "list")


def test_what_is_wrong_with_a_map_is_told_as_such_but_not_of_the_storage():
    wrong, away = ImageError("size 9 bytes"), StorageError("no answer", "unavailable")
    assert str(pair_of(b"i", wrong)) == "label map: size 9 bytes"
    assert pair_of(b"i", away) is away
    assert pair_of(wrong, away) is wrong
    assert pair_of(b"i", b"m") == Pair(b"i", b"m")
    none = ImageError("no label map: there is no x.png")
    assert pair_of(b"i", none) is none


def test_what_names_the_map_already_is_told_as_it_is():
    wrong = ImageError("label map: address 'http://h/m.png'; expected https://")
    assert pair_of(b"image", wrong) is wrong
    assert str(pair_of(b"image", ImageError("broken"))) == "label map: broken"
