"""Objects of a page, read as the client reads them."""

import botocore.session
import pytest
from botocore.parsers import create_parser
from botocore.utils import parse_timestamp

from seit_ray.storage.s3_pages import FIELDS, moment_of, read_objects

SPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
OBJECTS = """
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
@pytest.mark.parametrize("objects", [OBJECTS, ""])
def test_an_answer_is_read_as_the_client_reads_it(space, objects):
    body = f"<ListBucketResult{space}>{REST}{objects}</ListBucketResult>"
    expected, response, found = parsed(answered(body)), answered(body), {}
    read_objects(response, found, operation_model=None)
    assert bool(found) == bool(objects)
    read = parsed(response) | found
    kept = [{name: item[name] for name in FIELDS} for item in expected.get("Contents", ())]
    assert read.get("Contents", []) == kept
    assert {**read, "Contents": 0} == {**expected, "Contents": 0}


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
    assert moment_of(texts[0]).isoformat() == parse_timestamp(texts[0]).isoformat()
