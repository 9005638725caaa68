"""What an uri means, and that every failure is one clear line."""

import errno
import os
import pickle

import pytest

from seit_ray.storage import Folder, StorageError, normalise_uri, split_uri
from seit_ray.storage.errors import explain


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://b", "s3://b"),
        ("s3://b/", "s3://b"),
        ("s3a://b/k/", "s3://b/k"),
        ("S3://b/a//b", "s3://b/a//b"),
        ("gs://b/k/", "gs://b/k"),
        ("gcs://b", "gs://b"),
        ("az://c/k", "az://c/k"),
        ("abfs://c/k/", "az://c/k"),
        ("/x/y/", "/x/y"),
        ("/x/../y", "/y"),
        ("/", "/"),
        ("//x", "/x"),
        ("file:///x/a%20b", "/x/a b"),
        ("file://localhost/x", "/x"),
        ("~/x", os.path.expanduser("~/x")),
        ("rel", os.path.join(os.getcwd(), "rel")),
    ],
)
def test_normalise_uri(uri, expected):
    assert normalise_uri(uri) == expected
    assert normalise_uri(expected) == expected


@pytest.mark.parametrize(
    "uri", ["", "hdfs://b/k", "https://x/y.jpg", "s3://", "s3:///k", "gs://", "az://c@host/k", "file://host/x"]
)
def test_uris_that_are_refused(uri):
    with pytest.raises(StorageError, match=r"expected (s3://BUCKET/PATH, gs://BUCKET/PATH, )?az://CONTAINER/PATH"):
        Folder(uri)


@pytest.mark.parametrize(
    ("uri", "folder", "name"),
    [
        ("s3://b/k/t.csv", "s3://b/k", "t.csv"),
        ("s3://b/t.csv", "s3://b", "t.csv"),
        ("s3://b", "s3://b", ""),
        ("gs://b/k/t.csv", "gs://b/k", "t.csv"),
        ("az://c", "az://c", ""),
        ("/a/t.csv", "/a", "t.csv"),
        ("/t.csv", "/", "t.csv"),
    ],
)
def test_split_uri(uri, folder, name):
    assert split_uri(uri) == (folder, name)
    if name:
        assert Folder(folder).uri_of(name) == Folder(folder).join(name).uri == uri


class ServerError(Exception):
    """As botocore's ClientError: the code is in the response."""

    def __init__(self, code, status=400):
        super().__init__(f"An error occurred ({code})")
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ServerError("NoSuchKey"), "missing", "does not exist"),
        (ServerError("NoSuchBucket"), "invalid", "bucket that does not exist"),
        (ServerError("AccessDenied"), "denied", "access denied"),
        (ServerError("InvalidAccessKeyId"), "credentials", "unknown access key"),
        (ServerError("ExpiredToken"), "credentials", "session token has expired"),
        (ServerError("SlowDown"), "unavailable", "too many requests"),
        (ServerError("NewKindOfTrouble", 503), "unavailable", "service is unavailable"),
        (ServerError("NewKindOfDenial", 403), "denied", "access denied"),
        (ServerError("PermanentRedirect"), "invalid", "lies in another region"),
        (ServerError("RequestTimeout", 400), "unavailable", "request timed out"),
        (ServerError("ThrottlingException", 400), "unavailable", "too many requests"),
        *(
            (OSError(number, "x"), "unavailable", text)
            for text, numbers in {
                "cannot be read or written just now": (errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EREMOTEIO),
                "mount was lost": (errno.ESTALE, errno.ENOTCONN, errno.ESHUTDOWN, errno.ENODEV),
                "is unreachable": (errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
                "stopped answering": (errno.ETIMEDOUT,),
                "too many open files": (errno.EMFILE, errno.ENFILE),
            }.items()
            for number in numbers
        ),
        (OSError(errno.EACCES, "x"), "denied", "permission denied"),
        (OSError(errno.ENOSPC, "x"), "full", "disk is full"),
        (OSError(errno.EROFS, "x"), "denied", "read-only"),
        (OSError(errno.EISDIR, "x"), "missing", "is a folder"),
        (TimeoutError(), "unavailable", "stopped answering"),
        (ConnectionResetError(), "unavailable", "connection failed"),
        (RuntimeError("one\ntwo"), "invalid", "failed with RuntimeError one"),
    ],
)
def test_errors_are_one_clear_line(error, kind, text):
    explained = explain(error, "s3://b/k")
    assert explained.kind == kind
    assert explained.__cause__ is error
    with pytest.raises(StorageError, match=rf"^s3://b/k .*{text}.*; expected .*; [^\n]+$"):
        raise explained
    copy = pickle.loads(pickle.dumps(explained))
    assert (str(copy), copy.kind) == (str(explained), kind)
    assert explain(explained, "other") is explained
