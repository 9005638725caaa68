"""What cells of tables name: label maps under the rules of images, and the versions that they have now."""

import threading
import uuid

import pytest

from seit_ray.images.records import unusable_reason
from seit_ray.images.sources.addresses import address_in_parquet
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder, StorageError
from tests.images.found import find_images

PAIRS = SourceSettings(num_classes=3)


def masks_of(source, lines, settings=PAIRS):
    """(uri of the map, or the reason why there is none, and its version) of the rows of a table."""
    source.write("list.csv", "\n".join(["uri,mask", *lines]).encode())
    records = find_images(source.join("list.csv"), settings)
    return [(unusable_reason(record.mask) or record.mask, record.mask_version) for record in records]


def test_relative_addresses_begin_at_the_table_and_absolute_ones_are_whole(tmp_path):
    source, other = Folder(tmp_path / "source"), Folder(tmp_path / "other")
    for folder in (source, other):
        folder.write("maps/1.png", b"map")
    mine, others = source.version("maps/1.png"), other.version("maps/1.png")
    assert masks_of(source, ["1.jpg,maps/1.png", "2.jpg,../other/maps/1.png", f"3.jpg,{other.uri}/maps/1.png"]) == [
        (source.uri_of("maps/1.png"), mine),
        (other.uri_of("maps/1.png"), others),
        (other.uri_of("maps/1.png"), others),
    ]


def test_a_member_of_a_tar_and_a_row_of_parquet_have_the_version_of_their_file(tmp_path):
    source = Folder(tmp_path / "source")
    source.write("a.tar", b"tar")
    source.write("b.parquet", b"parquet")
    assert masks_of(source, ["1.jpg,a.tar#512:9", "2.jpg,b.parquet#7", "3.jpg,c.tar#512:9"]) == [
        (source.uri_of("a.tar#512:9"), source.version("a.tar")),
        (source.uri_of("b.parquet#7"), source.version("b.parquet")),
        (f"no label map: there is no {source.uri_of('c.tar#512:9')}", None),
    ]
    assert address_in_parquet("/x/b.PARQUET#7:seg.mask") == ("/x/b.PARQUET", 7, "seg.mask")
    assert address_in_parquet("/x/b.parquet#7") == ("/x/b.parquet", 7, "")
    assert address_in_parquet("/x/b.parquet") is None


def test_what_is_not_there_is_a_reason_and_servers_are_not_asked(tmp_path, monkeypatch):
    source = Folder(tmp_path / "source")
    rows = ["1.jpg,gone.png", "2.jpg,https://host/2.png?x=1#part", "3.jpg,https://u:secret@host/3.png", "4.jpg, "]
    gone, there, refused, empty = masks_of(source, rows)
    assert gone == (f"no label map: there is no {source.uri_of('gone.png')}", None)
    assert there == ("https://host/2.png?x=1", None)
    assert refused[0].startswith("label map: address")
    assert "secret" not in refused[0]
    assert empty == ("no label map: its cell in column 'mask' is empty", None)


@pytest.mark.parametrize("kind", ["unavailable", "denied"])
def test_a_storage_that_does_not_answer_is_no_fault_of_a_map(tmp_path, monkeypatch, kind):
    source = Folder(tmp_path / "source")
    source.write("1.png", b"map")

    def version(self, name):
        raise StorageError("no answer", kind)

    source.write("list.csv", b"uri,mask\n1.jpg,1.png\n")
    found = find_images(source.join("list.csv"), PAIRS)
    monkeypatch.setattr("seit_ray.images.sources.tables.header_of", lambda folder, table: ["uri", "mask"])
    monkeypatch.setattr(Folder, "version", version)
    if kind == "unavailable":
        with pytest.raises(StorageError, match="no answer"):
            list(found)
    else:  # whoever reads it is told
        assert [(record.mask, record.mask_version) for record in found] == [(source.uri_of("1.png"), None)]


def test_in_a_bucket_a_map_is_asked_for_once_several_at_a_time_and_files_are_refused(s3_server, monkeypatch):
    bucket = s3_server.create_bucket(f"maps-{uuid.uuid4().hex}")
    source = Folder(f"s3://{bucket}/data", **s3_server.credentials)
    names = [f"maps/{number}.png" for number in range(6)]
    for name in names[:5]:
        source.write(name, name.encode())
    asked, threads, version = [], set(), Folder.version

    def watched(self, name):
        asked.append(name)
        threads.add(threading.current_thread().name)
        return version(self, name)

    monkeypatch.setattr(Folder, "version", watched)
    rows = [f"{name},{name}" for name in names]
    *found, file = masks_of(source, [*rows, "7.png,/etc/map.png"])
    assert [mask for mask, _ in found[:5]] == [source.uri_of(name) for name in names[:5]]
    etags = {entry.name: entry.version for entry in source.list()}
    assert [version for _, version in found[:5]] == [etags[name] for name in names[:5]]
    assert found[5] == (f"no label map: there is no {source.uri_of(names[5])}", None)
    assert file[0].startswith("label map: /etc/map.png is a file of the machine that reads it; expected an object")
    assert sorted(name for name in asked if name.endswith(".png")) == sorted(f"{n}.png" for n in range(6))
    allowed = SourceSettings(num_classes=3, allow_files=True)
    assert masks_of(source, ["7.png,/etc/map.png"], allowed) == [("/etc/map.png", None)]
