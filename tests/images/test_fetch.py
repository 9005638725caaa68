"""fetch_images from files, Parquet rows and https:// addresses, good and bad, on disk and in buckets."""

import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web

from seit_ray.images import ImageError, fetch_images
from seit_ray.storage import Folder, StorageError
from tests.https_server import running_https_server
from tests.images.found import find_images


@pytest.fixture(params=["local", "s3"])
def source(request, tmp_path):
    if request.param == "local":
        return Folder(tmp_path / "source")
    server = request.getfixturevalue("s3_server")
    return Folder(f"s3://{server.create_bucket(f'fetch-{uuid.uuid4().hex}')}/data", **server.credentials)


def picture(number):
    """Bytes that stand for an image; each differs."""
    return b"picture %d" % number * (number % 5 + 1)


def write_parquet(folder, name, images, row_group_size, struct=True):
    column = pa.array([{"bytes": image, "path": "x"} for image in images]) if struct else pa.array(images, pa.binary())
    table = pa.table({"label": list(range(len(images))), "image": column})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=row_group_size)
    folder.write(name, sink.getvalue().to_pybytes())


def pairs(found):
    return [(record.key, record.uri) for record in found]


def test_files_and_rows_in_order(source):
    for number in range(6):
        source.write(f"files/{number}.jpg", picture(number))
    write_parquet(source, "rows/a.parquet", [picture(n) for n in range(100, 110)], row_group_size=4)
    write_parquet(source, "rows/b.parquet", [picture(n) for n in range(200, 205)], row_group_size=2, struct=False)
    records = pairs(find_images(source.join("files"))) + pairs(find_images(source.join("rows")))
    expected = [picture(n) for n in [*range(6), *range(100, 110), *range(200, 205)]]
    assert fetch_images(records, source) == expected
    order = [20, 3, 7, 14, 0, 7, 19, 6]  # any order, with a repeat
    assert fetch_images([records[i] for i in order], source) == [expected[i] for i in order]
    assert fetch_images([], source) == []


def test_errors_take_the_place_of_images(source):
    source.write("good.jpg", b"good")
    source.write("large.jpg", b"x" * 101)
    write_parquet(source, "rows.parquet", [b"row", b"x" * 101, None], row_group_size=2)
    source.write("broken.parquet", b"PAR1 broken PAR1")
    names = ["missing.jpg", "good.jpg", "large.jpg", "rows.parquet#0", "rows.parquet#1", "rows.parquet#2"]
    names += ["rows.parquet#3", "gone.parquet#0", "broken.parquet#0"]
    found = fetch_images([(name, source.uri_of(name)) for name in names], source, max_bytes=100)
    assert (found.pop(3), found.pop(1)) == (b"row", b"good")
    assert all(isinstance(error, ImageError) for error in found)
    expected = ["missing.jpg does not exist", "size 101 bytes of", "size 101 bytes; expected at most 100"]
    expected += [
        "no bytes in the Parquet row",
        "has fewer rows than were listed",
        "gone.parquet does not exist",
    ]
    expected += ["broken.parquet cannot be read"]
    for error, text in zip(found, expected, strict=True):
        assert text in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize("struct", [True, False])
def test_each_row_group_is_read_once_and_others_not(tmp_path, monkeypatch, struct):
    source = Folder(tmp_path)
    images = [picture(n) for n in range(600)]
    write_parquet(source, "a.parquet", images, row_group_size=200, struct=struct)
    read = []

    class Watched(pq.ParquetFile):
        def iter_batches(self, *args, row_groups, columns, **kwargs):
            read.append((row_groups, columns))
            return super().iter_batches(*args, row_groups=row_groups, columns=columns, **kwargs)

    monkeypatch.setattr("seit_ray.images.sources.parquet_files.pq.ParquetFile", Watched)
    rows = [599, 401, 3, 402, 150, 199, 64, 63, 400]
    found = fetch_images([(str(row), f"{source.uri}/a.parquet#{row}") for row in rows], source)
    assert found == [images[row] for row in rows]
    column = "image.bytes" if struct else "image"
    assert read == [([0], [column]), ([2], [column])]


def test_a_null_image_is_an_error_of_its_own(tmp_path):
    source = Folder(tmp_path)
    table = pa.table({"image": pa.array([None, {"bytes": b"1", "path": None}, {"bytes": None, "path": "x.jpg"}])})
    pq.write_table(table, tmp_path / "a.parquet")
    first, second, third = fetch_images([("", f"{source.uri}/a.parquet#{row}") for row in range(3)], source)
    assert isinstance(first, ImageError)
    assert second == b"1"
    assert isinstance(third, ImageError)


def test_wrong_image_column_is_raised(tmp_path):
    source = Folder(tmp_path)
    write_parquet(source, "a.parquet", [b"1"], 1)
    with pytest.raises(ValueError, match=r"column 'picture' .*set image_column"):
        fetch_images([("", f"{source.uri}/a.parquet#0")], source, image_column="picture")


def test_a_storage_that_fails_is_no_fault_of_the_image(s3_server):
    bucket = s3_server.create_bucket(f"fetch-{uuid.uuid4().hex}")
    source = Folder(f"s3://{bucket}", **{**s3_server.credentials, "secret_access_key": "wrong"})
    records = [("", f"s3://{bucket}/a.jpg"), ("", f"s3://{bucket}/a.parquet#0")]
    found = fetch_images(records, source)
    for error in found:
        assert isinstance(error, StorageError)
        assert not isinstance(error, ImageError)
    assert [error.kind for error in found] == ["credentials", "denied"]  # the answer to HEAD has no code


@pytest.mark.parametrize("spans", [[range(30)], [range(10), range(10, 20), range(20, 30)]])
def test_damage_inside_a_parquet_file_costs_its_row_group(tmp_path, spans):
    """However the rows are shared out: by the file where an actor reads, by the row group where tasks do."""
    source = Folder(tmp_path)
    images = [bytes([n]) * 5000 for n in range(30)]
    write_parquet(source, "a.parquet", images, 10, struct=False)
    data = bytearray(source.read("a.parquet"))
    chunk = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(1).column(1)
    data[chunk.dictionary_page_offset or chunk.data_page_offset] ^= 0xFF
    source.write("a.parquet", bytes(data))
    found = []
    for span in spans:
        found += fetch_images([("", f"{source.uri}/a.parquet#{row}") for row in span], source)
    assert found[:10] + found[20:] == images[:10] + images[20:]
    assert all(isinstance(error, ImageError) and "cannot be read" in str(error) for error in found[10:20])


@pytest.fixture
def https(tmp_path, monkeypatch):
    """A server of https:// addresses, that is trusted."""
    folder = tmp_path / "authority"
    folder.mkdir()
    with running_https_server(folder) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.authority))
        for name in ("https_proxy", "HTTPS_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("seit_ray.storage.web.PAUSE_S", 0.01)
        yield server


def test_a_table_of_addresses(source, https):
    async def image(request):
        return web.Response(body=request.path.encode())

    async def no_entry(request):
        return web.Response(status=403)

    async def overloaded(request):
        return web.Response(status=503)

    https.answers |= {"/a.jpg": image, "/large.jpg": image, "/private.jpg": no_entry, "/busy.jpg": overloaded}
    source.write("here.jpg", b"here")
    names = ["/a.jpg", "/gone.jpg", "/private.jpg", "/busy.jpg", "/large.jpg"]
    rows = ["uri,label", "here.jpg,cat", *(f"{https.uri(name)},dog" for name in names), "https:///,dog"]
    source.write("list.csv", "\n".join(rows).encode())
    table = Folder(source.join("list.csv").uri, **{**source._options, "private_addresses": True})
    here, first, gone, private, busy, large, odd = fetch_images(pairs(find_images(table)), table, max_bytes=9)
    assert (here, first) == (b"here", b"/a.jpg")
    expected = ["does not exist (HTTP 404)", "is not public (HTTP 403)", "size 10 bytes of", "without a password"]
    for error, text in zip((gone, private, large, odd), expected, strict=True):
        assert isinstance(error, ImageError)
        assert text in str(error)
    assert isinstance(busy, StorageError)  # whoever reads has patience with it
    assert busy.kind == "unavailable"


@pytest.mark.parametrize("name", ["google_server", "azure_server"])
def test_a_table_in_a_bucket_of_any_cloud_names_no_files(request, monkeypatch, tmp_path, name):
    server = request.getfixturevalue(name)
    for variable, value in server.variables.items():
        monkeypatch.setenv(variable, value)
    folder = Folder(f"{server.scheme}://{server.create_bucket(f'tables-{uuid.uuid4().hex}')}/data")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    folder.write("a.jpg", b"a")
    folder.write("list.csv", f"uri\na.jpg\n{tmp_path}/secret.jpg\nfile://{tmp_path}/secret.jpg\n".encode())
    first, *others = fetch_images(pairs(find_images(folder.join("list.csv"))), folder)
    assert first == b"a"
    for error in others:
        assert isinstance(error, ImageError)
        assert "secret.jpg is a file of the machine that reads it; expected an object" in str(error)
