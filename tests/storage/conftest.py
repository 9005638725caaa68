"""Folders to test on: an empty one on disk, on a real S3 server, or each in turn."""

import os
import uuid

import pytest

from seit_ray.storage import Folder


@pytest.fixture(autouse=True)
def no_credentials_around(monkeypatch):
    """The AWS settings of whoever runs the tests must not decide them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture(scope="session")
def bucket(s3_server):
    return s3_server.create_bucket("storage-tests")


@pytest.fixture
def remote(s3_server, bucket):
    """An empty folder on S3."""
    return Folder(f"s3://{bucket}/{uuid.uuid4().hex}", **s3_server.credentials)


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    """An empty folder on either."""
    return Folder(tmp_path / "data") if request.param == "local" else request.getfixturevalue("remote")
