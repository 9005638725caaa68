"""find_images on CSV and Parquet tables, and on images inside Parquet."""

import re

import pyarrow as pa
import pytest

from seit_ray.images.records import unusable_reason
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder
from tests.images.found import ImageRecord, find_images
from tests.images.made_sources import fill, listed, write_parquet


@pytest.fixture
def source(tmp_path):
    return Folder(tmp_path / "source")


def csv_source(source, text, name="list.csv"):
    source.write(name, text if isinstance(text, bytes) else text.encode())
    return source.join(name)


def test_csv(source):
    table = csv_source(
        source,
        "\ufeffid,uri,label,split\r\n"
        '1,"images/a, b.jpg",cat,train\r\n'
        "\r\n"
        "2,/abs/c.jpg,,validation\r\n"
        "3,s3://bucket/d.jpg,dog,\r\n"
        "4,images/../e.jpg,cat,extra\r\n",
    )
    found = find_images(table)
    assert found.kind == "table"
    assert list(found) == [
        ImageRecord("images/a, b.jpg", f"{source.uri}/images/a, b.jpg", "cat", "train", None),
        ImageRecord("/abs/c.jpg", "/abs/c.jpg", None, "val", None),
        ImageRecord("s3://bucket/d.jpg", "s3://bucket/d.jpg", "dog", None, None),
        ImageRecord("e.jpg", f"{source.uri}/e.jpg", "cat", "extra", None),
    ]


def test_https_addresses(source):
    rows = [
        "https://host/a b.jpg?x=1#part",
        "HTTPS://host/c.parquet#3",
        "https://u:secret@host/d.jpg",
        "https:///e.jpg",
    ]
    table = csv_source(source, "\n".join(["uri", *rows]))
    first, second, *others = find_images(table)
    assert (first.key, first.uri) == ("https://host/a b.jpg?x=1", "https://host/a b.jpg?x=1")
    assert second.uri == "https://host/c.parquet"  # no row of a Parquet file: what stands behind # is not sent
    for other in others:  # the fault of that image alone
        assert "expected https://HOST/PATH without a password" in unusable_reason(other.uri)
        assert "secret" not in other.uri


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://x/a.jpg", "address 'http://x/a.jpg'; expected https://HOST/PATH, s3://.*; write https://, if"),
        ("HTTP://u:secret@x/a.jpg?t=secret", r"address 'http://\.\.\.@x/a.jpg\?\.\.\.'; expected https://HOST/PATH"),
        ("ftp://x/a.jpg", "address 'ftp://x/a.jpg'; expected https://HOST/PATH, s3://.*; correct it"),
        ("s3://", "expected s3://"),
        ("az://data@account/a.jpg", "expected az://CONTAINER/PATH; name the account"),
    ],
)
def test_an_address_that_is_none_costs_its_image_alone(source, address, reason):
    good, bad = find_images(csv_source(source, f"uri,label\nhttps://x/b.jpg,cat\n{address},dog\n"))
    assert (good.uri, good.label) == ("https://x/b.jpg", "cat")
    assert re.search(reason, unusable_reason(bad.uri) or "")
    assert bad.label == "dog"
    assert "secret" not in bad.uri


def test_csv_keys_are_unique_when_uris_repeat(source):
    found = find_images(csv_source(source, "uri\na.jpg\na.jpg\n"))
    assert [record.key for record in found] == ["a.jpg", "a.jpg#2"]


def test_csv_labels_that_are_integers(source):
    found = find_images(csv_source(source, "uri,label\na,7\nb,-1\nc,07\nd,1.5\ne,x\nf, 12 \n"))
    assert [record.label for record in found] == [7, -1, "07", "1.5", "x", 12]


def test_columns_by_name(source):
    table = csv_source(source, "path,class,fold\na.jpg,cat,train\n")
    found = find_images(table, SourceSettings(uri_column="path", label_column="class", split_column="fold"))
    assert listed(found) == [("a.jpg", "cat", "train")]


@pytest.mark.parametrize(
    ("header", "settings", "text"),
    [
        (
            "url,label",
            {},
            r"column 'uri' in \S+list.csv; expected one of \['label', 'url'\]; perhaps 'url': set uri_col",
        ),
        ("uri,klass", {"label_column": "class"}, "column 'class' .*perhaps 'klass': set label_column"),
        ("uri,label", {"split_column": "fold"}, r"column 'fold' .*\['label', 'uri'\]; set split_column"),
        ("", {}, r"column 'uri' .*expected one of \[\]"),
    ],
)
def test_missing_columns_are_named_at_once(source, header, settings, text):
    table = csv_source(source, header + "\na,b\n")
    with pytest.raises(ValueError, match=text):
        find_images(table, SourceSettings(**settings))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"uri,label\na.jpg\n", "line 2 of .* has 1 fields; expected 2"),
        (b"uri,label\na.jpg,cat,dog\n", "line 2 of .* has 3 fields; expected 2 .*quote"),
        (b"uri,label\na.jpg,x\n,cat\n", "uri '' in line 3 of .*; expected a uri"),
        (b"uri,label\ncaf\xe9.jpg,x\n", "cannot be read .*utf-8.*; expected CSV in UTF-8"),
        (b"uri\n" + b"x" * 200_000, "cannot be read .*field larger"),
    ],
)
def test_bad_rows_name_the_line(source, text, message):
    with pytest.raises(ValueError, match=message):
        list(find_images(csv_source(source, text)))


def test_parquet_table(source):
    columns = {"uri": ["a.jpg", "b.jpg", "c.jpg"], "label": pa.array(["x", "y", None]).dictionary_encode()}
    write_parquet(source, "t.parquet", {**columns, "split": ["train", "valid", None]})
    found = find_images(source.join("t.parquet"))
    assert found.kind == "table"
    assert listed(found) == [("a.jpg", "x", "train"), ("b.jpg", "y", "val"), ("c.jpg", None, None)]


def test_parquet_table_with_null_uri(source):
    write_parquet(source, "t.parquet", {"uri": ["a.jpg", None]})
    with pytest.raises(ValueError, match="uri None in row 1"):
        list(find_images(source.join("t.parquet")))


def test_parquet_folder_with_splits_by_name(source):
    for name, rows in (
        ("data/train-00000-of-00002", 3),
        ("data/train-00001-of-00002", 1),
        ("data/test-00000-of-00001", 1),
    ):
        write_parquet(source, f"{name}.parquet", {"image": [b"i"] * rows, "label": list(range(rows))})
    fill(source, "README.md")
    found = find_images(source)
    assert found.kind == "parquet"
    assert list(found)[-1] == ImageRecord(
        "data/train.parquet#3",
        f"{source.uri}/data/train-00001-of-00002.parquet#0",
        0,
        "train",
        None,
        {entry.name: entry.modified for entry in source.list()}["data/train-00001-of-00002.parquet"],
    )
    assert listed(find_images(source)) == [
        ("data/test.parquet#0", 0, "val"),
        ("data/train.parquet#0", 0, "train"),
        ("data/train.parquet#1", 1, "train"),
        ("data/train.parquet#2", 2, "train"),
        ("data/train.parquet#3", 0, "train"),
    ]


def test_parquet_folder_with_splits_by_folder(source):
    write_parquet(source, "train/a.parquet", {"image": [b"i"], "label": ["cat"]})
    write_parquet(source, "val/a.parquet", {"image": [b"i"], "label": ["dog"]})
    assert listed(find_images(source)) == [
        ("train/a.parquet#0", "cat", "train"),
        ("val/a.parquet#0", "dog", "val"),
    ]


def test_parquet_without_splits_or_labels_reads_no_columns(source):
    write_parquet(source, "part.parquet", {"image": [b"i"] * 5})
    assert listed(find_images(source)) == [(f"part.parquet#{row}", None, None) for row in range(5)]


def test_parquet_split_column(source):
    write_parquet(source, "part.parquet", {"image": [b"i"] * 2, "split": ["train", "validation"]})
    assert [split for _, _, split in listed(find_images(source))] == ["train", "val"]


CLASS_LABEL = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}


def test_hugging_face_names_and_unlabelled(source):
    image = pa.array([{"bytes": b"i", "path": "x.jpg"}] * 3)
    write_parquet(source, "train-0.parquet", {"image": image, "label": [1, 0, -1]}, CLASS_LABEL)
    for where in (source, source.join("train-0.parquet")):
        found = find_images(where)
        assert found.class_names == ["cat", "dog"]
        assert [record.label for record in found] == [1, 0, None]


def test_hugging_face_names_must_agree(source):
    other = {"label": {"_type": "ClassLabel", "names": ["dog", "cat"]}}
    write_parquet(source, "a.parquet", {"image": [b"i"], "label": [1]}, CLASS_LABEL)
    write_parquet(source, "b.parquet", {"image": [b"i"], "label": [1]}, other)
    with pytest.raises(ValueError, match=r"class names in \S+b.parquet differ"):
        list(find_images(source))


def test_other_hugging_face_features_are_no_names(source):
    features = {"label": {"_type": "Value", "dtype": "int64"}}
    write_parquet(source, "a.parquet", {"image": [b"i"], "label": [1]}, features)
    assert find_images(source).class_names is None


def test_parquet_label_of_another_type(source):
    write_parquet(source, "a.parquet", {"image": [b"i"], "label": [0.5]})
    with pytest.raises(ValueError, match=r"label of type float in row 0 of \S+a.parquet; expected an integer"):
        list(find_images(source))


def test_parquet_without_image_column(source):
    write_parquet(source, "a.parquet", {"img": [b"i"], "label": [1]})
    with pytest.raises(ValueError, match=r"column 'image' .*\['img', 'label'\]; perhaps 'img': set image_column"):
        find_images(source)
    assert listed(find_images(source, SourceSettings(image_column="img"))) == [("a.parquet#0", 1, None)]


def test_broken_parquet(source):
    source.write("a.parquet", b"PAR1 no PAR1")
    with pytest.raises(ValueError, match=r"a.parquet cannot be read \(.*\); expected a Parquet file; write it again"):
        find_images(source)
