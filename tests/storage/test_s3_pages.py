"""Objects of a page, read as the client reads them."""

from types import SimpleNamespace

import botocore.session
import pytest
from botocore.parsers import create_parser
from botocore.utils import parse_timestamp

from seit_ray.storage import StorageError
from seit_ray.storage.entry import Entry
from seit_ray.storage.s3 import S3
from seit_ray.storage.s3_pages import (
    EVENT,
    OBJECTS,
    aligned_columns,
    matched_columns,
    moment_of,
    moment_texts,
    plain_columns,
    read_objects,
)

SPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
OBJECT_LIST = """
<Contents><Key>a%20b/1.jpg</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;00ff&quot;</ETag>
<Size>7</Size><StorageClass>STANDARD</StorageClass></Contents>
<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes>
<Contents><Size>0</Size><ETag>"x"</ETag><Owner><ID>me</ID></Owner><LastModified>2026-01-01T10:00:00+02:00</LastModified>
<Key>café &amp; more.png</Key></Contents>"""
REST = "<Name>bucket</Name><IsTruncated>true</IsTruncated><NextContinuationToken>t&lt;</NextContinuationToken>"


def answered(body, status=200):
    return {"status_code": status, "headers": {}, "body": body.encode()}


def parsed(response):
    shape = botocore.session.get_session().get_service_model("s3").operation_model("ListObjectsV2").output_shape
    return create_parser("rest-xml").parse(response, shape)


@pytest.mark.parametrize("space", [SPACE, ""])
@pytest.mark.parametrize("objects", [OBJECT_LIST, ""])
def test_an_answer_is_read_as_the_client_reads_it(space, objects):
    body = f"<ListBucketResult{space}>{REST}{objects}</ListBucketResult>"
    expected, response, found = parsed(answered(body)), answered(body), {}
    read_objects(response, found, operation_model=None)
    assert [Entry(*row) for row in zip(*found.pop(OBJECTS, ()), strict=True)] == entries_of(expected)
    assert not found
    read = parsed(response)
    assert read.pop("Contents", None) is None or not objects
    expected.pop("Contents", None)
    assert read == expected


def entries_of(answer):
    return [
        Entry(item["Key"], item["Size"], item["LastModified"].isoformat(), item["ETag"].strip('"'))
        for item in answer.get("Contents", ())
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<Key>", "<Key><!-- no -->"),  # not plain, but XML
        ("<Key>", "<Key><![CDATA[]]>"),
        ("<Size>7", "<Size> 7"),
        ("&quot;00ff&quot;", "&#34;00ff&#34;"),
        ("<Contents>", "<Contents >"),
        ("Key>", "s:Key>"),
    ],
)
def test_what_is_written_otherwise_is_read_too(one, other):
    plain = f"<ListBucketResult{SPACE}>{REST}{OBJECT_LIST}</ListBucketResult>"
    written = plain.replace(one, other).replace(SPACE, SPACE + SPACE.replace("xmlns", "xmlns:s"))
    assert written != plain
    assert plain_columns(plain.encode()) is not None
    assert plain_columns(written.encode()) is None
    found, expected = {}, {}
    read_objects(answered(written), found)
    read_objects(answered(plain), expected)
    assert found == expected
    assert len(found[OBJECTS][0]) == 2


def page_of(objects):
    folder = "<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes>"
    return f"<ListBucketResult{SPACE}>{REST}{''.join(objects)}{folder}</ListBucketResult>"


def object_of(
    key, *, size="7", etag="&quot;00ff&quot;", moment="2026-01-01T00:00:00.000Z", more="", order=(0, 1, 2, 3)
):
    fields = [
        f"<Key>{key}</Key>",
        f"<LastModified>{moment}</LastModified>",
        f"<ETag>{etag}</ETag>",
        f"<Size>{size}</Size>",
    ]
    return f"<Contents>{''.join(fields[place] for place in order)}{more}</Contents>"


CLASS, OWNER = "<StorageClass>STANDARD</StorageClass>", "<Owner><ID>me</ID><DisplayName>I</DisplayName></Owner>"


@pytest.mark.parametrize(
    ("objects", "are_aligned"),
    [
        ([object_of("a"), object_of("b", size="0", etag='"x-2"')], True),
        ([object_of("a&amp;b", more=CLASS + OWNER), object_of("é&lt;", more=CLASS + OWNER)], True),
        ([object_of("a", order=(3, 2, 1, 0)), object_of("b", order=(3, 2, 1, 0))], True),
        ([object_of("a", more="<ChecksumAlgorithm>CRC32</ChecksumAlgorithm>"), object_of("b")], False),
        ([object_of("a"), object_of("b", order=(3, 0, 1, 2))], False),
        ([object_of("a", order=(1, 2, 3)), object_of("b", more="<Key>a</Key>", order=(0, 1, 2, 3))], False),
        ([object_of("a", size=""), object_of("b")], False),
        ([object_of("a"), "\n", object_of("b")], False),
        ([object_of("a", etag="&#34;x&#34;"), object_of("b")], False),
    ],
)
def test_a_page_whose_objects_are_written_alike_is_read_by_places(objects, are_aligned):
    """And what is not is read in another way, as the client reads it, or is no page."""
    page = page_of(objects)
    found = aligned_columns(page)
    assert (found is not None) == are_aligned
    if found is not None:
        (keys, *columns), rest = found
        (expected_keys, *expected), expected_rest = matched_columns(page)
        assert (keys, [list(column) for column in columns]) == (expected_keys, expected)
        assert rest == expected_rest
        response, read = answered(page), {}
        read_objects(response, read)
        assert [Entry(*row) for row in zip(*read[OBJECTS], strict=True)] == entries_of(parsed(answered(page)))


@pytest.mark.parametrize(("told", "keys"), [("", ["a%20b+c", "&<é\n"]), ("url", ["a b c", "&<é\n"])])
def test_keys_are_unquoted_where_the_answer_says_so(told, keys):
    body = OBJECT_LIST.replace("a%20b/1.jpg", "a%20b+c").replace("café &amp; more.png", "&amp;&lt;é\r\n")
    encoding = f"<EncodingType>{told}</EncodingType>" if told else ""
    found = {}
    read_objects(answered(f"<ListBucketResult>{encoding}{body}</ListBucketResult>"), found)
    assert found[OBJECTS][0] == keys


@pytest.mark.parametrize(
    ("body", "status"), [("<ListBucketResult", 200), ("<Error><Contents/></Error>", 403), ("", 200)]
)
def test_what_is_no_page_is_left_to_the_client(body, status):
    response, found = answered(body, status), {}
    read_objects(response, found)
    assert (response, found) == (answered(body, status), {})


def test_moments_are_read_as_the_client_reads_them():
    texts = ("2026-01-01T00:00:00.000Z", "2026-01-01T10:00:00+02:00", "Thu, 01 Jan 2026 00:00:00 GMT")
    for value in (*texts, 1767225600, "1767225600.5"):
        assert moment_of(value) == parse_timestamp(value)
    for value in (*texts, "2026-01-01T00:00:00.125Z"):
        assert moment_texts([value, texts[0]]) == [parse_timestamp(text).isoformat() for text in (value, texts[0])]


def test_the_client_looks_for_errors_in_what_is_left():
    session, seen = botocore.session.get_session(), []
    session.get_component("event_emitter").register_first(
        "before-parse.s3.*", lambda response_dict, **more: seen.append(response_dict["body"])
    )
    session.register(EVENT, read_objects)
    body = f"<ListBucketResult>{OBJECT_LIST}</ListBucketResult>"
    model = session.get_service_model("s3").operation_model("ListObjectsV2")
    more = {"response_dict": answered(body), "customized_response_dict": {}, "operation_model": model}
    session.emit("before-parse.s3.ListObjectsV2", **more)
    assert seen[0].count(b"<Key>") == 0
    assert len(more["customized_response_dict"][OBJECTS][0]) == 2


@pytest.mark.parametrize(
    "answer", [{}, {"IsTruncated": True}, {"IsTruncated": True, "NextContinuationToken": "same"}], ids=len
)
def test_a_page_that_does_not_say_where_it_goes_on_is_no_last_one(answer):
    """Of a proxy, or cut short: the objects behind it would be missing without a word."""
    service = S3(SimpleNamespace(call_s3=lambda *_, **__: answer, loop=None), 1)
    with pytest.raises(StorageError, match="a page of the listing that does not say") as error:
        service.page("bucket", "photos/", token="same")
    assert error.value.kind == "unavailable"
